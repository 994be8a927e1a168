//! What requests cost: the record of each one, and the sums that people ask for.

use std::time::Duration;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::id::ModelId;
use crate::session::SessionId;

mod energy;

pub use energy::{EnergyShares, JOULES_PER_KWH, Millijoules, Share};

/// The inference routes of the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum InferenceRoute {
    /// `POST /v1/messages`
    Messages,
    /// `POST /v1/messages/count_tokens`
    CountTokens,
    /// `POST /v1/chat/completions`
    ChatCompletions,
    /// `POST /v1/completions`
    Completions,
    /// `POST /v1/responses`
    Responses,
    /// `POST /v1/embeddings`
    Embeddings,
}

impl InferenceRoute {
    /// Every one of them.
    pub const ALL: [Self; 6] = [
        Self::Messages,
        Self::CountTokens,
        Self::ChatCompletions,
        Self::Completions,
        Self::Responses,
        Self::Embeddings,
    ];

    /// The path.
    pub fn path(self) -> &'static str {
        match self {
            Self::Messages => "/v1/messages",
            Self::CountTokens => "/v1/messages/count_tokens",
            Self::ChatCompletions => "/v1/chat/completions",
            Self::Completions => "/v1/completions",
            Self::Responses => "/v1/responses",
            Self::Embeddings => "/v1/embeddings",
        }
    }

    /// The route of a path.
    pub fn of(path: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|route| route.path() == path)
    }
}

/// Tokens of one request, or of several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Tokens {
    /// Of the prompt, those out of the cache included.
    pub input: u64,
    /// Of the prompt, those that came out of the cache.
    pub cached: u64,
    /// Generated.
    pub output: u64,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RequestEnd {
    /// Answered to the end.
    Complete,
    /// Refused: by Corral, or by llama-server with an error status.
    Refused,
    /// llama-server ended, or broke the answer off.
    Broken,
    /// Cut by a switch or stop that did not wait.
    Cut,
    /// The client went away.
    Abandoned,
}

/// One request, as it is written into the ledger when it has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestRecord {
    /// When it came.
    pub at: Timestamp,
    /// Whose it was.
    pub session: Option<SessionId>,
    /// Which model answered; none where none did.
    pub model: Option<ModelId>,
    /// What was asked.
    pub route: InferenceRoute,
    /// The HTTP status that the client got; 499 where it went away before there was one.
    pub status: u16,
    /// How it ended.
    pub end: RequestEnd,
    /// Its tokens as llama-server reports them. Of an answer that broke off, what was seen of it.
    pub tokens: Tokens,
    /// From its arrival to the first byte of the answer's content.
    pub first_token: Option<Duration>,
    /// From its arrival to its end.
    pub duration: Duration,
    /// How long it waited for a model.
    pub held: Duration,
    /// What the gateway itself took: from the request's last byte to its sending on, and from the head of
    /// llama-server's answer to its sending on; waiting for a model is not part of it.
    pub overhead: Duration,
    /// What the GPUs took for it, where that was measured: its share of what they took while it was with the model.
    pub energy: Option<Millijoules>,
}

/// Stands for a request that is with the model while its energy is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ticket(pub u64);

/// What sums are taken by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum UsageBy {
    /// One row for each model.
    #[default]
    Model,
    /// One row for each session; requests without one share a row.
    Session,
    /// One row for each day, in the machine's time zone.
    Day,
}

/// The sums of several requests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct UsageRow {
    /// The model, the session, or the day as `2026-11-21`; empty for requests that had none.
    pub key: String,
    /// What people know the session by, where it has a label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Number of requests.
    pub requests: u64,
    /// Tokens of prompts, those out of the cache included.
    pub tokens_in: u64,
    /// Tokens generated.
    pub tokens_out: u64,
    /// Tokens of prompts that came out of the cache.
    pub tokens_cached: u64,
    /// Seconds that the requests took, waiting included.
    pub seconds: f64,
    /// Joules that the GPUs took for those requests whose energy was measured; none where none was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub energy_joules: Option<f64>,
    /// Of the requests, those whose energy was measured; none where that is not known of all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub energy_requests: Option<u64>,
}
