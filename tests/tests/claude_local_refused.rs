//! What keeps `claude-local` from starting, and how that is said; and what does not.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "test code: a panic is how it fails")]

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;

use corral_tests::local::Ran;
use corral_tests::{Local, Models};

const SCRIPTED: &str = env!("CARGO_BIN_EXE_scripted-answer");

/// Runs `claude-local` to work in this folder.
#[track_caller]
fn in_folder(local: &Local, folder: &Path) -> Ran {
    let mut command = local.command("claude-local");
    command.arg("--workspace").arg(folder);
    Ran::of(command.args(["--", "-p", "hello", "--output-format", "json"]))
}

/// The same command where root of a namespace of its own has done something first.
#[track_caller]
fn after(local: &Local, script: &str) -> Ran {
    let inner = local.command("claude-local");
    let mut command = Command::new("unshare");
    command.args([
        "--user",
        "--map-root-user",
        "--mount",
        "--",
        "sh",
        "-ec",
        &format!("{script}\nexec \"$0\" -- -p hello"),
    ]);
    command.arg(inner.get_program()).env_clear().envs(local.environment()).current_dir(local.workspace());
    command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::piped());
    Ran::of(command.stderr(std::process::Stdio::piped()))
}

#[test]
fn what_is_missing_is_said_before_anything_starts() {
    let mut local = Local::scripted(SCRIPTED, false);
    let unknown = local.claude(&["--model", "nope", "--", "-p", "hello"]);
    unknown.refused(1, &["nope"]);

    let missing = Ran::of(local.command("claude-local").env("CORRAL_CLAUDE", "/nowhere/claude"));
    missing.refused(78, &["CORRAL_CLAUDE is /nowhere/claude, which cannot be found", "npm install -g"]);

    after(&local, "mount --bind /dev/null /usr/bin/bwrap").refused(78, &["bubblewrap", "is not installed"]);
    let read_only =
        format!("mount --bind '{0}' '{0}'; mount -o remount,bind,ro '{0}'; cd '{0}'", local.workspace().display());
    after(&local, &read_only).refused(78, &["is on a disk that cannot be written"]);
    // Neither is a matter of the namespace.
    after(&local, "true").good();

    let network = local.claude(&["--network", "none", "--", "-p", "hello"]);
    network.refused(1, &["--network none"]);

    assert!(local.daemon.terminate().status.success());
    local.claude(&["--", "-p", "hello"]).refused(69, &["no Corral daemon", "corral serve"]);
    local.assert_home_is_as_it_was();
}

#[test]
fn a_model_with_little_context_is_said_and_used_all_the_same() {
    let local = Local::new(&Models::process().tiny(&["a"]));
    let ran = local.claude(&["--", "--version"]);
    let said = "a conversation has 4096 tokens of context, and Claude Code needs 32768";
    assert!(ran.stderr.contains(said), "{ran:#?}");
    assert!(ran.good().contains("(Claude Code)"));
}

#[test]
fn folders_that_are_too_much_or_no_good_are_refused() {
    let local = Local::scripted(SCRIPTED, false);
    in_folder(&local, Path::new("/")).refused(78, &["is the whole machine"]);
    in_folder(&local, &local.home()).refused(78, &["is your home"]);
    in_folder(&local, local.root()).refused(78, &["holds your home"]);
    in_folder(&local, &local.root().join("missing")).refused(78, &["there is no folder"]);
    let file = local.workspace().join("file");
    fs::write(&file, "").unwrap();
    in_folder(&local, &file).refused(78, &["is not a folder"]);
    // The profile is made by the first run.
    in_folder(&local, &local.workspace()).said();
    in_folder(&local, &local.profile()).refused(78, &["a folder of Corral's own"]);
    in_folder(&local, &local.profile().join(".claude")).refused(78, &["lies in a folder of Corral's own"]);
    in_folder(&local, local.daemon.home().path()).refused(78, &["holds a folder of Corral's own"]);
    local.assert_home_is_as_it_was();
}

#[test]
fn odd_names_of_folders_work() {
    let local = Local::scripted(SCRIPTED, false);
    let made = |folder: &Path| {
        let mut command = local.command("corral");
        let script = "pwd >made.txt; echo run-me >.envrc";
        command.args(["jail", "--workspace"]).arg(folder).args(["--", "sh", "-c", script]);
        let ran = Ran::of(&mut command);
        let said = fs::read(folder.join("made.txt")).unwrap();
        assert_eq!(OsStr::from_bytes(said.strip_suffix(b"\n").unwrap()), folder);
        // What could run later is moved out, and comes back by the command that is told.
        assert!(!folder.join(".envrc").exists(), "{ran:#?}");
        let back = ran.stderr.lines().find_map(|line| line.strip_prefix("To bring it back: "));
        let back = Command::new("bash").args(["-c", back.expect("a command")]).output().unwrap();
        assert!(folder.join(".envrc").exists(), "{back:?}: {ran:#?}");
        ran.good();

        let mut command = local.command("corral");
        command.args(["shell", "--network", "none", "--session", "odd", "--workspace"]).arg(folder).args(["--", "pwd"]);
        assert_eq!(Ran::of(&mut command).good(), format!("{}\n", folder.to_string_lossy()));
        Ran::of(local.command("corral").args(["shell", "--end", "odd"])).good();
    };
    for name in ["with  spaces", "with 'quotes' and \"double\" ones", "$(touch x); `touch y`", "new\nline", "-p", "ünï"]
    {
        let folder = local.folder(name);
        made(&folder);
        in_folder(&local, &folder).said();
    }
    // Bytes that are no text: the jail takes them, Claude Code does not.
    let folder = local.folder(OsStr::from_bytes(b"b\xe4d"));
    made(&folder);
    in_folder(&local, &folder).refused(78, &["is no text", "rename"]);
    local.assert_home_is_as_it_was();
}

#[test]
fn a_broken_profile_is_kept_as_a_copy_and_said() {
    let local = Local::scripted(SCRIPTED, false);
    in_folder(&local, &local.workspace()).said();
    let broken = "{ \"hasCompletedOnboarding\": tru";
    fs::write(local.profile().join(".claude.json"), broken).unwrap();
    let ran = in_folder(&local, &local.workspace());
    assert!(ran.stderr.contains(".claude.json is broken") && ran.stderr.contains("made afresh"), "{ran:#?}");
    ran.said();
    let names = fs::read_dir(local.profile()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let copies: Vec<_> = names.filter(|name| name.starts_with(".claude.json.broken-")).collect();
    assert_eq!(copies.len(), 1, "{copies:?}");
    assert_eq!(fs::read_to_string(local.profile().join(&copies[0])).unwrap(), broken);
}
