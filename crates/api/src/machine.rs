//! `GET /doctor`: what is there, and what is missing.

use axum::Json;
use axum::extract::State;

use crate::blocking::blocking;
use crate::dto::FindingList;
use crate::failure::Failure;
use crate::router::Shared;

/// `GET /doctor`
pub(crate) async fn doctor(State(shared): State<Shared>) -> Result<Json<FindingList>, Failure> {
    let machine = shared.machine.clone();
    let findings = blocking("the doctor", move || Ok(machine.doctor())).await?;
    Ok(Json(FindingList { findings }))
}
