//! Calls that read one present value.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};

use crate::dto::{Health, Status};
use crate::router::{Shared, caller};

/// `GET /healthz`
pub(crate) async fn healthz(State(shared): State<Shared>) -> Json<Health> {
    Json(Health { status: "ok".to_owned(), version: shared.version.clone() })
}

/// `GET /status`
pub(crate) async fn status(State(shared): State<Shared>, request: Request) -> Json<Status> {
    let mut snapshot = shared.controller.snapshot();
    if let Some(own) = caller(&request) {
        // What the others work on is none of its business.
        Arc::make_mut(&mut snapshot).sessions.retain(|session| session.id == *own);
    }
    Json(Status {
        snapshot,
        requests: shared.metrics.at_gateway(),
        auto_switch: shared.controller.catalog().gateway.auto_switch,
    })
}
