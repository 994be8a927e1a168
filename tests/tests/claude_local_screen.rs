//! `claude-local` in a terminal: its screen, its keys, and how it switches models from within.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "test code: a panic is how it fails")]

use std::fs;

use corral_tests::tmux::Tmux;
use corral_tests::{Local, Models};
use serde_json::Value;

const SCRIPTED: &str = env!("CARGO_BIN_EXE_scripted-answer");

/// Runs it in a terminal, whose settings before and after go to files; its exit code goes to the screen.
#[track_caller]
fn begin(tmux: &Tmux, command: &str) {
    tmux.types(&format!("stty -a >../before; {command}; echo ended: $?; stty -a >../after"));
    tmux.presses("Enter");
}

/// Opens it in a terminal.
#[track_caller]
fn open(local: &Local) -> Tmux {
    let tmux = Tmux::new(local, 120, 40);
    begin(&tmux, "claude-local");
    let screen = tmux.until("the prompt", has_prompt);
    assert!(screen.contains("Claude Code v2."), "{screen}");
    assert!(screen.contains(&*local.workspace().to_string_lossy()), "{screen}");
    no_dialog(&screen);
    tmux
}

/// The line to type on, between its two rules, and what stands in it.
fn typed(screen: &str) -> Option<&str> {
    let lines: Vec<_> = screen.lines().collect();
    let at = lines.windows(3).rposition(|three| three[0].starts_with("───") && three[2].starts_with("───"))?;
    lines[at + 1].strip_prefix('❯').map(str::trim)
}

fn has_prompt(screen: &str) -> bool {
    typed(screen).is_some() && screen.contains("plan mode on")
}

#[track_caller]
fn no_dialog(screen: &str) {
    for question in ["Yes, I", "Do you trust", "Choose the text style", "Select login", "Enter to confirm", "Esc to"] {
        assert!(!screen.contains(question), "a dialog:\n{screen}");
    }
}

/// It has ended well, and the terminal is as it was: its settings, the cursor's line, what is typed next.
#[track_caller]
fn ended_well(local: &Local, tmux: &Tmux) {
    let code = |screen: &str| screen.lines().find_map(|line| line.strip_prefix("ended: ").map(str::to_owned));
    let screen = tmux.until("its end", |screen| code(screen).is_some());
    assert_eq!(code(&screen).as_deref(), Some("0"), "{screen}");
    tmux.types("echo sane; clear");
    tmux.presses("Enter");
    tmux.until("the shell answers", |screen| screen.trim() == "$");
    let settings = |name: &str| fs::read_to_string(local.root().join(name)).unwrap();
    assert!(settings("before").contains("icanon"), "{}", settings("before"));
    assert_eq!(settings("before"), settings("after"));
    local.until_no_session();
    local.assert_home_is_as_it_was();
}

#[test]
fn it_opens_without_a_dialog_and_leaves_a_sane_terminal() {
    let local = Local::scripted(SCRIPTED, false);
    let tmux = open(&local);
    tmux.resize(80, 24);
    let is_narrow = |screen: &str| screen.lines().any(|line| line.chars().count() == 80 && line.starts_with("───"));
    no_dialog(&tmux.until("the prompt at another size", |screen| has_prompt(screen) && is_narrow(screen)));

    tmux.resize(120, 40);
    tmux.until("the prompt as it was", |screen| has_prompt(screen) && !is_narrow(screen));

    tmux.types("some words");
    tmux.until("the words", |screen| typed(screen) == Some("some words"));
    tmux.presses("C-c");
    tmux.until("^C clears them", |screen| has_prompt(screen) && !screen.contains("some words"));
    tmux.types("/exit");
    tmux.until("the command", |screen| typed(screen) == Some("/exit"));
    tmux.presses("Enter");
    ended_well(&local, &tmux);
}

#[test]
fn twice_control_c_ends_it() {
    let local = Local::scripted(SCRIPTED, false);
    let tmux = open(&local);
    tmux.presses("C-c");
    tmux.until("it asks for another", |screen| screen.contains("again to exit"));
    tmux.presses("C-c");
    ended_well(&local, &tmux);
}

#[test]
fn a_model_that_loads_is_waited_for_with_what_goes_on() {
    let local = Local::scripted(SCRIPTED, true);
    let tmux = Tmux::new(&local, 120, 40);
    begin(&tmux, "claude-local --model b");
    tmux.until("what goes on", |screen| screen.contains("switch b  load"));
    assert!(!has_prompt(&tmux.screen()));
    local.let_load();
    let screen = tmux.until("the prompt", has_prompt);
    assert!(!screen.contains("  load"), "{screen}");
    local.daemon.api().until_serves("b");
    tmux.types("hello");
    tmux.until("the words", |screen| typed(screen) == Some("hello"));
    tmux.presses("Enter");
    tmux.until("the answer", |screen| screen.contains("● hello") && has_prompt(screen));
    tmux.presses("C-c");
    tmux.until("it asks for another", |screen| screen.contains("again to exit"));
    tmux.presses("C-c");
    ended_well(&local, &tmux);
}

#[test]
fn models_are_switched_from_within() {
    let models = Models::process().one_thread().gateway("min_stay = \"0s\"").with("ctx = 4096", "ctx = 131072");
    let local = Local::new(&models.tiny(&["a", "b"]));
    let api = local.daemon.api();
    api.switched("a");
    let tmux = open(&local);
    tmux.types("/model b");
    tmux.until("the command", |screen| typed(screen) == Some("/model b"));
    tmux.presses("Enter");
    api.until_serves("b");
    tmux.until("it says so", |screen| screen.contains("Set model to") && has_prompt(screen));

    // As the command /switch has it, and any other program.
    let call = |method: &str, path: &str, body: &str| {
        let call = format!(
            "curl -sS -X {method} -w '\\n%{{http_code}}' -H \"Authorization: Bearer $CORRAL_TOKEN\" \
             -H 'Content-Type: application/json' -d '{body}' http://127.0.0.1:8081{path}"
        );
        let printed = local.jail(&call).good();
        let (body, status) = printed.rsplit_once('\n').unwrap();
        (status.parse::<u16>().unwrap(), serde_json::from_str::<Value>(body).unwrap())
    };
    let (status, listed) = call("GET", "/models", "");
    let ids: Vec<_> = listed["models"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap()).collect();
    assert_eq!((status, ids), (200, vec!["a", "b"]), "{listed:#}");
    let (status, switched) = call("POST", "/switch", r#"{"model":"a","wait":true}"#);
    assert_eq!((status, &switched["result"]["to"]), (200, &"a".into()), "{switched:#}");
    api.until_serves("a");
    let (status, refused) = call("POST", "/stop", r#"{"wait":true}"#);
    assert_eq!((status, &refused["error"]["code"]), (403, &"forbidden".into()), "{refused:#}");
    api.until_serves("a");

    tmux.types("/exit");
    tmux.until("the command", |screen| typed(screen) == Some("/exit"));
    tmux.presses("Enter");
    ended_well(&local, &tmux);
}
