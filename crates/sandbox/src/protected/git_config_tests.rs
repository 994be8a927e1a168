use std::io::Write;
use std::process::{Command, Stdio};

use proptest::prelude::*;

use super::*;

fn harmful(text: &str) -> Vec<String> {
    let place = Whereabouts { git_dir: Path::new("/w/.git/modules/sub"), workspace: Path::new("/w") };
    let entries = parse(text.as_bytes()).unwrap();
    let bad = entries.iter().filter(|entry| !entry.is_harmless(place));
    bad.map(|entry| String::from_utf8(entry.name()).unwrap()).collect()
}

#[test]
fn what_git_itself_writes_is_harmless() {
    let folder = tempfile::tempdir().unwrap();
    let git = |args: &[&str]| {
        let mut command = Command::new("git");
        command.args(["-c", "protocol.file.allow=always", "-c", "user.name=a", "-c", "user.email=b"]).args(args);
        command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null");
        assert!(
            command.current_dir(folder.path()).stderr(Stdio::null()).stdout(Stdio::null()).status().unwrap().success()
        );
    };
    git(&["init", "-q", "a"]);
    git(&["-C", "a", "commit", "-q", "--allow-empty", "-m", "x"]);
    git(&["clone", "-q", "a", "b"]);
    git(&["-C", "b", "submodule", "add", "-q", "../a", "sub"]);
    git(&["-C", "b", "branch", "--track", "other", "HEAD"]);
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    assert_eq!(harmful(&read("a/.git/config")), [""; 0]);
    assert_eq!(harmful(&read("b/.git/config")), [""; 0]);
    assert_eq!(harmful(&read("b/.git/modules/sub/config")), [""; 0]);
}

#[test]
fn what_runs_something_is_found_however_it_is_written() {
    for (text, name) in [
        ("[core]fsmonitor=evil", "core.fsmonitor"),
        ("[core]\nfsMonitor = \"ev\\\nil\"", "core.fsmonitor"),
        ("\u{feff}[CORE]\r\n\tHooksPath = x\r\n", "core.hookspath"),
        ("[core]\n# [x]\n;\nsshCommand=x # y", "core.sshcommand"),
        ("[core]bare=true\n[core]pager", "core.pager"),
        ("[alias]\nst = !evil", "alias.st"),
        ("[filter \"x\"]\nclean = evil", "filter.x.clean"),
        ("[filter.x]\nsmudge = evil", "filter.x.smudge"),
        ("[filter \"lfs\"]\nprocess = evil", "filter.lfs.process"),
        ("[diff \"x\"]\ntextconv = evil", "diff.x.textconv"),
        ("[diff]\nexternal = evil", "diff.external"),
        ("[merge \"x\"]\ndriver = evil", "merge.x.driver"),
        ("[credential]\nhelper = evil", "credential.helper"),
        ("[include]\npath = /x", "include.path"),
        ("[includeIf \"gitdir:/\"]\npath = /x", "includeif.gitdir:/.path"),
        ("[gpg]\nprogram = x", "gpg.program"),
        ("[sequence]\neditor = x", "sequence.editor"),
        ("[remote \"o\"]\nuploadpack = x", "remote.o.uploadpack"),
        ("[remote \"o\"]\nurl = ext::sh -c x", "remote.o.url"),
        ("[submodule \"s\"]\nupdate = !x", "submodule.s.update"),
        ("[http]\nproxy = x", "http.proxy"),
        ("[url \"x\"]\ninsteadOf = y", "url.x.insteadof"),
        ("[core]\nworktree = ../../../../other", "core.worktree"),
        ("[core]\nworktree = /home", "core.worktree"),
        ("[gc]\nrecentObjectsHook = x", "gc.recentobjectshook"),
        ("[branch \"x\"]\nremote = ext::x", "branch.x.remote"),
        ("[branch \"x\"]\npushRemote = -x", "branch.x.pushremote"),
        ("[new]\nthing = x", "new.thing"),
    ] {
        assert_eq!(harmful(text), [name], "{text}");
    }
    assert_eq!(
        harmful(
            "[core]\nworktree = ../../../sub\nfsmonitor = false\n[branch \"x\"]\nremote = origin\npushRemote = .\n\
             [filter \"lfs\"]\nrequired = true"
        ),
        [""; 0]
    );
}

#[test]
fn what_git_refuses_is_refused() {
    for text in ["x = 1", "[a", "[a \"b]", "[a]\n= 1", "[a]\nb = \"c", "[a]\nb = \\q", "[a \"b\"x]", "[a]\nb c", "\0"] {
        assert_eq!(parse(text.as_bytes()), Err(Malformed), "{text:?}");
    }
}

/// What Git says that it reads.
fn as_git_reads(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut git = Command::new("git");
    git.args(["config", "--no-includes", "--file", "-", "--list", "-z"]).env("HOME", "/nonexistent");
    let mut git = git.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    git.stdin.take().unwrap().write_all(bytes).unwrap();
    let said = git.wait_with_output().unwrap();
    said.status.success().then_some(said.stdout)
}

fn as_we_read(entries: &[Entry]) -> Vec<u8> {
    let mut all = Vec::new();
    for entry in entries {
        all.extend(entry.name());
        if let Some(value) = &entry.value {
            all.push(b'\n');
            all.extend(value);
        }
        all.push(0);
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn it_is_read_as_git_reads_it(
        parts in proptest::collection::vec(
            prop::sample::select(vec![
                "[a]", "[a.b]", "[A \"b c\"]", "[a \"\\\"\"]",
                "k", "K-1", " ", "\t", "\n", "\r\n", "=", " = ", "v", "\"", "\\",
                "\\\n", "\\n", "#", ";", "[", "]", "x y  ", "\\\"", "\r", "!", ".", "\u{feff}", "ü", "[a.b \"c\"]",
                "\\t",
            ]),
            0..16,
        ),
    ) {
        let text = parts.concat();
        let ours = parse(text.as_bytes());
        match (as_git_reads(text.as_bytes()), ours) {
            (Some(git), Ok(ours)) => {
                let ours = as_we_read(&ours);
                prop_assert_eq!(ours.escape_ascii().to_string(), git.escape_ascii().to_string());
            }
            // Stricter than Git is safe.
            (_, Err(Malformed)) => {}
            (None, Ok(_)) => prop_assert!(false, "Git refuses it: {:?}", text),
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        drop(parse(&bytes));
    }
}
