//! `settings.toml`: what the app itself writes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The settings.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// What becomes of the loaded model when Corral ends.
    pub on_quit: OnQuit,
}

/// What becomes of the loaded model when Corral ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnQuit {
    /// It is stopped.
    #[default]
    Stop,
    /// It goes on running; the next start of Corral adopts it.
    Keep,
}
