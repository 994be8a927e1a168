//! What a shell session outlives: who began it, launchers beside it, the daemon; and what is left of one that is killed.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "test code: a panic is how it fails")]

use std::fs;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use corral_core::usage::UsageRow;
use corral_daemon::{Environment, Paths};
use corral_tests::local::Ran;
use corral_tests::{Local, Models, PATIENCE, parts, process, until};
use rustix::process::{Pid, Signal};
use serde_json::Value;

/// A session in a user's workspace, by a name that no other test has; ended when dropped.
struct Session {
    name: String,
    workspace: PathBuf,
    environment: Vec<(&'static str, PathBuf)>,
    /// Where its files are.
    shells: PathBuf,
}

impl Session {
    fn new(local: &Local) -> Self {
        let name = format!("outlives-{}-{}", std::process::id(), local.root().file_name().unwrap().display());
        let home = local.daemon.home().path().display().to_string();
        let paths = Paths::resolve(&[("CORRAL_HOME", home)].into_iter().collect::<Environment>()).unwrap();
        Self { name, workspace: local.workspace(), environment: local.environment(), shells: paths.shells }
    }

    fn corral(&self, args: &[&str]) -> Command {
        let mut command = Command::new(parts::corral_binary());
        command.args(args).env_clear().envs(self.environment.iter().cloned()).current_dir(&self.workspace);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn command(&self, line: &str) -> Command {
        self.corral(&["shell", "--session", &self.name, "--", line])
    }

    fn start(&self, line: &str) -> Child {
        self.command(line).spawn().expect("corral can be started")
    }

    /// What a line prints that ends well.
    #[track_caller]
    fn says(&self, line: &str) -> String {
        Ran::of(&mut self.command(line)).good()
    }

    /// As it is listed, while it is there.
    #[track_caller]
    fn listed(&self) -> Option<Value> {
        let told = Ran::of(&mut self.corral(&["shell", "--list", "--json"])).good();
        let told: Value = serde_json::from_str(&told).unwrap();
        told["sessions"].as_array().unwrap().iter().find(|one| one["name"] == *self.name).cloned()
    }

    #[track_caller]
    fn holder(&self) -> u32 {
        u32::try_from(self.listed().expect("it is there")["pid"].as_u64().unwrap()).unwrap()
    }

    /// The ends of the names of its files.
    fn files(&self) -> Vec<String> {
        let names = fs::read_dir(&self.shells).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut ends: Vec<_> = names.filter_map(|name| Some(name.strip_prefix(&self.name)?.to_owned())).collect();
        ends.sort();
        ends
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.corral(&["shell", "--end", &self.name]).output();
    }
}

/// Asks the model from inside; prints the answer's status.
const ASK: &str = "curl -sS -m 60 -o /dev/null -w '%{http_code}\\n' -H 'Content-Type: application/json' -d \
    '{\"model\":\"a\",\"max_tokens\":3,\"messages\":[{\"role\":\"user\",\"content\":\"hello\"}]}' \
    http://127.0.0.1:8080/v1/messages";

/// Asks for the status with the session's own token; prints the answer's status.
const LOOK: &str = "curl -sS -m 60 -o /dev/null -w '%{http_code}\\n' -H \"Authorization: Bearer $CORRAL_TOKEN\" \
    http://127.0.0.1:8081/status";

/// The one row of the ledger, which must come to have so many requests.
#[track_caller]
fn until_one_row(local: &Local, requests: u64) -> UsageRow {
    until(PATIENCE, &format!("a row of {requests} requests"), || {
        let mut rows = local.daemon.api().usage("session");
        assert!(rows.len() < 2, "{rows:#?}");
        rows.pop_first().map(|(_, row)| row).filter(|row| row.requests == requests)
    })
}

#[test]
fn it_outlives_the_daemon_and_its_ports_answer_again() {
    let mut local = Local::new(&Models::process().one_thread().tiny(&["a"]));
    local.daemon.api().switched("a");
    let session = Session::new(&local);
    session.says("cd /usr; x=kept; f() { echo f of $x; }; sleep 1000 & background=$!");
    assert_eq!(session.says(&format!("{ASK}; {LOOK}")), "200\n200\n");
    let before = until_one_row(&local, 1);
    let (holder, state, seen) =
        (session.holder(), "pwd; f; kill -0 $background && echo runs", "/usr\nf of kept\nruns\n");

    // Killed: the session goes on without one, and what it asks meanwhile waits for the next.
    local.daemon.kill9();
    assert_eq!(session.says(state), seen);
    let waiting = session.start(ASK);
    until(PATIENCE, "it asks", || session.listed().filter(|one| one["busy"] == true));
    local.daemon.restart();
    assert_eq!(Ran::end(waiting).good(), "200\n");
    assert_eq!(session.says(&format!("{state}; {LOOK}")), format!("{seen}200\n"));
    assert_eq!(until_one_row(&local, 2).label, before.label);

    // Ended in order: the same. The next one has no model yet, and loads what is asked for.
    assert!(local.daemon.terminate().status.success());
    assert_eq!(session.says(state), seen);
    local.daemon.restart();
    assert_eq!(session.says(&format!("{ASK}; {LOOK}; {state}")), format!("200\n200\n{seen}"));
    let after = until_one_row(&local, 3);
    assert_eq!((&after.key, after.label.as_deref()), (&before.key, before.label.as_deref()));
    assert_eq!(session.holder(), holder);
    // The control: with its holder it is gone, and its row of usage stays.
    drop(session);
    local.until_no_session();
    until_one_row(&local, 3);
}

#[test]
fn it_outlives_its_first_caller_and_launchers_that_are_killed_beside_it() {
    let local = Local::new(&Models::process().tiny(&["a"]));
    let session = Session::new(&local);
    // As a terminal ends that closes: with all that was started in it.
    let mut caller = session.command("echo >begun; sleep 1000").process_group(0).spawn().unwrap();
    until(PATIENCE, "its command runs", || local.workspace().join("begun").exists().then_some(()));
    let holder = session.holder();
    let group = Pid::from_raw(i32::try_from(caller.id()).unwrap()).unwrap();
    rustix::process::kill_process_group(group, Signal::KILL).unwrap();
    assert_eq!(caller.wait().unwrap().signal(), Some(Signal::KILL.as_raw()));
    assert_eq!(session.says("x=kept; cd /usr; echo ${x}"), "kept\n");

    let mut beside = local.command("corral");
    let mut beside = beside.args(["jail", "--", "sh", "-c", "echo >beside; sleep 1000"]).spawn().unwrap();
    until(PATIENCE, "the other jail stands", || local.workspace().join("beside").exists().then_some(()));
    assert_eq!(local.daemon.api().status().sessions.len(), 2);
    process::signal(beside.id(), Signal::KILL);
    beside.wait().unwrap();
    local.daemon.api().until(PATIENCE, "one session is left", |status| status.sessions.len() == 1);
    assert_eq!(session.says(&format!("echo $x $PWD; {LOOK}")), "kept /usr\n200\n");
    assert_eq!(session.holder(), holder);
}

#[test]
fn of_a_holder_that_is_killed_nothing_is_left() {
    let local = Local::new(&Models::process().tiny(&["a"]));
    let session = Session::new(&local);
    let tracks = || {
        let read = |path| fs::read_to_string(path).unwrap();
        let (sockets, mounts) = (read("/proc/net/unix"), read("/proc/self/mountinfo"));
        let of_session = sockets.lines().filter(|line| line.contains(&session.name)).count();
        (of_session, mounts.lines().filter(|line| line.contains(&*local.workspace().to_string_lossy())).count())
    };
    session.says("x=1; sleep 1000 & sleep 1000 &");
    let holder = session.holder();
    let family = process::family(holder);
    assert!(family.len() >= 5, "holder, bubblewrap, init, two commands: {family:?}");
    // The control: it is seen what there is to see.
    assert_eq!((tracks(), session.files()), ((1, 0), [".begun", ".lock", ".sock"].map(str::to_owned).to_vec()));
    local.daemon.api().until(PATIENCE, "its session", |status| status.sessions.len() == 1);

    process::signal(holder, Signal::KILL);
    until(PATIENCE, "no process is left", || (!family.iter().any(|pid| process::runs(*pid))).then_some(()));
    local.until_no_session();
    assert_eq!(tracks(), (0, 0));
    // Whoever looks next clears its files away, but for the one by which the loss is told.
    assert_eq!(session.listed(), None);
    assert_eq!(session.files(), [".begun"]);
    let next = Ran::of(&mut session.command("echo ${x-new}"));
    assert!(next.stderr.contains("was lost"), "{next:#?}");
    assert_eq!(next.good(), "new\n");
    Ran::of(&mut session.corral(&["shell", "--end", &session.name])).good();
    assert_eq!(session.files(), [""; 0]);
}
