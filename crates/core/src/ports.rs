//! What the controller needs of the world. Adapters implement these; tests use fakes.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Result};
use crate::id::{ConfigHash, InstanceId, ModelId, OperationId, Secret};
use crate::launch::{LaunchSpec, Runtime};
use crate::snapshot::{Notice, OperationView, Progress, Step};

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

/// How an operation ended.
#[derive(Debug, Clone)]
pub struct Ended {
    /// The operation as it last was.
    pub operation: OperationView,
    /// When it ended.
    pub at: Timestamp,
    /// Nothing, or why it failed.
    pub error: Option<Error>,
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
    /// A new operation id.
    fn operation_id(&self) -> OperationId;
}

/// The ports, together.
#[derive(Clone)]
pub struct Ports {
    /// Runs `llama-server`.
    pub engine: Arc<dyn Engine>,
    /// The model files.
    pub files: Arc<dyn ModelFiles>,
    /// What outlives the process.
    pub journal: Arc<dyn Journal>,
    /// Tells people.
    pub notifier: Arc<dyn Notifier>,
    /// Publishes the key of the loaded model.
    pub endpoint_file: Arc<dyn EndpointFile>,
    /// Time and randomness.
    pub clock: Arc<dyn Clock>,
}
