//! What a session leaves that would run later outside: people hear of it where they are, by the tray's notification and
//! by the daemon's events, as well as at the session's own terminal.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "test code: a panic is how it fails")]

use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};

use corral_tests::local::Ran;
use corral_tests::{Bus, Local, Panel};
use serde_json::json;

const SCRIPTED: &str = env!("CARGO_BIN_EXE_scripted-answer");

/// The tray, which shows the daemon that runs already.
struct Tray(Child);

impl Tray {
    fn start(local: &Local, bus: &Bus) -> Self {
        let mut command = local.daemon.of("corral-tray", &["--hidden"]);
        command.env("DBUS_SESSION_BUS_ADDRESS", bus.address());
        Self(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Tray {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_session_that_ends_with_files_in_quarantine_is_told_by_a_notification_that_stays() {
    let (bus, local) = (Bus::start(), Local::scripted(SCRIPTED, false));
    let panel = Panel::start(&bus);
    let _tray = Tray::start(&local, &bus);
    let item = panel.item();
    item.says("No model is loaded");
    let events = local.daemon.api().events();
    // By a script, in which Claude Code itself sees nothing to ask about.
    fs::write(local.workspace().join("make"), "echo run-me >.envrc; mkdir sub; echo run-me >sub/.envrc\n").unwrap();
    let run = json!({ "type": "tool_use", "name": "Bash", "input": { "command": "sh make", "description": "it" } });
    local.script(&json!([[run], [{ "type": "text", "text": "done" }]]));
    let args = ["--", "-p", "go", "--output-format", "json", "--allowedTools", "Bash"];
    let ran = local.claude(&args);
    assert!(ran.stderr.contains(".envrc is new"), "{ran:#?}");
    ran.said();

    let told = panel.notification("Claude's session ended with files in quarantine");
    assert_eq!(told.timeout, 0, "it does not go by itself");
    let workspace = local.workspace().canonicalize().unwrap();
    let moved = format!("2 files were moved out of {} to ", workspace.display());
    let folder = told.body.split_once(&moved).unwrap_or_else(|| panic!("{moved}: {told:?}")).1.lines().next().unwrap();
    assert!(fs::read_to_string(Path::new(folder).join("manifest.json")).unwrap().contains(".envrc"), "{told:?}");
    assert!(told.body.contains("look at each before you bring it back"), "{told:?}");
    assert_eq!(told.actions, [""; 0], "the server's log has nothing of it");
    let notice = events.until_notice(&["Claude's session ended with files in quarantine", &moved]);
    assert_eq!((&notice["level"], &notice["error"]["code"]), (&json!("warning"), &json!("workspace_invalid")));

    // Nothing that comes later takes its place.
    item.click(&["Stop"]);
    assert_eq!(panel.notification("stopped").replaces, 0);
    local.until_no_session();
}

#[test]
fn what_is_said_of_a_jail_without_a_network_says_which_one_and_a_clean_one_says_nothing() {
    let local = Local::scripted(SCRIPTED, false);
    let events = local.daemon.api().events();
    let jail = |script: &str| {
        let args = ["jail", "--network", "none", "--", "sh", "-c", script];
        Ran::of(local.command("corral").args(args)).good()
    };
    jail("echo fine >file");
    jail("echo run-me >.envrc");
    let said = ["The session \u{201c}sh in project\u{201d} ended with files in quarantine", "1 file was moved out of"];
    let notices = events.notices_until(&said);
    assert_eq!(notices.len(), 1, "{notices:#?}");
}
