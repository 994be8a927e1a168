//! Models that end while they serve, each for a real reason: the snapshot says so at once, with the cause, and they are
//! started again.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "test code: a panic is how it fails")]

use std::time::Duration;

use corral_core::snapshot::{OperationKind, Phase, Snapshot};
use corral_tests::api::{expect_error, instance, serves};
use corral_tests::{Daemon, Docker, Inference, Models, PATIENCE, process, until};
use rustix::process::Signal;
use serde_json::json;

/// From the moment the server has ended to the moment the snapshot says so.
const AT_ONCE: Duration = Duration::from_secs(1);

/// Whether a server that has ended is to be started again.
fn restarts(status: &Snapshot) -> bool {
    status.operation.as_ref().is_some_and(|operation| operation.kind == OperationKind::Restart)
}

/// Loads a model, ends its server, and sees that this is told truly, and mended.
fn ends(models: &Models, end: impl Fn(&Daemon, &Snapshot), code: &str, said: &[&str]) {
    let daemon = Daemon::start(models.clone().tiny(&["a", "b"]).home());
    let api = daemon.api();
    api.switched("b");
    let before = api.switched("a");
    let (events, notices) = (api.events(), api.events());
    end(&daemon, &before);
    let status = events.until(AT_ONCE, "it is told that the server ended", restarts);
    assert_eq!((status.phase, &status.engine), (Phase::Starting, &None), "{status:#?}");
    expect_error(&serde_json::to_value(&status.error).expect("JSON"), code, said);
    let notice = notices.until_notice(said);
    assert_eq!((&notice["level"], &notice["error"]["code"]), (&json!("error"), &json!(code)), "{notice:#}");

    let again = events.until(PATIENCE, "it serves again", |status| serves(status, "a"));
    assert_eq!(again.error, None, "what was brought back clears the error");
    let started_at = |status: &Snapshot| status.engine.as_ref().and_then(|engine| engine.started_at);
    assert_ne!(started_at(&again), started_at(&before), "it was started again");
    let notice = notices.until_notice(&["was started again in"]);
    assert_eq!((&notice["level"], &notice["error"]["code"]), (&json!("warning"), &json!(code)), "{notice:#}");
    assert!(said.iter().all(|words| notice["message"].as_str().is_some_and(|text| text.contains(words))), "{notice:#}");
    assert_eq!(api.status(), again, "everybody is told the same");
    Inference::of(&again).assert_answers("a");

    for model in ["b", "a"] {
        let status = api.switched(model);
        Inference::of(&status).assert_answers(model);
        if status.engine.as_ref().is_some_and(|engine| engine.image.is_some()) {
            daemon.until_owns_only(&[instance(&status)]);
        }
    }
}

#[test]
fn by_itself() {
    let crash = |daemon: &Daemon, status: &Snapshot| daemon.docker().signal_server(&instance(status), "SEGV");
    ends(&Models::docker(), crash, "server_exited", &["while it served", "SIGSEGV"]);
}

#[test]
fn by_docker_kill() {
    let kill = |daemon: &Daemon, status: &Snapshot| drop(daemon.docker().run(&["kill", &instance(status)]));
    ends(&Models::docker(), kill, "server_killed", &["outside", "while it served", "SIGKILL"]);
}

#[test]
fn by_docker_stop() {
    let stop = |daemon: &Daemon, status: &Snapshot| drop(daemon.docker().run(&["stop", &instance(status)]));
    ends(&Models::docker(), stop, "server_killed", &["outside", "while it served", "exit code 0"]);
}

#[test]
fn by_docker_rm() {
    let remove = |daemon: &Daemon, status: &Snapshot| drop(daemon.docker().run(&["rm", "-f", &instance(status)]));
    ends(&Models::docker(), remove, "server_killed", &["outside"]);
}

#[test]
fn by_the_system_because_memory_ran_out() {
    let exhaust = |daemon: &Daemon, status: &Snapshot| {
        let id = instance(status);
        daemon.docker().run(&["update", "--memory", "32m", "--memory-swap", "32m", &id]);
        // Reading this request takes more than the container has.
        let prompt = json!({ "prompt": "a".repeat(60_000_000), "max_tokens": 1 });
        let answer = Inference::of(status).try_post("/v1/completions", &prompt);
        assert!(!answer.is_ok_and(|answer| answer.status == 200), "it was answered");
        until(PATIENCE, "Docker says that memory ran out", || {
            let state = daemon.docker().inspect(&id).map(|seen| seen["State"]["Running"].clone());
            (state != Some(json!(true))).then_some(())
        });
    };
    ends(&Models::docker(), exhaust, "out_of_memory", &["memory ran out", "while it served"]);
}

/// The process number of the server of `a`.
fn pid(daemon: &Daemon) -> u32 {
    match process::with_argument(&daemon.home().models().join("a.gguf"))[..] {
        [pid] => pid,
        ref pids => panic!("one server of a runs: {pids:?}"),
    }
}

#[test]
fn a_child_process_by_itself() {
    let crash = |daemon: &Daemon, _: &Snapshot| process::signal(pid(daemon), Signal::SEGV);
    ends(&Models::process(), crash, "server_exited", &["while it served", "SIGSEGV"]);
}

#[test]
fn a_child_process_from_outside() {
    let kill = |daemon: &Daemon, _: &Snapshot| process::signal(pid(daemon), Signal::KILL);
    ends(&Models::process(), kill, "server_killed", &["outside", "while it served", "SIGKILL"]);
}

#[test]
fn an_adopted_child_process_from_outside() {
    let home = Models::process().tiny(&["a"]).home();
    let mut daemon = Daemon::start(home);
    daemon.api().switched("a");
    daemon.kill9();
    daemon.restart();
    daemon.api().until_serves("a");
    let events = daemon.api().events();
    process::signal(pid(&daemon), Signal::KILL);
    let status = events.until(AT_ONCE, "it is told that the server ended", restarts);
    // Nobody learns the exit status of a process that is not one's child.
    expect_error(&serde_json::to_value(&status.error).expect("JSON"), "server_exited", &[]);
    let again = events.until(PATIENCE, "it serves again", |status| serves(status, "a"));
    Inference::of(&again).assert_answers("a");
}

#[test]
fn what_belongs_to_others_is_left_alone() {
    let docker = Docker::new();
    let daemon = Daemon::start(Models::docker().tiny(&["a"]).home());
    let status = daemon.api().switched("a");
    let label = format!("{}=somebody-else", corral_tests::docker::HOME_LABEL);
    let args = ["run", "-d", "--init", "--label", &label, "--entrypoint", "/bin/sh", corral_tests::parts::image()];
    let foreign = docker.run(&[&args[..], &["-c", "sleep 600"]].concat());
    docker.run(&["kill", &foreign]);
    docker.run(&["start", &foreign]);
    daemon.api().stopped();
    let ran = docker.inspect(&foreign).is_some_and(|seen| seen["State"]["Running"] == true);
    docker.run(&["rm", "-f", &foreign]);
    assert!(ran, "another home's container is not touched");
    assert!(docker.inspect(&instance(&status)).is_none(), "its own is removed");
}
