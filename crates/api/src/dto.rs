//! The bodies of requests and answers, for the server and for clients written in Rust.
//!
//! The snapshot, operations, log records and errors are the domain's own types.

use std::sync::Arc;

pub use corral_core::catalog::AutoSwitch;
use corral_core::command::{OperationResult, SwitchPlan};
use corral_core::configuration::Problem;
pub use corral_core::fit::{FitVerdict, FitView};
use corral_core::history::PastOperation;
use corral_core::machine::Finding;
use corral_core::settings::ElectricityPrice;
use corral_core::snapshot::{OperationView, Phase, SessionView, Snapshot};
use corral_core::usage::UsageRow;
use corral_core::{ErrorBody, ModelId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The body of every answer that is no success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorAnswer {
    /// What went wrong.
    pub error: ErrorBody,
}

/// The answer of `GET /healthz`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Health {
    /// Always `ok`: a daemon that is not well does not answer.
    pub status: String,
    /// Corral's version.
    pub version: String,
}

/// The answer of `GET /status`: the snapshot, and what changes too often to be part of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Status {
    /// The present snapshot.
    #[serde(flatten)]
    pub snapshot: Arc<Snapshot>,
    /// The requests at the gateway; null where none serves.
    #[serde(default)]
    pub requests: Option<Requests>,
    /// Whose requests may load a model, as the catalog in force says.
    #[serde(default)]
    pub auto_switch: AutoSwitch,
}

/// Requests that are at the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Requests {
    /// Those that are being answered.
    pub running: u64,
    /// Those that wait for a model.
    pub waiting: u64,
}

/// The body of `POST /start`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct StartRequest {
    /// An id or alias; none means the model used last, else the first of the catalog.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Answer when the operation has ended rather than when it has begun.
    pub wait: bool,
}

/// The body of `POST /stop`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct StopRequest {
    /// Cut running requests rather than let them end.
    pub force: bool,
    /// Answer when the operation has ended rather than when it has begun.
    pub wait: bool,
}

/// The body of `POST /switch`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SwitchRequest {
    /// An id or alias.
    pub model: String,
    /// Answer when the operation has ended rather than when it has begun.
    #[serde(default)]
    pub wait: bool,
    /// Cut running requests rather than let them end, and load what does not fit into memory all the same.
    #[serde(default)]
    pub force: bool,
    /// Say what would happen and do nothing; `wait` and `force` then mean nothing.
    #[serde(default)]
    pub dry_run: bool,
}

/// The answer to a start, stop or switch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OperationAnswer {
    /// The operation as it began.
    pub operation: OperationView,
    /// How it ended, for a caller that waited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<OperationResult>,
}

/// The answer to a switch with `dry_run`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlanAnswer {
    /// What the switch would do.
    pub plan: SwitchPlan,
}

/// The body of `POST /sessions`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SessionRequest {
    /// What people know it by, for instance the folder it works in; 200 characters at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
}

/// The answer of `POST /sessions`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SessionAnswer {
    /// The session.
    pub session: SessionView,
    /// The token that its requests carry; it is told this once.
    pub token: String,
}

/// The answer of `GET /usage`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct UsageList {
    /// Models and sessions with the most tokens first, days in their order.
    pub rows: Vec<UsageRow>,
    /// What a kilowatt-hour costs, where the settings say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub electricity_price: Option<ElectricityPrice>,
}

/// The answer of `GET /history`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HistoryList {
    /// Operations with their phases, newest first.
    pub operations: Vec<PastOperation>,
}

/// The body of `POST /catalog/check`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CatalogText {
    /// The whole text of a catalog.
    pub text: String,
}

/// The answer of `POST /catalog/check`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProblemList {
    /// Every mistake, in the order of the text.
    pub problems: Vec<Problem>,
}

/// The body of `PUT /catalog`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CatalogEdit {
    /// The whole new text.
    pub text: String,
    /// The version of the text that was changed.
    pub version: String,
}

/// The answer of `GET /doctor`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FindingList {
    /// What was looked at, and how it is.
    pub findings: Vec<Finding>,
}

/// The answer of `POST /dashboard`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DashboardAnswer {
    /// What a browser is to open. It is good once, for the user who runs Corral.
    pub url: String,
    /// For how long, in seconds.
    pub good_seconds: u64,
}

/// The body of `POST /dashboard/token`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EnterRequest {
    /// What stands behind `#code=` in the address that `POST /dashboard` has answered.
    pub code: String,
}

/// The answer of `POST /dashboard/token`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TokenAnswer {
    /// The management token.
    pub token: String,
}

/// The body of `PUT /autostart`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AutostartRequest {
    /// Whether the desktop is to start Corral at login.
    pub enabled: bool,
}

/// The answer of `GET /models`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ModelList {
    /// The usable models, in the order of the catalog.
    pub models: Vec<ModelView>,
}

/// One model of the catalog.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ModelView {
    /// The model's key in the catalog.
    pub id: ModelId,
    /// The name people see.
    pub name: String,
    /// A sentence about it.
    pub description: Option<String>,
    /// The model file, absolute; of a split model the first part.
    pub file: String,
    /// The size of the model file in bytes, all parts of a split one together; none where a part is missing.
    pub size_bytes: Option<u64>,
    /// Context of the whole server in tokens, shared by the slots.
    pub ctx: u32,
    /// Number of slots.
    pub parallel: u32,
    /// What the model is doing.
    pub state: ModelState,
    /// Whether it fits into the memory there is; none where that is not known.
    pub fit: Option<FitView>,
    /// Other names clients may ask for.
    pub aliases: Vec<String>,
    /// Why it cannot be loaded, where that can be told from the file's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<ErrorBody>,
}

/// What a model is doing: the server's phase for the current model, else whether its file is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ModelState {
    /// Not loaded; the file is there.
    Available,
    /// Not loaded; the file is not there or cannot be looked at.
    Missing,
    /// The image is being pulled for it.
    Pulling,
    /// Its server is being created or started.
    Starting,
    /// It is being loaded.
    Loading,
    /// It answers.
    Ready,
    /// Its running requests are given time to end.
    Draining,
    /// Its server is being stopped.
    Stopping,
    /// It was to be loaded and could not be.
    Failed,
}

impl ModelState {
    /// The state of the model that a snapshot calls the current one; none where that says nothing of it.
    pub fn of_phase(phase: Phase) -> Option<Self> {
        match phase {
            Phase::Stopped => None,
            Phase::Pulling => Some(Self::Pulling),
            Phase::Starting => Some(Self::Starting),
            Phase::Loading => Some(Self::Loading),
            Phase::Ready => Some(Self::Ready),
            Phase::Draining => Some(Self::Draining),
            Phase::Stopping => Some(Self::Stopping),
            Phase::Failed => Some(Self::Failed),
        }
    }
}
