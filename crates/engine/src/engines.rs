//! Both runtimes behind one port.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use corral_core::launch::{LaunchSpec, Runtime};
use corral_core::ports::{Endpoint, Engine, EngineEvent, Instance, Job, Owned};
use corral_core::{Code, Result};
use tokio::sync::mpsc;

use crate::docker::DockerEngine;
use crate::environment::EngineConfig;
use crate::process::ProcessEngine;

/// Containers and child processes, each instance handled by the runtime that holds it.
#[derive(Debug, Clone)]
pub struct Engines {
    docker: Arc<DockerEngine>,
    process: ProcessEngine,
    docker_in_use: Arc<AtomicBool>,
}

impl Engines {
    /// Both runtimes. Until something needs Docker, or this is told that the catalog uses it, Docker is only asked once
    /// whether it holds something of this home's.
    pub fn new(config: &EngineConfig, docker_in_use: bool) -> Self {
        Self {
            docker: Arc::new(DockerEngine::new(config.clone())),
            process: ProcessEngine::new(config.clone()),
            docker_in_use: Arc::new(AtomicBool::new(docker_in_use)),
        }
    }

    /// Says whether a model of the catalog runs in Docker: then [`Engine::owned`] needs Docker to answer.
    pub fn set_docker_in_use(&self, in_use: bool) {
        self.docker_in_use.store(in_use, Ordering::Relaxed);
    }

    fn of(&self, runtime: Runtime) -> &dyn Engine {
        match runtime {
            Runtime::Docker => &*self.docker,
            Runtime::Process => &self.process,
        }
    }
}

#[async_trait]
impl Engine for Engines {
    async fn prepare(&self, spec: &LaunchSpec, job: &Job) -> Result<Instance> {
        self.of(spec.runtime).prepare(spec, job).await
    }

    async fn start(&self, instance: &Instance) -> Result<Endpoint> {
        self.of(instance.runtime).start(instance).await
    }

    async fn await_ready(&self, instance: &Instance, endpoint: &Endpoint, timeout: Duration, job: &Job) -> Result<()> {
        self.of(instance.runtime).await_ready(instance, endpoint, timeout, job).await
    }

    async fn busy(&self, instance: &Instance, endpoint: &Endpoint) -> Result<u32> {
        self.of(instance.runtime).busy(instance, endpoint).await
    }

    fn memory(&self, instance: &Instance) -> Option<u64> {
        self.of(instance.runtime).memory(instance)
    }

    async fn stop(&self, instance: &Instance) -> Result<()> {
        self.of(instance.runtime).stop(instance).await
    }

    async fn discard(&self, instance: &Instance) -> Result<()> {
        self.of(instance.runtime).discard(instance).await
    }

    async fn owned(&self) -> Result<Vec<Owned>> {
        let mut owned = self.process.owned().await?;
        if self.docker_in_use.load(Ordering::Relaxed) {
            owned.extend(self.docker.owned().await?);
        } else if self.docker.was_used() {
            // A container can be left from before the catalog changed; without an answer there is none to be had.
            match self.docker.owned().await {
                Err(error) if error.code() == Code::EngineUnavailable => {}
                found => owned.extend(found?),
            }
        } else {
            // So it can from before Corral was started, and would take its memory from the model that is to run.
            owned.extend(self.docker.leftovers().await?);
        }
        Ok(owned)
    }

    fn events(&self) -> mpsc::UnboundedReceiver<EngineEvent> {
        let (sender, receiver) = mpsc::unbounded_channel();
        for mut events in [self.docker.events(), self.process.events()] {
            let sender = sender.clone();
            tokio::spawn(async move {
                while let Some(event) = events.recv().await {
                    if sender.send(event).is_err() {
                        break;
                    }
                }
            });
        }
        receiver
    }
}
