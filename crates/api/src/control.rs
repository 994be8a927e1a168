//! Calls that change something.

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use corral_core::command::Accepted;
use corral_core::fit::FitView;
use corral_core::{Code, Error};
use http::StatusCode;

use crate::body;
use crate::dto::{OperationAnswer, PlanAnswer, StartRequest, StopRequest, SwitchRequest};
use crate::failure::Failure;
use crate::router::{Shared, caller};

/// `POST /start`
pub(crate) async fn start(State(shared): State<Shared>, request: Request) -> Result<Response, Failure> {
    let asked: StartRequest = body::json(request).await?;
    let accepted = shared.controller.start(asked.model).await?;
    answer(accepted, asked.wait, &shared).await
}

/// `POST /stop`
pub(crate) async fn stop(State(shared): State<Shared>, request: Request) -> Result<Response, Failure> {
    let asked: StopRequest = body::json(request).await?;
    let accepted = shared.controller.stop(asked.force).await?;
    answer(accepted, asked.wait, &shared).await
}

/// `POST /switch`
pub(crate) async fn switch(State(shared): State<Shared>, request: Request) -> Result<Response, Failure> {
    let is_session = caller(&request).is_some();
    let asked: SwitchRequest = body::json(request).await?;
    if asked.force && is_session {
        // What it would cut are other sessions' requests.
        return Err(Error::new(Code::Forbidden, "a session may switch, but not with `force`")
            .hint("leave `force` out, so that running requests may end, or run `corral switch --force` outside")
            .into());
    }
    if asked.dry_run {
        let mut plan = shared.controller.dry_run(asked.model).await?;
        if is_session {
            plan.fit = plan.fit.map(FitView::without_names);
            let refused = plan.problem.as_ref().is_some_and(|problem| problem.code == Code::InsufficientMemory);
            if let Some(fit) = plan.fit.as_ref().filter(|_| refused) {
                plan.problem = Some(fit.refusal(&plan.to).body());
            }
        }
        return Ok(Json(PlanAnswer { plan }).into_response());
    }
    let accepted = shared.controller.switch(asked.model, asked.force).await?;
    answer(accepted, asked.wait, &shared).await
}

/// Answers at once, or when the operation has ended. A caller that goes away in between takes nothing with it: the
/// operation is the controller's.
async fn answer(accepted: Accepted, wait: bool, shared: &Shared) -> Result<Response, Failure> {
    let Accepted { operation, end } = accepted;
    if !wait {
        return Ok((StatusCode::ACCEPTED, Json(OperationAnswer { operation, result: None })).into_response());
    }
    // An end that is known already is told, even while everything is shutting down.
    let ended = tokio::select! {
        biased;
        ended = end => ended.ok(),
        () = shared.shutdown.cancelled() => None,
    };
    let result = ended.unwrap_or_else(|| {
        Err(Error::new(
            Code::ShuttingDown,
            format!("Corral is shutting down; operation {} was not awaited", operation.id),
        )
        .hint("start it again with `corral serve`"))
    })?;
    Ok(Json(OperationAnswer { operation, result: Some(result) }).into_response())
}
