//! `POST /sessions` and `DELETE /sessions/{id}`: programs whose requests are told apart.

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use corral_core::session::MAX_LABEL;
use corral_core::{Code, Error, SessionId};
use http::{StatusCode, Uri};

use crate::body;
use crate::dto::{SessionAnswer, SessionRequest};
use crate::failure::Failure;
use crate::quote::quoted;
use crate::router::Shared;

/// `POST /sessions`
pub(crate) async fn open(State(shared): State<Shared>, request: Request) -> Result<Response, Failure> {
    let SessionRequest { label } = body::json(request).await?;
    if label.as_ref().is_some_and(|label| label.chars().nth(MAX_LABEL).is_some()) {
        return Err(Failure::invalid(format!("the label is longer than {MAX_LABEL} characters"), "shorten it"));
    }
    let opened = shared.controller.open_session(label).await?;
    let answer = SessionAnswer { session: opened.session, token: opened.token.expose().to_owned() };
    Ok((StatusCode::CREATED, Json(answer)).into_response())
}

/// `DELETE /sessions/{id}`
pub(crate) async fn close(State(shared): State<Shared>, uri: Uri) -> Result<StatusCode, Failure> {
    // An id has no character that would have to be encoded.
    let id = uri.path().strip_prefix("/sessions/").unwrap_or_default();
    let id = SessionId::new(id).map_err(|_| {
        Error::new(Code::NotFound, format!("no session {} is attached", quoted(id)))
            .hint("`corral status` shows those that are")
    })?;
    shared.controller.close_session(id).await?;
    Ok(StatusCode::NO_CONTENT)
}
