//! `claude-local --terminal`: a window of its own, on a real X server and with a real terminal.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "test code: a panic is how it fails")]

use std::fs;

use corral_tests::local::Ran;
use corral_tests::{Display, Local, PATIENCE, until};

const SCRIPTED: &str = env!("CARGO_BIN_EXE_scripted-answer");

fn world() -> (Local, Display) {
    let local = Local::scripted(SCRIPTED, false);
    local.daemon.api().switched("a");
    let settings = local.daemon.home().path().join("config/settings.toml");
    fs::write(settings, "terminal = \"xterm\"\n").unwrap();
    (local, Display::start())
}

fn open(local: &Local, display: &Display, args: &[&str]) -> Ran {
    let mut command = local.command("claude-local");
    Ran::of(command.arg("--terminal").args(args).env("DISPLAY", display.name()))
}

/// A process waits for a line of its terminal whose arguments have this one.
fn waits_for_enter(argument: &str) -> bool {
    let mut processes = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    processes.any(|process| {
        let read = |name: &str| fs::read(process.join(name)).unwrap_or_default();
        let is_it = read("cmdline").split(|byte| *byte == 0).any(|one| one == argument.as_bytes());
        // A call to `read` on standard input.
        is_it && read("syscall").starts_with(b"0 0x0 ")
    })
}

#[test]
fn a_window_opens_with_claude_code_in_the_jail_and_takes_it_along_when_it_closes() {
    let (local, display) = world();
    assert_eq!(display.windows().matches("UXTerm").count() + display.windows().matches("XTerm").count(), 0);
    open(&local, &display, &[]).good();
    local.daemon.api().until(PATIENCE, "the session in the window", |status| {
        status.sessions.iter().any(|session| session.label.as_deref() == Some("claude in project"))
    });
    until(PATIENCE, "Claude Code's own title", || display.windows().contains("Claude Code").then_some(()));
    drop(display);
    local.until_no_session();
    local.assert_home_is_as_it_was();
}

#[test]
fn a_window_stays_with_the_reason_where_the_start_failed() {
    let (local, display) = world();
    let model = format!("no-such-{}", std::process::id());
    open(&local, &display, &["--model", &model]).good();
    until(PATIENCE, "it waits for Enter", || waits_for_enter(&model).then_some(()));
    assert!(display.windows().contains("\"project: local Claude\""), "{}", display.windows());
    drop(display);
    until(PATIENCE, "it ends with its window", || (!waits_for_enter(&model)).then_some(()));
}

#[test]
fn a_terminal_that_opens_nothing_is_named() {
    let (local, display) = world();
    let name = display.name().to_owned();
    drop(display);
    let ran = Ran::of(local.command("claude-local").arg("--terminal").env("DISPLAY", name));
    ran.refused(78, &["xterm opened no window", "settings.toml"]);
    fs::write(local.daemon.home().path().join("config/settings.toml"), "terminal = \"no-such\"\n").unwrap();
    let ran = Ran::of(local.command("claude-local").arg("--terminal"));
    ran.refused(78, &["`no-such`, which is not there"]);
}
