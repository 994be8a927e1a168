//! `claude-local` on real parts: the real Claude Code in the jail, before a real llama-server, and before one whose
//! answers are written down.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "test code: a panic is how it fails")]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use corral_core::usage::UsageRow;
use corral_tests::local::{MARK, Ran};
use corral_tests::user::Ordinary;
use corral_tests::{Local, Models, PATIENCE, until};
use serde_json::{Value, json};

const SCRIPTED: &str = env!("CARGO_BIN_EXE_scripted-answer");

const CTX: (&str, &str) = ("ctx = 4096", "ctx = 131072");

/// The row of the ledger for the one session that has asked anything.
#[track_caller]
fn row(local: &Local) -> UsageRow {
    until(PATIENCE, "the session is in the ledger", || {
        let printed = local.daemon.corral(&["usage", "--by", "session", "--json"]);
        let printed: Value = serde_json::from_slice(&printed.stdout).expect("JSON");
        let mut rows: Vec<UsageRow> = serde_json::from_value(printed["rows"].clone()).expect("rows");
        assert!(rows.len() < 2, "{rows:#?}");
        rows.pop()
    })
}

/// A question and its answer; the home as it was, and the profile made.
#[track_caller]
fn answers_and_counts(local: &Local) {
    assert!(!local.profile().exists());
    let said = local.claude(&["--", "-p", "hello", "--output-format", "json"]).said();
    let number = |key: &str| said["usage"][key].as_u64().unwrap_or_else(|| panic!("{key} in {said:#}"));
    let row = row(local);
    assert_eq!(row.label.as_deref(), Some("claude in project"));
    assert_eq!((row.requests, row.tokens_out), (1, number("output_tokens")));
    assert_eq!(row.tokens_in, number("input_tokens") + number("cache_read_input_tokens"));
    assert!(row.tokens_in > 500 && row.tokens_out > 0, "{row:?}");

    for name in [".claude.json", ".claude/settings.json", ".claude/commands/switch.md"] {
        assert!(local.profile().join(name).is_file(), "{name}");
    }
    local.assert_home_is_as_it_was();
    local.until_no_session();
}

/// The user's own files are there outside and not inside, at their paths or anywhere in the home inside.
#[track_caller]
fn home_is_not_inside(local: &Local) {
    let home = local.home();
    assert!(fs::read_to_string(home.join(".claude.json")).unwrap().contains(MARK));
    let script = format!(
        "id -un; pwd; for p in '{home}' '{home}/.claude' '{home}/.claude.json' '{home}/.netrc' '{corral}/run/token'; do \
         test -e \"$p\" && echo \"there: $p\"; done; grep -rl {MARK} /home /tmp /etc 2>/dev/null; echo done",
        home = home.display(),
        corral = local.daemon.home().path().display(),
    );
    let expected = format!("user\n{}\ndone\n", local.workspace().display());
    assert_eq!(local.jail(&script).good(), expected);
}

#[test]
fn the_tests_own_user_with_docker() {
    let local = Local::new(&Models::docker().one_thread().with(CTX.0, CTX.1).tiny(&["a"]));
    local.daemon.api().switched("a");
    answers_and_counts(&local);
    home_is_not_inside(&local);
}

#[test]
fn an_ordinary_user_with_docker() {
    let Some(user) = ordinary() else { return };
    let local = Local::with_docker(user, &Models::docker().one_thread().with(CTX.0, CTX.1).tiny(&["a"]));
    // No model is loaded yet: this loads the first one.
    answers_and_counts(&local);
    home_is_not_inside(&local);
    let containers = local.daemon.running();
    let server = local.daemon.docker().inspect(containers.first().expect("a container")).expect("it is there");
    let owner = fs::metadata(local.workspace()).unwrap();
    assert_eq!(server["Config"]["User"], format!("{}:{}", owner.uid(), owner.gid()));
    assert_ne!(owner.uid(), 0);

    // What only root may read, and what is the user's own and closed to them.
    let roots = local.root().join("of-root");
    fs::create_dir(&roots).unwrap();
    let folders =
        [(roots, 0o700), (local.folder("none"), 0o000), (local.folder("in"), 0o333), (local.folder("out"), 0o555)];
    for (folder, mode) in folders {
        fs::set_permissions(&folder, PermissionsExt::from_mode(mode)).unwrap();
        let refused = Ran::of(local.command("claude-local").arg("--workspace").arg(&folder));
        refused.refused(78, &["cannot be read and written by you", "ls -ld"]);
    }
}

/// None, and a word, where the tests' own user is one.
#[allow(clippy::print_stderr, reason = "test code: shown when a test fails")]
fn ordinary() -> Option<Ordinary> {
    let user = Ordinary::of_root();
    if user.is_none() {
        eprintln!("the tests' own user is an ordinary one: what the other tests show is shown for one");
    }
    user
}

/// What a scripted model saw of the tools that it called: whether each failed, and what it said.
fn results(local: &Local) -> Vec<(bool, String)> {
    let asked = local.asked();
    let last = asked.iter().rev().find(|asked| asked["tools"].as_array().is_some_and(|tools| !tools.is_empty()));
    let messages = last.expect("a request with tools")["messages"].as_array().unwrap();
    let blocks = messages.iter().flat_map(|message| message["content"].as_array().into_iter().flatten());
    let results = blocks.filter(|block| block["type"] == "tool_result");
    results.map(|block| (block["is_error"] == true, block["content"].to_string())).collect()
}

#[test]
fn its_tools_work_in_the_workspace_and_nowhere_else() {
    tools_work_in_the_workspace_only(&Local::scripted(SCRIPTED, false));
}

#[test]
fn an_ordinary_user_s_tools_do_so_too() {
    let Some(user) = ordinary() else { return };
    tools_work_in_the_workspace_only(&Local::scripted_as(Some(user), SCRIPTED, false));
}

#[track_caller]
fn tools_work_in_the_workspace_only(local: &Local) {
    let (workspace, home) = (local.workspace(), local.home());
    let bash = |command: &str| json!([{ "type": "tool_use", "name": "Bash", "input": { "command": command, "description": "a command" } }]);
    let written = json!({ "file_path": workspace.join("written.txt"), "content": "made by Write\n" });
    local.script(&json!([
        bash("echo made-by-bash > made.txt && id -un"),
        [{ "type": "tool_use", "name": "Write", "input": written }],
        bash(&format!("echo out > '{}/made.txt'", home.display())),
        bash("echo out > /usr/local/made.txt"),
        bash(&format!("cat '{}/.claude.json'", home.display())),
        [{ "type": "text", "text": "all done" }],
    ]));
    let args =
        ["--", "-p", "go", "--output-format", "json", "--permission-mode", "acceptEdits", "--allowedTools", "Bash"];
    let said = local.claude(&args).said();
    assert_eq!((&said["result"], &said["permission_denials"]), (&json!("all done"), &json!([])), "{said:#}");

    let results = results(local);
    let expected = [
        (false, "user"),
        (false, "written.txt"),
        (true, "No such file or directory"),
        (true, "Read-only file system"),
        (true, "No such file or directory"),
    ];
    assert_eq!(results.len(), expected.len(), "{results:#?}");
    for ((failed, said), (fails, part)) in results.iter().zip(expected) {
        assert!(*failed == fails && said.contains(part), "{part}: {results:#?}");
    }
    let owner = fs::metadata(&workspace).unwrap().uid();
    for (name, text) in [("made.txt", "made-by-bash\n"), ("written.txt", "made by Write\n")] {
        let path = workspace.join(name);
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), fs::metadata(&path).unwrap().uid()), (text, owner));
    }
    assert!(!fs::exists("/usr/local/made.txt").unwrap());
    local.assert_home_is_as_it_was();
}
