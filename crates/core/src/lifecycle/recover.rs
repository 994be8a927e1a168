//! What happens without being asked for: a server that ends, an engine that goes away and comes back.

use std::collections::VecDeque;
use std::time::Duration;

use jiff::Timestamp;

use super::{Effect, Held, Lifecycle, Live, Operation, Restart, Stage, Target, restart};
use crate::error::{Code, Error};
use crate::id::{InstanceId, OperationId};
use crate::launch::Runtime;
use crate::ports::{Endpoint, InstanceState, Owned};
use crate::snapshot::{OperationKind, OperationView, Step};

impl Lifecycle {
    pub(super) fn exited(
        &mut self,
        id: &InstanceId,
        at: Timestamp,
        cause: Error,
        restart: Option<Restart>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(live) = self.live.as_mut().filter(|live| live.held.instance.id == *id) else { return };
        let endpoint = match &live.stage {
            Stage::Loading(endpoint) | Stage::Restoring(endpoint) => endpoint,
            // While it starts or stops, the call in flight tells the same and more.
            _ => match live.serves() {
                Some(endpoint) => endpoint,
                None => return,
            },
        };
        if at < endpoint.started_at {
            // The end of an earlier run of the same instance, told late; or somebody has set the clock back.
            self.doubted = Some(live.attempt);
            effects.push(Effect::LookAgain);
            return;
        }
        if matches!(live.stage, Stage::Loading(_)) {
            // The wait for it says more; should that have seen it ready just before, this is remembered.
            live.ended = Some(cause);
            return;
        }
        if matches!(live.stage, Stage::Restoring(_)) {
            effects.push(Effect::CancelAttempt(live.attempt));
            self.launch_failed(cause, effects);
        } else {
            self.crashed(cause, restart, effects);
        }
    }

    /// The live instance served and has ended without being told to.
    fn crashed(&mut self, cause: Error, restart: Option<Restart>, effects: &mut Vec<Effect>) {
        let Some(live) = &self.live else { return };
        let model = live.held.instance.model.clone();
        effects.push(Effect::CancelAttempt(live.attempt));
        self.drop_live(effects);
        if let Some(op) = &mut self.op {
            op.meanwhile = Some(format!("meanwhile `{model}` stopped: {cause}"));
            effects.push(Effect::Crashed(model, cause));
            return;
        }
        let mut pauses = restart.as_ref().map(|restart| VecDeque::from(restart.pauses.clone())).unwrap_or_default();
        let cause = match (&restart, pauses.is_empty()) {
            (Some(_), true) => cause.and(&restart::given_up()),
            _ => cause,
        };
        effects.push(Effect::Crashed(model, cause.clone()));
        self.error = Some(cause);
        if let (Some(restart), Some(pause)) = (restart, pauses.pop_front()) {
            let Restart { spec, id, at, .. } = restart;
            self.begin(OperationKind::Restart, Target::of(spec), id, at, effects);
            if let Some(op) = &mut self.op {
                op.pauses = pauses;
                op.pause(pause, effects);
            }
        }
    }

    pub(super) fn engine_lost(&mut self, runtime: Runtime, cause: Error, effects: &mut Vec<Effect>) {
        // What was stopped for the sake of an operation is found, and removed, when the engine is back.
        self.lost.extend(self.standby.take_if(|standby| standby.instance.runtime == runtime));
        let serves = self.live.as_ref().is_some_and(|live| {
            let served = live.serves().is_some() || matches!(live.stage, Stage::Restoring(_));
            live.held.instance.runtime == runtime && served
        });
        if serves && let Some(live) = self.live.take() {
            effects.push(Effect::CancelAttempt(live.attempt));
            if self.op.is_none() {
                effects.push(Effect::Crashed(live.held.instance.model.clone(), cause.clone()));
            }
            self.lost.push(live.held);
        }
        if self.op.is_none() && self.live.is_none() {
            self.error = Some(cause);
        }
    }

    /// Takes over what the engine holds: adopts one that runs, brings the wanted one back, clears the rest away.
    pub(super) fn found(
        &mut self,
        owned: Vec<(Owned, Duration)>,
        restart: Option<Restart>,
        id: OperationId,
        at: Timestamp,
        effects: &mut Vec<Effect>,
    ) {
        if self.has_ended_unnoticed(&owned) {
            let cause = Error::new(Code::ServerExited, "llama-server ended, and why was not told")
                .hint("`corral logs` shows what it said last");
            self.crashed(cause, restart, effects);
            return;
        }
        if self.op.is_some() || self.live.is_some() {
            self.clear_strays(owned, effects);
            return;
        }
        let wanted = restart.map(|restart| restart.spec);
        self.lost.clear();
        let unreachable = self.error.as_ref().is_some_and(|error| error.code() == Code::EngineUnavailable);
        if std::mem::take(&mut self.not_found) || unreachable {
            self.error = None;
        }
        let mut running: Option<(Held, Endpoint)> = None;
        for (Owned { instance, state }, load_timeout) in owned {
            let InstanceState::Running(endpoint) = state else {
                effects.push(Effect::Discard(instance));
                continue;
            };
            // Of several, the first one started had the machine to itself; a later one may have loaded in what was left.
            let first = running.as_ref().is_none_or(|(_, other)| endpoint.started_at < other.started_at);
            let held = Held { instance, load_timeout };
            let loser = if first { running.replace((held, endpoint)) } else { Some((held, endpoint)) };
            effects.extend(loser.map(|(held, _)| Effect::Discard(held.instance)));
        }
        match (running, wanted) {
            (Some((held, endpoint)), otherwise) => {
                let (model, hash) = (held.instance.model.clone(), held.instance.config_hash.clone());
                self.begin_restore(Target::Adopted { model, hash, otherwise }, id, at, effects);
                self.adopt(held, endpoint, id, effects);
            }
            (None, Some(spec)) => self.begin_restore(Target::of(spec), id, at, effects),
            (None, None) => {}
        }
    }

    /// Whether the instance whose end was told with a time that cannot be has ended indeed.
    fn has_ended_unnoticed(&mut self, owned: &[(Owned, Duration)]) -> bool {
        let doubted = self.doubted.take();
        let Some(live) = self.live.as_ref().filter(|live| doubted == Some(live.attempt)) else { return false };
        let found = owned.iter().find(|(owned, _)| owned.instance.id == live.held.instance.id);
        let runs = found.is_some_and(|(owned, _)| matches!(owned.state, InstanceState::Running(_)));
        live.serves().is_some() && !runs
    }

    fn begin_restore(&mut self, target: Target, id: OperationId, at: Timestamp, effects: &mut Vec<Effect>) {
        self.begin(OperationKind::Restore, target, id, at, effects);
    }

    fn begin(
        &mut self,
        kind: OperationKind,
        target: Target,
        id: OperationId,
        at: Timestamp,
        effects: &mut Vec<Effect>,
    ) {
        let view = OperationView {
            id,
            kind,
            from: None,
            to: target.model().cloned(),
            step: Step::Prepare,
            progress: None,
            started_at: at,
            expected_ms: None,
        };
        effects.push(Effect::Began(view.clone()));
        effects.push(Effect::Want(view.to.clone()));
        self.op = Some(Operation::new(view, target, false));
    }

    fn adopt(&mut self, held: Held, endpoint: Endpoint, op: OperationId, effects: &mut Vec<Effect>) {
        self.attempts += 1;
        let attempt = self.attempts;
        effects.push(Effect::AwaitReady { attempt, op, held: held.clone(), endpoint: endpoint.clone() });
        let stage = Stage::Loading(endpoint);
        self.live = Some(Live { held, stage, attempt, proven: false, adopted: true, ended: None });
    }

    /// Removes what the engine holds and the lifecycle does not know.
    fn clear_strays(&mut self, owned: Vec<(Owned, Duration)>, effects: &mut Vec<Effect>) {
        if self.preparing.is_some() {
            // One of them may be the instance that is just being created.
            self.look_again = true;
            return;
        }
        if self.op.is_none() {
            self.lost.clear();
        }
        let held = self.lost.iter().chain(self.live.iter().map(|live| &live.held)).map(|held| held.instance.clone());
        // By id alone: an engine may tell the rest in other words than it was given.
        let known: Vec<InstanceId> =
            self.idle_instances().into_iter().chain(held).map(|instance| instance.id).collect();
        let strays = owned.into_iter().map(|(owned, _)| owned.instance);
        let strays = strays.filter(|instance| !known.contains(&instance.id));
        effects.extend(strays.map(Effect::Discard));
    }
}
