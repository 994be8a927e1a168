//! `/doctor` and `/autostart`: the machine and the desktop.

use axum::Json;
use axum::extract::{Request, State};
use corral_core::machine::AutostartState;

use crate::blocking::blocking;
use crate::body::{self, Limit};
use crate::dto::{AutostartRequest, FindingList};
use crate::failure::Failure;
use crate::router::Shared;

/// `GET /doctor`
pub(crate) async fn doctor(State(shared): State<Shared>) -> Result<Json<FindingList>, Failure> {
    let machine = shared.machine.clone();
    let findings = blocking("the doctor", move || Ok(machine.doctor())).await?;
    Ok(Json(FindingList { findings }))
}

/// `GET /autostart`
pub(crate) async fn autostart(State(shared): State<Shared>) -> Result<Json<AutostartState>, Failure> {
    let machine = shared.machine.clone();
    blocking("the autostart entry", move || machine.autostart()).await.map(Json)
}

/// `PUT /autostart`
pub(crate) async fn set_autostart(
    State(shared): State<Shared>,
    request: Request,
) -> Result<Json<AutostartState>, Failure> {
    let AutostartRequest { enabled } = body::whole(request, Limit::Usual).await?;
    let machine = shared.machine.clone();
    blocking("the autostart entry", move || machine.set_autostart(enabled)).await.map(Json)
}
