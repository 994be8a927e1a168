//! The files that a person configures Corral by, as surfaces show and change them.

use std::fmt::Debug;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::catalog::AutoSwitch;
use crate::error::{Error, ErrorBody, Place, Result};
use crate::launch::Runtime;
use crate::settings::Settings;

/// `models.toml` and `settings.toml`: read, and changed such that comments stay and nothing is ever half written. It
/// waits for the disk: never call it where others wait.
pub trait Configuration: Debug + Send + Sync {
    /// The settings in force, whatever the file is like.
    fn settings(&self) -> SettingsFile;

    /// Writes the keys that differ from what the file has. One that cannot be read is kept as a copy beside it.
    /// [`Code::Io`](crate::Code::Io) where it cannot be written; nothing is lost then.
    fn put_settings(&self, settings: &Settings) -> Result<SettingsFile>;

    /// The catalog as it is on disk. [`Code::Io`](crate::Code::Io) where it cannot be read, and
    /// [`Code::CatalogInvalid`](crate::Code::CatalogInvalid) where it is no text.
    fn catalog(&self) -> Result<CatalogFile>;

    /// What is wrong with a text that is to become the catalog, in the order of the text.
    fn check_catalog(&self, text: &str) -> Vec<Problem>;

    /// Replaces the text of the catalog, which the controller then reads by itself.
    /// [`Code::CatalogChanged`](crate::Code::CatalogChanged) where the one on disk is not that `version`, and
    /// [`Code::CatalogInvalid`](crate::Code::CatalogInvalid) where no catalog can be made of the text.
    fn put_catalog(&self, text: &str, version: &str) -> Result<CatalogFile>;

    /// Sets single keys where they stand. [`Code::CatalogInvalid`](crate::Code::CatalogInvalid) where no catalog could be
    /// made of the result.
    fn patch_catalog(&self, patch: &CatalogPatch) -> Result<CatalogFile>;
}

/// `settings.toml`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SettingsFile {
    /// The file.
    pub path: String,
    /// The settings; the defaults where the file has none or cannot be read.
    pub settings: Settings,
    /// Why the file cannot be read, or what became of one that could not be.
    pub problem: Option<ErrorBody>,
    /// Whether it can be written.
    pub writable: bool,
}

/// `models.toml` as it is on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CatalogFile {
    /// The file.
    pub path: String,
    /// Its whole text.
    pub text: String,
    /// Changes with every change of the text.
    pub version: String,
    /// Every mistake in it, in the order of the text.
    pub problems: Vec<Problem>,
    /// `[engine]`, as it is written, with the defaults.
    pub engine: EngineChoice,
    /// What of the rest can be changed key by key, with the defaults.
    pub server: ServerChoice,
}

/// `[engine]`, as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EngineChoice {
    /// How `llama-server` runs.
    pub runtime: Runtime,
    /// The image that containers are made of.
    pub image: String,
    /// The program for `process`.
    pub binary: String,
    /// The models folder.
    pub models_dir: String,
}

/// How Corral serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ServerChoice {
    /// Whose requests may load a model: `[gateway] auto_switch`.
    pub auto_switch: AutoSwitch,
}

/// Keys of the catalog to set; what is missing stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CatalogPatch {
    /// Keys of `[engine]`.
    pub engine: EnginePatch,
    /// How Corral serves.
    pub server: ServerPatch,
}

/// Keys of `[engine]` to set.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EnginePatch {
    /// How `llama-server` runs.
    pub runtime: Option<Runtime>,
    /// The image that containers are made of.
    pub image: Option<String>,
    /// The program for `process`: a name found in `PATH`, or a path.
    pub binary: Option<String>,
    /// The models folder: absolute, or from `~/`.
    pub models_dir: Option<String>,
}

/// How Corral is to serve.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ServerPatch {
    /// Whose requests may load a model: `[gateway] auto_switch`.
    pub auto_switch: Option<AutoSwitch>,
}

/// A mistake in the catalog, and where it is. Lines and columns are counted from 1, columns in characters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    /// The line.
    pub line: Option<u32>,
    /// The first column.
    pub column: Option<u32>,
    /// The column behind the last one, on the same line.
    pub end_column: Option<u32>,
    /// The key, as a path with dots.
    pub key: Option<String>,
    /// The model that is left out because of it.
    pub model: Option<String>,
    /// What is wrong.
    pub error: ErrorBody,
}

impl From<&Error> for Problem {
    fn from(error: &Error) -> Self {
        let place = error.place();
        let text = |of: fn(&Place) -> &Option<String>| place.and_then(|place| of(place).clone());
        Self {
            line: place.map(|place| place.line),
            column: place.map(|place| place.column),
            end_column: place.map(|place| place.end_column),
            key: text(|place| &place.key),
            model: text(|place| &place.model),
            error: error.body(),
        }
    }
}
