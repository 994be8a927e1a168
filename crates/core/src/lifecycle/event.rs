//! What goes into the lifecycle, and what comes out of it.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::{Attempt, Held};
use crate::error::{Error, Result};
use crate::id::{InstanceId, ModelId, OperationId};
use crate::launch::{LaunchSpec, Runtime};
use crate::ports::{Endpoint, Instance, KeptContext, Owned};
use crate::snapshot::{OperationKind, OperationView, Progress, Step};

/// A request for a change.
#[derive(Debug, Clone)]
pub struct Request {
    /// The new operation's id.
    pub id: OperationId,
    /// What kind of change.
    pub kind: OperationKind,
    /// The model, resolved; none unloads.
    pub spec: Option<Arc<LaunchSpec>>,
    /// Cut running requests, and load what does not fit all the same.
    pub force: bool,
    /// When it was asked for.
    pub at: Timestamp,
}

/// How what ended by itself is started again.
#[derive(Debug, Clone)]
pub struct Restart {
    /// The model as it is configured now.
    pub spec: Arc<LaunchSpec>,
    /// The id for the operation.
    pub id: OperationId,
    /// Now.
    pub at: Timestamp,
    /// How long to wait before the first try, and before each further one; empty where it has ended too often.
    pub pauses: Vec<Duration>,
}

/// Something that happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// A [`Effect::Prepare`] ended.
    Prepared {
        /// For which operation.
        op: OperationId,
        /// The new instance.
        result: Result<Instance>,
    },
    /// A long step got on.
    Progress {
        /// Of which operation.
        op: OperationId,
        /// The step.
        step: Step,
        /// How far it is.
        progress: Option<Progress>,
    },
    /// A [`Effect::Drain`] ended: nothing runs, or time was up.
    Drained(Attempt),
    /// A [`Effect::Start`] ended.
    Started(Attempt, Result<Endpoint>),
    /// A [`Effect::Start`] was called off in time: the instance is as it was.
    NotStarted(Attempt),
    /// A [`Effect::AwaitReady`] ended.
    Loaded(Attempt, Result<()>),
    /// A [`Effect::Stop`] ended.
    Stopped(Attempt, Result<()>),
    /// A [`Effect::Save`] ended; none where there was nothing to do. However it ended, things go on.
    Saved(Attempt, Option<Result<KeptContext>>),
    /// A [`Effect::Restore`] ended; none where there was nothing to do. However it ended, things go on.
    Restored(Attempt, Option<Result<KeptContext>>),
    /// A [`Effect::Pause`] is over.
    Resumed(OperationId),
    /// A [`Effect::Remove`] ended.
    Removed(Attempt, Result<()>),
    /// An instance ended; whether that was wanted is for the lifecycle to say.
    Exited {
        /// Which.
        instance: InstanceId,
        /// When.
        at: Timestamp,
        /// Why.
        cause: Error,
        /// How it is started again; none where it is not to be.
        restart: Option<Restart>,
    },
    /// An engine stopped answering.
    EngineLost {
        /// Which runtime.
        runtime: Runtime,
        /// Why.
        cause: Error,
    },
    /// What the engine holds, asked at the start and whenever it came back.
    Found {
        /// The owned instances, each with the bound on its loading.
        owned: Vec<(Owned, Duration)>,
        /// The model that should be running.
        wanted: Option<Arc<LaunchSpec>>,
        /// The id for the operation that brings it back, if one is needed.
        id: OperationId,
        /// Now.
        at: Timestamp,
        /// As in [`Restart::pauses`], should one have ended unnoticed.
        pauses: Vec<Duration>,
    },
    /// The engine could not say what it holds.
    NotFound(Error),
}

/// Something to be done by the controller.
#[derive(Debug, Clone)]
pub enum Effect {
    /// An operation began.
    Began(OperationView),
    /// Check the files and create an instance, reading the model file ahead meanwhile. At most one at a time.
    Prepare {
        /// For which operation.
        op: OperationId,
        /// What to create.
        spec: Arc<LaunchSpec>,
        /// Whether what surely does not fit into the memory there is is to be refused, with
        /// [`Code::InsufficientMemory`](crate::Code::InsufficientMemory).
        refuse: bool,
    },
    /// The result of this operation's [`Effect::Prepare`] is no longer wanted.
    CancelPrepare(OperationId),
    /// Start an instance, once those before it have given their memory back.
    Start(Attempt, Instance),
    /// Wait until it is ready.
    AwaitReady {
        /// Which attempt.
        attempt: Attempt,
        /// For which operation, to report progress.
        op: OperationId,
        /// What was started.
        held: Held,
        /// Where it answers.
        endpoint: Endpoint,
    },
    /// Wait until running requests have ended.
    Drain(Attempt, Instance, Endpoint),
    /// Save the conversations of an instance that is to be stopped; requests that still run are cut.
    Save(Attempt, Instance, Endpoint),
    /// Bring the conversations back into an instance that has just loaded.
    Restore(Attempt, Instance, Endpoint),
    /// Do nothing for this operation for a while.
    Pause(OperationId, Duration),
    /// The result of this attempt's [`Effect::AwaitReady`], [`Effect::Drain`], [`Effect::Save`] or
    /// [`Effect::Restore`] is no longer wanted; nor is its [`Effect::Start`], which is answered all the same.
    CancelAttempt(Attempt),
    /// Stop an instance; it may be started again, to roll back.
    Stop(Attempt, Instance),
    /// Remove an instance by force, and say when it is gone.
    Remove(Attempt, Instance),
    /// Remove an instance that does not run; nobody waits for it.
    Discard(Instance),
    /// Ask the engine once more what it holds.
    LookAgain,
    /// An operation ended; exactly once for each request.
    Finish {
        /// The operation.
        operation: OperationView,
        /// Its end.
        result: Result<()>,
    },
    /// Remember the model that should be running.
    Want(Option<ModelId>),
    /// The model that served ended without being asked to.
    Crashed(ModelId, Error),
}
