//! Calls that read one present value.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use corral_core::snapshot::Snapshot;

use crate::dto::Health;
use crate::router::Shared;

/// `GET /healthz`
pub(crate) async fn healthz(State(shared): State<Shared>) -> Json<Health> {
    Json(Health { status: "ok".to_owned(), version: shared.version.clone() })
}

/// `GET /status`
pub(crate) async fn status(State(shared): State<Shared>) -> Json<Arc<Snapshot>> {
    Json(shared.controller.snapshot())
}
