//! Errors as answers.

use axum::Json;
use axum::response::{IntoResponse, Response};
use corral_core::{Code, Error};
use http::StatusCode;
use http::header::{HeaderValue, WWW_AUTHENTICATE};

use crate::dto::ErrorAnswer;

/// The HTTP status that a code is answered with.
pub fn status_of(code: Code) -> StatusCode {
    // Every status in that table is one.
    StatusCode::from_u16(code.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// An [`Error`] on its way to a client.
#[derive(Debug)]
pub(crate) struct Failure(Error);

impl Failure {
    /// A request that cannot be understood.
    pub(crate) fn invalid(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self(Error::new(Code::InvalidRequest, message).hint(hint))
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let Self(error) = self;
        let mut response = (status_of(error.code()), Json(ErrorAnswer { error: error.body() })).into_response();
        if error.code() == Code::Unauthorized {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
