//! What happens without being asked for: a server that ends, an engine that goes away and comes back.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::{Effect, Held, Lifecycle, Live, Operation, Stage, Target};
use crate::error::{Code, Error};
use crate::id::{InstanceId, OperationId};
use crate::launch::{LaunchSpec, Runtime};
use crate::ports::{Endpoint, InstanceState, Owned};
use crate::snapshot::{OperationKind, OperationView, Step};

impl Lifecycle {
    pub(super) fn exited(&mut self, id: &InstanceId, at: Timestamp, cause: Error, effects: &mut Vec<Effect>) {
        let Some(live) = self.live.as_mut().filter(|live| live.held.instance.id == *id) else { return };
        let (Stage::Loading(endpoint) | Stage::Ready(endpoint) | Stage::Draining(endpoint)) = &live.stage else {
            // While it starts or stops, the call in flight tells the same and more.
            return;
        };
        if at < endpoint.started_at {
            // The end of an earlier run of the same instance, told late.
            return;
        }
        if matches!(live.stage, Stage::Loading(_)) {
            // The wait for it says more; should that have seen it ready just before, this is remembered.
            live.ended = Some(cause);
            return;
        }
        effects.push(Effect::CancelAttempt(live.attempt));
        let model = live.held.instance.model.clone();
        match &mut self.op {
            Some(op) => op.meanwhile = Some(format!("meanwhile `{model}` stopped: {cause}")),
            None => self.error = Some(cause.clone()),
        }
        effects.push(Effect::Crashed(model, cause));
        self.drop_live(effects);
    }

    pub(super) fn engine_lost(&mut self, runtime: Runtime, cause: Error, effects: &mut Vec<Effect>) {
        // What was stopped for the sake of an operation is found, and removed, when the engine is back.
        self.lost.extend(self.standby.take_if(|standby| standby.instance.runtime == runtime));
        let serves = self.live.as_ref().is_some_and(|live| {
            live.held.instance.runtime == runtime && matches!(live.stage, Stage::Ready(_) | Stage::Draining(_))
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
        wanted: Option<Arc<LaunchSpec>>,
        id: OperationId,
        at: Timestamp,
        effects: &mut Vec<Effect>,
    ) {
        if self.op.is_some() || self.live.is_some() {
            self.clear_strays(owned, effects);
            return;
        }
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

    fn begin_restore(&mut self, target: Target, id: OperationId, at: Timestamp, effects: &mut Vec<Effect>) {
        let view = OperationView {
            id,
            kind: OperationKind::Restore,
            from: None,
            to: target.model().cloned(),
            step: Step::Prepare,
            progress: None,
            started_at: at,
        };
        effects.push(Effect::Began(view.clone()));
        effects.push(Effect::Want(view.to.clone()));
        self.op = Some(Operation::new(view, target, false));
    }

    fn adopt(&mut self, held: Held, endpoint: Endpoint, op: OperationId, effects: &mut Vec<Effect>) {
        self.attempts += 1;
        let attempt = self.attempts;
        effects.push(Effect::AwaitReady { attempt, op, held: held.clone(), endpoint: endpoint.clone() });
        self.live = Some(Live { held, stage: Stage::Loading(endpoint), attempt, proven: false, ended: None });
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
