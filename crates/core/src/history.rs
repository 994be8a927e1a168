//! The switch history: what became of earlier operations, and how long their phases took.

use std::time::Duration;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::Code;
use crate::id::{ModelId, OperationId};
use crate::ports::Ended;
use crate::snapshot::OperationKind;

/// An operation as it is remembered. Phases are milliseconds, and null where there was none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PastOperation {
    /// Its id.
    pub id: OperationId,
    /// What kind of change.
    pub kind: OperationKind,
    /// The model that served before.
    pub from: Option<ModelId>,
    /// The model that was to serve.
    pub to: Option<ModelId>,
    /// When it was asked for.
    pub started_at: Timestamp,
    /// How long it took, whatever the time of day did meanwhile; null while it runs, where Corral was killed, or where
    /// it gave way to another operation.
    pub total_ms: Option<u64>,
    /// Why it failed; null where it ended well or has not ended.
    pub error: Option<Code>,
    /// Waiting until running requests had ended.
    pub drain_ms: Option<u64>,
    /// Saving the old model's conversations.
    pub save_ms: Option<u64>,
    /// Stopping the old server.
    pub stop_ms: Option<u64>,
    /// Pulling the image and creating the new server, while the old model still served.
    pub create_ms: Option<u64>,
    /// Starting the new server, until the model was loaded.
    pub load_ms: Option<u64>,
    /// Bringing the new model's conversations back.
    pub restore_ms: Option<u64>,
    /// Tokens of conversation that were saved.
    pub saved_tokens: Option<u64>,
    /// Tokens of conversation that were brought back.
    pub restored_tokens: Option<u64>,
    /// From the request for the operation to the first token that the model gave then.
    pub first_token_ms: Option<u64>,
    /// Tokens of that answer's prompt.
    pub first_prompt_tokens: Option<u64>,
    /// Those of them that came out of the cache.
    pub first_cached_tokens: Option<u64>,
}

impl Ended {
    /// How long the operation took, by the clock that never jumps. None where it failed with no step measured: it gave
    /// way to another.
    pub fn took(&self) -> Option<Duration> {
        let measured = self.error.is_none() || !self.steps.is_empty();
        measured.then(|| self.steps.iter().map(|(_, took)| *took).sum())
    }
}
