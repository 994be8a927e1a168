//! The user's editor, as far as the jail gets to it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "test code: a panic is how it fails")]

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use corral_claude::ide::{Bridge, Editor as Found};
use corral_core::Secret;
use corral_tests::editor::{Client, Editor, TOKEN};
use corral_tests::tmux::Tmux;
use corral_tests::{Local, PATIENCE, until};
use serde_json::{Value, json};
use tungstenite::Message;

const SCRIPTED: &str = env!("CARGO_BIN_EXE_scripted-answer");

/// The token of the bridge.
const OURS: &str = "of-this-session";

/// A bridge to an editor, and the port that it is at.
fn bridge(editor: &Editor, workspace: &Path) -> (Bridge, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let found = Found::new("Scripted Editor", editor.port(), Secret::new(TOKEN), workspace);
    (Bridge::serve(listener, found, Secret::new(OURS)).unwrap(), port)
}

#[test]
fn diagnostics_pass_the_bridge_and_other_tools_do_not() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path().canonicalize().unwrap();
    let workspace = root.join("project");
    fs::create_dir(&workspace).unwrap();
    std::os::unix::fs::symlink(&root, workspace.join("link")).unwrap();
    let inside = workspace.join("a.rs");
    let editor = Editor::start(&[&inside, &root.join("secret")]);
    let (_bridge, port) = bridge(&editor, &workspace);
    let mut client = Client::connect(port, OURS).unwrap();

    client.ask("initialize", &json!({ "protocolVersion": "2025-06-18", "capabilities": { "roots": {} } }));
    let listed = client.ask("tools/list", &json!({}))["result"]["tools"].clone();
    let names: Vec<_> = listed.as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["getDiagnostics"]);
    for tool in ["openFile", "executeCode", "closeAllDiffTabs", "openDiff"] {
        assert_eq!(client.call(tool, &json!({ "code": "1" }))["error"]["code"], -32601, "{tool}");
    }
    for uri in [format!("file://{}/secret", root.display()), format!("file://{}/link/secret", workspace.display())] {
        assert_eq!(client.call("getDiagnostics", &json!({ "uri": uri }))["error"]["code"], -32602, "{uri}");
    }
    let uri = format!("file://{}", inside.display());
    for arguments in [json!({}), json!({ "uri": uri })] {
        let answer = client.call("getDiagnostics", &arguments);
        let found: Value = serde_json::from_str(answer["result"]["content"][0]["text"].as_str().unwrap()).unwrap();
        assert_eq!((found.as_array().unwrap().len(), &found[0]["uri"]), (1, &json!(uri)), "{found:#}");
        assert_eq!(found[0]["diagnostics"][0]["message"], "it is wrong");
    }
    let call = "tools/call getDiagnostics";
    assert_eq!(editor.methods(), ["initialize", "tools/list", call, call]);

    // What the user selects is told, of the workspace only.
    let at = |path: &Path| {
        let place = json!({ "line": 0, "character": 1 });
        json!({ "text": "selected", "filePath": path, "selection": { "start": place, "end": place } })
    };
    editor.tell("selection_changed", &at(&root.join("secret")));
    editor.tell("selection_changed", &at(&inside));
    let told = client.hear().unwrap();
    assert_eq!((&told["method"], &told["params"]["filePath"]), (&json!("selection_changed"), &json!(inside)));

    // The editor itself does what it is asked by whoever has its token.
    let mut direct = Client::connect(editor.port(), TOKEN).unwrap();
    direct.call("executeCode", &json!({ "code": "1" }));
    assert_eq!(editor.methods().last().unwrap(), "tools/call executeCode");
}

#[test]
fn only_the_sessions_own_claude_gets_on_the_bridge() {
    let workspace = tempfile::tempdir().unwrap();
    let editor = Editor::start(&[]);
    let (bridge, port) = bridge(&editor, workspace.path());
    for token in ["", "of-this-sessio", "of-this-session2", TOKEN] {
        assert!(Client::connect(port, token).is_none(), "{token}");
    }
    assert!(Client::speaking("chat", port, OURS).is_none());

    let pinged = |client: &mut Client| client.ask("ping", &json!({}))["result"] == json!({});
    let mut whole = Client::connect(port, OURS).unwrap();
    assert!(pinged(&mut whole));
    // Neither what is no text nor what is too long; other connections go on.
    for message in [Message::binary(vec![0; 4]), Message::text("x".repeat((1 << 20) + 1))] {
        let mut client = Client::connect(port, OURS).unwrap();
        assert!(pinged(&mut client));
        // The connection may end before a long one is all sent.
        let _ = client.offer(message);
        assert_eq!(client.hear(), None);
    }
    assert!(pinged(&mut whole));

    // No more than four at once.
    let room = || until(PATIENCE, "those that ended have left their places", || Client::connect(port, OURS));
    let more: Vec<_> = (0..3).map(|_| room()).collect();
    assert!(Client::connect(port, OURS).is_none());
    drop(more);
    until(PATIENCE, "there is room again", || Client::connect(port, OURS));

    drop(bridge);
    assert_eq!(whole.hear(), None);
}

#[test]
fn the_real_claude_code_finds_the_editor() {
    let local = Local::scripted(SCRIPTED, false);
    let editor = Editor::start(&[]);
    let explained = local.claude(&["--ide", "--explain"]);
    assert!(explained.stderr.contains("no editor"), "{explained:?}");
    editor.announce(&local.home(), &local.workspace());
    let explained = local.claude(&["--ide", "--explain"]).good();
    assert!(explained.contains("127.0.0.1:8082, of your editor, Scripted Editor"), "{explained}");

    let announced = local.profile().join(".claude/ide/8082.lock");
    assert!(!announced.exists());
    let tmux = Tmux::new(&local, 120, 40);
    tmux.types("claude-local --ide; echo ended: $?");
    tmux.presses("Enter");
    until(PATIENCE, "it is told of Claude Code", || {
        let methods = editor.methods();
        methods.iter().any(|method| method == "ide_connected").then_some(())
    });
    let lock: Value = serde_json::from_slice(&fs::read(&announced).unwrap()).unwrap();
    assert_eq!((&lock["pid"], &lock["workspaceFolders"]), (&json!(1), &json!([local.workspace()])), "{lock}");
    assert_ne!(lock["authToken"], TOKEN);
    tmux.until("the prompt", |screen| screen.contains("plan mode on"));

    // What is selected is seen where it is of the workspace.
    let select = |path: &Path, lines: u32| {
        let selection = json!({ "start": { "line": 0, "character": 0 }, "end": { "line": lines - 1, "character": 1 } });
        editor.tell("selection_changed", &json!({ "text": "x", "filePath": path, "selection": selection }));
    };
    // Said again until it is heard: Claude Code shows its prompt before it listens to the editor.
    tmux.until("the selection", |screen| {
        select(&local.workspace().join("a.rs"), 7);
        screen.contains("7 lines selected")
    });
    select(&local.home().join(".claude.json"), 9);
    select(&local.workspace().join("a.rs"), 8);
    // In their order: the one before has had its time.
    tmux.until("the next selection", |screen| {
        assert!(!screen.contains("9 lines"), "{screen}");
        screen.contains("8 lines selected")
    });

    let listed = ["initialize", "notifications/initialized", "ide_connected", "tools/list", "ping"];
    let asked = editor.methods();
    assert!(asked.iter().all(|method| listed.contains(&method.as_str())), "{asked:?}");
    for wanted in ["initialize", "tools/list", "ide_connected"] {
        assert!(asked.iter().any(|method| method == wanted), "{wanted}: {asked:?}");
    }
    tmux.types("/exit");
    tmux.until("the command", |screen| screen.contains("❯ /exit") || screen.contains("❯\u{a0}/exit"));
    tmux.presses("Enter");
    tmux.until("its end", |screen| screen.contains("ended: 0"));
    assert!(!announced.exists());
    local.until_no_session();
}

#[test]
fn what_it_writes_is_approved_in_the_terminal() {
    let local = Local::scripted(SCRIPTED, false);
    let file = local.workspace().join("a.rs");
    let editor = Editor::start(&[&file]);
    editor.announce(&local.home(), &local.workspace());
    let written = json!({ "file_path": file, "content": "fn a() {}\n" });
    let write = json!([{ "type": "tool_use", "name": "Write", "input": written }]);
    local.script(&json!([write, [{ "type": "text", "text": "all done" }]]));
    let tmux = Tmux::new(&local, 120, 40);
    tmux.types("claude-local --ide -- --permission-mode default");
    tmux.presses("Enter");
    let has_told = |wanted: &str| editor.methods().iter().any(|method| method == wanted).then_some(());
    until(PATIENCE, "it is told of Claude Code", || has_told("ide_connected"));
    until(PATIENCE, "it is asked for its tools", || has_told("tools/list"));
    tmux.until("the prompt", |screen| screen.contains("for shortcuts") || screen.contains('❯'));
    tmux.types("go");
    tmux.until("the words", |screen| screen.contains("❯ go") || screen.contains("❯\u{a0}go"));
    tmux.presses("Enter");
    let screen = tmux.until("the question", |screen| screen.contains("Do you want to create a.rs?"));
    assert!(screen.contains("fn a() {}"), "{screen}");
    // A key that comes as soon as the question does may not count.
    tmux.until("the answer", |screen| {
        if screen.contains("Do you want to") {
            tmux.presses("Enter");
        }
        screen.contains("all done")
    });
    assert_eq!(fs::read_to_string(&file).unwrap(), "fn a() {}\n");

    // What Claude Code itself may call for that, when it is quick enough: the diagnostics before. Nothing that shows
    // something in the editor.
    let called: Vec<_> = editor.methods().into_iter().filter(|method| method.starts_with("tools/call")).collect();
    assert!(called.iter().all(|call| call == "tools/call getDiagnostics"), "{called:?}");
}
