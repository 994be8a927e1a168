//! Sessions of `claude-local` beside each other, while the model loads, and when the launcher is killed.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "test code: a panic is how it fails")]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;

use corral_tests::local::Ran;
use corral_tests::{Local, PATIENCE, process, until};
use rustix::process::Signal;
use serde_json::json;

const SCRIPTED: &str = env!("CARGO_BIN_EXE_scripted-answer");

const ASK: [&str; 7] = ["--", "-p", "hello", "--output-format", "json", "--allowedTools", "Bash"];

#[test]
fn two_at_once_in_one_folder() {
    let local = Local::scripted(SCRIPTED, false);
    // Each waits until the other's command runs as well.
    let wait = "echo x >>together; until [ $(wc -l <together) = 2 ]; do sleep 0.05; done";
    local.script(&json!([
        [{ "type": "tool_use", "name": "Bash", "input": { "command": wait, "description": "waits" } }],
        [{ "type": "text", "text": "together" }],
    ]));
    local.daemon.api().switched("a");
    let start = || local.command("claude-local").args(ASK).args(["--permission-mode", "acceptEdits"]).spawn().unwrap();
    let both = [start(), start()];
    local.daemon.api().until(PATIENCE, "two sessions", |status| status.sessions.len() == 2);
    for one in both {
        assert_eq!(Ran::end(one).said()["result"], "together");
    }
    assert_eq!(fs::read_to_string(local.workspace().join("together")).unwrap(), "x\nx\n");
    local.until_no_session();
}

#[test]
fn it_waits_for_a_model_that_loads() {
    let local = Local::scripted(SCRIPTED, true);
    let child = local.command("claude-local").args(["--model", "b"]).args(ASK).spawn().unwrap();
    local.daemon.api().until(PATIENCE, "b loads", |status| status.operation.is_some());
    assert_eq!((local.asked().len(), local.daemon.api().status().sessions.len()), (0, 0));
    local.let_load();
    assert_eq!(Ran::end(child).said()["result"], "hello");
    local.daemon.api().until_serves("b");
}

fn names(folder: &Path) -> BTreeSet<String> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn a_launcher_that_is_killed_leaves_nothing() {
    let local = Local::scripted(SCRIPTED, false);
    let wait = "echo x >begun; sleep 1000";
    local.script(&json!([
        [{ "type": "tool_use", "name": "Bash", "input": { "command": wait, "description": "waits" } }],
        [{ "type": "text", "text": "over" }],
    ]));
    local.daemon.api().switched("a");
    let run = local.daemon.home().run();
    let (before, temporary) = (names(&run), jail_mounts());
    let mut command = local.command("claude-local");
    let mut child = command.args(ASK).args(["--permission-mode", "acceptEdits"]).spawn().unwrap();
    until(PATIENCE, "its command runs", || local.workspace().join("begun").exists().then_some(()));
    let family = process::family(child.id());
    assert!(family.len() >= 5, "launcher, bubblewrap, init, Claude Code, sh: {family:?}");
    assert_eq!(local.daemon.api().status().sessions.len(), 1);

    process::signal(child.id(), Signal::KILL);
    assert_eq!(child.wait().unwrap().signal(), Some(Signal::KILL.as_raw()));
    until(PATIENCE, "no process is left", || (!family.iter().any(|pid| process::runs(*pid))).then_some(()));
    local.until_no_session();
    assert_eq!(names(&run), before);
    assert_eq!(jail_mounts(), temporary);
    local.assert_home_is_as_it_was();

    // The next one starts as if nothing had been.
    local.script(&json!([[{ "type": "text", "text": "again" }]]));
    local.daemon.api().stopped();
    local.daemon.api().switched("a");
    assert_eq!(local.claude(&ASK).said()["result"], "again");
}

/// Mounts that belong to a jail, seen from here: there must never be any.
fn jail_mounts() -> Vec<String> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    mounts.lines().filter(|line| line.contains("/run/corral") || line.contains("newroot")).map(str::to_owned).collect()
}

#[test]
fn what_a_killed_launcher_did_not_look_at_is_told_by_the_next_one_there() {
    let local = Local::scripted(SCRIPTED, false);
    fs::write(local.workspace().join(".envrc"), "mine").unwrap();
    let other = local.folder("other");
    let marks = || names(&local.daemon.home().path().join("state/jails"));
    let jail = |folder: &Path, script: &str| {
        let mut command = local.command("corral");
        command.args(["jail", "--network", "none", "--workspace"]).arg(folder).args(["--", "sh", "-c", script]);
        command
    };
    let workspace = local.workspace();
    let script = "mkdir sub; echo run-me >sub/.envrc; echo fine >file; echo >begun; sleep 1000";
    let mut child = jail(&workspace, script).spawn().unwrap();
    until(PATIENCE, "it has written", || workspace.join("begun").exists().then_some(()));
    // One that looks at its end leaves nothing to tell, also while the other is there.
    let beside = Ran::of(&mut jail(&workspace, "true"));
    assert!(!beside.stderr.contains("was killed"), "{beside:#?}");
    beside.good();
    assert_eq!(marks().len(), 1);
    process::signal(child.id(), Signal::KILL);
    child.wait().unwrap();

    let elsewhere = Ran::of(&mut jail(&other, "true"));
    assert_eq!((elsewhere.stderr.as_str(), elsewhere.code), ("", Some(0)));
    let next = Ran::of(&mut jail(&workspace, "true"));
    let said: Vec<_> = next.stderr.lines().collect();
    let file = workspace.join("sub/.envrc").display().to_string();
    assert!(said.len() == 2 && said[0].contains("was killed, and nobody looked"), "{next:#?}");
    assert!(said[1].starts_with(&format!("{file} is new or has changed since; it is")), "{next:#?}");
    assert!(workspace.join("sub/.envrc").exists(), "it stays: it may be the user's own");
    next.good();
    // Told once; nothing is left of it.
    assert_eq!(Ran::of(&mut jail(&workspace, "true")).stderr, "");
    assert_eq!(marks(), BTreeSet::new());
}
