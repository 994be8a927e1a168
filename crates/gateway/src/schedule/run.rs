//! Carries out what was decided, one thing at a time.

use std::sync::Arc;
use std::time::Duration;

use corral_core::catalog::Catalog;
use corral_core::command::{Accepted, ControllerHandle, OperationResult};
use corral_core::ports::Clock;
use corral_core::snapshot::{OperationKind, OperationView, Snapshot, Step};
use corral_core::{Code, Error, ModelId, Result};
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::{COOL_OFF, Decision, Failures, GIVEN_UP, View, decide};
use crate::traffic::{Gate, shutting_down};

/// How soon a controller that was busy is asked again where no snapshot tells that it is not any more: what a
/// superseded operation left behind is in none.
const ASK_AGAIN: Duration = Duration::from_millis(250);

/// Switches, loads and unloads models for the sake of requests, until `shutdown` or the end of the controller. Then
/// those that wait are refused.
pub(crate) async fn schedule(
    gate: Gate,
    controller: ControllerHandle,
    clock: Arc<dyn Clock>,
    shutdown: CancellationToken,
) {
    let mut scheduler = Scheduler {
        seen: controller.snapshot(),
        snapshots: controller.watch_snapshot(),
        catalogs: controller.watch_catalog(),
        gate: gate.clone(),
        controller,
        clock,
        failures: Failures::default(),
        pending: None,
        unloaded: None,
        overruled: Duration::ZERO,
        ask_again: Duration::ZERO,
    };
    shutdown.run_until_cancelled(scheduler.run()).await;
    gate.end(&shutting_down());
}

struct Scheduler {
    gate: Gate,
    controller: ControllerHandle,
    clock: Arc<dyn Clock>,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    catalogs: watch::Receiver<Arc<Catalog>>,
    failures: Failures,
    /// The operation that was asked for, until it ends.
    pending: Option<Pending>,
    /// What was unloaded because nobody used it, until something is loaded or somebody else wants something.
    unloaded: Option<ModelId>,
    /// What was true at the last look.
    seen: Arc<Snapshot>,
    /// When a person last replaced an operation that was asked for here.
    overruled: Duration,
    /// When a controller that was busy is asked again.
    ask_again: Duration,
}

/// An operation that was asked for.
struct Pending {
    goal: Goal,
    operation: OperationView,
    end: oneshot::Receiver<Result<OperationResult>>,
}

/// What was asked for.
enum Goal {
    Model(ModelId),
    UsualModel,
    NoModel,
}

impl Scheduler {
    /// Returns once the controller is gone.
    async fn run(&mut self) {
        // Commands are answered once it is known what runs; before that, nothing may be refused for not being loaded.
        let _ = self.controller.dry_run(String::new()).await;
        loop {
            match self.decide() {
                Decision::Refuse(refusals) => self.gate.refuse(refusals),
                Decision::Switch(model) => {
                    let accepted = self.controller.switch_for_request(&model).await;
                    self.asked(Goal::Model(model), accepted);
                }
                Decision::Start => {
                    let accepted = self.controller.start_for_request().await;
                    self.asked(Goal::UsualModel, accepted);
                }
                Decision::Unload(model) => {
                    let accepted = self.controller.unload(model).await;
                    self.asked(Goal::NoModel, accepted);
                }
                Decision::Wait(after) => {
                    if self.wait(after).await.is_none() {
                        return;
                    }
                }
            }
        }
    }

    fn decide(&mut self) -> Decision {
        // The gate is closed and opened before the snapshot tells of it: looked at in this order, it is never behind.
        let snapshot = self.snapshots.borrow().clone();
        let gate = self.gate.look();
        self.learn(&snapshot);
        if let Some((open, _)) = &gate.open {
            self.failures.forget(open);
        }
        let catalog = self.catalogs.borrow().clone();
        let operation = snapshot.operation.as_ref();
        let pending = self.pending.as_ref();
        let is_own = operation.is_none_or(|view| pending.is_some_and(|pending| pending.operation.id == view.id));
        if gate.open.is_some() || !is_own {
            self.unloaded = None;
        }
        let unloading = pending.filter(|pending| is_own && matches!(pending.goal, Goal::NoModel));
        let unloaded = unloading.map_or(&self.unloaded, |pending| &pending.operation.from);
        let unloaded = unloaded.clone().filter(|model| gate.open.is_none() && catalog.models.contains_key(model));
        let before = operation.filter(|operation| operation.step == Step::Rollback).and_then(|view| view.from.as_ref());
        let coming = operation.and_then(|view| view.to.as_ref());
        // The snapshot tells that it has ended a moment before its end does.
        let asked = self.pending.as_ref().and_then(|pending| pending.operation.to.as_ref());
        let busy = operation.is_some() || self.pending.is_some();
        decide(&View {
            now: self.clock.uptime(),
            unsettled: !busy && gate.open.is_none() && snapshot.model.is_some(),
            gate,
            busy,
            coming: before.into_iter().chain(coming).chain(asked).cloned().collect(),
            overruled: self.overruled,
            not_before: self.ask_again,
            unloaded,
            catalog: &catalog,
            failures: &self.failures,
        })
    }

    /// Notes what failed, whoever had asked for it, and what served and has ended for good.
    fn learn(&mut self, snapshot: &Arc<Snapshot>) {
        let before = std::mem::replace(&mut self.seen, snapshot.clone());
        let Some(error) = snapshot.error.clone().filter(|_| snapshot.operation.is_none()) else { return };
        let (model, usual, given_up) = match &before.operation {
            // What is brought back, by this or by the next start, is the usual model.
            Some(OperationView { to, kind, .. }) => {
                let given_up = *kind == OperationKind::Restart;
                (to, given_up || *kind == OperationKind::Restore, given_up)
            }
            None => (&before.model, true, true),
        };
        let Some(model) = model.clone().filter(|model| snapshot.model.as_ref() != Some(model)) else { return };
        // An engine that is out of reach says nothing about the model.
        let given_up = given_up && error.code != Code::EngineUnavailable;
        let until = self.clock.uptime() + if given_up { GIVEN_UP } else { COOL_OFF };
        if usual {
            self.failures.note(None, until, error.clone().into());
        }
        self.failures.note(Some(model), until, error.into());
    }

    fn asked(&mut self, goal: Goal, accepted: Result<Accepted>) {
        match accepted {
            Ok(Accepted { operation, end }) => self.pending = Some(Pending { goal, operation, end }),
            Err(error) => self.failed(goal, None, error),
        }
    }

    fn ended(&mut self, result: Result<OperationResult>) {
        let Some(Pending { goal, operation, .. }) = self.pending.take() else { return };
        match (result, goal) {
            (Ok(_), Goal::NoModel) => self.unloaded = operation.from,
            (Ok(_), _) => {}
            (Err(error), goal) => self.failed(goal, operation.to, error),
        }
    }

    fn failed(&mut self, goal: Goal, to: Option<ModelId>, error: Error) {
        let now = self.clock.uptime();
        match (error.code(), goal) {
            (Code::Superseded, _) => self.overruled = now,
            (Code::Busy | Code::AlreadyRunning, _) => self.ask_again = now + ASK_AGAIN,
            // The controller has told people; the next request says whether it matters.
            (_, Goal::NoModel) => {}
            (_, Goal::Model(model)) => self.failures.note(Some(model), now + COOL_OFF, error),
            (_, Goal::UsualModel) => {
                if let Some(to) = to {
                    self.failures.note(Some(to), now + COOL_OFF, error.clone());
                }
                self.failures.note(None, now + COOL_OFF, error);
            }
        }
    }

    /// Waits until something has happened, for so long at most. None once the controller is gone.
    async fn wait(&mut self, after: Option<Duration>) -> Option<()> {
        let Self { gate, clock, snapshots, catalogs, pending, .. } = self;
        let due = async {
            match after {
                Some(after) => clock.sleep(after).await,
                None => std::future::pending().await,
            }
        };
        let end = async {
            match pending {
                Some(pending) => (&mut pending.end).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = snapshots.changed() => {
                changed.ok()?;
                self.ask_again = Duration::ZERO;
            }
            changed = catalogs.changed() => {
                changed.ok()?;
                self.failures.clear();
            }
            result = end => self.ended(result.unwrap_or_else(|_| Err(shutting_down()))),
            () = gate.stirred() => {}
            () = due => {}
        }
        Some(())
    }
}

#[cfg(test)]
mod lasting_tests;
#[cfg(test)]
mod switching_tests;
#[cfg(test)]
mod world;
