//! What every surface shows: one immutable value, replaced whole.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::ErrorBody;
use crate::id::{ConfigHash, InstanceId, ModelId, OperationId};
use crate::launch::Runtime;
use crate::session::SessionId;

/// What the server is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Nothing runs.
    Stopped,
    /// The image is being pulled, and no model serves.
    Pulling,
    /// A server is being created or started.
    Starting,
    /// A server runs and loads its model.
    Loading,
    /// The model answers.
    Ready,
    /// Running requests are given time to end.
    Draining,
    /// The server is being stopped.
    Stopping,
    /// Nothing runs, because of the snapshot's `error`.
    Failed,
}

/// What kind of change an operation makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OperationKind {
    /// Load a model where none is.
    Start,
    /// Unload.
    Stop,
    /// Replace one model by another.
    Switch,
    /// Bring back what should be running, after a restart of Corral or of the engine.
    Restore,
    /// Start again what ended by itself.
    Restart,
    /// Unload a model that nobody has used for its `idle_unload`.
    Unload,
}

/// What an operation does at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Step {
    /// Pulling the image.
    Pull,
    /// Checking the files and creating the new server.
    Prepare,
    /// Letting running requests end.
    Drain,
    /// Saving the conversations of the old server.
    Save,
    /// Stopping the old server.
    Stop,
    /// Waiting until the GPU memory of the old server is free.
    Free,
    /// Starting the new server.
    Start,
    /// Loading the model.
    Load,
    /// Bringing the model's conversations back.
    Restore,
    /// Waiting a while before the next try.
    Pause,
    /// Bringing the old model back after a failure.
    Rollback,
}

/// How far a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Progress {
    /// Bytes done.
    pub done_bytes: u64,
    /// Bytes in all, where known.
    pub total_bytes: Option<u64>,
}

/// An operation, running or ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OperationView {
    /// Unique for ever.
    pub id: OperationId,
    /// What kind of change.
    pub kind: OperationKind,
    /// The model that served when it began.
    pub from: Option<ModelId>,
    /// The model that serves when it has ended well; none for a stop.
    pub to: Option<ModelId>,
    /// What it does at the moment.
    pub step: Step,
    /// How far the step is, where it can be had.
    pub progress: Option<Progress>,
    /// When it was asked for.
    pub started_at: Timestamp,
    /// How many milliseconds it will take in all, by what earlier ones took, waiting for running requests not included;
    /// none where nothing is known.
    #[serde(default)]
    pub expected_ms: Option<u64>,
}

/// What became of the conversations that a model had when it was last stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ContextView {
    /// Tokens that were brought back.
    pub restored_tokens: u64,
    /// Whether that was of use, by the first answer that continued such a conversation.
    pub outcome: ContextOutcome,
    /// Tokens of that answer's prompt.
    pub prompt_tokens: Option<u64>,
    /// Those of them that did not have to be read again.
    pub cached_tokens: Option<u64>,
}

/// Whether bringing conversations back was of use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ContextOutcome {
    /// No answer has told yet.
    Pending,
    /// The prompt came out of the cache.
    Kept,
    /// The prompt was read again.
    Lost,
}

/// The server behind the model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EngineView {
    /// Container or child process.
    pub runtime: Runtime,
    /// The container's id, or the child's.
    pub container_id: InstanceId,
    /// The image's reference; none for a child process.
    pub image: Option<String>,
    /// When the server was started.
    pub started_at: Option<Timestamp>,
    /// Where `llama-server` answers, for instance `http://127.0.0.1:41234`.
    pub url: Option<String>,
    /// The file, readable by this user only, that holds the server's API key.
    pub key_file: Option<String>,
    /// The hash of the configuration it was started with.
    pub config_hash: ConfigHash,
    /// The catalog has changed since; the next start uses the new configuration.
    pub config_changed: bool,
    /// What became of the model's conversations; none where there were none to bring back.
    #[serde(default)]
    pub context: Option<ContextView>,
}

/// The state of the catalog file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct CatalogView {
    /// The file.
    pub path: String,
    /// Another number whenever the catalog in force is another one, also after a restart of Corral: who has read the
    /// models reads them again then.
    #[serde(default)]
    pub revision: u64,
    /// Number of models that can be used.
    pub models: usize,
    /// What is wrong with the file as it is on disk; where the whole file is broken, the last good one is in force.
    pub problems: Vec<ErrorBody>,
}

/// A session that is attached: a program whose requests are told apart by its token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SessionView {
    /// The session's id.
    pub id: SessionId,
    /// What people know it by, for instance the folder it works in.
    pub label: Option<String>,
    /// The folder that it works in, where that is known.
    #[serde(default)]
    pub workspace: Option<String>,
    /// The model that it asks for, where it was begun with one.
    #[serde(default)]
    pub model: Option<String>,
    /// When it was registered.
    pub started_at: Timestamp,
}

/// The whole truth, as every surface shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Snapshot {
    /// Corral's version.
    pub version: String,
    /// What the server is doing.
    pub phase: Phase,
    /// The model that is loaded or being loaded.
    pub model: Option<ModelId>,
    /// The operation in progress.
    pub operation: Option<OperationView>,
    /// The server behind the model.
    pub engine: Option<EngineView>,
    /// Why nothing runs, or why the last operation failed; cleared by the next that ends well.
    pub error: Option<ErrorBody>,
    /// The inference gateway's address, for instance `http://127.0.0.1:8080`, where one serves.
    pub gateway: Option<String>,
    /// Sessions attached.
    pub sessions: Vec<SessionView>,
    /// The state of the catalog file.
    pub catalog: CatalogView,
}

/// Something a person should hear of once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Notice {
    /// When.
    pub at: Timestamp,
    /// How loud.
    pub level: NoticeLevel,
    /// One sentence.
    pub message: String,
    /// The error behind it.
    pub error: Option<ErrorBody>,
}

/// How loud a [`Notice`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum NoticeLevel {
    /// It went well.
    Info,
    /// It went well, but.
    Warning,
    /// It went wrong.
    Error,
}
