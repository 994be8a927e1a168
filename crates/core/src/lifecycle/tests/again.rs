//! Conversations kept over a switch, and servers that are started again.

use jiff::Timestamp;

use super::world::{Sim, World};
use super::*;

fn steps(world: &mut World, until: fn(&Effect) -> bool) -> Step {
    world.settle_until(until);
    world.lifecycle.operation().expect("one is in progress").step
}

#[test]
fn conversations_are_saved_before_the_stop_and_brought_back_before_requests_come() {
    let mut world = World::default();
    world.switch("a");
    world.settle();
    let switch = world.switch("b");
    assert_eq!(steps(&mut world, |effect| matches!(effect, Effect::Save(..))), Step::Save);
    assert_eq!(world.lifecycle.phase(), Phase::Stopping);
    assert_eq!(steps(&mut world, |effect| matches!(effect, Effect::Stop(..))), Step::Stop);
    assert_eq!(steps(&mut world, |effect| matches!(effect, Effect::Restore(..))), Step::Restore);
    assert_eq!(world.lifecycle.phase(), Phase::Loading, "not ready before they are back");
    world.settle();
    assert!(world.ended[&switch].is_ok());
    world.check_at_rest();
}

#[test]
fn a_switch_that_does_not_wait_saves_too() {
    let mut world = World::default();
    world.switch("a");
    world.settle();
    world.request(OperationKind::Stop, None, true);
    assert!(matches!(world.pending[..], [Effect::Save(..)]), "{:?}", world.pending);
    world.settle();
    world.check_at_rest();
}

#[test]
fn an_adopted_server_has_its_conversations_still() {
    let mut world = World::default();
    world.switch("a");
    world.settle();
    world.lifecycle = Lifecycle::new(None);
    world.found(None);
    world.settle_until(|effect| matches!(effect, Effect::AwaitReady { .. }));
    world.carry_out(0, true);
    assert!(world.pending.is_empty(), "{:?}", world.pending);
    assert_eq!(world.lifecycle.phase(), Phase::Ready);
}

#[test]
fn whoever_wants_the_old_model_back_while_it_is_saved_gets_it_at_once() {
    let mut world = World::default();
    world.switch("a");
    world.settle();
    let away = world.switch("b");
    world.settle_until(|effect| matches!(effect, Effect::Save(..)));
    let back = world.switch("a");
    assert!(world.ended[&back].is_ok(), "it never stopped");
    assert_eq!(world.error_of(away).code(), Code::Superseded);
    world.settle();
    assert_eq!(world.lifecycle.model().expect("one serves").as_str(), "a");
    world.check_at_rest();
}

#[test]
fn a_server_that_dies_of_what_is_brought_back_fails_its_load() {
    let mut world = World::default();
    world.switch("a");
    world.settle();
    let switch = world.switch("b");
    world.settle_until(|effect| matches!(effect, Effect::Restore(..)));
    world.crash(0);
    world.settle();
    assert_eq!(world.error_of(switch).to_string(), "exit code 1; `a` serves again");
    world.check_at_rest();
}

#[test]
fn a_server_that_ends_is_started_again_after_a_pause() {
    let mut world = World::default();
    world.switch("a");
    world.settle();
    world.crash(0);
    let operation = world.lifecycle.operation().expect("a restart").clone();
    assert_eq!((operation.kind, operation.step), (OperationKind::Restart, Step::Pause));
    assert_eq!(world.lifecycle.phase(), Phase::Starting, "not failed: requests may wait for it");
    assert_eq!(world.lifecycle.error().expect("why").to_string(), "exit code 1");
    assert!(matches!(world.pending[..], [Effect::Pause(..)]), "{:?}", world.pending);
    world.settle();
    assert_eq!((world.lifecycle.phase(), world.lifecycle.error().is_none()), (Phase::Ready, true));
    assert_eq!(world.wanted.as_ref().map(ModelId::as_str), Some("a"));
    world.check_at_rest();
}

#[test]
fn a_restart_that_fails_is_tried_again_and_not_for_ever() {
    let mut world = World::default();
    world.switch("a");
    world.settle();
    world.crash(0);
    let restart = world.lifecycle.operation().expect("a restart").id;
    let mut pauses = 0;
    while let Some(effect) = world.pending.first() {
        pauses += u32::from(matches!(effect, Effect::Pause(..)));
        let well = !matches!(effect, Effect::AwaitReady { attempt, .. } if attempt % 4 > 1);
        // Other attempts end in another way than by failing.
        let well = well && !matches!(effect, Effect::Prepare { .. });
        world.carry_out(0, well);
    }
    assert_eq!(pauses, 4);
    let error = world.ended[&restart].as_ref().expect_err("it gave up").to_string();
    assert_eq!(error, "it failed; that was the 5th time in 10 minutes, so it is not started again");
    assert_eq!(world.lifecycle.phase(), Phase::Failed);
    world.check_at_rest();
}

#[test]
fn the_fifth_end_within_the_window_is_the_last() {
    let mut world = World::default();
    world.switch("a");
    world.settle();
    world.crash(4);
    assert!(world.lifecycle.operation().is_none() && world.pending.is_empty());
    assert_eq!(world.lifecycle.phase(), Phase::Failed);
    let error = world.lifecycle.error().expect("why").to_string();
    assert_eq!(error, "exit code 1; that was the 5th time in 10 minutes, so it is not started again");
}

#[test]
fn nobody_waits_for_a_pause_who_asks_for_the_model_or_for_another() {
    for other in ["a", "b"] {
        let mut world = World::default();
        world.switch("a");
        world.settle();
        world.crash(2);
        let asked = world.switch(other);
        let prepares = |effect: &Effect| matches!(effect, Effect::Prepare { .. });
        let at = world.pending.iter().position(prepares).expect("it is prepared before the pause is over");
        world.carry_out(at, true);
        world.settle();
        assert!(world.ended[&asked].is_ok());
        assert_eq!(world.lifecycle.model().expect("one serves").as_str(), other);
        world.check_at_rest();
    }
}

#[test]
fn an_end_that_a_clock_set_back_makes_look_old_is_looked_into() {
    let early = Timestamp::from_second(-1).expect("a time");
    for dead in [true, false] {
        let mut world = World::default();
        world.switch("a");
        world.settle();
        let id = world.lifecycle.live().expect("one serves").held.instance.id.clone();
        if dead {
            world.set(&id, Sim::Exited);
        }
        let cause = Error::new(Code::ServerExited, "exit code 1");
        world.apply(Event::Exited { instance: id, at: early, cause, restart: None });
        assert!(world.look_again, "the engine is asked");
        assert_eq!(world.lifecycle.phase(), Phase::Ready, "and until it has answered nothing changes");
        world.found(Some("a"));
        assert_eq!(world.lifecycle.operation().is_some(), dead, "a restart, if and only if it is dead");
        world.settle();
        assert_eq!(world.lifecycle.phase(), Phase::Ready);
        world.check_at_rest();
    }
}

#[test]
fn a_start_that_was_called_off_comes_after_all_where_it_is_wanted_again() {
    let mut world = World::default();
    world.switch("a");
    world.settle_until(|effect| matches!(effect, Effect::Start(..)));
    let stop = world.request(OperationKind::Stop, None, false).unwrap();
    let again = world.switch("a");
    world.settle();
    assert_eq!(world.error_of(stop).code(), Code::Superseded);
    assert!(world.ended[&again].is_ok(), "{:?}", world.ended[&again]);
    assert_eq!((world.next_instance, world.lifecycle.live().unwrap().attempt), (1, 2), "the same one, started later");
    world.check_at_rest();

    // It served before: it is kept to roll back to.
    world.switch("b");
    world.settle_until(|effect| matches!(effect, Effect::AwaitReady { .. }));
    world.carry_out(0, false);
    world.settle_until(|effect| matches!(effect, Effect::Start(..)));
    world.request(OperationKind::Stop, None, false).unwrap();
    world.settle();
    assert_eq!(world.lifecycle.phase(), Phase::Stopped);
    world.check_at_rest();
}
