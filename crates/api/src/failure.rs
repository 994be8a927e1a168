//! Errors as answers.

use axum::Json;
use axum::response::{IntoResponse, Response};
use corral_core::{Code, Error};
use http::StatusCode;
use http::header::{HeaderValue, WWW_AUTHENTICATE};

use crate::dto::ErrorAnswer;

/// The HTTP status that a code is answered with.
///
/// 4xx: the request, or the configuration it refers to, has to change. 502: `llama-server` or the engine under it
/// failed. 503: try again later. 504: it took too long. 500: Corral's own fault.
pub fn status_of(code: Code) -> StatusCode {
    match code {
        Code::InvalidRequest => StatusCode::BAD_REQUEST,
        Code::Unauthorized => StatusCode::UNAUTHORIZED,
        Code::ForbiddenHost | Code::ForbiddenOrigin | Code::Forbidden => StatusCode::FORBIDDEN,
        Code::UnknownModel | Code::NotFound => StatusCode::NOT_FOUND,
        Code::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        Code::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Code::AlreadyRunning | Code::Superseded | Code::DaemonRunning => StatusCode::CONFLICT,
        Code::CatalogInvalid
        | Code::ModelInvalid
        | Code::ModelFileMissing
        | Code::ModelFileTruncated
        | Code::ModelFileInvalid => StatusCode::UNPROCESSABLE_ENTITY,
        Code::EngineFailed
        | Code::ImageMissing
        | Code::BinaryMissing
        | Code::GpuRuntimeMissing
        | Code::PortTaken
        | Code::LoadFailed
        | Code::OutOfMemory
        | Code::ServerExited
        | Code::ServerKilled
        | Code::StopFailed => StatusCode::BAD_GATEWAY,
        Code::ShuttingDown | Code::EngineUnavailable | Code::DaemonUnavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::LoadTimeout => StatusCode::GATEWAY_TIMEOUT,
        Code::Io | Code::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
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
