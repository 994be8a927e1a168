//! The main job, on real parts: serve a model, switch to another, stop; be adopted by the next daemon.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "test code: a panic is how it fails")]

use corral_core::snapshot::{Phase, Snapshot};
use corral_testkit::SandboxHome;
use corral_tests::api::{assert_serves, instance};
use corral_tests::{Daemon, Inference, Models, PATIENCE, process, until};
use serde_json::{Value, json};

/// Start, ask, switch to and fro, look, stop: what a user does all day.
fn the_main_job(daemon: &Daemon, ended: impl Fn(&Snapshot) -> bool) {
    let api = daemon.api();
    assert_eq!(api.status().phase, Phase::Stopped);

    let begun = api.post("/start", &json!({ "model": "a" })).expect(202);
    assert_eq!((&begun["operation"]["kind"], &begun["operation"]["to"]), (&json!("start"), &json!("a")), "{begun:#}");
    let first = api.until_serves("a");
    let ask = Inference::of(&first);
    ask.assert_answers("a");
    let question = json!({ "messages": [{ "role": "user", "content": "hi" }], "max_tokens": 1 });
    for path in ["/v1/chat/completions", "/v1/messages"] {
        for wrong in [None, Some("wrong"), Some("")] {
            assert_eq!(ask.with_key(wrong).post(path, &question).status, 401, "{path} with {wrong:?}");
        }
        ask.post(path, &question).expect(200);
    }

    let second = api.switched("b");
    Inference::of(&second).assert_answers("b");
    assert_ne!(Inference::of(&second).key(), ask.key(), "each server has a key of its own");
    assert!(ended(&first), "the server of a has ended");
    let third = api.switched("a");
    Inference::of(&third).assert_answers("a");
    assert!(ended(&second), "the server of b has ended");
    assert_ne!(
        third.engine.as_ref().map(|engine| engine.started_at),
        first.engine.as_ref().map(|engine| engine.started_at),
        "a was started again"
    );

    let again = api.switched("a");
    assert_eq!(instance(&again), instance(&third), "a switch to the loaded model changes nothing");

    let states: Vec<_> = models(&api.get("/models").expect(200));
    assert_eq!(states, [("a".to_owned(), "ready".to_owned()), ("b".to_owned(), "available".to_owned())]);

    let logs = api.logs(5000);
    for model in ["a", "b"] {
        let of_model: Vec<_> = logs.iter().filter(|record| record["model"] == model).collect();
        let loaded = |record: &&Value| record["msg"].as_str().is_some_and(|msg| msg.contains("model loaded"));
        assert!(of_model.iter().any(loaded), "llama-server's own lines of {model}: {of_model:#?}");
    }
    assert!(logs.iter().all(|record| record["ts"].is_string() && record["level"].is_string()), "{logs:#?}");
    // Lines go on coming for a moment after the answer that they are about.
    until(PATIENCE, "a tail is the end of it all", || api.logs(5000).ends_with(&api.logs(2)).then_some(()));
    assert_eq!(api.logs(2).len(), 2);

    api.stopped();
    assert!(ended(&third), "the server of a has ended");
    assert!(ask.with_key(Some(ask.key())).try_post("/v1/messages", &question).is_err(), "nothing answers any more");
}

fn models(body: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    body["models"].as_array().expect("a list").iter().map(|one| (text(&one["id"]), text(&one["state"]))).collect()
}

#[test]
fn in_docker() {
    let daemon = Daemon::start(Models::docker().tiny(&["a", "b"]).home());
    let docker = daemon.docker().clone();
    the_main_job(&daemon, |status| {
        docker.inspect(&instance(status)).is_none_or(|seen| seen["State"]["Running"] == false)
    });
    daemon.until_owns_only(&[]);
}

#[test]
fn in_a_child_process() {
    let daemon = Daemon::start(Models::process().tiny(&["a", "b"]).home());
    let home = daemon.home().path().to_owned();
    the_main_job(&daemon, |status| {
        // One server runs at most, and it is the model's that is loaded.
        let model = status.model.clone().expect("a model");
        process::with_argument(&home.join(format!("data/models/{model}.gguf"))).is_empty()
    });
}

#[test]
fn a_model_that_is_kept_is_adopted_as_it_is() {
    for models in [Models::docker(), Models::process()] {
        let home = models.tiny(&["a", "b"]).home();
        keep(&home);
        let mut daemon = Daemon::start(home);
        let before = daemon.api().switched("a");
        let (ask, begun) = (Inference::of(&before), daemon.began(&before));
        let ended = daemon.terminate();
        assert!(ended.status.success(), "{ended:?}");
        ask.assert_answers("a");

        daemon.restart();
        let after = daemon.api().until_serves("a");
        assert_eq!(instance(&after), instance(&before), "the same server");
        let engine = after.engine.as_ref().expect("an engine");
        assert_eq!(Inference::of(&after).url, ask.url, "its address is the same");
        assert_eq!(daemon.began(&after), begun, "it was not restarted");
        assert!(!engine.config_changed, "{after:#?}");
        Inference::of(&after).assert_answers("a");

        // What was adopted is as good as what was started: it can be switched away from.
        Inference::of(&daemon.api().switched("b")).assert_answers("b");
        assert!(ask.try_post("/v1/messages", &json!({})).is_err(), "the adopted server has ended");
    }
}

/// Has the model go on when the daemon ends.
fn keep(home: &SandboxHome) {
    std::fs::write(home.config().join("settings.toml"), "on_quit = \"keep\"\n").expect("settings can be written");
}

#[test]
fn a_daemon_that_ends_stops_its_model_unless_told_otherwise() {
    let mut daemon = Daemon::start(Models::docker().tiny(&["a", "b"]).home());
    daemon.api().switched("a");
    daemon.api().switched("b");
    let ended = daemon.terminate();
    assert!(ended.status.success() && ended.took < corral_tests::daemon::END_BOUND, "{ended:?}");
    assert_eq!(daemon.docker().owned(&daemon.home_id()), [], "no container is left");
    for name in ["daemon.json", "token", "api-key"] {
        assert!(!daemon.home().run().join(name).exists(), "{name} is gone");
    }

    // The setting is read when the daemon ends.
    daemon.restart();
    let status = daemon.api().switched("a");
    keep(daemon.home());
    let ended = daemon.terminate();
    assert!(ended.status.success() && ended.took < corral_tests::daemon::END_BOUND, "{ended:?}");
    assert_eq!(daemon.running(), [instance(&status)], "the model runs on");
}

#[test]
fn two_homes_do_not_see_each_other() {
    let one = Daemon::start(Models::docker().tiny(&["a"]).home());
    let status = one.api().switched("a");
    let other = Daemon::start(Models::docker().tiny(&["a"]).home());
    assert_eq!(other.api().status().phase, Phase::Stopped);
    other.api().switched("a");
    other.api().stopped();
    assert_serves(&one.api().status(), "a");
    assert_eq!(one.running(), [instance(&status)]);
    let second = corral_tests::daemon::serve_fails(one.home());
    assert_eq!(second.0, Some(1), "a home has one daemon: {second:?}");
    assert!(second.1.contains(&one.pid().to_string()), "it says who: {second:?}");
    assert_serves(&one.api().status(), "a");
}
