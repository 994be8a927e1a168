//! `models.toml`: what a person writes, checked once and resolved into plain values.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use indexmap::IndexMap;

use crate::error::Error;
use crate::id::ModelId;
use crate::launch::LaunchSpec;

/// The whole catalog, checked and with the defaults merged in.
#[derive(Debug, Clone, PartialEq)]
pub struct Catalog {
    /// The addresses Corral serves on.
    pub server: Server,
    /// How requests are treated while models change.
    pub gateway: Gateway,
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

/// `[gateway]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gateway {
    /// How long running requests may take to end before a switch cuts them.
    pub drain_timeout: Duration,
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
