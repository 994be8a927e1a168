//! The life of the one `llama-server`: pure, an event in, effects out.
//!
//! The state is what is true (`live`, `standby`) and what is wanted (`op`). [`Lifecycle::advance`] compares the two
//! and asks for the next effect, so a newer request simply replaces what is wanted, wherever the old one had got to.
//!
//! - `live` is the one instance that may hold the GPU, from its start to its end.
//! - `standby` is the stopped instance that served when the operation began: the one to roll back to.

mod advance;
mod event;
mod operation;
mod recover;
pub mod restart;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use self::event::{Effect, Event, Request, Restart};

use self::operation::{Operation, Target};
use crate::error::{Code, Error, Result};
use crate::id::{ModelId, OperationId};
use crate::ports::{Endpoint, Instance};
use crate::snapshot::{OperationKind, OperationView, Phase, Step};

/// Numbers each start of an instance, so that late results of an earlier one are told apart.
pub type Attempt = u64;

/// An instance and how long it may take to load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The instance.
    pub instance: Instance,
    /// The bound on loading.
    pub load_timeout: Duration,
}

/// How far the live instance is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// The start call is under way.
    Starting,
    /// It runs and is not ready.
    Loading(Endpoint),
    /// It is ready, and gets back the conversations it had.
    Restoring(Endpoint),
    /// It answers.
    Ready(Endpoint),
    /// It answers what it has begun, and will be stopped.
    Draining(Endpoint),
    /// It works on nothing any more, and its conversations are being saved.
    Saving(Endpoint),
    /// The stop call is under way.
    Stopping,
    /// It did not stop when told to, or nobody knows whether it runs: it is being removed by force.
    Removing,
}

/// The instance that may hold the GPU.
#[derive(Debug, Clone)]
pub struct Live {
    /// Which.
    pub held: Held,
    /// How far it is.
    pub stage: Stage,
    /// Its number.
    pub attempt: Attempt,
    /// It served when the present operation began, or is being brought back because it did.
    proven: bool,
    /// It was found running: it has its conversations still.
    adopted: bool,
    /// Why it ended, where that was told before the call in flight has noticed.
    ended: Option<Error>,
}

impl Live {
    /// Where it answers, if it is one that served and has not been told to end.
    fn serves(&self) -> Option<&Endpoint> {
        match &self.stage {
            Stage::Ready(endpoint) | Stage::Draining(endpoint) | Stage::Saving(endpoint) => Some(endpoint),
            _ => None,
        }
    }

    /// It goes on serving: what was to lead to its end is called off.
    fn keep(&mut self, effects: &mut Vec<Effect>) {
        if let Stage::Draining(endpoint) | Stage::Saving(endpoint) = &self.stage {
            effects.push(Effect::CancelAttempt(self.attempt));
            self.stage = Stage::Ready(endpoint.clone());
        }
    }
}

/// The state.
#[derive(Debug, Clone, Default)]
pub struct Lifecycle {
    live: Option<Live>,
    standby: Option<Held>,
    op: Option<Operation>,
    /// The operation whose [`Effect::Prepare`] is under way; it may have been superseded since.
    preparing: Option<OperationId>,
    error: Option<Error>,
    attempts: Attempt,
    /// Instances that may run though nothing is known of them: their engine went away, or did not remove them.
    lost: Vec<Held>,
    /// What the engine holds was told at a moment when it could not be compared.
    look_again: bool,
    /// The attempt that may have ended, though the time that was told of its end speaks against it.
    doubted: Option<Attempt>,
    /// The error is that the engine could not say what it holds.
    not_found: bool,
    /// The model that should be running, as the last operation that could reach its engine left it.
    settled: Option<ModelId>,
}

impl Lifecycle {
    /// Nothing is known to run; `wanted` should, by what was written down.
    pub fn new(wanted: Option<ModelId>) -> Self {
        Self { settled: wanted, ..Self::default() }
    }

    /// Takes a request, or says why not.
    pub fn request(&mut self, request: Request) -> Result<Vec<Effect>> {
        let mut effects = Vec::new();
        self.admit(request, &mut effects)?;
        self.advance(&mut effects);
        Ok(effects)
    }

    /// Takes an event. Late results of what was superseded change nothing but are cleaned up after.
    pub fn apply(&mut self, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        match event {
            Event::Prepared { op, result } => self.prepared(op, result, &mut effects),
            Event::Progress { op, step, progress } => self.progress(op, step, progress),
            Event::Drained(attempt) => self.drained(attempt, &mut effects),
            Event::Started(attempt, result) => self.started(attempt, result, &mut effects),
            Event::NotStarted(attempt) => self.not_started(attempt, &mut effects),
            Event::Loaded(attempt, result) => self.loaded(attempt, result, &mut effects),
            Event::Stopped(attempt, result) => self.stopped(attempt, result, &mut effects),
            Event::Removed(attempt, result) => self.removed(attempt, result, &mut effects),
            Event::Saved(attempt, _) => self.saved(attempt, &mut effects),
            Event::Restored(attempt, _) => self.restored(attempt),
            Event::Resumed(op) => self.resumed(op),
            Event::Exited { instance, at, cause, restart } => {
                self.exited(&instance, at, cause, restart, &mut effects);
            }
            Event::EngineLost { runtime, cause } => self.engine_lost(runtime, cause, &mut effects),
            Event::Found { owned, wanted, id, at, pauses } => {
                self.found(owned, wanted.map(|spec| Restart { spec, id, at, pauses }), id, at, &mut effects);
            }
            // What serves goes on serving; whoever asked asks again.
            Event::NotFound(cause) if self.op.is_none() && self.live.is_none() => {
                self.error = Some(cause);
                self.not_found = true;
            }
            Event::NotFound(_) => {}
        }
        self.advance(&mut effects);
        effects
    }

    /// What the server is doing.
    pub fn phase(&self) -> Phase {
        match (&self.live, &self.op) {
            (Some(live), _) => match live.stage {
                Stage::Starting => Phase::Starting,
                Stage::Loading(_) | Stage::Restoring(_) => Phase::Loading,
                Stage::Ready(_) => Phase::Ready,
                Stage::Draining(_) => Phase::Draining,
                Stage::Saving(_) | Stage::Stopping | Stage::Removing => Phase::Stopping,
            },
            (None, Some(op)) if op.target == Target::Nothing => Phase::Stopping,
            (None, Some(op)) if op.view.step == Step::Pull => Phase::Pulling,
            (None, Some(_)) => Phase::Starting,
            (None, None) if self.error.is_some() => Phase::Failed,
            (None, None) => Phase::Stopped,
        }
    }

    /// The model that is loaded or being loaded.
    pub fn model(&self) -> Option<&ModelId> {
        match (&self.live, &self.op) {
            (Some(live), _) => Some(&live.held.instance.model),
            (None, Some(op)) => op.target.model(),
            (None, None) => None,
        }
    }

    /// The instance that may hold the GPU.
    pub fn live(&self) -> Option<&Live> {
        self.live.as_ref()
    }

    /// The operation in progress.
    pub fn operation(&self) -> Option<&OperationView> {
        self.op.as_ref().map(|op| &op.view)
    }

    /// Notes how long an operation will take.
    pub fn expect(&mut self, id: OperationId, expected: Duration) {
        if let Some(op) = self.op.as_mut().filter(|op| op.view.id == id) {
            op.view.expected_ms = Some(u64::try_from(expected.as_millis()).unwrap_or(u64::MAX));
        }
    }

    /// Why nothing runs, or why the last operation failed.
    pub fn error(&self) -> Option<&Error> {
        self.error.as_ref()
    }

    /// Every instance that is not running and would be left behind if the program ended now.
    pub fn idle_instances(&self) -> Vec<Instance> {
        let staged = self.op.as_ref().and_then(|op| op.staged.clone());
        self.standby.iter().map(|standby| standby.instance.clone()).chain(staged).collect()
    }

    /// Nothing is in progress, not even the leftovers of something superseded.
    pub fn is_at_rest(&self) -> bool {
        self.op.is_none() && self.preparing.is_none()
    }

    /// Something runs, or may run.
    pub fn holds_something(&self) -> bool {
        self.live.is_some() || !self.lost.is_empty()
    }

    /// Nothing would be lost or left behind if the program ended now and left what runs running.
    pub fn may_be_left(&self) -> bool {
        let steady = match &self.live {
            Some(live) => matches!(live.stage, Stage::Loading(_) | Stage::Restoring(_) | Stage::Ready(_)),
            None => self.op.is_none(),
        };
        steady && self.preparing.is_none()
    }

    /// The program is about to end and to leave what runs running: a model that serves is not replaced any more, while
    /// what has begun to replace it goes on until there is something to leave.
    pub fn settle(&mut self, error: &Error) -> Vec<Effect> {
        let mut effects = Vec::new();
        let serves = self.live.as_ref().filter(|live| live.serves().is_some());
        if let (Some(live), Some(op)) = (serves, &self.op)
            && op.target != Target::Nothing
        {
            effects.push(Effect::Want(Some(live.held.instance.model.clone())));
            self.drop_operation(error, &mut effects);
        }
        effects
    }

    /// Gives up what is in progress because the program ends: every waiting caller gets `error`.
    pub fn abandon(&mut self, error: &Error) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.drop_operation(error, &mut effects);
        effects
    }

    fn admit(&mut self, request: Request, effects: &mut Vec<Effect>) -> Result<()> {
        let target = request.spec.map_or(Target::Nothing, Target::of);
        let mut view = OperationView {
            id: request.id,
            kind: request.kind,
            from: self.served().cloned(),
            to: target.model().cloned(),
            step: if target == Target::Nothing { Step::Stop } else { Step::Prepare },
            progress: None,
            started_at: request.at,
            expected_ms: None,
        };
        if request.kind == OperationKind::Start {
            let present = self.op.as_ref().map_or_else(|| self.model(), |op| op.target.model());
            if let (Some(present), Some(wanted)) = (present, target.model())
                && present != wanted
            {
                return Err(Error::new(
                    Code::AlreadyRunning,
                    format!("`{present}` is loaded; start does not replace it"),
                )
                .hint(format!("use `corral switch {wanted}`, or `corral stop` first")));
            }
            if self.op.is_none() && self.live.is_some() {
                // Start means "have it loaded": a changed configuration waits for the next switch.
                effects.push(Effect::Began(view.clone()));
                effects.push(Effect::Finish { operation: view, result: Ok(()) });
                return Ok(());
            }
        }
        if let Some(op) = &mut self.op
            && op.target == target
            && op.failure.is_none()
        {
            op.force |= request.force;
            // Whoever asks for it now does not want to wait for the end of a pause.
            op.paused = false;
            view.from.clone_from(&op.view.from);
            effects.push(Effect::Began(view.clone()));
            op.joined.push(view);
            return Ok(());
        }
        let newer = match target.model() {
            Some(model) => format!("a newer request, for `{model}`, replaced this one"),
            None => "a newer request, to stop, replaced this one".to_owned(),
        };
        let superseded = Error::new(Code::Superseded, newer).hint("ask again if this is still wanted");
        self.drop_operation(&superseded, effects);
        effects.push(Effect::Began(view.clone()));
        effects.push(Effect::Want(target.model().cloned()));
        self.op = Some(Operation::new(view, target, request.force));
        Ok(())
    }

    /// Ends the operation in progress for the sake of another; what it had created goes.
    fn drop_operation(&mut self, reason: &Error, effects: &mut Vec<Effect>) {
        let Some(op) = self.op.take() else { return };
        if let Some(live) = &mut self.live {
            live.keep(effects);
        }
        if self.preparing == Some(op.view.id) {
            effects.push(Effect::CancelPrepare(op.view.id));
        }
        effects.extend(op.staged.map(Effect::Discard));
        let error = match op.failure {
            Some(failure) => failure.and(&format!("before the old model was back, {reason}")),
            None => reason.clone(),
        };
        for operation in std::iter::once(op.view).chain(op.joined) {
            effects.push(Effect::Finish { operation, result: Err(error.clone()) });
        }
    }

    /// The model that serves, or did when the present operation began.
    fn served(&self) -> Option<&ModelId> {
        let live = self.live.as_ref().filter(|live| live.proven).map(|live| &live.held);
        live.or(self.standby.as_ref()).or(self.lost.last()).map(|held| &held.instance.model)
    }
}
