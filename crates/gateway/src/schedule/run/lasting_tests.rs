//! What failed, what ended by itself, what nobody uses, and the end of it all.

use std::sync::Arc;
use std::time::Duration;

use corral_core::catalog::Catalog;
use corral_core::command::Accepted;
use corral_core::controller::{Controller, ControllerConfig};
use corral_core::lifecycle::restart::WINDOW;
use corral_core::snapshot::{OperationKind, Phase, Step};
use corral_core::{Code, Error};
use corral_testkit::fakes::{CountingClock, FakeEngine, Memory, Verb, ports};
use tokio_util::sync::CancellationToken;

use super::world::{World, admitted, ask, limits, out_of_memory, pass_time, read, refused, settle};
use crate::traffic::Gate;

const SECOND: Duration = Duration::from_secs(1);

/// `a` was loaded, and a person's switch to `b` is under way, which fails once the engine lets it.
async fn loading_in_vain() -> (World, Accepted) {
    let world = World::new("auto_switch = \"never\"");
    world.load("a").await;
    world.engine.hold(Verb::AwaitReady);
    world.engine.fail(Verb::AwaitReady, "b", out_of_memory());
    let person = world.switch("b").await;
    (world, person)
}

/// Loads `a`, and lets it end until it is not started again.
async fn give_up(world: &World) {
    world.load("a").await;
    for _ in 0..5 {
        pass_time(20 * SECOND).await;
        assert_eq!(world.loaded().as_deref(), Some("a"));
        world.engine.crash(out_of_memory());
    }
    settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_load_that_fails_answers_those_that_wait_for_it_and_no_others() {
    let world = World::new("");
    world.engine.fail(Verb::AwaitReady, "b", out_of_memory());
    world.load("a").await;
    for (label, model) in [("1", "b"), ("2", "c"), ("3", "b")] {
        world.request(label, model);
    }
    let first = world.asks("b");
    pass_time(10 * SECOND).await;
    assert_eq!(world.answered(), ["1 out_of_memory", "3 out_of_memory"]);
    let error = refused(first).await.body();
    assert_eq!(error.message, "the GPU's memory ran out; `a` serves again");
    assert_eq!(error.hint.as_deref(), Some("a smaller `ctx`"));
    assert_eq!((world.loaded().as_deref(), world.gate.counts()), (Some("a"), (0, 1)));
    pass_time(10 * SECOND).await;
    assert_eq!(world.answered(), ["2 c"]);
    // It is left alone for 30 s, and answered at once.
    assert_eq!(refused(world.asks("b")).await.body(), error);
    pass_time(19 * SECOND).await;
    assert_eq!(refused(world.asks("b")).await.body(), error);
    assert_eq!(world.starts(), ["a", "b", "a", "c"]);
    pass_time(SECOND).await;
    assert_eq!(refused(world.asks("b")).await.body().message, "the GPU's memory ran out; `c` serves again");
    assert_eq!(world.starts()[4..], ["b", "c"]);
}

#[tokio::test(start_paused = true)]
async fn a_changed_catalog_ends_the_time_out() {
    let world = World::new("min_stay = \"1s\"");
    world.engine.fail(Verb::Check, "b", out_of_memory());
    world.request("1", "b");
    settle().await;
    world.request("2", "b");
    settle().await;
    assert_eq!((world.answered().len(), world.starts().len()), (2, 0));
    let tried = |world: &World| world.engine.calls().iter().filter(|call| *call == "check b").count();
    assert_eq!(tried(&world), 1);
    world.controller.catalog_read(read("min_stay = \"2s\"")).await.expect("taken");
    settle().await;
    world.request("3", "b");
    settle().await;
    assert_eq!((tried(&world), world.answered()), (2, vec!["3 out_of_memory".to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn a_person_who_loads_the_model_ends_the_time_out() {
    let world = World::new("min_stay = \"1s\"");
    world.engine.set_unavailable(Some(Error::new(Code::EngineUnavailable, "no engine")));
    assert_eq!(refused(world.asks("b")).await.code(), Code::EngineUnavailable);
    world.engine.set_unavailable(None);
    assert_eq!(refused(world.asks("b")).await.code(), Code::EngineUnavailable);
    world.load("b").await;
    world.load("a").await;
    world.request("1", "b");
    pass_time(SECOND).await;
    assert_eq!(world.answered(), ["1 b"]);
}

#[tokio::test(start_paused = true)]
async fn a_person_s_failure_answers_those_that_wait_for_it_too() {
    let (world, person) = loading_in_vain().await;
    let waits = world.asks("b");
    settle().await;
    assert!(!waits.is_finished());
    world.engine.release(Verb::AwaitReady);
    person.end.await.expect("answered").expect_err("it fails");
    assert_eq!(refused(waits).await.code(), Code::OutOfMemory, "it may not switch, but it was told to wait");
    assert_eq!(world.starts(), ["a", "b", "a"], "it was not tried again");
}

#[tokio::test(start_paused = true)]
async fn what_is_being_brought_back_is_waited_for() {
    let (world, person) = loading_in_vain().await;
    settle().await;
    world.engine.hold(Verb::Start);
    world.engine.release(Verb::AwaitReady);
    settle().await;
    assert_eq!(world.snapshot().operation.as_ref().map(|operation| operation.step), Some(Step::Rollback));
    for (label, model) in [("1", "a"), ("2", "b"), ("3", "*")] {
        world.request(label, model);
    }
    settle().await;
    assert_eq!(world.gate.counts(), (0, 3));
    world.engine.release(Verb::Start);
    person.end.await.expect("answered").expect_err("it fails");
    settle().await;
    assert_eq!(world.answered(), ["1 a", "3 a", "2 out_of_memory"]);
}

#[tokio::test(start_paused = true)]
async fn the_usual_model_is_loaded_for_whoever_takes_any() {
    let world = World::new("");
    world.load("b").await;
    world.stop().await;
    world.engine.fail(Verb::Prepare, "b", out_of_memory());
    assert_eq!(refused(world.asks("*")).await.code(), Code::OutOfMemory);
    let tries = world.engine.calls().len();
    for model in ["*", "b"] {
        assert_eq!(refused(world.asks(model)).await.code(), Code::OutOfMemory);
    }
    assert_eq!(world.engine.calls().len(), tries, "it is left alone for 30 s");
    assert_eq!(world.snapshot().phase, Phase::Failed);
    assert_eq!(admitted(world.asks("c")).await.upstream().model.as_str(), "c");
    assert_eq!(admitted(world.asks("*")).await.upstream().model.as_str(), "c");
}

#[tokio::test(start_paused = true)]
async fn a_catalog_without_models_says_so() {
    let world = World::new("");
    let mut reading = read("");
    reading.catalog.as_mut().expect("a catalog").models.clear();
    world.controller.catalog_read(reading).await.expect("taken");
    settle().await;
    assert_eq!(refused(world.asks("*")).await.code(), Code::CatalogInvalid);
    assert_eq!(refused(world.asks("a")).await.code(), Code::UnknownModel);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_ends_by_itself_lets_requests_wait_until_it_is_back() {
    let world = World::new("auto_switch = \"never\"");
    world.load("a").await;
    let before = world.gate.try_admit(&ask("a")).expect("let in");
    world.engine.hold(Verb::AwaitReady);
    world.engine.crash(Error::new(Code::ServerExited, "a segmentation fault"));
    settle().await;
    for (label, model) in [("1", "a"), ("2", "*")] {
        world.request(label, model);
    }
    pass_time(SECOND).await;
    let operation = world.snapshot().operation.clone().expect("it is started again");
    assert_eq!((operation.kind, world.gate.counts()), (OperationKind::Restart, (1, 2)));
    world.engine.release(Verb::AwaitReady);
    settle().await;
    assert_eq!((world.answered(), world.starts()), (vec!["1 a".into(), "2 a".into()], vec!["a".into(), "a".into()]));
    let after = world.gate.try_admit(&ask("a")).expect("let in");
    assert_ne!(before.upstream().instance, after.upstream().instance);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_keeps_ending_is_left_alone_for_a_while() {
    let world = World::new("");
    give_up(&world).await;
    assert_eq!((world.snapshot().phase, world.starts().len()), (Phase::Failed, 5));
    for model in ["a", "*"] {
        let error = refused(world.asks(model)).await;
        assert!(error.to_string().contains("so it is not started again"), "{error}");
    }
    pass_time(WINDOW.saturating_sub(2 * SECOND)).await;
    for model in ["a", "*"] {
        let error = refused(world.asks(model)).await;
        assert!(error.to_string().contains("so it is not started again"), "{error}");
    }
    assert_eq!(world.starts().len(), 5, "not once for a request");
    pass_time(2 * SECOND).await;
    assert_eq!(admitted(world.asks("*")).await.upstream().model.as_str(), "a");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_start_again_is_left_alone_for_as_long() {
    let world = World::new("");
    world.load("a").await;
    world.engine.fail(Verb::Prepare, "a", out_of_memory());
    world.engine.crash(out_of_memory());
    pass_time(60 * SECOND).await;
    assert_eq!(world.snapshot().phase, Phase::Failed);
    let person = world.controller.start(Some("a".into())).await.expect("accepted");
    person.end.await.expect("answered").expect_err("it fails");
    // A person's failure is over by then, what came before it is not.
    pass_time(60 * SECOND).await;
    let tries = world.engine.calls().len();
    for model in ["a", "*"] {
        assert_eq!(refused(world.asks(model)).await.code(), Code::OutOfMemory);
    }
    assert_eq!(world.engine.calls().len(), tries);
    pass_time(WINDOW).await;
    assert_eq!(refused(world.asks("a")).await.code(), Code::OutOfMemory);
    assert!(world.engine.calls().len() > tries, "it was tried again");
}

#[tokio::test(start_paused = true)]
async fn a_person_who_starts_what_was_given_up_lets_requests_load_it_again() {
    let world = World::new("min_stay = \"1s\"");
    give_up(&world).await;
    assert_eq!(refused(world.asks("a")).await.code(), Code::OutOfMemory);
    world.load("a").await;
    world.load("b").await;
    world.request("1", "a");
    pass_time(2 * SECOND).await;
    assert_eq!(world.answered(), ["1 a"]);
}

#[tokio::test(start_paused = true)]
async fn what_was_unloaded_for_want_of_use_comes_back_whatever_the_policy() {
    for policy in ["never", "sessions"] {
        for asked in ["*", "idle"] {
            let world = World::new(&format!("auto_switch = \"{policy}\""));
            world.load("b").await;
            world.load("idle").await;
            world.engine.hold(Verb::Stop);
            pass_time(61 * SECOND).await;
            assert_eq!(world.snapshot().operation.as_ref().map(|view| view.kind), Some(OperationKind::Unload));
            let waits = world.asks(asked);
            settle().await;
            assert!(!waits.is_finished(), "{policy} {asked}: it came a moment too late");
            world.engine.release(Verb::Stop);
            assert_eq!(admitted(waits).await.upstream().model.as_str(), "idle");
            pass_time(62 * SECOND).await;
            assert_eq!(world.loaded(), None);
            assert_eq!(refused(world.asks("b")).await.code(), Code::SwitchNotAllowed);
            assert_eq!(admitted(world.asks(asked)).await.upstream().model.as_str(), "idle");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_person_has_unloaded_does_not_come_back_by_itself() {
    let world = World::new("auto_switch = \"never\"");
    world.load("idle").await;
    pass_time(62 * SECOND).await;
    assert_eq!(world.loaded(), None);
    world.load("b").await;
    world.stop().await;
    for model in ["*", "b", "idle"] {
        assert_eq!(refused(world.asks(model)).await.code(), Code::SwitchNotAllowed);
    }
    // Nor where a person wanted another and got none.
    world.load("idle").await;
    pass_time(62 * SECOND).await;
    world.engine.fail(Verb::Prepare, "b", out_of_memory());
    let person = world.switch("b").await;
    person.end.await.expect("answered").expect_err("it fails");
    assert_eq!(refused(world.asks("*")).await.code(), Code::SwitchNotAllowed);
}

#[tokio::test(start_paused = true)]
async fn what_nobody_uses_is_unloaded_and_loaded_again_for_the_next_request() {
    let world = World::new("");
    world.load("idle").await;
    let pass = world.gate.try_admit(&ask("*")).expect("let in");
    pass_time(300 * SECOND).await;
    assert_eq!(world.loaded().as_deref(), Some("idle"), "it is in use");
    drop(pass);
    pass_time(30 * SECOND).await;
    drop(world.gate.try_admit(&ask("idle")).expect("let in"));
    pass_time(59 * SECOND).await;
    assert_eq!(world.loaded().as_deref(), Some("idle"), "it was used 59 s ago");
    pass_time(SECOND).await;
    settle().await;
    assert_eq!((world.snapshot().phase, world.gate.counts()), (Phase::Stopped, (0, 0)));
    let kinds: Vec<_> = world.memory.finished().iter().map(|ended| ended.operation.kind).collect();
    assert_eq!(kinds, [OperationKind::Switch, OperationKind::Unload]);
    pass_time(3600 * SECOND).await;
    assert_eq!(world.starts().len(), 1);
    assert_eq!(admitted(world.asks("*")).await.upstream().model.as_str(), "idle");
    assert_eq!(world.starts(), ["idle", "idle"]);
    pass_time(59 * SECOND).await;
    assert_eq!(world.loaded().as_deref(), Some("idle"));
    pass_time(2 * SECOND).await;
    assert_eq!(world.loaded(), None);
}

#[tokio::test(start_paused = true)]
async fn those_that_wait_are_told_when_it_ends() {
    for by_token in [true, false] {
        let world = World::new("");
        world.load("a").await;
        let waits = world.asks("b");
        settle().await;
        if by_token {
            world.shutdown.cancel();
        } else {
            world.controller.shut_down(true).await.expect("it ends");
        }
        world.scheduler.await.expect("it ends");
        assert_eq!(refused(waits).await.code(), Code::ShuttingDown);
        let late = world.gate.admit(&ask("c"), &limits()).await.expect_err("refused");
        assert_eq!((late.code(), world.gate.counts()), (Code::ShuttingDown, (0, 0)));
        assert!(world.gate.try_admit(&ask("a")).is_some(), "what is left running goes on");
    }
}

#[tokio::test(start_paused = true)]
async fn there_is_one_timer_where_something_is_due_and_none_elsewhere() {
    let clock = Arc::new(CountingClock::default());
    let gate = Gate::new(clock.clone());
    let mut ports = ports(&Arc::<FakeEngine>::default(), &Arc::<Memory>::default());
    ports.traffic = Arc::new(gate.clone());
    let config = ControllerConfig { version: "1".into(), catalog_path: "models.toml".into(), gateway: None };
    let (controller, actor) = Controller::new(config, ports, read(""), Catalog::default());
    tokio::spawn(actor.run());
    tokio::spawn(super::schedule(gate.clone(), controller.clone(), clock.clone(), CancellationToken::new()));
    let load = async |model: &str| {
        let accepted = controller.switch(model.to_owned(), false).await.expect("accepted");
        accepted.end.await.expect("answered").expect("it loads");
        settle().await;
    };
    load("a").await;
    for _ in 0..1000 {
        drop(gate.try_admit(&ask("a")).expect("let in"));
        tokio::task::yield_now().await;
    }
    pass_time(3600 * SECOND).await;
    assert_eq!(clock.sleepers(), (0, 0), "nothing is ever due");
    load("idle").await;
    assert_eq!(clock.sleepers().0, 1, "when it is to be unloaded");
    for _ in 0..1000 {
        drop(gate.try_admit(&ask("idle")).expect("let in"));
        pass_time(SECOND / 10).await;
    }
    // 100 s of requests: the timer went off once, and was set anew.
    assert_eq!(clock.sleepers(), (1, 1));
    load("a").await;
    assert_eq!(clock.sleepers().0, 0);
}
