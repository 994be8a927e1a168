//! A simulated engine carries the effects out in any order, with any failures; what must always hold is checked
//! after each step.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;
use jiff::Timestamp;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::id::Secret;
use crate::launch::{Gpu, Sampling};
use crate::ports::InstanceState;

fn spec(model: &str) -> Arc<LaunchSpec> {
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
enum Sim {
    Created,
    Running,
    Exited,
}

#[derive(Default)]
struct World {
    lifecycle: Lifecycle,
    next_id: u128,
    next_instance: u32,
    engine: BTreeMap<InstanceId, (Instance, Sim)>,
    pending: Vec<Effect>,
    asked: Vec<OperationId>,
    ended: BTreeMap<OperationId, Result<(), Error>>,
    wanted: Option<ModelId>,
}

impl World {
    fn request(&mut self, kind: OperationKind, model: Option<&str>, force: bool) -> Option<OperationId> {
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

    fn switch(&mut self, model: &str) -> OperationId {
        self.request(OperationKind::Switch, Some(model), false).expect("a switch is always taken")
    }

    fn id(&mut self) -> OperationId {
        self.next_id += 1;
        OperationId(Uuid::from_u128(self.next_id))
    }

    fn apply(&mut self, event: Event) {
        let effects = self.lifecycle.apply(event);
        self.take(effects);
    }

    fn take(&mut self, effects: Vec<Effect>) {
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
                Effect::CancelAttempt(cancelled) => self.pending.retain(|effect| match effect {
                    Effect::AwaitReady { attempt, .. } | Effect::Drain(attempt, ..) => *attempt != cancelled,
                    _ => true,
                }),
                Effect::Began(_) | Effect::CancelPrepare(_) | Effect::Crashed(..) => {}
                effect @ (Effect::Prepare { .. }
                | Effect::Start(..)
                | Effect::AwaitReady { .. }
                | Effect::Drain(..)
                | Effect::Stop(..)
                | Effect::Discard(..)) => self.pending.push(effect),
            }
        }
        let running = self.engine.values().filter(|(_, sim)| *sim == Sim::Running).count();
        assert!(running <= 1, "two servers run at once");
    }

    fn endpoint() -> Endpoint {
        Endpoint { url: "http://127.0.0.1:1".into(), started_at: Timestamp::UNIX_EPOCH }
    }

    /// Carries out one pending effect, well or badly.
    fn carry_out(&mut self, index: usize, well: bool) {
        let failure = || Error::new(Code::LoadFailed, "it failed");
        let effect = self.pending.remove(index);
        match effect {
            Effect::Prepare { op, spec } => {
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
            Effect::Start(attempt, instance) => {
                let exists = self.engine.contains_key(&instance.id);
                let result = if well && exists {
                    self.set(&instance.id, Sim::Running);
                    Ok(Self::endpoint())
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
                    (false, _) => {
                        self.set(&held.instance.id, Sim::Exited);
                        Err(failure())
                    }
                };
                self.apply(Event::Loaded(attempt, result));
            }
            Effect::Drain(attempt, ..) => self.apply(Event::Drained(attempt)),
            Effect::Stop(attempt, instance) => {
                self.set(&instance.id, Sim::Exited);
                self.apply(Event::Stopped(attempt, if well { Ok(()) } else { Err(failure()) }));
            }
            Effect::Discard(instance) => drop(self.engine.remove(&instance.id)),
            _ => unreachable!("only these are kept"),
        }
    }

    fn set(&mut self, id: &InstanceId, sim: Sim) {
        if let Some((_, state)) = self.engine.get_mut(id) {
            *state = sim;
        }
    }

    fn settle(&mut self) {
        while !self.pending.is_empty() {
            self.carry_out(0, true);
        }
    }

    /// Carries out pending effects until one of this kind is next.
    fn settle_until(&mut self, wanted: fn(&Effect) -> bool) {
        while !wanted(&self.pending[0]) {
            self.carry_out(0, true);
        }
    }

    fn error_of(&self, id: OperationId) -> &Error {
        self.ended[&id].as_ref().expect_err("it failed")
    }

    /// What must hold once nothing is under way.
    fn check_at_rest(&self) {
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

#[test]
fn a_switch_creates_before_it_stops_and_removes_the_old_one_last() {
    let mut world = World::default();
    world.request(OperationKind::Start, None, false);
    world.switch("a");
    world.settle();
    let switch = world.switch("b");
    world.settle_until(|effect| matches!(effect, Effect::Stop(..)));
    assert_eq!(world.engine.len(), 2, "the new instance exists before the old one stops");
    world.settle_until(|effect| matches!(effect, Effect::AwaitReady { .. }));
    assert_eq!(world.engine.len(), 2, "the old one is kept until the new one is ready");
    world.settle();
    assert!(world.ended[&switch].is_ok());
    assert_eq!(world.lifecycle.model().unwrap().as_str(), "b");
    assert_eq!(world.engine.len(), 1, "the old one is gone");
    world.check_at_rest();
}

#[test]
fn a_failed_load_brings_the_old_model_back_and_says_both() {
    let mut world = World::default();
    world.switch("a");
    world.settle();
    let switch = world.switch("b");
    world.settle_until(|effect| matches!(effect, Effect::AwaitReady { .. }));
    world.carry_out(0, false);
    assert!(!world.ended.contains_key(&switch), "the answer waits for the old model");
    assert_eq!(world.lifecycle.operation().unwrap().step, Step::Rollback);
    world.settle();
    assert_eq!(world.error_of(switch).to_string(), "it failed; `a` serves again");
    assert_eq!(world.lifecycle.phase(), Phase::Ready);
    assert_eq!(world.lifecycle.model().unwrap().as_str(), "a");
    assert_eq!(world.wanted.as_ref().unwrap().as_str(), "a");
    world.check_at_rest();
}

#[test]
fn a_failed_rollback_says_both_and_leaves_nothing() {
    let mut world = World::default();
    world.switch("a");
    world.settle();
    let switch = world.switch("b");
    world.settle_until(|effect| matches!(effect, Effect::AwaitReady { .. }));
    world.carry_out(0, false);
    world.carry_out(0, false);
    assert_eq!(world.error_of(switch).to_string(), "it failed; bringing the old model back failed too: it failed");
    assert_eq!(world.lifecycle.phase(), Phase::Failed);
    world.check_at_rest();
}

#[test]
fn a_failed_preparation_leaves_the_old_model_alone() {
    let mut world = World::default();
    world.switch("a");
    world.settle();
    let switch = world.switch("b");
    world.carry_out(0, false);
    assert_eq!(world.error_of(switch).to_string(), "it failed; `a` serves on");
    world.check_at_rest();
}

#[test]
fn a_newer_request_replaces_an_older_one_and_the_same_one_joins_it() {
    let mut world = World::default();
    let first = world.switch("a");
    let second = world.switch("b");
    let joined = world.switch("b");
    assert_eq!(world.error_of(first).code(), Code::Superseded);
    world.settle();
    assert!(world.ended[&second].is_ok() && world.ended[&joined].is_ok());
    assert_eq!(world.lifecycle.model().unwrap().as_str(), "b");
    world.check_at_rest();
}

#[test]
fn going_back_while_the_old_model_drains_costs_nothing() {
    let mut world = World::default();
    world.switch("a");
    world.settle();
    world.switch("b");
    world.settle_until(|effect| matches!(effect, Effect::Drain(..)));
    let back = world.switch("a");
    assert!(world.ended[&back].is_ok());
    world.settle();
    world.check_at_rest();
}

#[test]
fn a_superseded_load_that_fails_does_not_fail_its_successor() {
    let mut world = World::default();
    world.switch("a");
    world.settle_until(|effect| matches!(effect, Effect::AwaitReady { .. }));
    let next = world.switch("b");
    world.carry_out(0, false);
    world.settle();
    assert!(world.ended[&next].is_ok(), "{:?}", world.ended[&next]);
    world.check_at_rest();
}

#[test]
fn start_does_not_replace_another_model() {
    let mut world = World::default();
    world.switch("a");
    world.settle();
    assert!(world.request(OperationKind::Start, Some("b"), false).is_none());
    let same = world.request(OperationKind::Start, Some("a"), false).unwrap();
    assert!(world.ended[&same].is_ok());
}

#[test]
fn a_server_that_ends_by_itself_is_a_failure_but_old_news_is_not() {
    let mut world = World::default();
    world.switch("a");
    world.settle();
    let id = world.lifecycle.live().unwrap().held.instance.id.clone();
    let cause = Error::new(Code::ServerExited, "exit code 1");
    let before = Timestamp::from_second(-1).unwrap();
    world.apply(Event::Exited { instance: id.clone(), at: before, cause: cause.clone() });
    assert_eq!(world.lifecycle.phase(), Phase::Ready);
    world.set(&id, Sim::Exited);
    world.apply(Event::Exited { instance: id, at: Timestamp::UNIX_EPOCH, cause });
    assert_eq!(world.lifecycle.phase(), Phase::Failed);
    assert_eq!(world.lifecycle.error().unwrap().code(), Code::ServerExited);
    world.check_at_rest();
}

#[test]
fn an_engine_that_comes_back_gets_its_model_back() {
    let mut world = World::default();
    world.switch("a");
    world.settle();
    world
        .apply(Event::EngineLost { runtime: Runtime::Docker, cause: Error::new(Code::EngineUnavailable, "no answer") });
    assert_eq!(world.lifecycle.phase(), Phase::Failed);
    assert_eq!(world.wanted.as_ref().unwrap().as_str(), "a");
    let instance = world.engine.values().next().unwrap().0.clone();
    world.set(&instance.id, Sim::Exited);
    let owned = vec![(Owned { instance, state: InstanceState::Exited }, Duration::from_secs(1))];
    let id = world.id();
    world.apply(Event::Found { owned, wanted: Some(spec("a")), id, at: Timestamp::UNIX_EPOCH });
    assert!(world.engine.is_empty(), "the old instance is removed");
    world.settle();
    assert_eq!(world.lifecycle.phase(), Phase::Ready);
    world.check_at_rest();
}

fn found_running(world: &mut World, models: &[&str], wanted: &str) {
    let mut owned = Vec::new();
    for (index, model) in models.iter().enumerate() {
        let spec = spec(model);
        let instance = Instance {
            id: InstanceId((*model).to_owned()),
            runtime: Runtime::Docker,
            model: spec.model.clone(),
            config_hash: spec.hash(),
            image: None,
            api_key: Secret::new("k"),
        };
        let started_at = Timestamp::from_second(i64::try_from(index).unwrap()).unwrap();
        let endpoint = Endpoint { started_at, ..World::endpoint() };
        world.engine.insert(instance.id.clone(), (instance.clone(), Sim::Created));
        owned.push((Owned { instance, state: InstanceState::Running(endpoint) }, Duration::from_secs(1)));
    }
    owned.rotate_left(1);
    let id = world.id();
    world.apply(Event::Found { owned, wanted: Some(spec(wanted)), id, at: Timestamp::UNIX_EPOCH });
    world.set(&InstanceId(models[0].to_owned()), Sim::Running);
}

#[test]
fn of_several_that_run_the_first_started_is_adopted() {
    let mut world = World::default();
    found_running(&mut world, &["a", "b", "c"], "b");
    assert_eq!(world.engine.len(), 1, "the others are removed");
    world.settle();
    assert_eq!(world.lifecycle.model().unwrap().as_str(), "a");
    assert_eq!(world.wanted.as_ref().unwrap().as_str(), "a");
    world.check_at_rest();
}

#[test]
fn where_the_adopted_one_does_not_come_up_the_wanted_one_is_started() {
    let mut world = World::default();
    found_running(&mut world, &["a"], "b");
    world.carry_out(0, false);
    world.settle();
    assert_eq!(world.lifecycle.model().unwrap().as_str(), "b");
    world.check_at_rest();
}

#[derive(Debug, Clone)]
enum Act {
    Switch(u8, bool),
    Start(u8),
    Stop(bool),
    CarryOut(prop::sample::Index, bool),
    Crash,
    RemoveIdle,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => (0..4u8, any::<bool>()).prop_map(|(model, force)| Act::Switch(model, force)),
        1 => (0..4u8).prop_map(Act::Start),
        1 => any::<bool>().prop_map(Act::Stop),
        12 => (any::<prop::sample::Index>(), prop::bool::weighted(0.85))
            .prop_map(|(index, well)| Act::CarryOut(index, well)),
        1 => Just(Act::Crash),
        1 => Just(Act::RemoveIdle),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn whatever_happens_every_caller_is_answered_and_one_server_runs_at_most(acts in prop::collection::vec(act(), 0..60)) {
        let models = ["a", "b", "c", "d"];
        let mut world = World::default();
        for act in acts {
            match act {
                Act::Switch(model, force) => {
                    world.request(OperationKind::Switch, Some(models[usize::from(model)]), force);
                }
                Act::Start(model) => {
                    world.request(OperationKind::Start, Some(models[usize::from(model)]), false);
                }
                Act::Stop(force) => {
                    world.request(OperationKind::Stop, None, force);
                }
                Act::CarryOut(index, well) if !world.pending.is_empty() => {
                    let index = index.index(world.pending.len());
                    world.carry_out(index, well);
                }
                Act::Crash => {
                    let live = world.lifecycle.live().map(|live| (live.held.instance.id.clone(), live.stage.clone()));
                    if let Some((id, Stage::Ready(_) | Stage::Draining(_))) = live {
                        world.set(&id, Sim::Exited);
                        let cause = Error::new(Code::ServerExited, "exit code 1");
                        world.apply(Event::Exited { instance: id, at: Timestamp::UNIX_EPOCH, cause });
                    }
                }
                Act::RemoveIdle => world.engine.retain(|_, (_, sim)| *sim != Sim::Exited),
                Act::CarryOut(..) => {}
            }
        }
        let last = world.switch("a");
        world.settle();
        // The last one asked for serves, unless what failed was still on its way when it was asked for.
        if world.ended[&last].is_ok() {
            prop_assert_eq!(world.lifecycle.model().unwrap().as_str(), "a");
        }
        for instance in world.lifecycle.idle_instances() {
            world.engine.entry(instance.id.clone()).or_insert((instance, Sim::Exited));
        }
        world.check_at_rest();
    }
}
