//! A simulated engine that carries the effects out in any order, well or badly, and checks after each step what must
//! always hold.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;
use jiff::Timestamp;
use uuid::Uuid;

use super::super::*;
use crate::id::{InstanceId, Secret};
use crate::launch::{Gpu, LaunchSpec, Runtime, Sampling};
use crate::ports::{InstanceState, Owned};

pub(super) fn spec(model: &str) -> Arc<LaunchSpec> {
    Arc::new(LaunchSpec {
        model: ModelId::new(model).unwrap(),
        runtime: Runtime::Docker,
        image: "image".into(),
        binary: "llama-server".into(),
        models_dir: "/models".into(),
        file: format!("/models/{model}.gguf").into(),
        mmproj: None,
        ctx: 4096,
        parallel: 1,
        gpu: Gpu::Auto,
        gpu_layers: None,
        tensor_split: vec![],
        override_tensor: vec![],
        cache_type_k: None,
        cache_type_v: None,
        cpu_moe: None,
        jinja: None,
        sampling: Sampling::default(),
        args: vec![],
        env: IndexMap::new(),
        load_timeout: Duration::from_mins(1),
    })
}

/// What the engine would hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sim {
    Created,
    Running,
    Exited,
}

#[derive(Default)]
pub(super) struct World {
    pub(super) lifecycle: Lifecycle,
    pub(super) next_id: u128,
    pub(super) next_instance: u32,
    pub(super) engine: BTreeMap<InstanceId, (Instance, Sim)>,
    pub(super) pending: Vec<Effect>,
    /// Attempts that are not wanted any more.
    pub(super) cancelled: BTreeSet<Attempt>,
    pub(super) asked: Vec<OperationId>,
    pub(super) ended: BTreeMap<OperationId, Result<(), Error>>,
    pub(super) wanted: Option<ModelId>,
    pub(super) look_again: bool,
}

impl World {
    pub(super) fn request(&mut self, kind: OperationKind, model: Option<&str>, force: bool) -> Option<OperationId> {
        let id = self.id();
        let request = Request { id, kind, spec: model.map(spec), force, at: Timestamp::UNIX_EPOCH };
        match self.lifecycle.request(request) {
            Ok(effects) => {
                self.asked.push(id);
                self.take(effects);
                Some(id)
            }
            Err(error) => {
                assert_eq!(error.code(), Code::AlreadyRunning);
                None
            }
        }
    }

    pub(super) fn switch(&mut self, model: &str) -> OperationId {
        self.request(OperationKind::Switch, Some(model), false).expect("a switch is always taken")
    }

    pub(super) fn id(&mut self) -> OperationId {
        self.next_id += 1;
        OperationId(Uuid::from_u128(self.next_id))
    }

    pub(super) fn apply(&mut self, event: Event) {
        let effects = self.lifecycle.apply(event);
        self.take(effects);
    }

    pub(super) fn take(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Finish { operation, result } => {
                    let before = self.ended.insert(operation.id, result);
                    assert!(before.is_none(), "an operation ended twice");
                }
                // Removing what runs takes its time.
                Effect::Discard(instance)
                    if self.engine.get(&instance.id).is_none_or(|(_, sim)| *sim != Sim::Running) =>
                {
                    self.engine.remove(&instance.id);
                }
                Effect::Want(model) => self.wanted = model,
                Effect::CancelAttempt(cancelled) => {
                    self.cancelled.insert(cancelled);
                    self.pending.retain(|effect| match effect {
                        Effect::AwaitReady { attempt, .. }
                        | Effect::Drain(attempt, ..)
                        | Effect::Save(attempt, ..)
                        | Effect::Restore(attempt, ..) => *attempt != cancelled,
                        _ => true,
                    });
                }
                Effect::Began(_) | Effect::CancelPrepare(_) | Effect::Crashed(..) => {}
                effect @ (Effect::Prepare { .. }
                | Effect::Start(..)
                | Effect::AwaitReady { .. }
                | Effect::Drain(..)
                | Effect::Save(..)
                | Effect::Restore(..)
                | Effect::Pause(..)
                | Effect::Stop(..)
                | Effect::Remove(..)
                | Effect::Discard(..)) => self.pending.push(effect),
                Effect::LookAgain => self.look_again = true,
            }
        }
        let running = self.engine.values().filter(|(_, sim)| *sim == Sim::Running).count();
        assert!(running <= 1, "two servers run at once");
    }

    pub(super) fn endpoint() -> Endpoint {
        Endpoint { url: "http://127.0.0.1:1".into(), started_at: Timestamp::UNIX_EPOCH }
    }

    /// Carries out one pending effect, well or badly.
    pub(super) fn carry_out(&mut self, index: usize, well: bool) {
        let failure = || Error::new(Code::LoadFailed, "it failed");
        let effect = self.pending.remove(index);
        match effect {
            Effect::Prepare { op, spec, .. } => {
                let result = if well {
                    self.next_instance += 1;
                    let id = InstanceId(format!("i{}", self.next_instance));
                    let instance = Instance {
                        id: id.clone(),
                        runtime: Runtime::Docker,
                        model: spec.model.clone(),
                        config_hash: spec.hash(),
                        image: None,
                        api_key: Secret::new("k"),
                    };
                    self.engine.insert(id, (instance.clone(), Sim::Created));
                    Ok(instance)
                } else {
                    Err(failure())
                };
                self.apply(Event::Prepared { op, result });
            }
            // Others are called off too late.
            Effect::Start(attempt, _) if self.cancelled.contains(&attempt) && attempt % 3 != 0 => {
                self.apply(Event::NotStarted(attempt));
            }
            Effect::Start(attempt, instance) => {
                let exists = self.engine.contains_key(&instance.id);
                let result = if well && exists {
                    self.set(&instance.id, Sim::Running);
                    Ok(Self::endpoint())
                } else if attempt % 4 == 0 {
                    // It was started, but nobody could say so.
                    self.set(&instance.id, Sim::Running);
                    Err(Error::new(Code::EngineFailed, "it failed"))
                } else {
                    Err(failure())
                };
                self.apply(Event::Started(attempt, result));
            }
            Effect::AwaitReady { attempt, held, .. } => {
                // Some that do not become ready run on.
                let result = match (well, attempt % 4) {
                    (true, _) => Ok(()),
                    (false, 0) => Err(Error::new(Code::LoadTimeout, "it took too long")),
                    (false, 1) => Err(Error::new(Code::EngineUnavailable, "no answer")),
                    (false, _) => {
                        self.set(&held.instance.id, Sim::Exited);
                        Err(failure())
                    }
                };
                self.apply(Event::Loaded(attempt, result));
            }
            Effect::Drain(attempt, ..) => self.apply(Event::Drained(attempt)),
            Effect::Save(attempt, ..) => self.apply(Event::Saved(attempt, None)),
            Effect::Restore(attempt, ..) => self.apply(Event::Restored(attempt, None)),
            Effect::Pause(op, _) => self.apply(Event::Resumed(op)),
            Effect::Stop(attempt, instance) => {
                // One that did not stop runs on.
                if well {
                    self.set(&instance.id, Sim::Exited);
                }
                self.apply(Event::Stopped(attempt, if well { Ok(()) } else { Err(failure()) }));
            }
            Effect::Remove(attempt, instance) => {
                if well {
                    self.engine.remove(&instance.id);
                }
                self.apply(Event::Removed(attempt, if well { Ok(()) } else { Err(failure()) }));
            }
            Effect::Discard(instance) => drop(self.engine.remove(&instance.id)),
            _ => unreachable!("only these are kept"),
        }
    }

    pub(super) fn set(&mut self, id: &InstanceId, sim: Sim) {
        if let Some((_, state)) = self.engine.get_mut(id) {
            *state = sim;
        }
    }

    /// The engine tells what it holds, as after an interruption.
    pub(super) fn found(&mut self, wanted: Option<&str>) {
        self.look_again = false;
        let owned = self.engine.values().map(|(instance, sim)| {
            let state = match sim {
                Sim::Created => InstanceState::Created,
                Sim::Running => InstanceState::Running(Self::endpoint()),
                Sim::Exited => InstanceState::Exited,
            };
            (Owned { instance: instance.clone(), state }, Duration::from_secs(1))
        });
        let owned = owned.collect();
        let id = self.id();
        let pauses = restart::pauses(0);
        self.apply(Event::Found { owned, wanted: wanted.map(spec), id, at: Timestamp::UNIX_EPOCH, pauses });
    }

    /// What serves ends by itself, for the n-th time within the window, counted from 0.
    pub(super) fn crash(&mut self, before: usize) {
        let live = self.lifecycle.live().expect("one is live").held.instance.clone();
        self.set(&live.id, Sim::Exited);
        let (id, pauses) = (self.id(), restart::pauses(before));
        let restart = Restart { spec: spec(live.model.as_str()), id, at: Timestamp::UNIX_EPOCH, pauses };
        let cause = Error::new(Code::ServerExited, "exit code 1");
        let (instance, at) = (live.id, Timestamp::UNIX_EPOCH);
        self.apply(Event::Exited { instance, at, cause, restart: Some(restart) });
    }

    pub(super) fn lose_engine(&mut self) {
        let cause = Error::new(Code::EngineUnavailable, "no answer");
        self.apply(Event::EngineLost { runtime: Runtime::Docker, cause });
    }

    pub(super) fn settle(&mut self) {
        while !self.pending.is_empty() {
            self.carry_out(0, true);
        }
    }

    /// Carries out pending effects until one of this kind is next.
    pub(super) fn settle_until(&mut self, wanted: fn(&Effect) -> bool) {
        while !wanted(&self.pending[0]) {
            self.carry_out(0, true);
        }
    }

    pub(super) fn error_of(&self, id: OperationId) -> &Error {
        self.ended[&id].as_ref().expect_err("it failed")
    }

    /// What must hold once nothing is under way.
    pub(super) fn check_at_rest(&self) {
        assert!(self.lifecycle.operation().is_none(), "an operation never ended");
        let asked: BTreeSet<_> = self.asked.iter().copied().collect();
        assert_eq!(asked.len(), self.asked.len(), "an id was used twice");
        assert!(asked.is_subset(&self.ended.keys().copied().collect()), "a caller got no answer");
        let known = self.lifecycle.live().into_iter().map(|live| live.held.instance.id.clone());
        let known: BTreeSet<_> = known.chain(self.lifecycle.idle_instances().into_iter().map(|i| i.id)).collect();
        assert_eq!(self.engine.keys().cloned().collect::<BTreeSet<_>>(), known, "an instance was left behind");
        let phase = self.lifecycle.phase();
        match self.lifecycle.live() {
            Some(live) => {
                assert!(matches!(live.stage, Stage::Ready(_)));
                assert_eq!(self.engine[&live.held.instance.id].1, Sim::Running);
                assert_eq!(phase, Phase::Ready);
            }
            None => assert!(matches!(phase, Phase::Stopped | Phase::Failed), "{phase:?}"),
        }
    }
}
