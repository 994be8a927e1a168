//! The lifecycle on a simulated engine: what must hold in each case, and whatever happens.

mod again;
mod property;
mod world;

use std::time::Duration;

use jiff::Timestamp;

use self::world::{Sim, World, spec};
use super::*;
use crate::id::{InstanceId, Secret};
use crate::launch::Runtime;
use crate::ports::{InstanceState, Owned};

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
    world.apply(Event::Exited { instance: id.clone(), at: before, cause: cause.clone(), restart: None });
    assert_eq!(world.lifecycle.phase(), Phase::Ready);
    world.set(&id, Sim::Exited);
    world.apply(Event::Exited { instance: id, at: Timestamp::UNIX_EPOCH, cause, restart: None });
    assert_eq!(world.lifecycle.phase(), Phase::Failed);
    assert_eq!(world.lifecycle.error().unwrap().code(), Code::ServerExited);
    world.check_at_rest();
}

#[test]
fn an_engine_that_comes_back_gets_its_model_back() {
    let mut world = World::default();
    world.switch("a");
    world.settle();
    world.lose_engine();
    assert_eq!(world.lifecycle.phase(), Phase::Failed);
    assert_eq!(world.wanted.as_ref().unwrap().as_str(), "a");
    let instance = world.engine.values().next().unwrap().0.clone();
    world.set(&instance.id, Sim::Exited);
    world.found(Some("a"));
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
    world.apply(Event::Found { owned, wanted: Some(spec(wanted)), id, at: Timestamp::UNIX_EPOCH, pauses: Vec::new() });
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

#[test]
fn a_server_that_does_not_stop_is_removed_before_another_starts() {
    let mut world = World::default();
    world.switch("a");
    world.settle();
    let switch = world.switch("b");
    world.settle_until(|effect| matches!(effect, Effect::Stop(..)));
    world.carry_out(0, false);
    assert!(matches!(&world.pending[..], [Effect::Remove(..)]), "{:?}", world.pending);
    world.settle();
    assert!(world.ended[&switch].is_ok());
    world.check_at_rest();
}

#[test]
fn beside_a_server_that_cannot_be_removed_nothing_is_started() {
    let mut world = World::default();
    world.switch("a");
    world.settle();
    world.switch("b");
    world.settle_until(|effect| matches!(effect, Effect::AwaitReady { .. }));
    let stop = world.request(OperationKind::Stop, None, true).unwrap();
    world.settle_until(|effect| matches!(effect, Effect::Stop(..)));
    world.carry_out(0, false);
    world.carry_out(0, false);
    assert_eq!(world.error_of(stop).to_string(), "it failed");
    assert_eq!(world.lifecycle.phase(), Phase::Failed);
    world.settle();
    assert!(world.lifecycle.live().is_none(), "a stop never brings the old model back");
    // The next request begins with what could not be removed.
    let start = world.switch("c");
    world.settle();
    assert!(world.ended[&start].is_ok());
    world.check_at_rest();
}

#[test]
fn a_server_whose_engine_was_lost_for_a_moment_is_removed_before_another_starts() {
    let mut world = World::default();
    world.switch("a");
    world.settle();
    world.lose_engine();
    let switch = world.switch("b");
    world.found(Some("a"));
    world.settle();
    assert!(world.ended[&switch].is_ok());
    assert_eq!(world.lifecycle.model().unwrap().as_str(), "b");
    world.check_at_rest();
}

#[test]
fn what_served_is_still_wanted_after_a_switch_that_found_no_engine() {
    let mut world = World::default();
    world.switch("a");
    world.settle();
    world.lose_engine();
    world.switch("b");
    let Effect::Prepare { op, .. } = world.pending.remove(0) else { panic!("{:?}", world.pending) };
    let error = Error::new(Code::EngineUnavailable, "no answer");
    world.apply(Event::Prepared { op, result: Err(error) });
    assert_eq!(world.wanted.as_ref().unwrap().as_str(), "a");
}

#[test]
fn what_was_wanted_when_the_program_began_outlives_a_request_that_found_no_engine() {
    let mut world = World { lifecycle: Lifecycle::new(Some(ModelId::new("a").unwrap())), ..World::default() };
    world.apply(Event::NotFound(Error::new(Code::EngineFailed, "status 500")));
    assert_eq!(world.lifecycle.phase(), Phase::Failed);
    world.found(None);
    assert_eq!(world.lifecycle.phase(), Phase::Stopped, "the engine can say again what it holds");
    world.switch("b");
    let Effect::Prepare { op, .. } = world.pending.remove(0) else { panic!("{:?}", world.pending) };
    world.apply(Event::Prepared { op, result: Err(Error::new(Code::EngineUnavailable, "no answer")) });
    assert_eq!(world.wanted.as_ref().unwrap().as_str(), "a");
}

#[test]
fn what_served_is_wanted_when_the_engine_went_in_the_middle_of_a_switch() {
    let mut world = World::default();
    world.switch("a");
    world.settle();
    let switch = world.switch("b");
    world.settle_until(|effect| matches!(effect, Effect::AwaitReady { .. }));
    // The end of the new server is told first, and the engine is gone when the old one is to come back.
    let Effect::AwaitReady { attempt, .. } = world.pending.remove(0) else { unreachable!("just seen") };
    world.apply(Event::Loaded(attempt, Err(Error::new(Code::ServerKilled, "killed"))));
    while let Some(effect) = world.pending.pop() {
        let gone = || Error::new(Code::EngineUnavailable, "no answer");
        match effect {
            Effect::Start(attempt, _) => world.apply(Event::Started(attempt, Err(gone()))),
            Effect::Remove(attempt, _) => world.apply(Event::Removed(attempt, Err(gone()))),
            _ => {}
        }
    }
    assert_eq!(world.error_of(switch).code(), Code::ServerKilled);
    assert_eq!(world.wanted.as_ref().unwrap().as_str(), "a");
}

#[test]
fn an_old_model_that_ends_during_a_switch_is_part_of_why_nothing_serves() {
    let mut world = World::default();
    world.switch("a");
    world.settle();
    let switch = world.switch("b");
    let instance = world.lifecycle.live().unwrap().held.instance.id.clone();
    world.set(&instance, Sim::Exited);
    let cause = Error::new(Code::OutOfMemory, "out of memory");
    world.apply(Event::Exited { instance, at: Timestamp::UNIX_EPOCH, cause, restart: None });
    let prepare = world.pending.iter().position(|effect| matches!(effect, Effect::Prepare { .. })).unwrap();
    world.carry_out(prepare, false);
    world.settle();
    assert_eq!(world.error_of(switch).to_string(), "it failed; meanwhile `a` stopped: out of memory");
    world.check_at_rest();
}

#[test]
fn an_end_that_is_told_before_the_server_was_seen_ready_is_not_forgotten() {
    let mut world = World::default();
    let switch = world.switch("a");
    world.settle_until(|effect| matches!(effect, Effect::AwaitReady { .. }));
    let instance = world.lifecycle.live().unwrap().held.instance.id.clone();
    world.set(&instance, Sim::Exited);
    let cause = Error::new(Code::ServerExited, "exit code 1");
    world.apply(Event::Exited { instance, at: Timestamp::UNIX_EPOCH, cause, restart: None });
    world.carry_out(0, true);
    world.settle();
    assert_eq!(world.error_of(switch).to_string(), "exit code 1");
    world.check_at_rest();
}

#[test]
fn a_program_that_ends_leaves_a_model_behind_at_every_moment_of_a_switch() {
    for steps in 0..12 {
        let mut world = World::default();
        world.switch("a");
        world.settle();
        let switch = world.switch("b");
        for _ in 0..steps {
            if !world.pending.is_empty() {
                world.carry_out(0, true);
            }
        }
        let error = Error::new(Code::ShuttingDown, "it ends");
        let effects = world.lifecycle.settle(&error);
        world.take(effects);
        while !world.lifecycle.may_be_left() {
            world.carry_out(0, true);
        }
        let effects = world.lifecycle.abandon(&error);
        world.take(effects);
        assert!(world.ended.contains_key(&switch), "{steps}: a caller got no answer");
        for instance in world.lifecycle.idle_instances() {
            world.engine.remove(&instance.id);
        }
        let left: Vec<_> = world.engine.values().map(|(_, sim)| *sim).collect();
        assert_eq!(left, [Sim::Running], "{steps}");
    }
}
