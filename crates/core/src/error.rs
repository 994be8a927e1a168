//! One error for every surface: a stable code, what happened, and what to do about it.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The stable, machine-readable kind of an [`Error`].
///
/// Codes are part of the API: they are only ever added to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    // What a caller asked for.
    /// The request is malformed: bad JSON, an unknown field, a wrong type.
    InvalidRequest,
    /// The catalog has no model of that name.
    UnknownModel,
    /// No such route.
    NotFound,
    /// The route exists, the method does not.
    MethodNotAllowed,
    /// The request has no token, or a wrong one.
    Unauthorized,
    /// The `Host` header names something other than this machine's loopback.
    ForbiddenHost,
    /// The `Origin` header names another site.
    ForbiddenOrigin,
    /// The token is valid, but not for this call.
    Forbidden,
    /// The request body is larger than the route takes.
    BodyTooLarge,

    /// The head of the request is larger than the gateway takes.
    HeadTooLarge,
    /// The request did not come to its end in time.
    RequestTimeout,
    /// The model is not loaded, and the policy does not let this request switch to it.
    SwitchNotAllowed,
    /// So many requests wait for a model that no more may.
    QueueFull,
    /// The request waited for a model as long as it may.
    HoldTimeout,
    /// The request was cut by a switch or stop that did not wait for it.
    Cut,

    // What became of an operation.
    /// Another operation is in progress, and this request does not replace it.
    Busy,
    /// Another model is loaded; `start` does not replace it.
    AlreadyRunning,
    /// A newer request replaced this operation before it ended.
    Superseded,
    /// Corral is shutting down.
    ShuttingDown,

    // Configuration.
    /// `models.toml` or `settings.toml` cannot be used.
    CatalogInvalid,
    /// `models.toml` on disk is no longer the text that was edited.
    CatalogChanged,
    /// The model's own entry in the catalog has a mistake.
    ModelInvalid,
    /// The model file is not there.
    ModelFileMissing,
    /// The model file ends before its own header says.
    ModelFileTruncated,
    /// The model file is not a GGUF file.
    ModelFileInvalid,

    // The engine.
    /// No container engine answers, or it stopped answering.
    EngineUnavailable,
    /// The engine answered, but refused or failed.
    EngineFailed,
    /// The image is not on this machine and cannot be pulled.
    ImageMissing,
    /// The `llama-server` program is not there or cannot be run.
    BinaryMissing,
    /// The engine cannot hand the GPU to a container.
    GpuRuntimeMissing,
    /// Another program has the port.
    PortTaken,

    // llama-server.
    /// `llama-server` ended while it loaded the model.
    LoadFailed,
    /// The model did not become ready within `load_timeout`.
    LoadTimeout,
    /// The model does not fit into the memory there is, so it was not loaded.
    InsufficientMemory,
    /// Memory ran out, on the host or on the GPU.
    OutOfMemory,
    /// `llama-server` ended by itself while it served.
    ServerExited,
    /// Something outside Corral ended or removed `llama-server`.
    ServerKilled,
    /// `llama-server` did not end when told to.
    StopFailed,

    // The jail and what runs in it.
    /// The jail cannot be built on this machine: bubblewrap is missing, or the kernel or a policy refuses it.
    JailUnavailable,
    /// The jail could not be built this time, or broke down.
    JailFailed,
    /// The folder to work in is missing, cannot be used, or is too much to give away.
    WorkspaceInvalid,
    /// The program to run is not there, cannot be run, or is of a version that does not do.
    ProgramMissing,
    /// The profile of the local Claude Code cannot be used.
    ProfileInvalid,

    // The program itself.
    /// No Corral daemon answers.
    DaemonUnavailable,
    /// Another Corral daemon already serves this home.
    DaemonRunning,
    /// A file or folder of Corral's own cannot be read or written.
    Io,
    /// A defect in Corral.
    Internal,
}

impl Code {
    /// The code as it appears in JSON, for instance `unknown_model`.
    pub fn as_str(self) -> String {
        // A unit variant always serialises to a plain string.
        match serde_json::to_value(self) {
            Ok(serde_json::Value::String(text)) => text,
            _ => "internal".to_owned(),
        }
    }

    /// The HTTP status that it is answered with.
    ///
    /// 4xx: the request, or the configuration it refers to, has to change. 502: `llama-server` or the engine under it
    /// failed. 503: try again later. 504: it took too long. 500: Corral's own fault.
    pub fn http_status(self) -> u16 {
        match self {
            Self::InvalidRequest => 400,
            Self::Unauthorized => 401,
            Self::ForbiddenHost | Self::ForbiddenOrigin | Self::Forbidden => 403,
            Self::UnknownModel | Self::NotFound | Self::SwitchNotAllowed => 404,
            Self::MethodNotAllowed => 405,
            Self::BodyTooLarge => 413,
            Self::HeadTooLarge => 431,
            Self::RequestTimeout => 408,
            Self::AlreadyRunning | Self::Busy | Self::Superseded | Self::DaemonRunning | Self::CatalogChanged => 409,
            Self::CatalogInvalid
            | Self::ModelInvalid
            | Self::ModelFileMissing
            | Self::ModelFileTruncated
            | Self::ModelFileInvalid
            | Self::InsufficientMemory
            | Self::WorkspaceInvalid
            | Self::ProgramMissing
            | Self::ProfileInvalid => 422,
            Self::EngineFailed
            | Self::ImageMissing
            | Self::BinaryMissing
            | Self::GpuRuntimeMissing
            | Self::PortTaken
            | Self::LoadFailed
            | Self::OutOfMemory
            | Self::ServerExited
            | Self::ServerKilled
            | Self::StopFailed => 502,
            Self::ShuttingDown
            | Self::EngineUnavailable
            | Self::DaemonUnavailable
            | Self::QueueFull
            | Self::HoldTimeout
            | Self::Cut => 503,
            Self::LoadTimeout => 504,
            Self::JailUnavailable | Self::JailFailed | Self::Io | Self::Internal => 500,
        }
    }
}

/// The result of everything in Corral that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What happened, why, and what to do.
///
/// ```
/// use corral_core::{Code, Error};
/// let error = Error::new(Code::UnknownModel, "no model is called `glm-flsh`")
///     .hint("did you mean `glm-flash`? `corral list` shows all models");
/// assert_eq!(error.to_string(), "no model is called `glm-flsh`");
/// assert_eq!(error.body().code, Code::UnknownModel);
/// ```
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    code: Code,
    message: String,
    hint: Option<String>,
    log: Vec<String>,
    place: Option<Box<Place>>,
    #[source]
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error with a code and one sentence that says what happened and why.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None, log: Vec::new(), place: None, source: None }
    }

    /// Adds what a person can do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the last relevant lines of `llama-server`'s log, oldest first.
    #[must_use]
    pub fn log(mut self, lines: impl IntoIterator<Item = String>) -> Self {
        self.log = lines.into_iter().collect();
        self
    }

    /// Adds the error underneath, and puts its text behind the message.
    #[must_use]
    pub fn because(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.message = format!("{}: {source}", self.message);
        self.source = Some(Arc::new(source));
        self
    }

    /// The same error with another sentence behind its message.
    #[must_use]
    pub fn and(mut self, sentence: &str) -> Self {
        self.message = format!("{}; {sentence}", self.message);
        self
    }

    /// The same error with where in a text it is.
    #[must_use]
    pub fn at(mut self, place: Place) -> Self {
        self.place = Some(Box::new(place));
        self
    }

    /// Where in a text it is; none where it is in none.
    pub fn place(&self) -> Option<&Place> {
        self.place.as_deref()
    }

    /// The stable kind.
    pub fn code(&self) -> Code {
        self.code
    }

    /// The form in which it goes over the API.
    pub fn body(&self) -> ErrorBody {
        ErrorBody { code: self.code, message: self.message.clone(), hint: self.hint.clone(), log: self.log.clone() }
    }
}

impl From<ErrorBody> for Error {
    fn from(body: ErrorBody) -> Self {
        Self { code: body.code, message: body.message, hint: body.hint, log: body.log, place: None, source: None }
    }
}

/// Where in the text of a file a mistake is. Lines and columns are counted from 1, columns in characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The line.
    pub line: u32,
    /// The first column.
    pub column: u32,
    /// The column behind the last one, on the same line.
    pub end_column: u32,
    /// The key, as a path with dots; none where it is no key.
    pub key: Option<String>,
    /// The model that it belongs to.
    pub model: Option<String>,
}

/// An [`Error`] as the API and the snapshot carry it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorBody {
    /// The stable kind.
    pub code: Code,
    /// What happened and why, one sentence.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// The last relevant lines of `llama-server`'s log, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub log: Vec<String>,
}
