//! Shell sessions in the jail: what lasts from command to command, what a command cannot forge, and who holds them.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "test code: a panic is how it fails")]

use std::path::Path;
use std::process::{Child, Command, Stdio};

use corral_testkit::SandboxHome;
use corral_tests::daemon::corral;
use corral_tests::{PATIENCE, process, until};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

/// Sessions of one home, in one folder; those that are left at the end are killed.
struct Sessions {
    home: SandboxHome,
    folder: TempDir,
}

/// What a call gave.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Told {
    fn of(child: Child) -> Self {
        let output = child.wait_with_output().expect("it can be waited for");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// The exit code must be this one; the output.
    #[track_caller]
    fn exit(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self.out
    }
}

impl Sessions {
    fn new() -> Self {
        Self { home: SandboxHome::new(), folder: tempfile::tempdir().expect("a folder") }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = corral(&self.home, &["shell"]);
        command.args(args).current_dir(self.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn start(&self, args: &[&str]) -> Child {
        self.command(args).spawn().expect("corral can be started")
    }

    fn call(&self, args: &[&str]) -> Told {
        Told::of(self.start(args))
    }

    /// Runs a line in a session without a network.
    fn run(&self, session: &str, line: &str) -> Told {
        self.call(&["--network", "none", "--session", session, "--", line])
    }

    /// The output of a line that ends with this code.
    #[track_caller]
    fn says(&self, session: &str, line: &str, code: i32) -> String {
        self.run(session, line).exit(code)
    }

    fn list(&self) -> Vec<Value> {
        let told = self.call(&["--list", "--json"]).exit(0);
        serde_json::from_str::<Value>(&told).expect("JSON")["sessions"].as_array().expect("a list").clone()
    }

    fn holder(&self, session: &str) -> Option<u32> {
        let all = self.list();
        let one = all.iter().find(|one| one["name"] == session)?;
        Some(u32::try_from(one["pid"].as_u64().expect("a number")).expect("a process number"))
    }

    fn is_busy(&self, session: &str) -> bool {
        self.list().iter().any(|one| one["name"] == session && one["busy"] == true)
    }
}

impl Drop for Sessions {
    fn drop(&mut self) {
        for session in self.list() {
            let pid = session["pid"].as_u64().and_then(|pid| i32::try_from(pid).ok());
            let pid = pid.and_then(rustix::process::Pid::from_raw).expect("a process number");
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
    }
}

/// How many processes of the jail's there are, without its init, the asking shell and `wc`'s own.
const COUNT: &str = "n=0; for p in /proc/[0-9]*/stat; do n=$((n+1)); done; echo $((n-2))";

#[test]
fn a_session_keeps_its_state_from_call_to_call() {
    let sessions = Sessions::new();
    let all =
        "cd /usr; export EXPORTED='a b'; plain=1; f() { echo \"f $1\"; }; alias ll='echo aliased'; set -o pipefail";
    assert_eq!(sessions.says("a", all, 0), "");
    let shown = "echo $PWD $EXPORTED $plain; f x; ll; sh -c 'echo $EXPORTED ${plain-local}'; false | true";
    assert_eq!(sessions.says("a", shown, 1), "/usr a b 1\nf x\naliased\na b local\n");
    let several = sessions.call(&["--session", "a", "--", "f", "one  word"]);
    assert_eq!(several.exit(0), "f one  word\n");
    // The control: another session has nothing of it.
    let path = sessions.path().display();
    assert_eq!(sessions.says("b", "echo $PWD ${EXPORTED-none}; type f ll 2>/dev/null || echo none", 0), {
        format!("{path} none\nnone\n")
    });
}

#[test]
fn outputs_and_exit_code_are_told_apart_and_bounded() {
    let sessions = Sessions::new();
    let told = sessions.run("a", "echo out; echo err >&2; exit 7");
    assert_eq!((told.code, told.out.as_str()), (Some(7), "out\n"));
    assert!(told.err.ends_with("err\n") && !told.err.contains("out"), "{told:?}");
    let no_code: [(&str, i32); 4] = [("kill -TERM $$", 143), ("true", 0), ("exit 300", 44), ("no-such-program", 127)];
    for (line, code) in no_code {
        sessions.says("a", line, code);
    }
    let large = "head -c 3000000 /dev/zero | tr '\\0' o; head -c 200 /dev/zero | tr '\\0' e >&2; exit 3";
    let bounded = sessions.call(&["--session", "a", "--max-output", "100", "--", large]);
    assert_eq!(bounded.out, "o".repeat(100));
    let rest = "2999900 bytes more of its output were dropped\n100 bytes more of its error output were dropped\n";
    assert_eq!(bounded.err, format!("{}{rest}", "e".repeat(100)));
    assert_eq!(bounded.code, Some(3));
    // The control: within the bound it comes whole.
    let whole = sessions.call(&["--session", "a", "--", large]);
    assert_eq!((whole.out.len(), whole.err.len(), whole.code), (3_000_000, 200, Some(3)));
    // A line comes while the command still runs, and goes on only once it was seen.
    let mut child = sessions.start(&["-s", "a", "--", "echo first; until [ -e seen ]; do sleep 0.01; done; echo last"]);
    let mut output = child.stdout.take().expect("a pipe");
    let mut first = [0; 6];
    std::io::Read::read_exact(&mut output, &mut first).expect("the first line");
    std::fs::write(sessions.path().join("seen"), "").expect("a file");
    let last = std::io::read_to_string(output).expect("text");
    assert_eq!((&first[..], last.as_str()), (&b"first\n"[..], "last\n"));
    assert_eq!(child.wait().expect("a child").code(), Some(0));
}

#[test]
fn what_a_command_does_to_its_surroundings_does_not_forge_its_end() {
    let sessions = Sessions::new();
    sessions.says("a", "x=before", 0);
    let each = [
        // What the holder and the init would say.
        ("printf 'M\\0\\0\\0\\x05\"Over'; printf '{\"Ended\":{\"id\":9,\"ending\":{\"Code\":0}}}\\n'; exit 5", 5),
        // Into every descriptor of this and of all others that it can open.
        ("for f in /proc/[0-9]*/fd/*; do echo '{\"Ended\":{}}' >$f; done 2>/dev/null; exit 6", 6),
        ("exec 1>&- 2>&- 0<&-; exec 3>/dev/null; exit 7", 7),
        ("exec 1</dev/null 2>/proc/1/fd/0; exit 8", 8),
        ("exec bash -c 'exit 9'", 9),
        ("bash -c 'kill -KILL $PPID'; exit 0", 137),
        ("trap 'exit 10' EXIT; exit 0", 10),
        ("kill -KILL 1; kill -STOP 1; exit 11", 11),
        ("kill -KILL -1; exit 12", 12),
        ("cat <&1 >/dev/null 2>&1 & cat </proc/$$/fd/1 >/dev/null 2>&1 & exit 13", 13),
        ("exit() { :; }; __corral_save() { return 0; }; (builtin exit 14)", 0),
        ("unset -f __corral_save; return 0; builtin exit 15", 15),
    ];
    for (line, code) in each {
        let told = sessions.run("a", line);
        assert_eq!(told.code, Some(code), "{line}: {told:#?}");
        assert_eq!(sessions.says("b", "echo whole", 0), "whole\n", "{line}");
    }
    // The control: the session has answered each time, and its state is there.
    assert_eq!(sessions.says("a", "echo $x", 0), "before\n");
    sessions.says("a", "x=after; exec true", 0);
    sessions.says("a", "x=after; kill -KILL $$", 137);
    assert_eq!(sessions.says("a", "echo $x", 0), "before\n");
    sessions.says("a", "x=after; exit 1", 1);
    assert_eq!(sessions.says("a", "echo $x", 0), "after\n");
}

#[test]
fn a_command_that_takes_too_long_is_killed_and_the_session_goes_on() {
    let sessions = Sessions::new();
    sessions.says("a", "x=1; cd /usr; sleep 1000 & ", 0);
    let long =
        "x=2; cd /; trap '' TERM INT HUP; sleep 1001 & set -m; sleep 1002 & set +m; setsid sleep 1003; sleep 1004";
    let told = sessions.call(&["--session", "a", "--timeout", "1", "--", long]);
    assert_eq!(told.code, Some(124), "{told:#?}");
    assert_eq!(told.err, "the command was killed after 1 s; the session is as it was before\n");
    // Of all that ran only what an earlier command has left does.
    let running = "cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -ao 'sleep 1[0-9][0-9][0-9]'";
    assert_eq!(sessions.says("a", running, 0), "sleep 1000\n");
    assert_eq!(sessions.says("a", "echo $x $PWD", 0), "1 /usr\n");
    let stopped = sessions.call(&["--session", "a", "--timeout", "1", "--", "kill -STOP $$"]);
    assert_eq!(stopped.code, Some(124));
    // The control: in time it is not killed.
    let told = sessions.call(&["--session", "a", "--timeout", "60", "--", "x=3; sleep 0.1"]);
    assert_eq!((told.code, told.err.as_str()), (Some(0), ""));
    assert_eq!(sessions.says("a", "echo $x", 0), "3\n");
}

#[test]
fn what_runs_in_the_background_holds_no_result_up_and_goes_on() {
    let sessions = Sessions::new();
    let line = "echo before; (while :; do echo tick; echo tock >&2; echo >>ticks; sleep 0.01; done) & echo after";
    let told = sessions.run("a", line).exit(0);
    assert!(told.contains("before\n") && told.contains("after\n"), "{told}");
    // It writes on, more than a pipe holds, with nobody there any more; and is there for the next command.
    let ticks = || std::fs::metadata(sessions.path().join("ticks")).map_or(0, |ticks| ticks.len());
    let at_first = ticks();
    until(PATIENCE, "it goes on", || (ticks() > at_first + 20).then_some(()));
    sessions.says("a", "(head -c 1000000 /dev/zero; echo done >written) &", 0);
    until(PATIENCE, "all is taken", || sessions.path().join("written").exists().then_some(()));
    // The control: what is waited for is waited for.
    assert_eq!(sessions.says("a", "(sleep 0.2; echo late) & wait; echo end", 0), "late\nend\n");
    sessions.call(&["--end", "a"]).exit(0);
    let at_end = ticks();
    assert_eq!(sessions.says("a", &format!("sleep 0.2; {COUNT}"), 0), "0\n");
    assert_eq!(ticks(), at_end);
}

#[test]
fn a_session_keeps_nothing_open_of_the_call_that_began_it() {
    let sessions = Sessions::new();
    // As a lock, or the other end of somebody's pipe, that this caller happens to have open.
    let (mut end, inherited) = std::io::pipe().unwrap();
    rustix::io::fcntl_setfd(&inherited, rustix::io::FdFlags::empty()).unwrap();
    let call = sessions.start(&["--session", "s", "--network", "none", "--", "true"]);
    drop(inherited);
    assert_eq!(Told::of(call).exit(0), "");
    let closed = std::thread::spawn(move || std::io::Read::read(&mut end, &mut [0]).unwrap());
    assert!(sessions.holder("s").is_some(), "the session goes on");
    until(PATIENCE, "nobody has it open", || closed.is_finished().then_some(()));
}

#[test]
fn two_sessions_share_their_folder_and_nothing_else() {
    let sessions = Sessions::new();
    sessions.says("a", "x=1; echo secret >/tmp/of-a; echo shared >of-both; sleep 1000 &", 0);
    let seen = "echo ${x-unset}; cat /tmp/of-a 2>/dev/null || echo no file; cat of-both; kill -KILL -1 2>/dev/null";
    let seen = sessions.says("b", seen, 1);
    assert_eq!(seen, "unset\nno file\nshared\n");
    assert_eq!(sessions.says("b", COUNT, 0), "0\n");
    // The control: the same, asked in the first one.
    assert_eq!(sessions.says("a", "echo $x; cat /tmp/of-a of-both", 0), "1\nsecret\nshared\n");
    assert_eq!(sessions.says("a", COUNT, 0), "1\n");
    // Both run at once: each waits for the other.
    let meet = |own: &str, other: &str| format!("touch {own}; until [ -e {other} ]; do sleep 0.01; done");
    let one = sessions.start(&["-s", "a", "--timeout", "60", "--", &meet("one", "two")]);
    sessions.call(&["-s", "b", "--timeout", "60", "--", &meet("two", "one")]).exit(0);
    assert_eq!(Told::of(one).code, Some(0));
}

#[test]
fn callers_of_one_session_are_served_one_after_the_other() {
    let sessions = Sessions::new();
    // All at once also before there is a session: one of them begins it.
    let line = "echo in >>row; sleep 0.05; echo out >>row; n=$((n+1)); echo $n";
    let args = ["--network", "none", "--session", "a", "--", line];
    let callers: Vec<_> = (0..6).map(|_| sessions.start(&args)).collect();
    let mut numbers: Vec<_> = callers.into_iter().map(|caller| Told::of(caller).exit(0)).collect();
    numbers.sort();
    assert_eq!(numbers, ["1\n", "2\n", "3\n", "4\n", "5\n", "6\n"]);
    let row = std::fs::read_to_string(sessions.path().join("row")).expect("a file");
    assert_eq!(row, "in\nout\n".repeat(6));
    assert_eq!(sessions.list().len(), 1);
}

#[test]
fn a_caller_that_goes_takes_its_command_along_and_nothing_else() {
    let sessions = Sessions::new();
    sessions.says("a", "x=1", 0);
    let mut caller = sessions.start(&["--session", "a", "--", "x=2; echo >begun; sleep 1000; echo >ended"]);
    until(PATIENCE, "it runs", || sessions.path().join("begun").exists().then_some(()));
    assert!(sessions.is_busy("a"));
    // One that waits in the row and goes has nothing run for it.
    let mut waiting = sessions.start(&["--session", "a", "--", "echo >never"]);
    waiting.kill().expect("a child");
    waiting.wait().expect("a child");
    caller.kill().expect("a child");
    caller.wait().expect("a child");
    assert_eq!(sessions.says("a", &format!("echo $x; {COUNT}"), 0), "1\n0\n");
    assert!(!sessions.is_busy("a") && !sessions.path().join("ended").exists());
    assert!(!sessions.path().join("never").exists());
}

#[test]
fn sessions_are_listed_and_ended_and_wrong_ones_refused() {
    let sessions = Sessions::new();
    assert_eq!(sessions.list(), [] as [Value; 0]);
    let long = "x".repeat(65);
    for name in ["", "..", "a/b", "a b", ".a", "ä", &long] {
        let told = sessions.run(name, "echo never");
        assert_eq!((told.code, told.out.as_str()), (Some(1), ""), "{told:?}");
        assert!(told.err.contains("cannot be the name of a session"), "{told:?}");
    }
    let (good, other) = (&long[..64], TempDir::new().expect("a folder"));
    sessions.says(good, "true", 0);
    sessions.says("A-1_b.c", "true", 0);
    let list = sessions.list();
    assert_eq!(list.iter().map(|one| &one["name"]).collect::<Vec<_>>(), ["A-1_b.c", good]);
    assert_eq!((&list[0]["network"], &list[0]["busy"]), (&"none".into(), &false.into()));
    assert_eq!(list[0]["workspace"], sessions.path().to_str().expect("text"));
    let table = sessions.call(&["--list"]).exit(0);
    assert!(table.starts_with("NAME") && table.contains("A-1_b.c") && table.lines().count() == 3, "{table}");
    // A session is not bent to what another call wants.
    let elsewhere = other.path().to_str().expect("text");
    for args in [["--workspace", elsewhere], ["--network", "local"]] {
        let told = sessions.call(&[&args[..], &["--session", good, "--", "echo never"]].concat());
        assert_eq!((told.code, told.out.as_str()), (Some(1), ""), "{told:?}");
    }
    sessions.call(&["--workspace", ".", "--network", "none", "--session", good, "--", "true"]).exit(0);
    let refused = sessions.call(&["--workspace", "/", "--session", "root", "--", "true"]);
    assert_eq!(refused.code, Some(78), "{refused:?}");

    // What is found in the folder at the end is told by the call that ends it.
    sessions.says(good, "echo run-me >.envrc; echo kept >kept", 0);
    let end = sessions.call(&["--end", good]);
    assert_eq!((end.code, end.err.contains(".envrc")), (Some(0), true), "{end:?}");
    assert!(!sessions.path().join(".envrc").exists() && sessions.path().join("kept").exists());
    assert_eq!(sessions.call(&["--end", good]).code, Some(1));
    let end = sessions.call(&["--end", "A-1_b.c"]);
    assert_eq!((end.code, end.err.as_str()), (Some(0), ""));
    assert_eq!(sessions.list(), [] as [Value; 0]);
}

#[test]
fn a_session_that_is_ended_takes_its_command_along() {
    let sessions = Sessions::new();
    let by_call = |sessions: &Sessions| drop(sessions.call(&["--end", "a"]).exit(0));
    let by_signal = |sessions: &Sessions| process::signal(sessions.holder("a").expect("it is there"), Signal::TERM);
    for end in [&by_call as &dyn Fn(&Sessions), &by_signal] {
        sessions.says("a", "x=1; echo run-me >.envrc", 0);
        let caller = sessions.start(&["--session", "a", "--", "echo runs; sleep 1000"]);
        until(PATIENCE, "it runs", || sessions.is_busy("a").then_some(()));
        let holder = sessions.holder("a").expect("it is there");
        end(&sessions);
        let told = Told::of(caller);
        assert_eq!(told.code, Some(78), "{told:?}");
        assert!(told.err.contains("the session a was ended"), "{told:?}");
        until(PATIENCE, "the holder ends", || (!process::runs(holder)).then_some(()));
        assert!(!sessions.path().join(".envrc").exists());
        // Ended in order: the next one is new without a word.
        let next = sessions.run("a", "echo ${x-new}");
        assert_eq!((next.out.as_str(), next.err.as_str()), ("new\n", ""));
    }
}

#[test]
fn a_holder_that_is_killed_leaves_nothing_running_and_the_loss_is_told() {
    let sessions = Sessions::new();
    let first = sessions.run("a", "x=1; (while :; do echo >>ticks; sleep 0.01; done) & echo $x");
    assert_eq!((first.out.as_str(), first.err.as_str()), ("1\n", ""));
    let caller = sessions.start(&["--session", "a", "--", "sleep 1000"]);
    until(PATIENCE, "it runs", || sessions.is_busy("a").then_some(()));
    let holder = sessions.holder("a").expect("it is there");
    let children = |pid: u32| -> Vec<u32> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).expect("children");
        text.split_whitespace().flat_map(str::parse).collect()
    };
    // bubblewrap, and the init, which ends after all others; bubblewrap does not wait for it when it is killed.
    let mut jail = children(holder);
    jail.extend(jail.clone().into_iter().flat_map(children));
    assert!(jail.len() == 2 && jail.iter().all(|pid| process::runs(*pid)), "{jail:?}");
    process::signal(holder, Signal::KILL);
    let told = Told::of(caller);
    assert_eq!(told.code, Some(78), "{told:?}");
    assert!(told.err.contains("has ended while the command ran"), "{told:?}");
    until(PATIENCE, "the jail ends", || jail.iter().all(|pid| !process::runs(*pid)).then_some(()));
    let ticks = || std::fs::metadata(sessions.path().join("ticks")).expect("a file").len();
    let at_end = ticks();
    assert_eq!(sessions.list(), [] as [Value; 0]);
    let next = sessions.run("a", &format!("sleep 0.2; echo ${{x-new}}; {COUNT}"));
    assert_eq!((next.code, next.out.as_str()), (Some(0), "new\n0\n"));
    assert!(next.err.contains("the session a was lost"), "{next:?}");
    assert_eq!(ticks(), at_end);
    // Told once.
    assert_eq!(sessions.run("a", "true").err, "");
}

#[test]
fn a_command_may_come_on_standard_input() {
    let sessions = Sessions::new();
    std::fs::write(sessions.path().join("script"), "x=1\ncat; echo \"$x\" it\\'s\nexit 4\n").expect("a file");
    let script = || std::fs::File::open(sessions.path().join("script")).expect("a file");
    let mut command = sessions.command(&["--network", "none", "--session", "a"]);
    let child = command.stdin(script()).spawn().expect("corral can be started");
    assert_eq!(Told::of(child).exit(4), "1 it's\n");
    assert_eq!(sessions.says("a", "echo $x", 0), "1\n");
}
