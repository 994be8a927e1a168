//! The Docker engine goes away while a model serves, and comes back.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "test code: a panic is how it fails")]

use std::time::Duration;

use corral_core::snapshot::Phase;
use corral_tests::api::{expect_error, instance};
use corral_tests::engine::PrivateEngine;
use corral_tests::{Daemon, Inference, Models, PATIENCE};
use serde_json::json;

#[test]
fn the_model_serves_again_when_the_engine_is_back() {
    let mut engine = PrivateEngine::start();
    let home = Models::docker().tiny(&["a", "b"]).home();
    let daemon = Daemon::start_with(home, &[("DOCKER_HOST", &engine.host())]);
    let api = daemon.api();
    // So that there is a stopped container as well.
    api.switched("a");
    let before = api.switched("b");
    Inference::of(&before).assert_answers("b");

    for round in 1..=2 {
        let events = api.events();
        engine.stop();
        let status = events.until(Duration::from_secs(3), "it is told that the engine is gone", |status| {
            let code = status.error.as_ref().map(|error| error.code.as_str());
            status.phase == Phase::Failed && code.as_deref() == Some("engine_unavailable")
        });
        assert_eq!((&status.engine, &status.operation), (&None, &None), "round {round}: {status:#?}");
        let error = serde_json::to_value(&status.error).expect("JSON");
        expect_error(&error, "engine_unavailable", &["Docker engine"]);
        assert!(error["hint"].to_string().contains("start"), "{error:#}");

        if round == 2 {
            // A request that finds no engine fails, and takes nothing away from what is brought back.
            api.switch_wait("a").expect_error("engine_unavailable", &["Docker engine"]);
        }
        engine.serve();
        let after = api.until_serves("b");
        assert_eq!(after.error, None, "round {round}: {after:#?}");
        Inference::of(&after).assert_answers("b");
        daemon.until_owns_only(&[instance(&after)]);
    }
    Inference::of(&api.switched("a")).assert_answers("a");

    // A daemon that starts while the engine is away says so, and serves when it is back.
    let mut daemon = daemon;
    daemon.kill9();
    engine.stop();
    daemon.restart();
    let api = daemon.api();
    let status = api.until(PATIENCE, "it is told that the engine is gone", |status| status.phase == Phase::Failed);
    expect_error(&serde_json::to_value(&status.error).expect("JSON"), "engine_unavailable", &["Docker engine"]);
    let error = api.switch_wait("nothing-like-that").expect_error("unknown_model", &[]);
    assert!(error["message"].to_string().contains("nothing-like-that"), "{error:#}");
    assert_eq!(api.get("/models").expect(200)["models"][0]["state"], json!("available"));
    engine.serve();
    let status = api.until_serves("a");
    Inference::of(&status).assert_answers("a");
    daemon.until_owns_only(&[instance(&status)]);
    // Its containers go before the engine does.
    drop(daemon);
}
