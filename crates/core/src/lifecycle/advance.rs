//! What to do next, and what the results of it mean.

use super::{Attempt, Effect, Held, Lifecycle, Live, Stage, Target, restart};
use crate::error::{Code, Error, Result};
use crate::id::OperationId;
use crate::ports::{Endpoint, Instance};
use crate::snapshot::{OperationKind, Progress, Step};

impl Lifecycle {
    /// Compares what is with what is wanted and asks for the next step. Asking twice changes nothing.
    pub(super) fn advance(&mut self, effects: &mut Vec<Effect>) {
        self.retry(effects);
        let Some(op) = &self.op else { return };
        if op.paused {
            return;
        }
        if op.failure.is_some() {
            self.roll_back(effects);
        } else if op.target == Target::Nothing {
            match (&self.live, self.lost.pop()) {
                (Some(_), lost) => {
                    self.lost.extend(lost);
                    self.unload(effects);
                }
                (None, Some(held)) => self.remove(held, effects),
                (None, None) => self.finish(None, effects),
            }
        } else {
            self.load(effects);
        }
    }

    fn load(&mut self, effects: &mut Vec<Effect>) {
        let Some(op) = &mut self.op else { return };
        if let Some(live) = &mut self.live
            && op.target.is_met_by(&live.held.instance)
        {
            match &live.stage {
                Stage::Ready(_) | Stage::Draining(_) | Stage::Saving(_) => {
                    live.keep(effects);
                    self.finish(None, effects);
                }
                // It may wait for memory before it is started.
                Stage::Starting if op.view.step == Step::Free => {}
                Stage::Starting => op.step(Step::Start),
                Stage::Loading(_) => op.step(Step::Load),
                Stage::Restoring(_) => op.step(Step::Restore),
                Stage::Stopping | Stage::Removing => {}
            }
            return;
        }
        if op.staged.is_none() {
            op.step(if op.view.step == Step::Pull { Step::Pull } else { Step::Prepare });
            if let (Target::Model(spec, _), None) = (&op.target, self.preparing) {
                self.preparing = Some(op.view.id);
                // What was loaded before is brought back as well as it can be.
                let asked_for = matches!(op.view.kind, OperationKind::Start | OperationKind::Switch);
                let refuse = asked_for && !op.force;
                effects.push(Effect::Prepare { op: op.view.id, spec: spec.clone(), refuse });
            }
        } else if self.live.is_some() {
            self.unload(effects);
        } else if let Some(held) = self.lost.pop() {
            self.remove(held, effects);
        } else if let (Target::Model(spec, _), Some(instance)) = (&op.target, op.staged.take()) {
            let held = Held { instance, load_timeout: spec.load_timeout };
            op.step(Step::Start);
            self.launch(held, false, effects);
        }
    }

    fn launch(&mut self, held: Held, proven: bool, effects: &mut Vec<Effect>) {
        self.attempts += 1;
        effects.push(Effect::Start(self.attempts, held.instance.clone()));
        self.live =
            Some(Live { held, stage: Stage::Starting, attempt: self.attempts, proven, adopted: false, ended: None });
    }

    /// Removes an instance that may run; nothing else is started before it is gone.
    fn remove(&mut self, held: Held, effects: &mut Vec<Effect>) {
        self.attempts += 1;
        effects.push(Effect::Remove(self.attempts, held.instance.clone()));
        let (stage, attempt) = (Stage::Removing, self.attempts);
        self.live = Some(Live { held, stage, attempt, proven: false, adopted: false, ended: None });
    }

    /// Takes the live instance a step nearer to its end.
    fn unload(&mut self, effects: &mut Vec<Effect>) {
        let (Some(live), Some(op)) = (&mut self.live, &mut self.op) else { return };
        let attempt = live.attempt;
        match &live.stage {
            Stage::Ready(endpoint) if !op.force => {
                effects.push(Effect::Drain(attempt, live.held.instance.clone(), endpoint.clone()));
                live.stage = Stage::Draining(endpoint.clone());
                op.step(Step::Drain);
            }
            Stage::Draining(_) if !op.force => op.step(Step::Drain),
            Stage::Ready(_) | Stage::Draining(_) => {
                effects.push(Effect::CancelAttempt(attempt));
                self.save_live(effects);
            }
            Stage::Loading(_) | Stage::Restoring(_) => {
                effects.push(Effect::CancelAttempt(attempt));
                self.stop_live(effects);
            }
            Stage::Saving(_) => op.step(Step::Save),
            // A stop during the start call could be answered before the server runs: wait for the call, unless that has
            // not begun yet.
            Stage::Starting => {
                effects.push(Effect::CancelAttempt(attempt));
                op.step(Step::Stop);
            }
            Stage::Stopping | Stage::Removing => op.step(Step::Stop),
        }
    }

    /// Saves the conversations of the live instance, which is to be stopped.
    fn save_live(&mut self, effects: &mut Vec<Effect>) {
        let Some(live) = &mut self.live else { return };
        let (Stage::Ready(endpoint) | Stage::Draining(endpoint)) = &live.stage else { return };
        effects.push(Effect::Save(live.attempt, live.held.instance.clone(), endpoint.clone()));
        live.stage = Stage::Saving(endpoint.clone());
        if let Some(op) = &mut self.op {
            op.step(Step::Save);
        }
    }

    fn stop_live(&mut self, effects: &mut Vec<Effect>) {
        let Some(live) = &mut self.live else { return };
        effects.push(Effect::Stop(live.attempt, live.held.instance.clone()));
        live.stage = Stage::Stopping;
        if let Some(op) = &mut self.op {
            op.step(Step::Stop);
        }
    }

    /// The operation has failed: see that the old model serves, then say so.
    fn roll_back(&mut self, effects: &mut Vec<Effect>) {
        let Some(op) = &mut self.op else { return };
        let Some(failure) = op.failure.clone() else { return };
        match &mut self.live {
            Some(live) => match &live.stage {
                Stage::Ready(_) => {
                    let again = if op.view.step == Step::Rollback { "again" } else { "on" };
                    let failure = failure.and(&format!("`{}` serves {again}", live.held.instance.model));
                    self.finish(Some(failure), effects);
                }
                Stage::Draining(_) | Stage::Saving(_) => {
                    live.keep(effects);
                    self.roll_back(effects);
                }
                Stage::Starting | Stage::Loading(_) | Stage::Restoring(_) | Stage::Stopping | Stage::Removing => {}
            },
            None => match self.standby.take() {
                Some(held) => {
                    op.view.step = Step::Rollback;
                    op.view.progress = None;
                    self.launch(held, true, effects);
                }
                None => self.finish(Some(failure), effects),
            },
        }
    }

    /// Ends the operation and all that joined it.
    fn finish(&mut self, failure: Option<Error>, effects: &mut Vec<Effect>) {
        let Some(op) = self.op.take() else { return };
        effects.extend(op.staged.map(Effect::Discard));
        // Whatever serves now is what the next operation rolls back to.
        effects.extend(self.standby.take().map(|standby| Effect::Discard(standby.instance)));
        if let Some(live) = &mut self.live {
            live.proven = true;
        }
        let serves = self.live.as_ref().map(|live| live.held.instance.model.clone());
        if serves.is_some() || !op.engine_gone {
            // Without its engine nothing can serve: what did before is brought back once the engine is.
            self.settled = serves;
        }
        effects.push(Effect::Want(self.settled.clone()));
        let failure = match (failure, &op.meanwhile) {
            (Some(failure), Some(meanwhile)) => Some(failure.and(meanwhile)),
            (failure, _) => failure,
        };
        let failure = match failure {
            Some(failure) if op.view.kind == OperationKind::Restart && restart::may_pass(failure.code()) => {
                Some(failure.and(&restart::given_up()))
            }
            failure => failure,
        };
        self.not_found = false;
        if failure.is_none() {
            effects.extend(self.lost.drain(..).map(|held| Effect::Discard(held.instance)));
        }
        self.error.clone_from(&failure);
        let result = failure.map_or(Ok(()), Err);
        for operation in std::iter::once(op.view).chain(op.joined) {
            effects.push(Effect::Finish { operation, result: result.clone() });
        }
    }

    /// Notes why the operation fails; it goes on until the old model serves again.
    fn fail(&mut self, error: Error, while_doing: &str) {
        let Some(op) = &mut self.op else {
            self.error = Some(error);
            return;
        };
        op.engine_gone |= error.code() == Code::EngineUnavailable;
        op.failure = Some(match op.failure.take() {
            None => error,
            Some(first) => first.and(&format!("{while_doing} failed too: {error}")),
        });
    }

    pub(super) fn prepared(&mut self, id: OperationId, result: Result<Instance>, effects: &mut Vec<Effect>) {
        if self.preparing == Some(id) {
            self.preparing = None;
            if std::mem::take(&mut self.look_again) {
                effects.push(Effect::LookAgain);
            }
        }
        let current = self.op.as_mut().filter(|op| op.view.id == id && op.failure.is_none());
        match (current, result) {
            (Some(op), Ok(instance)) => op.staged = Some(instance),
            // Somebody has joined in who wants it all the same: it is prepared once more.
            (Some(op), Err(error)) if error.code() == Code::InsufficientMemory && op.force => {}
            (Some(_), Err(error)) => self.fail(error, "preparing it again"),
            (None, Ok(instance)) => effects.push(Effect::Discard(instance)),
            (None, Err(_)) => {}
        }
    }

    pub(super) fn progress(&mut self, id: OperationId, step: Step, progress: Option<Progress>) {
        let Some(op) = self.op.as_mut().filter(|op| op.view.id == id && op.failure.is_none()) else { return };
        let preparing = self.preparing == Some(id) && matches!(step, Step::Pull | Step::Prepare);
        let loading = step == Step::Load && op.view.step == Step::Load;
        let starts = self.live.as_ref().is_some_and(|live| live.stage == Stage::Starting);
        let starting = starts && matches!(step, Step::Free | Step::Start);
        if preparing || loading || starting {
            op.view.step = step;
            op.view.progress = progress;
        }
    }

    /// The live instance, if `attempt` still is its number.
    fn current(&mut self, attempt: Attempt) -> Option<&mut Live> {
        self.live.as_mut().filter(|live| live.attempt == attempt)
    }

    /// Whether the live instance is to make room: the new server may be gone from under a switch that was replaced.
    fn is_to_stop(&self) -> bool {
        self.op.as_ref().is_some_and(|op| op.failure.is_none() && (op.target == Target::Nothing || op.staged.is_some()))
    }

    pub(super) fn drained(&mut self, attempt: Attempt, effects: &mut Vec<Effect>) {
        if self.is_to_stop() && self.current(attempt).is_some_and(|live| matches!(live.stage, Stage::Draining(_))) {
            self.save_live(effects);
        }
    }

    pub(super) fn saved(&mut self, attempt: Attempt, effects: &mut Vec<Effect>) {
        if self.is_to_stop() && self.current(attempt).is_some_and(|live| matches!(live.stage, Stage::Saving(_))) {
            self.stop_live(effects);
        }
    }

    pub(super) fn restored(&mut self, attempt: Attempt) {
        let Some(live) = self.current(attempt) else { return };
        if let Stage::Restoring(endpoint) = &live.stage {
            live.stage = Stage::Ready(endpoint.clone());
        }
    }

    pub(super) fn resumed(&mut self, id: OperationId) {
        if let Some(op) = self.op.as_mut().filter(|op| op.view.id == id) {
            op.paused = false;
        }
    }

    /// A restart that failed in a way that may pass is tried again after a pause, as long as it has pauses left.
    fn retry(&mut self, effects: &mut Vec<Effect>) {
        let Some(op) = &mut self.op else { return };
        let may_pass = op.failure.as_ref().is_some_and(|failure| restart::may_pass(failure.code()));
        if may_pass && let Some(pause) = op.pauses.pop_front() {
            self.error = op.failure.take();
            op.pause(pause, effects);
        }
    }

    pub(super) fn started(&mut self, attempt: Attempt, result: Result<Endpoint>, effects: &mut Vec<Effect>) {
        let op = self.op.as_ref().map(|op| op.view.id);
        let Some(live) = self.current(attempt).filter(|live| live.stage == Stage::Starting) else { return };
        match result {
            Ok(endpoint) => {
                live.stage = Stage::Loading(endpoint.clone());
                let held = live.held.clone();
                // Something is starting only while an operation runs.
                effects.extend(op.map(|op| Effect::AwaitReady { attempt, op, held, endpoint }));
            }
            Err(error) => self.launch_failed(error, effects),
        }
    }

    /// It was called off before anything was done.
    pub(super) fn not_started(&mut self, attempt: Attempt, effects: &mut Vec<Effect>) {
        if self.current(attempt).is_none_or(|live| live.stage != Stage::Starting) {
            return;
        }
        let Some(live) = self.live.take() else { return };
        match &mut self.op {
            _ if live.proven => self.standby = Some(live.held),
            // Somebody wants it after all.
            Some(op) if op.staged.is_none() && op.target.is_met_by(&live.held.instance) => {
                op.staged = Some(live.held.instance);
            }
            _ => effects.push(Effect::Discard(live.held.instance)),
        }
    }

    pub(super) fn loaded(&mut self, attempt: Attempt, result: Result<()>, effects: &mut Vec<Effect>) {
        let Some(live) = self.current(attempt) else { return };
        let Stage::Loading(endpoint) = &live.stage else { return };
        match (result, live.ended.take()) {
            (Ok(()), None) if live.adopted => live.stage = Stage::Ready(endpoint.clone()),
            (Ok(()), None) => {
                effects.push(Effect::Restore(attempt, live.held.instance.clone(), endpoint.clone()));
                live.stage = Stage::Restoring(endpoint.clone());
            }
            (Ok(()), Some(error)) | (Err(error), _) => self.launch_failed(error, effects),
        }
    }

    /// The live instance did not come up: that fails the operation it was started for, and no other.
    pub(super) fn launch_failed(&mut self, error: Error, effects: &mut Vec<Effect>) {
        let (Some(live), Some(op)) = (&self.live, &self.op) else { return };
        let concerned = op.failure.is_some() || op.target.is_met_by(&live.held.instance);
        match error.code() {
            Code::LoadTimeout => {
                // It still runs: nothing may be started in its place before it has ended.
                self.stop_live(effects);
                self.live.iter_mut().for_each(|live| live.proven = false);
            }
            // The call failed, which says nothing about the server.
            Code::EngineUnavailable | Code::EngineFailed | Code::Io | Code::Internal => {
                if let Some(live) = self.live.take() {
                    self.remove(live.held, effects);
                }
            }
            _ => self.drop_live(effects),
        }
        let Some(op) = &mut self.op else { return };
        match &mut op.target {
            Target::Adopted { otherwise, .. } if concerned && otherwise.is_some() => {
                if let Some(spec) = otherwise.take() {
                    op.view.to = Some(spec.model.clone());
                    op.step(Step::Prepare);
                    op.target = Target::of(spec);
                }
            }
            _ if concerned => self.fail(error, "bringing the old model back"),
            _ => {}
        }
    }

    pub(super) fn stopped(&mut self, attempt: Attempt, result: Result<()>, effects: &mut Vec<Effect>) {
        if self.current(attempt).is_none_or(|live| live.stage != Stage::Stopping) {
            return;
        }
        match (result, self.live.take_if(|live| live.proven)) {
            (Ok(()), Some(live)) => self.standby = Some(live.held),
            (Ok(()), None) => self.drop_live(effects),
            (Err(_), proven) => {
                // It may run on. Whether it can be got rid of at all is what counts.
                if let Some(live) = proven.or_else(|| self.live.take()) {
                    self.remove(live.held, effects);
                }
            }
        }
    }

    pub(super) fn removed(&mut self, attempt: Attempt, result: Result<()>, effects: &mut Vec<Effect>) {
        if self.current(attempt).is_none_or(|live| live.stage != Stage::Removing) {
            return;
        }
        let removed = self.live.take();
        if let Err(error) = result {
            // Nothing may be started beside it, not even the old model.
            effects.extend(self.standby.take().map(|standby| Effect::Discard(standby.instance)));
            self.lost.extend(removed.map(|live| live.held));
            self.fail(error, "ending its server");
        }
    }

    /// The live instance is no more; what is left of it goes.
    pub(super) fn drop_live(&mut self, effects: &mut Vec<Effect>) {
        effects.extend(self.live.take().map(|live| Effect::Discard(live.held.instance)));
    }
}
