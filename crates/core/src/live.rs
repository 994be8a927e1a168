//! What goes on at this moment, for people who look: numbers that change too often to be part of the snapshot.

use std::fmt::Debug;

use async_trait::async_trait;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::session::SessionId;

/// Reads what goes on. It may be asked as often as one likes; `llama-server` is asked at most once a second for it, and
/// not at all while nobody asks.
#[async_trait]
pub trait LiveSource: Debug + Send + Sync {
    /// What goes on now, or did a moment ago.
    async fn read(&self) -> Live;

    /// How fast the model generates, and each change of it: while requests run, and once more when the last has ended.
    /// While none runs there is nothing to tell, and nothing is done for it.
    fn speed(&self) -> watch::Receiver<Option<Speed>>;
}

/// How fast the model generates.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Speed {
    /// Tokens generated per second: over the last two seconds while requests run, else those of the last answer.
    pub tokens_per_second: f64,
    /// Whether requests run.
    pub running: bool,
}

/// What goes on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Live {
    /// When.
    pub at: Timestamp,
    /// The requests at the gateway.
    pub requests: LiveRequests,
    /// Tokens generated for requests through the gateway, per second over the last two seconds. Those of an answer that is
    /// not streamed are known when it has ended; they count for the time in which they were generated.
    pub tokens_per_second: f64,
    /// Tokens of prompts that were evaluated, per second since the reading before; null where that is not known.
    pub prompt_tokens_per_second: Option<f64>,
    /// The context of the loaded model; null where its server does not tell.
    pub context: Option<LiveContext>,
    /// Of the tokens of prompts in the last 15 minutes, the share that came out of the cache, 0 to 1; null where there were
    /// none.
    pub cached_share: Option<f64>,
    /// The sessions attached.
    pub sessions: Vec<LiveSession>,
}

/// Requests at the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct LiveRequests {
    /// Those that are being answered.
    pub running: u64,
    /// Those that wait for a model.
    pub waiting: u64,
}

/// The context of a server, and how much of it is in use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LiveContext {
    /// Tokens that its slots hold.
    pub used_tokens: u64,
    /// Tokens that they could hold.
    pub total_tokens: u64,
    /// Its slots.
    pub slots: Vec<LiveSlot>,
}

/// One slot of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LiveSlot {
    /// Its number.
    pub id: u32,
    /// Tokens that it holds.
    pub used_tokens: u64,
    /// Tokens that it could hold.
    pub total_tokens: u64,
    /// Whether it works on a request.
    pub busy: bool,
}

/// A session, and what its requests cost since it was attached.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LiveSession {
    /// The session.
    pub id: SessionId,
    /// What people know it by.
    pub label: Option<String>,
    /// The folder that it works in, where that is known.
    pub workspace: Option<String>,
    /// The model that it used last; before its first request the one that it was begun with, where it was.
    pub model: Option<String>,
    /// When it was attached.
    pub started_at: Timestamp,
    /// How many requests of it are at the gateway.
    pub running: u64,
    /// How many have ended.
    pub requests: u64,
    /// Tokens of their prompts, those out of the cache included.
    pub tokens_in: u64,
    /// Tokens generated.
    pub tokens_out: u64,
    /// Tokens of prompts that came out of the cache.
    pub tokens_cached: u64,
    /// Joules that the GPUs took for those requests whose energy was measured; none where none was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub energy_joules: Option<f64>,
    /// Of those that have ended, those whose energy was measured.
    #[serde(default)]
    pub energy_requests: u64,
}
