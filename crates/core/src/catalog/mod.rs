//! `models.toml`: what a person writes, checked once and resolved into plain values.
//!
//! [`Catalog::read`] is the way in: TOML with places (`source`), read by tables of known keys (`table`, `tables`,
//! `values`, `choices`) that collect every mistake (`reader`), then merged and resolved (`read`).

mod choices;
mod gateway;
mod owned;
mod read;
mod reader;
mod schema;
mod source;
mod suggest;
mod table;
mod tables;
mod values;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::schema::json_schema;
pub use self::suggest::nearest;
use crate::error::{Code, Error, Result};
use crate::id::ModelId;
use crate::launch::{LaunchSpec, Runtime};

/// The commented catalog that a new user starts with.
pub const DEFAULT_CATALOG: &str = include_str!("../../../../models.toml");

/// The whole catalog, checked and with the defaults merged in. By default it has no models.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Catalog {
    /// The addresses Corral serves on.
    pub server: Server,
    /// How requests are treated while models change.
    pub gateway: Gateway,
    /// What runs the models, where a model says nothing else.
    pub engine: Engine,
    /// The usable models, in the order of the file.
    pub models: IndexMap<ModelId, Model>,
}

/// `[server]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// The inference port.
    pub gateway: SocketAddr,
    /// The management port.
    pub management: SocketAddr,
}

impl Default for Server {
    fn default() -> Self {
        let loopback = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Self { gateway: loopback(8080), management: loopback(8081) }
    }
}

/// `[gateway]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gateway {
    /// How long running requests may take to end before a switch cuts them.
    pub drain_timeout: Duration,
    /// Whose requests for a model that is not loaded switch to it.
    pub auto_switch: AutoSwitch,
    /// How long a model stays loaded at least before a request for another one switches.
    pub min_stay: Duration,
    /// How long a request waits for a model at most.
    pub hold_timeout: Duration,
    /// How many requests wait at most.
    pub queue: u32,
    /// What all saved conversations together may take on disk, in bytes; 0 saves none.
    pub slot_cache: u64,
    /// How long the usage of each request is kept.
    pub keep_usage: Duration,
}

impl Default for Gateway {
    fn default() -> Self {
        Self {
            drain_timeout: Duration::from_mins(5),
            auto_switch: AutoSwitch::Always,
            min_stay: Duration::from_secs(10),
            hold_timeout: Duration::from_mins(15),
            queue: 512,
            slot_cache: 8 << 30,
            keep_usage: Duration::from_hours(365 * 24),
        }
    }
}

/// Whose requests may load a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AutoSwitch {
    /// Everybody's.
    #[default]
    Always,
    /// Those of a session.
    Sessions,
    /// Nobody's.
    Never,
}

/// `[engine]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Engine {
    /// Container or child process.
    pub runtime: Runtime,
    /// The image's reference, for [`Runtime::Docker`].
    pub image: String,
    /// The program, for [`Runtime::Process`]: a path, or a name looked up in `PATH`.
    pub binary: PathBuf,
    /// The models folder, absolute; empty only in the default, which knows no home.
    pub models_dir: PathBuf,
}

impl Default for Engine {
    fn default() -> Self {
        Self {
            runtime: Runtime::Docker,
            image: "ghcr.io/ggml-org/llama.cpp:server-cuda13".to_owned(),
            binary: PathBuf::from("llama-server"),
            models_dir: PathBuf::new(),
        }
    }
}

/// `[models.<id>]`, with everything that starting it needs.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// The name people see.
    pub name: String,
    /// A sentence about it.
    pub description: Option<String>,
    /// Other names clients may ask for.
    pub aliases: Vec<Alias>,
    /// Stop it when nothing was asked of it for this long; `None` is never.
    pub idle_unload: Option<Duration>,
    /// Save its context when it stops, and restore it when it is back.
    pub keep_context: bool,
    /// Change requests so that every chat template takes them and the cache survives a new session: `system` entries
    /// inside Anthropic `messages` are merged into `system` where need be, and Claude Code's varying first block goes.
    pub adapt_requests: bool,
    /// Everything that decides how it is started.
    pub launch: LaunchSpec,
}

/// Another name of a model; one `*` at the end stands for any rest.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Alias(pub String);

impl Alias {
    /// Whether a client that asks for `name` means this alias.
    pub fn matches(&self, name: &str) -> bool {
        match self.0.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => self.0 == name,
        }
    }
}

/// What the text of a catalog needs from outside to be resolved.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// The file's own path, for messages.
    pub path: PathBuf,
    /// The user's home, for `~/`.
    pub home: PathBuf,
    /// The models folder when the catalog names none.
    pub models_dir: PathBuf,
}

/// The outcome of reading a catalog: as much of it as can be used, and everything that is wrong with it.
#[derive(Debug, Clone)]
pub struct Reading {
    /// The usable part; none where the file as a whole is broken.
    pub catalog: Option<Catalog>,
    /// Every mistake, in the order of the file.
    pub problems: Vec<Error>,
}

impl Catalog {
    /// Reads the text of a `models.toml`.
    ///
    /// Pure: whether the files it names exist is for others to see. Every mistake comes back, in the order of the
    /// file: [`Code::ModelInvalid`] takes that one model out, [`Code::CatalogInvalid`] takes the whole catalog. No
    /// models at all is no mistake.
    pub fn read(text: &str, surroundings: &Surroundings) -> Reading {
        read::catalog(text, surroundings)
    }

    /// The model that a client means by `name`: an id, else an alias, else the alias with the longest text before
    /// its `*`. Aliases may overlap in that way; two models never have the same one.
    ///
    /// [`Code::UnknownModel`] where no model is meant, with the nearest name as a hint.
    pub fn resolve(&self, name: &str) -> Result<(&ModelId, &Model)> {
        self.find(name).ok_or_else(|| self.unknown(name))
    }

    /// As [`Catalog::resolve`], for those who need no reason why not.
    pub fn find(&self, name: &str) -> Option<(&ModelId, &Model)> {
        if let Some(found) = ModelId::new(name).ok().and_then(|id| self.models.get_key_value(&id)) {
            return Some(found);
        }
        // An exact alias is taken for longer than any that ends in `*`.
        let weight = |alias: &Alias| if alias.0.ends_with('*') { alias.0.len() } else { usize::MAX };
        let aliases = self.models.iter().flat_map(|model| model.1.aliases.iter().map(move |alias| (model, alias)));
        let best = aliases.filter(|(_, alias)| alias.matches(name)).max_by_key(|(_, alias)| weight(alias));
        best.map(|(model, _)| model)
    }

    fn unknown(&self, name: &str) -> Error {
        let shown = source::shorten(name, 80);
        let error = Error::new(Code::UnknownModel, format!("no model is called `{shown}`"));
        if self.models.is_empty() {
            return error.hint("the catalog has no models: add one to models.toml");
        }
        let names = self.models.iter().flat_map(|(id, model)| {
            let aliases = model.aliases.iter().map(|alias| alias.0.trim_end_matches('*'));
            let names = [id.as_str(), &model.name].into_iter().chain(aliases);
            names.map(move |name| (name, id))
        });
        let names: Vec<(&str, &ModelId)> = names.collect();
        let nearest = suggest::nearest(name, names.iter().map(|(name, _)| *name));
        // A part of a name is meant by people more often than a slip of the hand.
        let part = || (name.len() > 2).then(|| names.iter().find(|(candidate, _)| candidate.contains(name))).flatten();
        let id = match nearest {
            Some(nearest) => names.iter().find(|(name, _)| *name == nearest),
            None => part(),
        };
        match id {
            Some((_, id)) => error.hint(format!("did you mean `{id}`? `corral list` shows all models")),
            None => error.hint("`corral list` shows all models"),
        }
    }
}
