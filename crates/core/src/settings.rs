//! `settings.toml`: what the app itself writes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// What becomes of the loaded model when Corral ends.
    pub on_quit: OnQuit,
    /// The terminal that a local Claude opens in; without it, the desktop's, or the first that is found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub terminal: Option<TerminalSetting>,
    /// What the desktop is told of.
    pub notifications: Notifications,
    /// When Corral is launched at login, load the model again that last served.
    pub restore_last: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { on_quit: OnQuit::default(), terminal: None, notifications: Notifications::default(), restore_last: true }
    }
}

/// What the desktop is told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Notifications {
    /// Everything that ends, well or not.
    #[default]
    All,
    /// What went wrong.
    Problems,
    /// Nothing.
    None,
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

/// A terminal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "a terminal is a name, a path, or a list of a program and its options")]
pub enum TerminalSetting {
    /// Its name, or its absolute path: `"kitty"`.
    Name(String),
    /// A program and its options; the command to run follows them. `{title}` and `{folder}` at the end of an option
    /// stand for the window's title and the folder to start in: `["xterm", "-fa", "Mono", "-T", "{title}", "-e"]`.
    Command(Vec<String>),
}
