//! Conversations on disk: the KV cache of each slot, saved and read by llama-server itself.
//!
//! Each model has a folder of its own in the slots folder, which is all that its container sees of it. What the files
//! are is written down in an index beside those folders: what is not as the index says is never given to a server.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use corral_core::launch::LaunchSpec;
use corral_core::ports::{Contexts, Endpoint, Instance, KeptContext};
use corral_core::{Error, Result};
use tokio::sync::Mutex;

use crate::environment::EngineConfig;
use crate::errors;

mod checksum;
mod disk;
pub(crate) mod folder;
mod index;
mod name;
mod restore;
mod save;
mod server;
mod store;

use checksum::Checksums;
use name::{Fingerprint, Stem};
use server::Slots;
use store::Store;

/// Disk space that is left to others, in bytes.
const RESERVE: u64 = 64 << 20;

/// [`Contexts`] in files of the slots folder. One save or restore at a time.
#[derive(Debug)]
pub struct SlotFiles {
    store: Arc<Store>,
    checksums: Checksums,
    client: server::Client,
    reserve: u64,
    turn: Mutex<()>,
}

/// The files of one model in one configuration.
#[derive(Debug, Clone)]
struct Place {
    dir: PathBuf,
    stem: Stem,
}

impl SlotFiles {
    /// The slots folder of this home.
    pub fn new(config: &EngineConfig) -> Self {
        Self {
            store: Arc::new(Store::new(&config.slots_dir)),
            checksums: Checksums::default(),
            client: server::Client::new(),
            reserve: RESERVE,
            turn: Mutex::default(),
        }
    }

    /// Leaves this much of the disk free, in bytes, in place of 64 MiB.
    #[must_use]
    pub fn with_reserve(mut self, bytes: u64) -> Self {
        self.reserve = bytes;
        self
    }

    fn server<'a>(&'a self, instance: &'a Instance, endpoint: &'a Endpoint) -> Slots<'a> {
        Slots { client: &self.client, url: &endpoint.url, key: &instance.api_key }
    }
}

#[async_trait]
impl Contexts for SlotFiles {
    async fn save(
        &self,
        instance: &Instance,
        endpoint: &Endpoint,
        spec: &LaunchSpec,
        budget: u64,
    ) -> Result<KeptContext> {
        let _turn = self.turn.lock().await;
        self.save_slots(&self.server(instance, endpoint), endpoint.started_at, spec, budget).await
    }

    async fn restore(&self, instance: &Instance, endpoint: &Endpoint, spec: &LaunchSpec) -> Result<KeptContext> {
        let _turn = self.turn.lock().await;
        self.restore_slots(&self.server(instance, endpoint), endpoint.started_at, spec).await
    }
}

/// Where the files of a model are that a server has loaded since it was started at that time; none where the file that
/// it has loaded is not there any more as it was.
fn place(root: &Path, spec: &LaunchSpec, started_at: jiff::Timestamp) -> Result<Option<Place>> {
    let model = match Fingerprint::of(spec) {
        Ok(model) => model,
        Err((_, error)) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err((path, error)) => return Err(errors::unusable("cannot look at", &path, error)),
    };
    if model.changed_at > started_at {
        tracing::debug!(model = %spec.model, "its file has changed since it was loaded");
        return Ok(None);
    }
    let dir = folder::of(root, &spec.model);
    Ok(Some(Place { dir, stem: Stem::new(&spec.model, &model, &spec.hash()) }))
}

/// Carries out what waits for the disk, to its end even where nobody waits for it any more.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(errors::defect("keeping conversations went wrong").because(error)))
}

/// The index cannot be written.
fn unwritten(path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    move |error| errors::unusable("cannot write", path, error)
}

#[cfg(test)]
mod tests;
