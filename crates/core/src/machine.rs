//! What a surface asks of the machine and the desktop that Corral runs on.

use std::fmt::Debug;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::id::Secret;

/// The machine and the desktop. It waits for the disk and for other programs: never call it where others wait.
pub trait Machine: Debug + Send + Sync {
    /// Looks at everything that loading a model needs, and at what the jail needs. Changes nothing.
    fn doctor(&self) -> Vec<Finding>;

    /// Whether the desktop starts Corral at login.
    fn autostart(&self) -> Result<AutostartState>;

    /// Lets the desktop start Corral at login, or not.
    /// [`Code::ProgramMissing`](crate::Code::ProgramMissing) where there is nothing that it could start.
    fn set_autostart(&self, enabled: bool) -> Result<AutostartState>;

    /// Makes a secret that nobody can guess.
    fn new_secret(&self) -> Result<Secret>;
}

/// Whether the desktop starts Corral at login.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AutostartState {
    /// Whether it does.
    pub enabled: bool,
    /// The entry in the autostart folder, there or not.
    pub path: String,
    /// What it starts, or would; none where there is nothing to start.
    pub command: Option<String>,
}

/// How a finding is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FindingStatus {
    /// As it should be.
    Ok,
    /// Works, but.
    Warning,
    /// Keeps a model, or all of them, from being loaded.
    Problem,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Finding {
    /// What was looked at, for instance `engine`.
    pub check: String,
    /// How it is.
    pub status: FindingStatus,
    /// What was found, one sentence.
    pub message: String,
    /// The command or step that mends it.
    pub remedy: Option<String>,
}
