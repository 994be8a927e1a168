//! An engine in memory. It does what it is told, and fails or waits where a test says so.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use corral_core::launch::LaunchSpec;
use corral_core::ports::{Endpoint, Engine, EngineEvent, Instance, InstanceState, Job, ModelFiles, Owned};
use corral_core::{Code, Error, InstanceId, ModelId, Result, Secret};
use jiff::Timestamp;
use tokio::sync::{mpsc, watch};

/// What a fake engine holds.
#[derive(Debug, Default)]
struct EngineState {
    instances: BTreeMap<InstanceId, Owned>,
    failures: BTreeMap<(Verb, String), Error>,
    busy: u32,
    calls: Vec<String>,
    unavailable: Option<Error>,
}

/// A call of the engine port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    /// `check` of the files.
    Check,
    /// `prepare`
    Prepare,
    /// `start`
    Start,
    /// `await_ready`
    AwaitReady,
    /// `stop`
    Stop,
}

/// An engine in memory.
#[derive(Debug)]
pub struct FakeEngine {
    state: Mutex<EngineState>,
    next: AtomicU64,
    held: watch::Sender<BTreeSet<Verb>>,
    events: Mutex<Option<mpsc::UnboundedSender<EngineEvent>>>,
}

impl Default for FakeEngine {
    fn default() -> Self {
        Self {
            state: Mutex::default(),
            next: AtomicU64::new(1),
            held: watch::channel(BTreeSet::new()).0,
            events: Mutex::new(None),
        }
    }
}

impl FakeEngine {
    fn state(&self) -> MutexGuard<'_, EngineState> {
        self.state.lock().expect("no test panics while it holds the engine")
    }

    /// Lets this call for this model fail from now on.
    pub fn fail(&self, verb: Verb, model: &str, error: Error) {
        self.state().failures.insert((verb, model.to_owned()), error);
    }

    /// Lets calls of this kind wait until [`FakeEngine::release`].
    pub fn hold(&self, verb: Verb) {
        self.held.send_modify(|held| {
            held.insert(verb);
        });
    }

    /// Lets waiting calls of this kind go on.
    pub fn release(&self, verb: Verb) {
        self.held.send_modify(|held| {
            held.remove(&verb);
        });
    }

    /// Sets the number of requests that each server says it works on.
    pub fn set_busy(&self, requests: u32) {
        self.state().busy = requests;
    }

    /// Every call so far, for instance `start a`.
    pub fn calls(&self) -> Vec<String> {
        self.state().calls.clone()
    }

    /// The models of the instances it holds, with their state's first letter: `c`reated, `r`unning, `e`xited.
    pub fn holds(&self) -> Vec<(String, char)> {
        let letter = |state: &InstanceState| match state {
            InstanceState::Created => 'c',
            InstanceState::Running(_) => 'r',
            InstanceState::Exited => 'e',
        };
        self.state().instances.values().map(|owned| (owned.instance.model.to_string(), letter(&owned.state))).collect()
    }

    /// Puts an instance there that runs already.
    pub fn put_running(&self, spec: &LaunchSpec) -> Instance {
        let instance = self.instance(spec);
        let state = InstanceState::Running(endpoint());
        self.state().instances.insert(instance.id.clone(), Owned { instance: instance.clone(), state });
        instance
    }

    /// Lets every call fail with this error, or work again.
    pub fn set_unavailable(&self, error: Option<Error>) {
        self.state().unavailable = error;
    }

    /// Sends an event, as if it had happened.
    pub fn emit(&self, event: EngineEvent) {
        let events = self.events.lock().expect("not poisoned");
        events.as_ref().expect("somebody listens").send(event).expect("the controller runs");
    }

    /// The running instance ends by itself.
    pub fn crash(&self, cause: Error) {
        let id = {
            let mut state = self.state();
            let running = state.instances.values_mut().find(|owned| matches!(owned.state, InstanceState::Running(_)));
            let owned = running.expect("one runs");
            owned.state = InstanceState::Exited;
            owned.instance.id.clone()
        };
        self.emit(EngineEvent::Exited { instance: id, at: Timestamp::now(), cause });
    }

    fn instance(&self, spec: &LaunchSpec) -> Instance {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        Instance {
            id: InstanceId(format!("{}-{number}", spec.model)),
            runtime: spec.runtime,
            model: spec.model.clone(),
            config_hash: spec.hash(),
            image: Some(spec.image.clone()),
            api_key: Secret::new(format!("key-{number}")),
        }
    }

    async fn call(&self, verb: Verb, model: &ModelId) -> Result<()> {
        self.state().calls.push(format!("{verb:?} {model}").to_lowercase());
        let mut held = self.held.subscribe();
        held.wait_for(|held| !held.contains(&verb)).await.expect("the engine lives");
        let state = self.state();
        if let Some(error) = &state.unavailable {
            return Err(error.clone());
        }
        state.failures.get(&(verb, model.to_string())).map_or(Ok(()), |error| Err(error.clone()))
    }

    fn set(&self, instance: &Instance, new: InstanceState) -> Result<()> {
        let mut state = self.state();
        let owned = state.instances.get_mut(&instance.id);
        owned.ok_or_else(|| Error::new(Code::EngineFailed, "no such instance"))?.state = new;
        let running = state.instances.values().filter(|owned| matches!(owned.state, InstanceState::Running(_))).count();
        assert!(running <= 1, "two servers run at once");
        Ok(())
    }
}

fn endpoint() -> Endpoint {
    Endpoint { url: "http://127.0.0.1:41234".into(), started_at: Timestamp::now() }
}

#[async_trait]
impl Engine for FakeEngine {
    async fn prepare(&self, spec: &LaunchSpec, _job: &Job) -> Result<Instance> {
        self.call(Verb::Prepare, &spec.model).await?;
        let instance = self.instance(spec);
        let owned = Owned { instance: instance.clone(), state: InstanceState::Created };
        self.state().instances.insert(instance.id.clone(), owned);
        Ok(instance)
    }

    async fn start(&self, instance: &Instance) -> Result<Endpoint> {
        self.call(Verb::Start, &instance.model).await?;
        let endpoint = endpoint();
        self.set(instance, InstanceState::Running(endpoint.clone()))?;
        Ok(endpoint)
    }

    async fn await_ready(&self, instance: &Instance, _: &Endpoint, _: Duration, job: &Job) -> Result<()> {
        tokio::select! {
            () = job.cancelled.cancelled() => Err(Error::new(Code::Superseded, "nobody waits any more")),
            result = self.call(Verb::AwaitReady, &instance.model) => {
                if result.is_err() {
                    self.set(instance, InstanceState::Exited)?;
                }
                result
            }
        }
    }

    async fn busy(&self, _: &Instance, _: &Endpoint) -> Result<u32> {
        Ok(self.state().busy)
    }

    async fn stop(&self, instance: &Instance) -> Result<()> {
        self.call(Verb::Stop, &instance.model).await?;
        self.set(instance, InstanceState::Exited)
    }

    async fn discard(&self, instance: &Instance) -> Result<()> {
        self.state().instances.remove(&instance.id);
        Ok(())
    }

    async fn owned(&self) -> Result<Vec<Owned>> {
        let state = self.state();
        match &state.unavailable {
            Some(error) => Err(error.clone()),
            None => Ok(state.instances.values().cloned().collect()),
        }
    }

    fn events(&self) -> mpsc::UnboundedReceiver<EngineEvent> {
        let (sender, receiver) = mpsc::unbounded_channel();
        *self.events.lock().expect("not poisoned") = Some(sender);
        receiver
    }
}

#[async_trait]
impl ModelFiles for FakeEngine {
    async fn check(&self, spec: &LaunchSpec) -> Result<()> {
        self.call(Verb::Check, &spec.model).await
    }

    async fn prefetch(&self, _: &LaunchSpec, _: &Job) {}
}
