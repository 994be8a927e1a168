//! What a kill and a full disk take: programs of their own, which are this very test again.

#![allow(clippy::expect_used, reason = "test code: a panic is how it fails")]

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use corral_core::ModelId;
use corral_core::ports::{Ledger, UsageSource};
use corral_core::usage::{InferenceRoute, RequestEnd, RequestRecord, Tokens, UsageBy};
use corral_store::{CAPACITY, Hooks, Store, Trouble, ledger};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What a child does, and with which file.
const ROLE: &str = "CORRAL_TEST_ROLE";
const FILE: &str = "CORRAL_TEST_FILE";

const PATIENCE: Duration = Duration::from_mins(1);

fn request() -> RequestRecord {
    RequestRecord {
        at: Timestamp::now(),
        session: None,
        model: ModelId::new("a").ok(),
        route: InferenceRoute::Messages,
        status: 200,
        end: RequestEnd::Complete,
        tokens: Tokens { input: 10, cached: 5, output: 1 },
        first_token: None,
        duration: Duration::from_millis(1),
        held: Duration::ZERO,
        overhead: Duration::ZERO,
        energy: None,
    }
}

/// What a child hears of its ledger.
#[derive(Debug)]
enum Told {
    Batch(usize),
    Trouble(Trouble),
}

fn hooks() -> (Hooks, Receiver<Told>) {
    let (sender, told) = mpsc::channel();
    let batches = sender.clone();
    let hooks = Hooks {
        keep: Box::new(|| Duration::from_hours(24)),
        now: Box::new(Timestamp::now),
        // Nobody may be listening any more.
        tell: Box::new(move |trouble| drop(sender.send(Told::Trouble(trouble)))),
        on_batch: Box::new(move |records| drop(batches.send(Told::Batch(records.len())))),
    };
    (hooks, told)
}

fn requests(store: &Store) -> u64 {
    let rows = store.usage(UsageBy::Model, None, None, &TimeZone::UTC).expect("it can be read");
    rows.iter().map(|row| row.requests).sum()
}

fn until(mut what: impl FnMut() -> bool) {
    let began = Instant::now();
    while !what() {
        assert!(began.elapsed() < PATIENCE, "it does not come true");
        pause(Duration::from_millis(5));
    }
}

fn pause(time: Duration) {
    let (_open, never) = mpsc::channel::<()>();
    let _ = never.recv_timeout(time);
}

/// Begins this test again in a role. What it writes may not be too large for its limits without its being killed.
fn begin(role: &str, file: &Path) -> Child {
    let mut command = Command::new("sh");
    command.args(["-c", r#"trap "" XFSZ; exec "$0" "$@""#]).arg(std::env::current_exe().expect("this test"));
    command.args(["--exact", "child", "--nocapture"]).env(ROLE, role).env(FILE, file);
    command.stdout(Stdio::piped()).spawn().expect("it starts")
}

/// The other side of the tests: does nothing unless it was begun by one.
#[test]
fn child() {
    let (Ok(role), Some(file)) = (std::env::var(ROLE), std::env::var_os(FILE)) else { return };
    let file = PathBuf::from(file);
    let store = Store::open(&file).expect("it opens");
    match role.as_str() {
        "endless" => record_for_ever(&file, true),
        "unstarted" => record_for_ever(&file, false),
        "full" => fill_the_disk(&file, &store),
        "full at the end" => end_on_a_full_disk(&file),
        "idle" => sleep_between(&file, &store),
        role => panic!("no role {role}"),
    }
}

fn record_for_ever(file: &Path, start: bool) {
    let (queue, writer) = ledger(file);
    let (hooks, _told) = hooks();
    let _writer = start.then(|| writer.start(hooks).expect("it starts"));
    let began = Instant::now();
    let mut out = std::io::stdout().lock();
    loop {
        queue.record(request());
        if writeln!(out, "recorded {}", began.elapsed().as_millis()).is_err() {
            return;
        }
        pause(Duration::from_millis(1));
    }
}

/// Kills a child that records for ever after some time. When each record was made, in milliseconds, and what is there.
fn killed(role: &str, after: u128) -> (Vec<u128>, u64) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("corral.sqlite3");
    let mut child = begin(role, &file);
    let mut made = Vec::new();
    for line in BufReader::new(child.stdout.take().expect("its output")).lines().map_while(Result::ok) {
        let Some(at) = line.strip_prefix("recorded ") else { continue };
        made.extend(at.parse::<u128>());
        if made.last().is_some_and(|at| *at > after) {
            child.kill().expect("it is killed");
        }
    }
    assert_eq!(child.wait().expect("it ends").signal(), Some(9));
    let store = Store::open(&file).expect("the file is whole");
    let by_row = requests(&store);
    let days = store.usage(UsageBy::Day, None, None, &TimeZone::UTC).expect("it can be read");
    assert_eq!(days.iter().map(|row| row.requests).sum::<u64>(), by_row);
    assert!(days.iter().all(|row| row.tokens_in == 10 * row.requests));
    (made, by_row)
}

#[test]
fn a_kill_takes_the_last_second_at_most() {
    for after in [1_700, 2_400, 3_100] {
        let (made, there) = killed("endless", after);
        let last = made.last().copied().expect("it has recorded something");
        let older = made.iter().filter(|at| **at + 1_000 <= last).count() as u64;
        assert!(older > 100 && there >= older, "{there} are there, and {older} of {} are older", made.len());
    }
}

#[test]
fn what_is_not_written_is_gone_after_a_kill() {
    let (made, there) = killed("unstarted", 300);
    assert!(made.len() > 10 && there == 0, "{there} of {}", made.len());
}

fn limit(bytes: Option<u64>) {
    let maximum = getrlimit(Resource::Fsize).maximum;
    setrlimit(Resource::Fsize, Rlimit { current: bytes.or(maximum), maximum }).expect("a limit");
}

/// The next thing that the ledger tells which is no batch, and the number of records in the batches until then.
fn trouble(told: &Receiver<Told>) -> (Trouble, usize) {
    let mut seen = 0;
    loop {
        match told.recv_timeout(PATIENCE).expect("the ledger tells something") {
            Told::Batch(count) => seen += count,
            Told::Trouble(trouble) => return (trouble, seen),
        }
    }
}

fn fill_the_disk(file: &Path, store: &Store) {
    let (queue, writer) = ledger(file);
    let (hooks, told) = hooks();
    let writer = writer.start(hooks).expect("it starts");
    (0..100).for_each(|_| queue.record(request()));
    until(|| requests(store) == 100);

    limit(Some(4096));
    (0..200).for_each(|_| queue.record(request()));
    let (failing, _) = trouble(&told);
    let Trouble::Failing(error) = failing else { panic!("{failing:?}") };
    assert!(error.to_string().starts_with("usage cannot be written to ") && error.body().hint.is_some(), "{error}");
    // More than is kept.
    let began = Instant::now();
    (0..CAPACITY).for_each(|_| queue.record(request()));
    assert!(began.elapsed() < Duration::from_secs(2), "nobody waits: {:?}", began.elapsed());
    // Two more tries, and not a word of them: the next to be told comes after the limit is gone.
    let Told::Batch(count) = told.recv_timeout(PATIENCE).expect("the records are seen") else {
        panic!("it was told again")
    };
    assert_eq!(count, CAPACITY - 200);
    pause(Duration::from_secs(4));
    assert!(told.try_recv().is_err(), "it was told again");
    assert_eq!(requests(store), 100);

    limit(None);
    let (over, _) = trouble(&told);
    assert!(matches!(over, Trouble::Over { kept: CAPACITY, lost: 200 }), "{over:?}");
    queue.record(request());
    writer.flush_and_close();
    assert_eq!(requests(store), 100 + CAPACITY as u64 + 1);
    assert!(!told.iter().any(|told| matches!(told, Told::Trouble(_))));
}

fn end_on_a_full_disk(file: &Path) {
    let (queue, writer) = ledger(file);
    let (hooks, told) = hooks();
    let writer = writer.start(hooks).expect("it starts");
    limit(Some(4096));
    (0..10).for_each(|_| queue.record(request()));
    writer.flush_and_close();
    assert!(matches!(trouble(&told).0, Trouble::Failing(_)));
    let (lost, _) = trouble(&told);
    assert!(matches!(lost, Trouble::LostAtEnd(10)), "{lost:?}");
}

#[test]
fn a_full_disk_is_told_once_and_what_it_did_not_take_is_kept() {
    succeeds("full");
}

#[test]
fn what_a_full_disk_takes_with_it_at_the_end_is_counted() {
    succeeds("full at the end");
}

/// How often the writer's thread has gone to sleep.
fn sleeps() -> u64 {
    let mut tasks = std::fs::read_dir("/proc/self/task").expect("threads").map(|task| task.expect("a thread").path());
    let of = |task: PathBuf| {
        let name = std::fs::read_to_string(task.join("comm")).ok().filter(|name| name.trim() == "ledger");
        name.and_then(|_| std::fs::read_to_string(task.join("status")).ok())
    };
    let status = tasks.find_map(of).expect("the thread");
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")).expect("a count");
    line.trim().parse().expect("a number")
}

fn sleep_between(file: &Path, store: &Store) {
    let (queue, writer) = ledger(file);
    let (hooks, _told) = hooks();
    let _writer = writer.start(hooks).expect("it starts");
    queue.record(request());
    until(|| requests(store) == 1);
    // It may not have come to rest yet.
    let mut before = sleeps();
    until(|| {
        pause(Duration::from_millis(200));
        std::mem::replace(&mut before, sleeps()) == sleeps()
    });
    pause(Duration::from_secs(4));
    assert_eq!(sleeps(), before, "it does not wake up while nothing comes");
    queue.record(request());
    until(|| requests(store) == 2);
    assert!(sleeps() > before, "the count is that of the right thread");
}

#[test]
fn while_nothing_comes_the_writer_sleeps() {
    succeeds("idle");
}

fn succeeds(role: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    let output = begin(role, &folder.path().join("corral.sqlite3")).wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}
