//! The ports, in memory. A fake engine does what it is told, and fails or waits where a test says so.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use corral_core::launch::LaunchSpec;
use corral_core::ports::{
    Clock, Contexts, Ended, Endpoint, EndpointFile, Engine, EngineEvent, FirstAnswer, Instance, InstanceState, Job,
    Journal, KeptContext, ModelFiles, Notifier, Owned, Ports, Route, Traffic,
};
use corral_core::snapshot::{Notice, OperationKind, OperationView, SessionView};
use corral_core::{Code, Error, InstanceId, ModelId, OperationId, Result, Secret};
use jiff::Timestamp;
use tokio::sync::{mpsc, watch};
use uuid::Uuid;

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

/// A journal, a notifier and an endpoint file in memory.
#[derive(Debug, Default)]
pub struct Memory {
    wanted: Mutex<Option<ModelId>>,
    last_served: Mutex<Option<ModelId>>,
    began: Mutex<Vec<OperationId>>,
    ended: Mutex<Vec<OperationId>>,
    notices: Mutex<Vec<Notice>>,
    key: Mutex<Option<String>>,
    contexts: Mutex<HashMap<ModelId, KeptContext>>,
    traffic: Mutex<Vec<String>>,
    finished: Mutex<Vec<Ended>>,
    first_answers: Mutex<Vec<OperationId>>,
}

impl Memory {
    /// What was asked of the traffic, in order.
    pub fn traffic(&self) -> Vec<String> {
        self.traffic.lock().expect("not poisoned").clone()
    }

    /// How the operations ended.
    pub fn finished(&self) -> Vec<Ended> {
        self.finished.lock().expect("not poisoned").clone()
    }

    /// The operations whose model has given its first answer.
    pub fn first_answers(&self) -> Vec<OperationId> {
        self.first_answers.lock().expect("not poisoned").clone()
    }

    /// Every notice so far.
    pub fn notices(&self) -> Vec<String> {
        self.notices.lock().expect("not poisoned").iter().map(|notice| notice.message.clone()).collect()
    }

    /// The key that is published.
    pub fn key(&self) -> Option<String> {
        self.key.lock().expect("not poisoned").clone()
    }

    /// The operations that began, and those that ended.
    pub fn operations(&self) -> (Vec<OperationId>, Vec<OperationId>) {
        (self.began.lock().expect("not poisoned").clone(), self.ended.lock().expect("not poisoned").clone())
    }
}

#[async_trait]
impl Contexts for Memory {
    async fn save(&self, instance: &Instance, _: &Endpoint, _: &LaunchSpec, _: u64) -> Result<KeptContext> {
        let kept = KeptContext { slots: 1, tokens: 100, bytes: 1000 };
        self.contexts.lock().expect("not poisoned").insert(instance.model.clone(), kept);
        Ok(kept)
    }

    async fn restore(&self, instance: &Instance, _: &Endpoint, _: &LaunchSpec) -> Result<KeptContext> {
        Ok(self.contexts.lock().expect("not poisoned").get(&instance.model).copied().unwrap_or_default())
    }
}

#[async_trait]
impl Traffic for Memory {
    fn open(&self, route: Route) {
        self.traffic.lock().expect("not poisoned").push(format!("open {}", route.instance.model));
    }

    fn close(&self) {
        self.traffic.lock().expect("not poisoned").push("close".to_owned());
    }

    async fn drained(&self) {
        self.traffic.lock().expect("not poisoned").push("drain".to_owned());
    }

    fn cut(&self, _: &Error) {
        self.traffic.lock().expect("not poisoned").push("cut".to_owned());
    }
}

impl Journal for Memory {
    fn began(&self, operation: &OperationView) {
        self.began.lock().expect("not poisoned").push(operation.id);
    }

    fn ended(&self, ended: &Ended) {
        self.ended.lock().expect("not poisoned").push(ended.operation.id);
        self.finished.lock().expect("not poisoned").push(ended.clone());
        if ended.error.is_none() && ended.operation.to.is_some() {
            self.last_served.lock().expect("not poisoned").clone_from(&ended.operation.to);
        }
    }

    fn want(&self, model: Option<&ModelId>) {
        *self.wanted.lock().expect("not poisoned") = model.cloned();
    }

    fn wanted(&self) -> Option<ModelId> {
        self.wanted.lock().expect("not poisoned").clone()
    }

    fn last_served(&self) -> Option<ModelId> {
        self.last_served.lock().expect("not poisoned").clone()
    }

    fn first_answer(&self, operation: OperationId, _: &FirstAnswer) {
        self.first_answers.lock().expect("not poisoned").push(operation);
    }

    fn expected(&self, _: OperationKind, _: &ModelId) -> Option<Duration> {
        None
    }

    fn session(&self, _: &SessionView, _: Option<Timestamp>) {}
}

impl Notifier for Memory {
    fn notify(&self, notice: &Notice) {
        self.notices.lock().expect("not poisoned").push(notice.clone());
    }
}

impl EndpointFile for Memory {
    fn publish(&self, key: Option<&Secret>) -> Option<String> {
        let key = key.map(|key| key.expose().to_owned());
        self.key.lock().expect("not poisoned").clone_from(&key);
        key.map(|_| "/run/corral/api-key".to_owned())
    }
}

/// The machine's time, with ids that count up.
#[derive(Debug)]
pub struct CountingClock {
    next: AtomicU64,
    began: tokio::time::Instant,
}

impl Default for CountingClock {
    fn default() -> Self {
        Self { next: AtomicU64::default(), began: tokio::time::Instant::now() }
    }
}

#[async_trait]
impl Clock for CountingClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }

    fn uptime(&self) -> Duration {
        self.began.elapsed()
    }

    fn operation_id(&self) -> OperationId {
        OperationId(Uuid::from_u128(u128::from(self.next.fetch_add(1, Ordering::Relaxed)) + 1))
    }

    fn secret(&self) -> Result<Secret> {
        Ok(Secret::new(format!("secret-{}", self.next.fetch_add(1, Ordering::Relaxed))))
    }
}

/// All ports on one fake engine and one memory.
pub fn ports(engine: &Arc<FakeEngine>, memory: &Arc<Memory>) -> Ports {
    Ports {
        engine: engine.clone(),
        files: engine.clone(),
        contexts: memory.clone(),
        traffic: memory.clone(),
        journal: memory.clone(),
        notifier: memory.clone(),
        endpoint_file: memory.clone(),
        clock: Arc::new(CountingClock::default()),
    }
}
