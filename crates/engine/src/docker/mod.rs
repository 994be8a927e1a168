//! `llama-server` in a container, through the Docker engine's own API.

mod connection;
mod ended;
mod endpoint;
mod facts;
mod gate;
mod gpu;
mod images;
mod log;
mod mounts;
mod prepare;
mod process;
mod pull;
mod request;
mod shared;
mod watch;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bollard::models::{ContainerInspectResponse, ContainerStateStatusEnum};
use bollard::query_parameters::{
    ListContainersOptionsBuilder, RemoveContainerOptionsBuilder, StopContainerOptionsBuilder,
};
use corral_core::launch::{LaunchSpec, Runtime};
use corral_core::ports::{Endpoint, Engine, EngineEvent, Instance, InstanceState, Job, Owned};
use corral_core::{Code, ConfigHash, Error, InstanceId, ModelId, Result, Secret};
use futures_util::future::try_join_all;
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

pub use self::facts::{DockerFacts, docker_facts, image_present};
pub use self::gpu::{GpuKind, gpu_kind};
pub(crate) use self::images::Images;

use self::connection::{Connected, status};
use self::shared::{Known, Shared};
use crate::args::API_KEY;
use crate::environment::EngineConfig;
use crate::errors::{self, superseded};
use crate::health::Probe;
use crate::load::{self, Loaded};
use crate::progress;

/// How long a server may take to end in an orderly way, in seconds. What matters was saved before it is told to.
const STOP_GRACE: i32 = 2;

/// How long an engine that no model needs may take to say what it holds.
const LOOK: Duration = Duration::from_secs(1);

/// How long Docker may take to tell of an end that has been seen.
const TOLD: Duration = Duration::from_secs(10);

/// [`Engine`] on Docker. Reaches for the engine when it is first used, and again whenever it went away.
#[derive(Debug)]
pub struct DockerEngine {
    shared: Arc<Shared>,
    probe: Probe,
    watching: AtomicBool,
    watcher: std::sync::Mutex<Option<AbortOnDropHandle<()>>>,
}

impl DockerEngine {
    /// An engine that has not been asked anything yet.
    pub fn new(config: EngineConfig) -> Self {
        Self {
            shared: Arc::new(Shared::new(config)),
            probe: Probe::new(),
            watching: AtomicBool::new(false),
            watcher: std::sync::Mutex::default(),
        }
    }

    /// Begins to follow the engine's events, once. Before that this process leaves Docker alone.
    fn watch(&self) {
        if !self.watching.swap(true, Ordering::Relaxed) {
            let task = tokio::spawn(watch::watch(Arc::clone(&self.shared), Timestamp::now()));
            *self.watcher.lock().unwrap_or_else(std::sync::PoisonError::into_inner) =
                Some(AbortOnDropHandle::new(task));
        }
    }

    /// Whether this process has turned to Docker yet.
    pub fn was_used(&self) -> bool {
        self.watching.load(Ordering::Relaxed)
    }

    async fn connected(&self) -> Result<Connected> {
        self.watch();
        self.shared.connection.get().await
    }

    /// What is known of a container, from memory or else from the engine.
    async fn known(&self, connected: &Connected, instance: &Instance) -> Result<Known> {
        match self.shared.known(&instance.id) {
            Some(known) => Ok(known),
            None => self.inspect(connected, instance).await,
        }
    }

    async fn inspect(&self, connected: &Connected, instance: &Instance) -> Result<Known> {
        let container = connected.docker.inspect_container(&instance.id.0, None).await;
        let container =
            container.map_err(|error| self.gone_or(connected, "cannot look at the container", instance, &error))?;
        Ok(self.shared.learn(&instance.id, &container))
    }

    /// What went wrong when the engine was asked to do something with an instance that may be there no more.
    fn gone_or(&self, connected: &Connected, what: &str, instance: &Instance, error: &bollard::errors::Error) -> Error {
        if ended::is_gone(error) {
            ended::removed(&self.shared, None, Some(&instance.model))
        } else {
            connected.error(what, error)
        }
    }

    /// Starts a container that does not wait at its gate.
    async fn start_afresh(&self, connected: &Connected, instance: &Instance, known: &Known) -> Result<Known> {
        let id = &instance.id;
        if let Some(gate) = &known.gate {
            // The runtime folder can have been emptied since.
            gate::make(gate).map_err(|error| errors::unusable("cannot make the pipe", gate, error))?;
        }
        let before = self.inspect(connected, instance).await?;
        if before.port.is_some() {
            return Ok(before);
        }
        let started = connected.docker.start_container(&id.0, None).await;
        started.map_err(|error| self.gone_or(connected, "cannot start the container", instance, &error))?;
        let known = self.inspect(connected, instance).await?;
        if let Some(gate) = &known.gate {
            drop(prepare::hold(&self.shared, connected, id, &instance.model, gate).await?);
        }
        Ok(known)
    }

    /// What this home has in Docker though no model needs Docker any more. The engine is asked once, not waited for and
    /// not followed, unless it holds something: it may well be absent, and nobody shall hear of that.
    pub(crate) async fn leftovers(&self) -> Result<Vec<Owned>> {
        let look = async { self.ids(&self.shared.connection.get().await?).await };
        match tokio::time::timeout(LOOK, look).await {
            Ok(Ok(ids)) if !ids.is_empty() => return self.owned().await,
            Ok(Err(error)) if error.code() != Code::EngineUnavailable => {
                tracing::warn!(%error, "Docker does not say whether a container of an earlier catalog is left");
            }
            _ => {}
        }
        // Nobody would notice if it went away now.
        self.shared.connection.forget();
        Ok(Vec::new())
    }

    /// The containers that bear this home's label.
    async fn ids(&self, connected: &Connected) -> Result<Vec<InstanceId>> {
        let label = format!("{}={}", request::HOME, self.shared.config.home_id);
        let filters = HashMap::from([("label".to_owned(), vec![label])]);
        let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        let listed = connected.docker.list_containers(Some(options)).await;
        let listed = listed.map_err(|error| connected.error("cannot list the containers", &error))?;
        Ok(listed.into_iter().filter_map(|container| container.id.map(InstanceId)).collect())
    }

    /// One of the containers that the engine listed; none where it went meanwhile, or is none of Corral's own.
    async fn owned_container(&self, connected: &Connected, id: InstanceId) -> Result<Option<Owned>> {
        if let Some(known) = self.shared.known(&id) {
            // One that is being stopped still looks as if it ran.
            drop(known.turn.lock().await);
        }
        let container = match connected.docker.inspect_container(&id.0, None).await {
            Ok(container) => container,
            Err(error) if status(&error) == Some(404) => return Ok(None),
            Err(error) => return Err(connected.error("cannot look at a container", &error)),
        };
        let Some(instance) = instance_of(id, &container) else {
            tracing::warn!(name = container.name, "a container has Corral's label but not what Corral gives its own");
            return Ok(None);
        };
        let known = self.shared.learn(&instance.id, &container);
        self.shared.hold_orphan(&instance.id, &known);
        let state = container.state.as_ref();
        let state = match (state.and_then(|state| state.status), known.port) {
            _ if self.shared.is_held(&instance.id) => InstanceState::Created,
            (Some(ContainerStateStatusEnum::CREATED), _) => InstanceState::Created,
            (Some(ContainerStateStatusEnum::RUNNING | ContainerStateStatusEnum::PAUSED), Some(port)) => {
                self.shared.follow(connected, &instance.id, &instance.model);
                InstanceState::Running(Endpoint {
                    url: url(connected, port),
                    started_at: known.started_at.unwrap_or(Timestamp::UNIX_EPOCH),
                })
            }
            _ => InstanceState::Exited,
        };
        Ok(Some(Owned { instance, state }))
    }
}

#[async_trait]
impl Engine for DockerEngine {
    async fn prepare(&self, spec: &LaunchSpec, job: &Job) -> Result<Instance> {
        self.watch();
        // In a task of its own: whoever stops waiting must not leave half a container behind.
        let own = job.cancelled.child_token();
        let _ends_with_this = own.clone().drop_guard();
        let (shared, spec, watched) = (Arc::clone(&self.shared), spec.clone(), job.clone());
        let own = Job::new(move |step, progress| watched.report(step, progress), own);
        let task = tokio::spawn(async move {
            let made = prepare::prepare(&shared, &spec, &own).await;
            if made.is_ok() && own.cancelled.is_cancelled() {
                if let Ok(instance) = &made {
                    remove(&shared, &instance.id).await?;
                }
                return Err(superseded());
            }
            made
        });
        task.await.unwrap_or_else(|error| Err(errors::defect("preparing a container broke").because(error)))
    }

    async fn start(&self, instance: &Instance) -> Result<Endpoint> {
        let connected = self.connected().await?;
        let id = &instance.id;
        let mut known = self.known(&connected, instance).await?;
        let turn = Arc::clone(&known.turn).lock_owned().await;
        self.shared.update(id, |known| {
            known.loading = true;
            known.told = false;
        });
        let mut started = Timestamp::now();
        if !self.shared.release(id) {
            known = self.start_afresh(&connected, instance, &known).await?;
            // By the engine's clock: the end of an earlier run, of which news may come yet, is before this.
            started = known.started_at.unwrap_or(started);
        }
        drop(turn);
        self.shared.follow(&connected, id, &instance.model);
        let Some(port) = known.port else {
            // It ended at once: Docker takes the port back.
            let status = ended::wait(&connected, id).await?;
            return Err(ended::cause(&self.shared, &connected, id, &instance.model, status).await);
        };
        Ok(Endpoint { url: url(&connected, port), started_at: started })
    }

    async fn await_ready(&self, instance: &Instance, endpoint: &Endpoint, timeout: Duration, job: &Job) -> Result<()> {
        let connected = self.connected().await?;
        let id = &instance.id;
        let known = self.known(&connected, instance).await?;
        let pid = known.process.as_ref().map(|process| process.pid);
        let mut ended = std::pin::pin!(ended::wait(&connected, id));
        let ready = self.probe.until_ready(&endpoint.url);
        let progress = progress::report_loading(pid, known.model_bytes, job);
        let status = match load::wait(&mut ended, ready, progress, timeout, &job.cancelled).await {
            Loaded::Ended(status) => status?,
            // It has ended, and Docker has yet to say so: who answered may have been another on the same port.
            Loaded::Ready if known.process.is_some_and(|process| process.has_ended()) => {
                tokio::time::timeout(TOLD, ended).await.unwrap_or_else(|_| Err(errors::end_untold(&instance.model)))?
            }
            Loaded::Ready => {
                self.shared.update(id, |known| known.loading = false);
                return Ok(());
            }
            Loaded::Cancelled => return Err(superseded()),
            Loaded::TooSlow => {
                let lines = log::tail(&connected.docker, id).await;
                return Err(errors::too_slow(&instance.model, timeout, &lines));
            }
        };
        Err(ended::cause(&self.shared, &connected, id, &instance.model, status).await)
    }

    async fn busy(&self, instance: &Instance, endpoint: &Endpoint) -> Result<u32> {
        self.probe.busy(&endpoint.url, &instance.api_key).await
    }

    fn memory(&self, instance: &Instance) -> Option<u64> {
        let process = self.shared.known(&instance.id)?.process.filter(|process| !process.has_ended())?;
        progress::private(process.pid)
    }

    async fn stop(&self, instance: &Instance) -> Result<()> {
        let connected = self.connected().await?;
        let id = &instance.id;
        let known = match self.known(&connected, instance).await {
            Ok(known) => known,
            Err(error) if error.code() == Code::ServerKilled => return Ok(()),
            Err(error) => return Err(error),
        };
        let turn = Arc::clone(&known.turn).lock_owned().await;
        self.shared.update(id, |known| {
            known.told = true;
            known.loading = false;
        });
        let (shared, id) = (Arc::clone(&self.shared), id.clone());
        let told = connected.clone();
        let stopping = tokio::spawn(async move {
            let options = StopContainerOptionsBuilder::default().t(STOP_GRACE).build();
            let stopped = told.docker.stop_container(&id.0, Some(options)).await;
            // Only now: it must not load when it was held back.
            shared.release(&id);
            drop(turn);
            stopped
        });
        let process_ended = async {
            match &known.process {
                Some(process) if process.ended().await => {}
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            stopped = stopping => match stopped {
                Ok(Err(error)) if status(&error) != Some(404) => {
                    Err(connected.error("cannot stop the container", &error))
                }
                Ok(_) => Ok(()),
                Err(error) => Err(errors::defect("stopping a container broke").because(error)),
            },
            () = process_ended => Ok(()),
        }
    }

    async fn discard(&self, instance: &Instance) -> Result<()> {
        self.watch();
        remove(&self.shared, &instance.id).await
    }

    async fn owned(&self) -> Result<Vec<Owned>> {
        let connected = self.connected().await?;
        let ids = self.ids(&connected).await?;
        let owned = try_join_all(ids.into_iter().map(|id| self.owned_container(&connected, id))).await?;
        Ok(owned.into_iter().flatten().collect())
    }

    fn events(&self) -> mpsc::UnboundedReceiver<EngineEvent> {
        self.shared.subscribe()
    }
}

async fn remove(shared: &Shared, id: &InstanceId) -> Result<()> {
    let connected = shared.connection.get().await?;
    let turn = shared.update(id, |known| {
        known.told = true;
        Arc::clone(&known.turn)
    });
    let _turn = turn.lock_owned().await;
    if shared.known(id).is_none_or(|known| known.gate.is_none())
        && let Ok(container) = connected.docker.inspect_container(&id.0, None).await
    {
        shared.learn(id, &container);
    }
    let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
    match connected.docker.remove_container(&id.0, Some(options)).await {
        Ok(()) => {}
        // Gone, or being removed by somebody else.
        Err(error) if matches!(status(&error), Some(404 | 409)) => {}
        Err(error) => return Err(connected.error("cannot remove the container", &error)),
    }
    shared.forget(id);
    Ok(())
}

/// What a container's own labels and environment say of the instance.
fn instance_of(id: InstanceId, container: &ContainerInspectResponse) -> Option<Instance> {
    let config = container.config.as_ref()?;
    let labels = config.labels.as_ref()?;
    let key = config.env.as_ref()?.iter().find_map(|entry| entry.strip_prefix(API_KEY)?.strip_prefix('='))?;
    Some(Instance {
        id,
        runtime: Runtime::Docker,
        model: ModelId::new(labels.get(request::MODEL)?).ok()?,
        config_hash: ConfigHash(labels.get(request::CONFIG_HASH)?.clone()),
        image: config.image.clone(),
        api_key: Secret::new(key),
    })
}

fn url(connected: &Connected, port: u16) -> String {
    // A published port is on the machine that the engine runs on.
    let host = match &connected.endpoint.host {
        endpoint::Host::Tcp(address) => address.rsplit_once(':').map_or(address.as_str(), |(host, _)| host),
        endpoint::Host::Unix(_) => "127.0.0.1",
    };
    format!("http://{host}:{port}")
}
