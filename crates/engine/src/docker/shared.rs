//! What the engine's methods and its background tasks both use.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bollard::models::ContainerInspectResponse;
use corral_core::ports::EngineEvent;
use corral_core::{InstanceId, ModelId};
use jiff::Timestamp;
use tokio::sync::mpsc;

use super::connection::{Connected, Connection};
use super::gate::{self, Held};
use super::log;
use super::process::ContainerProcess;
use super::request::PORT;
use crate::environment::EngineConfig;

/// So many containers are remembered before those that are gone are forgotten.
const MOST_KNOWN: usize = 256;

/// What is remembered of a container while this process lives.
#[derive(Debug, Default, Clone)]
pub(super) struct Known {
    /// The port outside, while it runs.
    pub port: Option<u16>,
    /// When it was last started, by the engine's clock.
    pub started_at: Option<Timestamp>,
    /// Its first process, while it runs.
    pub process: Option<Arc<ContainerProcess>>,
    /// The size of its model's files; none where it was created by an earlier Corral.
    pub model_bytes: Option<u64>,
    /// Its named pipe.
    pub gate: Option<PathBuf>,
    /// Held while the engine starts, stops or removes it.
    pub turn: Arc<tokio::sync::Mutex<()>>,
    /// It was started and has not been ready yet.
    pub loading: bool,
    /// It was told to end.
    pub told: bool,
    /// Its log is being followed.
    pub followed: bool,
    /// The time of the last line that was followed.
    pub last_line: Option<Timestamp>,
}

/// The state behind a [`DockerEngine`](super::DockerEngine).
#[derive(Debug)]
pub(super) struct Shared {
    pub config: EngineConfig,
    pub connection: Connection,
    known: Mutex<HashMap<InstanceId, Known>>,
    held: Mutex<HashMap<InstanceId, Held>>,
    receivers: Mutex<Vec<mpsc::UnboundedSender<EngineEvent>>>,
}

impl Shared {
    pub(super) fn new(config: EngineConfig) -> Self {
        let connection = Connection::new(config.env.clone());
        Self { config, connection, known: Mutex::default(), held: Mutex::default(), receivers: Mutex::default() }
    }

    pub(super) fn subscribe(&self) -> mpsc::UnboundedReceiver<EngineEvent> {
        let (sender, receiver) = mpsc::unbounded_channel();
        lock(&self.receivers).push(sender);
        receiver
    }

    pub(super) fn emit(&self, event: &EngineEvent) {
        lock(&self.receivers).retain(|receiver| receiver.send(event.clone()).is_ok());
    }

    pub(super) fn known(&self, id: &InstanceId) -> Option<Known> {
        lock(&self.known).get(id).cloned()
    }

    pub(super) fn update<T>(&self, id: &InstanceId, change: impl FnOnce(&mut Known) -> T) -> T {
        change(lock(&self.known).entry(id.clone()).or_default())
    }

    pub(super) fn is_loading(&self, id: &InstanceId) -> bool {
        lock(&self.known).get(id).is_some_and(|known| known.loading)
    }

    pub(super) fn was_told(&self, id: &InstanceId) -> bool {
        lock(&self.known).get(id).is_some_and(|known| known.told)
    }

    /// Takes what an inspection says of the container in, and hands it back.
    pub(super) fn learn(&self, id: &InstanceId, container: &ContainerInspectResponse) -> Known {
        let state = container.state.clone().unwrap_or_default();
        let running = state.running == Some(true);
        let process = running.then(|| ContainerProcess::of(state.pid?, &id.0)).flatten().map(Arc::new);
        self.update(id, |known| {
            known.port = if running { port(container) } else { None };
            known.process = process;
            known.started_at = state.started_at.as_deref().and_then(|at| at.parse().ok());
            known.gate = known.gate.take().or_else(|| gate_of(container));
            known.clone()
        })
    }

    /// The container is gone.
    pub(super) fn forget(&self, id: &InstanceId) {
        let gate = lock(&self.known).get(id).and_then(|known| known.gate.clone());
        // The news of its end may still be on the way, and asks whether it was told to; later nobody does.
        let mut all = lock(&self.known);
        if let Some(known) = all.get_mut(id) {
            *known = Known { told: true, gate: None, process: None, ..known.clone() };
        }
        if all.len() > MOST_KNOWN {
            all.retain(|_, known| !known.told || known.followed);
        }
        drop(all);
        self.release(id);
        if let Some(gate) = gate {
            gate::remove(&gate);
        }
    }

    pub(super) fn hold(&self, id: &InstanceId, held: Held) {
        lock(&self.held).insert(id.clone(), held);
    }

    /// Takes hold of a server that waits though nobody holds it: whoever started it ended at just that moment.
    pub(super) fn hold_orphan(&self, id: &InstanceId, known: &Known) {
        if let (Some(gate), Some(_), false) = (&known.gate, known.port, self.is_held(id))
            && let Ok(Some(held)) = gate::try_hold(gate)
        {
            self.hold(id, held);
        }
    }

    /// Lets a server that waits go on; says whether there was one.
    pub(super) fn release(&self, id: &InstanceId) -> bool {
        lock(&self.held).remove(id).is_some()
    }

    pub(super) fn is_held(&self, id: &InstanceId) -> bool {
        lock(&self.held).contains_key(id)
    }

    /// Follows the log of a running container, unless that is being done.
    pub(super) fn follow(self: &Arc<Self>, connected: &Connected, id: &InstanceId, model: &ModelId) {
        let (followed, after) =
            self.update(id, |known| (std::mem::replace(&mut known.followed, true), known.last_line));
        if followed {
            return;
        }
        let (shared, docker, id, model) = (Arc::clone(self), connected.docker.clone(), id.clone(), model.clone());
        tokio::spawn(async move {
            let last = log::follow(&docker, &id, &model, &shared.config.logs, after).await;
            shared.update(&id, |known| {
                known.followed = false;
                known.last_line = last;
            });
        });
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The port outside.
fn port(container: &ContainerInspectResponse) -> Option<u16> {
    let ports = container.network_settings.as_ref()?.ports.as_ref()?;
    ports.get(PORT)?.as_ref()?.iter().find_map(|binding| binding.host_port.as_deref()?.parse().ok())
}

fn gate_of(container: &ContainerInspectResponse) -> Option<PathBuf> {
    let mounts = container.mounts.as_ref()?;
    let gate = mounts.iter().find(|mount| mount.destination.as_deref() == Some(gate::TARGET))?;
    gate.source.as_ref().map(PathBuf::from)
}
