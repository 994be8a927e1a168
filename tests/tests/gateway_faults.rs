//! What clients see when a server ends, and what is brought back for them.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "test code: a panic is how it fails")]

use std::time::Duration;

use corral_core::snapshot::{Phase, Snapshot};
use corral_tests::api::instance;
use corral_tests::{Client, Daemon, Manner, Models, PATIENCE, Question, until};
use serde_json::json;

/// Models whose answers go on until they are as long as was asked for.
fn models(gateway: &str) -> Models {
    let models = Models::docker().one_thread().gateway(gateway);
    models.with("ctx = 4096", "ctx = 32768\nargs = [\"--ignore-eos\"]").tiny(&["a", "b"])
}

/// A question whose answer takes longer than a test.
fn endless(manner: Manner) -> Question {
    Question::new(manner, "hello").tokens(30_000)
}

fn kill(daemon: &Daemon, status: &Snapshot) {
    daemon.docker().signal_server(&instance(status), "KILL");
}

#[test]
fn a_server_that_is_killed_mid_stream_is_started_again_for_those_that_wait() {
    for manner in Manner::ALL {
        let daemon = Daemon::start(models("min_stay = \"0s\"").home());
        let api = daemon.api();
        let before = api.switched("a");
        let client = Client::of(&before);
        let running = client.follow(&endless(manner));
        running.until("it generates", |progress| progress.letters > 50);
        // The server works on one request at a time, so these wait.
        let waiting: Vec<_> = Manner::ALL.map(|manner| client.follow(&Question::new(manner, "hi"))).into();
        kill(&daemon, &before);
        let message = running.end().cut(manner);
        assert!(!message.contains("127.0.0.1"), "it is told in plain words: {message}");
        for follow in waiting {
            assert_eq!(follow.end().complete().model, "a");
        }
        client.ask_now(&Question::new(manner, "hello")).complete();
        let after = api.until_serves("a");
        assert_eq!(after.error, None, "what was brought back clears the error: {after:#?}");
        daemon.until_owns_only(&[instance(&after)]);
        until(PATIENCE, "what broke off is written down as well", || {
            (api.usage("model")["a"].requests == 6).then_some(())
        });
    }
}

#[test]
fn a_server_that_ends_again_and_again_stays_ended_and_says_why() {
    let daemon = Daemon::start(models("").home());
    let api = daemon.api();
    api.switched("a");
    let client = Client::of(&api.status());
    for end in 1..=5 {
        let status = api.until_serves("a");
        client.ask_now(&Question::new(Manner::Messages, "hello").model("a")).complete();
        kill(&daemon, &status);
        let ended = |now: &Snapshot| {
            now.phase != Phase::Ready || instance(now) != instance(&status) || {
                now.engine.as_ref().map(|engine| engine.started_at)
                    != status.engine.as_ref().map(|engine| engine.started_at)
            }
        };
        api.until(PATIENCE, &format!("end {end} is seen"), ended);
    }
    let status = api.until(PATIENCE, "it stays ended", |status| status.phase == Phase::Failed);
    let error = status.error.expect("a cause");
    let message = serde_json::to_value(&error).expect("JSON")["message"].to_string();
    assert!(message.contains("5th time") || message.contains("not started again"), "{message}");
    let shown = daemon.corral(&["status"]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("SIGKILL") || shown.contains("killed"), "it says why: {shown}");
    // Corral sees the process end, and Docker says so a moment later.
    until(PATIENCE, "nothing runs", || daemon.running().is_empty().then_some(()));
    // A person who switches has it back.
    api.switched("a");
    client.ask_now(&Question::new(Manner::Chat, "hello")).complete();
}

#[test]
fn a_switch_by_force_ends_streams_with_an_error_of_their_protocol() {
    let daemon = Daemon::start(models("min_stay = \"0s\"").home());
    let api = daemon.api();
    for (manner, model, other) in Manner::ALL
        .into_iter()
        .zip(["a", "b"].into_iter().cycle())
        .map(|(manner, model)| (manner, model, if model == "a" { "b" } else { "a" }))
    {
        api.switched(model);
        let client = Client::of(&api.status());
        let running = client.follow(&endless(manner));
        running.until("it generates", |progress| progress.letters > 50);
        // Without force it would be waited for.
        let plan = api.post("/switch", &json!({ "model": other, "dry_run": true })).expect(200);
        assert_eq!(plan["plan"]["requests_running"], 1, "{plan:#}");
        api.post("/switch", &json!({ "model": other, "force": true, "wait": true })).expect(200);
        let seen = running.end();
        let message = seen.cut(manner);
        assert!(message.contains("switched"), "{message}");
        assert!(seen.text.len() > 50, "what came before it is whole");
        client.ask_now(&Question::new(manner, "hello").model(other)).complete();
    }
}

#[test]
fn a_switch_waits_for_running_requests_only_so_long() {
    let daemon = Daemon::start(models("min_stay = \"0s\"\ndrain_timeout = \"1s\"").home());
    let api = daemon.api();
    api.switched("a");
    let client = Client::of(&api.status());
    let running = client.follow(&endless(Manner::Chat));
    running.until("it generates", |progress| progress.letters > 50);
    let seen = client.ask_now(&Question::new(Manner::Messages, "hello").model("b")).complete();
    assert!(seen.took >= Duration::from_secs(1), "it was given its time: {:?}", seen.took);
    running.end().cut(Manner::Chat);
}

#[test]
fn a_daemon_that_ends_says_so_in_the_streams_that_it_cuts() {
    for manner in [Manner::Messages, Manner::Chat] {
        let mut daemon = Daemon::start(models("").home());
        daemon.api().switched("a");
        let client = Client::of(&daemon.api().status());
        let running = client.follow(&endless(manner));
        running.until("it generates", |progress| progress.letters > 50);
        let ended = daemon.terminate();
        assert!(ended.status.success() && ended.took < corral_tests::daemon::END_BOUND, "{ended:?}");
        running.end().cut(manner);
    }
}

#[test]
fn a_model_that_nobody_uses_is_unloaded_and_comes_back_for_the_next_request() {
    let models = Models::docker().one_thread().with("ctx = 4096", "ctx = 4096\nidle_unload = \"2s\"").tiny(&["a", "b"]);
    let daemon = Daemon::start(models.home());
    let api = daemon.api();
    let client = Client::of(&api.switched("a"));
    for name in ["a", "anything"] {
        client.ask_now(&Question::new(Manner::Messages, "hello").model(name)).complete();
        api.until(PATIENCE, "it is unloaded", |status| status.phase == Phase::Stopped && status.operation.is_none());
        daemon.until_owns_only(&[]);
        assert_eq!(client.ask_now(&Question::new(Manner::Chat, "hello").model(name)).complete().model, "a");
    }
    // A request that runs is use, however long it takes.
    let status = api.until_serves("a");
    let long = Question::new(Manner::Messages, "hello").tokens(4000);
    while client.ask_now(&long).complete().text.len() < 3 {}
    assert_eq!(instance(&api.until_serves("a")), instance(&status), "it stayed while it was used");
}

#[test]
fn a_request_waits_only_so_long() {
    let daemon = Daemon::start(models("min_stay = \"1h\"\nhold_timeout = \"2s\"\nqueue = 2").home());
    let client = Client::of(&daemon.api().switched("a"));
    for manner in Manner::ALL {
        for question in [Question::new(manner, "hello"), Question::new(manner, "hello").once()] {
            let seen = client.ask_now(&question.model("b"));
            assert!(seen.took >= Duration::from_secs(2), "it waited: {seen:?}");
            assert!(seen.refused(manner, 503).contains('b'), "it says for which: {seen:?}");
        }
    }
    let waiting: Vec<_> = (0..2).map(|_| client.follow(&Question::new(Manner::Chat, "hello").model("b"))).collect();
    daemon.api().until_wait(2);
    let seen = client.ask_now(&Question::new(Manner::Messages, "hello").model("b"));
    assert_eq!(seen.status / 100, 5, "no more than two may wait: {seen:?}");
    seen.refused(Manner::Messages, seen.status);
    client.ask_now(&Question::new(Manner::Messages, "hello").model("a")).complete();
    for one in waiting {
        one.end().refused(Manner::Chat, 503);
    }
}

#[test]
fn a_request_that_waited_for_long_is_told_in_its_stream_that_it_was_in_vain() {
    let daemon = Daemon::start(models("min_stay = \"1h\"\nhold_timeout = \"12s\"").home());
    let client = Client::of(&daemon.api().switched("a"));
    let waiting = Manner::ALL.map(|manner| (manner, client.follow(&Question::new(manner, "hello").model("b"))));
    for (manner, one) in waiting {
        let seen = one.end();
        assert!(seen.comments > 0, "comments kept the connection alive: {seen:?}");
        seen.cut(manner);
    }
}
