//! Who waits, who goes, and how often models are switched for it.

use std::sync::Arc;
use std::time::Duration;

use corral_core::ports::Journal;
use corral_core::snapshot::OperationKind;
use corral_core::{Code, ModelId};
use corral_testkit::fakes::{Memory, Verb};

use super::world::{World, admitted, ask, pass_time, read, refused, settle};

const SECOND: Duration = Duration::from_secs(1);

/// `a` is loaded, and `b` is being prepared for request 1, until the engine lets it.
async fn preparing_for_a_request() -> World {
    let world = World::new("");
    world.load("a").await;
    pass_time(10 * SECOND).await;
    world.engine.hold(Verb::Prepare);
    world.request("1", "b");
    settle().await;
    world
}

#[tokio::test(start_paused = true)]
async fn what_was_asked_for_first_is_loaded_first_and_then_there_is_one_switch() {
    let world = World::new("");
    world.engine.hold(Verb::AwaitReady);
    for (label, model) in [("1", "a"), ("2", "b"), ("3", "a"), ("4", "*"), ("5", "b"), ("6", "a")] {
        world.request(label, model);
    }
    settle().await;
    assert_eq!((world.gate.counts(), world.starts()), ((0, 6), vec!["a".to_owned()]));
    world.engine.release(Verb::AwaitReady);
    settle().await;
    assert_eq!(world.answered(), ["1 a", "3 a", "4 a", "6 a"]);
    pass_time(9 * SECOND).await;
    assert_eq!(world.loaded().as_deref(), Some("a"), "it stays for 10 s");
    world.request("7", "a");
    settle().await;
    assert_eq!(world.answered(), ["7 a"], "until it is switched, it serves");
    pass_time(SECOND).await;
    assert_eq!(world.answered(), ["2 b", "5 b"]);
    pass_time(60 * SECOND).await;
    assert_eq!(world.starts(), ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn two_hundred_requests_for_two_models_need_few_switches() {
    let world = World::new("");
    for number in 0..200 {
        world.request(&number.to_string(), if number % 2 == 0 { "a" } else { "b" });
        pass_time(SECOND / 10).await;
    }
    pass_time(30 * SECOND).await;
    let answered = world.answered();
    assert_eq!(answered.len(), 200);
    for answer in answered {
        let (number, by) = answer.split_once(' ').expect("a label");
        let even = number.parse::<u32>().expect("a number") % 2 == 0;
        assert_eq!(by, if even { "a" } else { "b" }, "{number}");
    }
    // 20 s of requests: a at once, b after 10 s, a after 20 s, and b once more for those that came last.
    assert_eq!(world.starts(), ["a", "b", "a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_alternates_switches_once_in_each_stay() {
    let world = World::new("min_stay = \"7s\"");
    let began = world.clock.uptime();
    for (turn, model) in ["a", "b"].into_iter().cycle().take(10).enumerate() {
        let pass = world.asks(model).await.expect("no panic").expect("admitted");
        assert_eq!(pass.upstream().model.as_str(), model);
        let took = world.clock.uptime().saturating_sub(began).as_secs();
        assert_eq!(took, 7 * turn as u64, "turn {turn}");
    }
}

#[tokio::test(start_paused = true)]
async fn requests_wait_for_a_person_s_switch_and_those_under_way_end_first() {
    let world = World::new("auto_switch = \"never\"");
    world.load("a").await;
    let under_way = world.gate.try_admit(&ask("a")).expect("let in");
    let switched = world.switch("b").await;
    settle().await;
    let waits = [world.asks("b"), world.asks("*")];
    assert_eq!(refused(world.asks("a")).await.code(), Code::SwitchNotAllowed, "a is on its way out");
    pass_time(60 * SECOND).await;
    assert_eq!((world.gate.counts(), world.starts().len()), ((1, 2), 1), "the answer is not complete");
    drop(under_way);
    switched.end.await.expect("answered").expect("it loads");
    for request in waits {
        assert_eq!(admitted(request).await.upstream().model.as_str(), "b");
    }
}

#[tokio::test(start_paused = true)]
async fn a_switch_by_force_cuts_what_is_under_way_and_nothing_that_waits() {
    let world = World::new("");
    world.load("a").await;
    let under_way = world.gate.try_admit(&ask("a")).expect("let in");
    let cut = tokio::spawn(under_way.cut());
    world.engine.hold(Verb::AwaitReady);
    let switched = world.controller.switch("b".into(), true).await.expect("accepted");
    let waits = world.asks("b");
    assert_eq!(cut.await.expect("no panic").code(), Code::Cut);
    drop(under_way);
    world.engine.release(Verb::AwaitReady);
    switched.end.await.expect("answered").expect("it loads");
    assert!(admitted(waits).await.is_cut().is_none());
}

#[tokio::test(start_paused = true)]
async fn the_policy_refuses_at_once_and_names_the_way_out() {
    let world = World::new("auto_switch = \"sessions\"");
    let none = refused(world.asks("*")).await.body();
    assert_eq!((none.code, none.message.contains("no model is loaded")), (Code::SwitchNotAllowed, true));
    assert!(none.hint.expect("a hint").contains("`corral start`"));
    let pass = world.asks("*!").await.expect("no panic").expect("a session may");
    assert_eq!(pass.upstream().model.as_str(), "a");
    let other = refused(world.asks("b")).await.body();
    assert_eq!(other.code, Code::SwitchNotAllowed);
    assert!(other.hint.expect("a hint").contains("`corral switch b`"));
    assert_eq!(admitted(world.asks("a")).await.upstream().model.as_str(), "a");
    // The file changes, and with it who may.
    world.controller.catalog_read(read("")).await.expect("taken");
    drop(pass);
    world.request("1", "b");
    pass_time(10 * SECOND).await;
    assert_eq!(world.answered(), ["1 b"]);
}

#[tokio::test(start_paused = true)]
async fn whoever_goes_is_switched_for_no_more() {
    let world = World::new("");
    world.load("a").await;
    let request = world.asks("b");
    pass_time(5 * SECOND).await;
    assert_eq!(world.gate.counts(), (0, 1));
    request.abort();
    settle().await;
    assert_eq!(world.gate.counts(), (0, 0));
    pass_time(60 * SECOND).await;
    assert_eq!(world.starts(), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn a_person_goes_first() {
    let world = preparing_for_a_request().await;
    let operation = world.snapshot().operation.clone().expect("it is switched");
    assert_eq!((operation.kind, operation.to.expect("a model").as_str()), (OperationKind::Switch, "b"));
    let person = world.switch("c").await;
    world.engine.release(Verb::Prepare);
    person.end.await.expect("answered").expect("it loads");
    assert_eq!(world.loaded().as_deref(), Some("c"));
    pass_time(9 * SECOND).await;
    assert_eq!(world.loaded().as_deref(), Some("c"), "it stays for 10 s");
    pass_time(SECOND).await;
    assert_eq!((world.answered(), world.starts().len()), (vec!["1 b".to_owned()], 3));
}

#[tokio::test(start_paused = true)]
async fn a_person_who_keeps_the_model_is_not_overruled_at_once() {
    let world = preparing_for_a_request().await;
    world.load("a").await;
    world.engine.release(Verb::Prepare);
    pass_time(9 * SECOND).await;
    assert_eq!((world.starts(), world.gate.counts()), (vec!["a".to_owned()], (0, 1)));
    pass_time(2 * SECOND).await;
    assert_eq!(world.answered(), ["1 b"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_being_cleared_away_is_waited_for_though_no_snapshot_tells() {
    let world = World::new("");
    world.load("a").await;
    world.engine.hold(Verb::Prepare);
    let dropped = world.switch("b").await;
    settle().await;
    world.load("a").await;
    assert_eq!(dropped.end.await.expect("answered").expect_err("replaced").code(), Code::Superseded);
    world.request("1", "c");
    pass_time(20 * SECOND).await;
    assert_eq!(world.gate.counts(), (0, 1), "b is still being prepared");
    world.engine.release(Verb::Prepare);
    pass_time(SECOND).await;
    assert_eq!(world.answered(), ["1 c"]);
}

#[tokio::test(start_paused = true)]
async fn a_stop_is_not_undone_while_it_goes_on() {
    let world = World::new("");
    world.load("b").await;
    world.engine.hold(Verb::Stop);
    let stop = world.controller.stop(false).await.expect("accepted");
    world.request("1", "*");
    settle().await;
    world.engine.release(Verb::Stop);
    stop.end.await.expect("answered").expect("it stops");
    settle().await;
    assert_eq!(world.answered(), ["1 b"], "the model that was used last");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_refused_before_it_is_known_what_runs() {
    let memory = Arc::<Memory>::default();
    memory.want(Some(&ModelId::new("b").expect("a model id")));
    let world = World::asked_early("auto_switch = \"never\"", memory, &[("1", "*"), ("2", "b")]);
    settle().await;
    assert_eq!(world.answered(), ["1 b", "2 b"]);
}
