//! What the controller needs of the world. Adapters implement these; tests use fakes.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Result};
use crate::fit::ModelMemory;
use crate::gpu::GpuSample;
use crate::history::PastOperation;
use crate::id::{ConfigHash, InstanceId, ModelId, OperationId, Secret};
use crate::launch::{LaunchSpec, Runtime};
use crate::snapshot::{Notice, OperationKind, OperationView, Progress, SessionView, Step};
use crate::usage::{Millijoules, RequestRecord, Ticket, Tokens, UsageBy, UsageRow};

/// One `llama-server` that Corral owns: created, running or stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// The engine's id.
    pub id: InstanceId,
    /// Which runtime holds it.
    pub runtime: Runtime,
    /// The model it was created for.
    pub model: ModelId,
    /// The configuration it was created with.
    pub config_hash: ConfigHash,
    /// The image's reference; none for a child process.
    pub image: Option<String>,
    /// The key that its inference routes ask for.
    pub api_key: Secret,
}

/// Where a running instance answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// For instance `http://127.0.0.1:41234`, without a slash at the end.
    pub url: String,
    /// When the server was started.
    pub started_at: Timestamp,
}

/// What an owned instance was doing when the engine was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InstanceState {
    /// Never started.
    Created,
    /// Running.
    Running(Endpoint),
    /// Ended.
    Exited,
}

/// An instance that bears this home's label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owned {
    /// The instance.
    pub instance: Instance,
    /// What it was doing.
    pub state: InstanceState,
}

/// Something that happened in an engine without being asked for.
#[derive(Debug, Clone)]
pub enum EngineEvent {
    /// An instance ended or was removed. The engine does not know whether somebody wanted that.
    Exited {
        /// Which.
        instance: InstanceId,
        /// When it ended, by the clock that also gave its `started_at`.
        at: Timestamp,
        /// Why, with exit code, out-of-memory flag and the last log lines.
        cause: Error,
    },
    /// The engine stopped answering.
    Lost {
        /// Which runtime.
        runtime: Runtime,
        /// Why.
        cause: Error,
    },
    /// The engine answers again.
    Back {
        /// Which runtime.
        runtime: Runtime,
    },
}

/// Reports how far a long step is, and tells when its result is no longer wanted.
#[derive(Clone)]
pub struct Job {
    report: Arc<dyn Fn(Step, Option<Progress>) + Send + Sync>,
    /// Cancelled once the operation was superseded. Whoever stops early leaves nothing behind.
    pub cancelled: CancellationToken,
}

impl Job {
    /// A job whose progress goes to `report`.
    pub fn new(report: impl Fn(Step, Option<Progress>) + Send + Sync + 'static, cancelled: CancellationToken) -> Self {
        Self { report: Arc::new(report), cancelled }
    }

    /// A job nobody watches.
    pub fn unwatched() -> Self {
        Self::new(|_, _| {}, CancellationToken::new())
    }

    /// Says which step is running and how far it is.
    pub fn report(&self, step: Step, progress: Option<Progress>) {
        (self.report)(step, progress);
    }
}

/// Runs `llama-server`.
#[async_trait]
pub trait Engine: Send + Sync {
    /// Makes an instance ready to load: image pulled, container created, and where the engine can hold it back, already
    /// started. It uses neither GPU nor much memory, so that it can be done while another instance serves. On an error or
    /// a cancel nothing is left behind.
    async fn prepare(&self, spec: &LaunchSpec, job: &Job) -> Result<Instance>;

    /// Lets a prepared instance load, or starts a stopped one; "started" says nothing about readiness.
    async fn start(&self, instance: &Instance) -> Result<Endpoint>;

    /// Waits until `/health` answers 200. Ends early, with the cause, when the server ends.
    async fn await_ready(&self, instance: &Instance, endpoint: &Endpoint, timeout: Duration, job: &Job) -> Result<()>;

    /// Number of requests that the server works on or has queued.
    async fn busy(&self, instance: &Instance, endpoint: &Endpoint) -> Result<u32>;

    /// Stops an instance and returns once it has ended; it can be started again. One that has ended already is fine.
    async fn stop(&self, instance: &Instance) -> Result<()>;

    /// Bytes of the host's memory that a running instance has to itself and gives back with its end; none where that
    /// cannot be told.
    fn memory(&self, _: &Instance) -> Option<u64> {
        None
    }

    /// Removes an instance, running or not. One that is gone already is fine.
    async fn discard(&self, instance: &Instance) -> Result<()>;

    /// All instances of this home, in every runtime that answers. An error only when a runtime in use does not answer.
    async fn owned(&self) -> Result<Vec<Owned>>;

    /// Events from now on. A slow reader loses none.
    fn events(&self) -> mpsc::UnboundedReceiver<EngineEvent>;
}

/// The model files.
#[async_trait]
pub trait ModelFiles: Send + Sync {
    /// Says whether the file is there, whole, and a GGUF file, from its header alone.
    async fn check(&self, spec: &LaunchSpec) -> Result<()>;

    /// Reads the file ahead into the page cache. Best effort: never fails, ends when cancelled.
    async fn prefetch(&self, spec: &LaunchSpec, job: &Job);
}

/// What was saved of a server's conversations, or brought back into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KeptContext {
    /// Number of slots that held something.
    pub slots: u32,
    /// Tokens in them.
    pub tokens: u64,
    /// Bytes on disk.
    pub bytes: u64,
}

/// Keeps the conversations of a model while it is not loaded: the KV cache of each of its slots, in files.
#[async_trait]
pub trait Contexts: Send + Sync {
    /// Saves the used slots of a server that works on nothing, in place of what was saved for the same model file and
    /// configuration before. Then the oldest files go until all of them together take `budget` bytes at most. Where the
    /// model file has changed since the server was started, nothing is saved.
    async fn save(
        &self,
        instance: &Instance,
        endpoint: &Endpoint,
        spec: &LaunchSpec,
        budget: u64,
    ) -> Result<KeptContext>;

    /// Brings what was saved for this model file and configuration into a server that has just loaded. A file that is
    /// damaged, foreign or refused is removed and left out. What llama-server says is no proof that it worked: the first
    /// answer is.
    async fn restore(&self, instance: &Instance, endpoint: &Endpoint, spec: &LaunchSpec) -> Result<KeptContext>;
}

/// A server that requests may go to.
#[derive(Debug, Clone)]
pub struct Route {
    /// The server.
    pub instance: Instance,
    /// Where it answers.
    pub endpoint: Endpoint,
    /// Whether conversations were brought back into it, whose first answer is yet to come.
    pub restored: bool,
}

/// The requests of clients on their way to the model. Requests that come while nothing is open wait.
#[async_trait]
pub trait Traffic: Send + Sync {
    /// From now on requests go to this server.
    fn open(&self, route: Route);

    /// From now on requests wait; those under way go on.
    fn close(&self);

    /// Returns once no request is under way at the server that was opened last.
    async fn drained(&self);

    /// Ends the requests under way, each with this error in its client's own protocol.
    fn cut(&self, why: &Error);
}

/// Where no gateway serves: nothing is ever under way.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoTraffic;

#[async_trait]
impl Traffic for NoTraffic {
    fn open(&self, _: Route) {}
    fn close(&self) {}
    async fn drained(&self) {}
    fn cut(&self, _: &Error) {}
}

/// Writes down what each request cost.
pub trait Ledger: Send + Sync {
    /// A request is with the model from now on, until it is recorded. None where no energy is measured. Never blocks.
    fn sent(&self) -> Option<Ticket> {
        None
    }

    /// Takes a record; never blocks and never waits for the disk.
    fn record(&self, request: RequestRecord);

    /// Takes the record of a request whose energy was measured from [`Ledger::sent`] on.
    fn record_sent(&self, _: Ticket, request: RequestRecord) {
        self.record(request);
    }
}

/// Tells the energy that the GPUs of the loaded model take.
pub trait EnergyCounter: Send + Sync {
    /// Whether there is anything to be read at present. It never waits and touches no driver.
    fn counts(&self) -> bool;

    /// What they took since the last reading; none where that is not known. It may wait for the driver: never call it where
    /// others wait.
    fn read(&self) -> Option<Millijoules>;

    /// Lets go of the drivers until the next reading, so that a GPU can sleep. It may wait, too.
    fn rest(&self);
}

/// Reads what was written down about requests and operations. It waits for the disk: never call it where others wait.
pub trait UsageSource: std::fmt::Debug + Send + Sync {
    /// Sums of the requests that came at `since` or later and before `until`: models and sessions with the most tokens
    /// first, days in their order in the time zone.
    fn usage(
        &self,
        by: UsageBy,
        since: Option<Timestamp>,
        until: Option<Timestamp>,
        zone: &TimeZone,
    ) -> Result<Vec<UsageRow>>;

    /// The latest operations, newest first.
    fn history(&self, count: u32) -> Result<Vec<PastOperation>>;
}

/// How an operation ended.
#[derive(Debug, Clone)]
pub struct Ended {
    /// The operation as it last was.
    pub operation: OperationView,
    /// When it ended.
    pub at: Timestamp,
    /// Nothing, or why it failed.
    pub error: Option<Error>,
    /// How long each of its steps took, in the order they were first taken; a step taken twice is summed.
    pub steps: Vec<(Step, Duration)>,
    /// What was saved of the model that was stopped.
    pub saved: Option<KeptContext>,
    /// What was brought back into the model that was started.
    pub restored: Option<KeptContext>,
}

/// The first answer that a model gave after it was loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FirstAnswer {
    /// Its tokens.
    pub tokens: Tokens,
    /// Whether it continues a conversation that the model had before it was stopped: only then can what was brought
    /// back be of use. None where that is not known.
    pub continues: Option<bool>,
    /// When its first token came.
    pub first_token_at: Timestamp,
}

/// What outlives the process. Written best effort: a failure is logged, never shown as the operation's own.
pub trait Journal: Send + Sync {
    /// An operation began.
    fn began(&self, operation: &OperationView);
    /// An operation ended.
    fn ended(&self, ended: &Ended);
    /// The model that should be running from now on.
    fn want(&self, model: Option<&ModelId>);
    /// The model that should be running, as last written.
    fn wanted(&self) -> Option<ModelId>;
    /// The model that last served.
    fn last_served(&self) -> Option<ModelId>;
    /// The model that this operation loaded has given its first answer.
    fn first_answer(&self, operation: OperationId, answer: &FirstAnswer);
    /// How long an operation of this kind to this model will take, by what earlier ones took; none where nothing is
    /// known.
    fn expected(&self, kind: OperationKind, to: &ModelId) -> Option<Duration>;
    /// A session began, or ended at the given time. One that had ended with an earlier Corral may begin again.
    fn session(&self, session: &SessionView, ended: Option<Timestamp>);
}

/// Tells people what happened.
pub trait Notifier: Send + Sync {
    /// Shows one notice; never blocks.
    fn notify(&self, notice: &Notice);
}

/// Publishes where the loaded model answers, for programs that may use it.
pub trait EndpointFile: Send + Sync {
    /// Writes the key of the instance that serves and returns the file's path, or removes the file.
    fn publish(&self, key: Option<&Secret>) -> Option<String>;
}

/// Time and randomness.
#[async_trait]
pub trait Clock: Send + Sync {
    /// The time of day.
    fn now(&self) -> Timestamp;
    /// Waits.
    async fn sleep(&self, duration: Duration);
    /// The time since some moment in the past; unlike the time of day it never jumps.
    fn uptime(&self) -> Duration;
    /// A new operation id.
    fn operation_id(&self) -> OperationId;
    /// A new secret that nobody can guess.
    fn secret(&self) -> Result<Secret>;
}

/// Reads GPUs. It may wait for a driver: never call it where others wait.
///
/// It never fails: what cannot be read is a state with a reason, and is tried again by itself.
pub trait GpuProbe: std::fmt::Debug + Send {
    /// What all GPUs do at this moment, `now` being the time since some moment in the past. A GPU that sleeps is not
    /// woken.
    fn read(&mut self, now: Duration) -> GpuSample;

    /// Lets go of the drivers until the next reading, so that a GPU can sleep.
    fn release(&mut self);
}

/// The ports, together.
#[derive(Clone)]
pub struct Ports {
    /// Runs `llama-server`.
    pub engine: Arc<dyn Engine>,
    /// The model files.
    pub files: Arc<dyn ModelFiles>,
    /// The memory that models take, and that there is.
    pub memory: Arc<dyn ModelMemory>,
    /// Keeps conversations while their model is not loaded.
    pub contexts: Arc<dyn Contexts>,
    /// The requests of clients.
    pub traffic: Arc<dyn Traffic>,
    /// What outlives the process.
    pub journal: Arc<dyn Journal>,
    /// Tells people.
    pub notifier: Arc<dyn Notifier>,
    /// Publishes the key of the loaded model.
    pub endpoint_file: Arc<dyn EndpointFile>,
    /// Time and randomness.
    pub clock: Arc<dyn Clock>,
}
