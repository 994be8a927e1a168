//! Calls that read one present value.

use axum::Json;
use axum::extract::State;

use crate::dto::{Health, Status};
use crate::router::Shared;

/// `GET /healthz`
pub(crate) async fn healthz(State(shared): State<Shared>) -> Json<Health> {
    Json(Health { status: "ok".to_owned(), version: shared.version.clone() })
}

/// `GET /status`
pub(crate) async fn status(State(shared): State<Shared>) -> Json<Status> {
    Json(Status {
        snapshot: shared.controller.snapshot(),
        requests: shared.metrics.at_gateway(),
        auto_switch: shared.controller.catalog().gateway.auto_switch.into(),
    })
}
