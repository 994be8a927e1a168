//! What `corral usage` takes once the ledger has grown.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use corral_core::ports::Ledger;
use corral_core::usage::{InferenceRoute, RequestEnd, RequestRecord, Tokens};
use corral_core::{ModelId, SessionId};
use corral_store::{CAPACITY, Hooks, Store, ledger};
use corral_testkit::SandboxHome;
use corral_tests::Daemon;
use jiff::Timestamp;

use crate::figures::{Bounds, Series};

/// Requests in the ledger, and over how long they came, in milliseconds.
const ROWS: i64 = 1_000_000;
const SPAN_MS: i64 = 30 * 24 * 3_600_000;

/// Sessions at a time, and how long each lasts in milliseconds.
const SESSIONS: (i64, i64) = (10, 4 * 3_600_000);

const MODELS: i64 = 5;

/// One question to all of it, the whole command, in milliseconds.
const BOUND: f64 = 100.0;

/// `corral usage` for 30 days, by each of what sums are taken by, in turns.
pub(crate) fn costs(pairs: usize, bounds: &mut Bounds) {
    let home = SandboxHome::new();
    let file = home.path().join("data/corral.sqlite3");
    let began = Instant::now();
    fill(&file);
    let filled = began.elapsed().as_secs_f64();
    let megabytes = fs::metadata(&file).expect("the ledger is there").len() / 1_000_000;
    home.write_catalog(
        "schema = 1\n[server]\ngateway = \"127.0.0.1:0\"\nmanagement = \"127.0.0.1:0\"\n\
         [engine]\nruntime = \"process\"\n[models.small]\nfile = \"small.gguf\"\n",
    );
    let daemon = Daemon::start(home);
    let mut kinds = ["model", "session", "day"].map(|by| (by, Series::default()));
    let rows = kinds.each_ref().map(|(by, _)| rows(&daemon, by));
    for _ in 0..pairs {
        for (by, series) in &mut kinds {
            series.push_ms(asked(&daemon, by, &[]).0);
        }
    }
    println!("\ncorral usage --since 30d, {pairs} times each: medians (quartiles) in ms");
    println!("  {ROWS} requests of 30 days, a file of {megabytes} MB, written in {filled:.0} s");
    for ((by, series), rows) in kinds.iter().zip(rows) {
        let what = format!("the time of corral usage --by {by}");
        let verdict = bounds.at_most(&what, series.median(), BOUND, " ms");
        println!("  --by {by:<8} {rows:>5} rows {series} {verdict}");
    }
}

/// Asks once, and returns how long the whole command took and what it printed.
fn asked(daemon: &Daemon, by: &str, more: &[&str]) -> (Duration, Vec<u8>) {
    let begin = Instant::now();
    let output = daemon.corral(&[&["usage", "--by", by, "--since", "30d"], more].concat());
    let took = begin.elapsed();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    (took, output.stdout)
}

/// The number of rows of an answer, which speaks of all requests but those that have become too old meanwhile.
fn rows(daemon: &Daemon, by: &str) -> usize {
    let answer: serde_json::Value = serde_json::from_slice(&asked(daemon, by, &["--json"]).1).expect("JSON");
    let rows = answer["rows"].as_array().expect("rows");
    let requests: i64 = rows.iter().filter_map(|row| row["requests"].as_i64()).sum();
    assert!((ROWS * 99 / 100..=ROWS).contains(&requests), "{requests} requests by {by}");
    rows.len()
}

/// Writes the requests through the ledger itself.
fn fill(file: &Path) {
    Store::open(file).expect("a store");
    let first = Timestamp::now().as_millisecond() - SPAN_MS;
    for chunk in (0..ROWS).collect::<Vec<_>>().chunks(CAPACITY) {
        let (queue, writer) = ledger(file);
        for number in chunk {
            queue.record(request(*number, first + number * SPAN_MS / ROWS));
        }
        let hooks = Hooks {
            keep: Box::new(|| Duration::from_hours(365 * 24)),
            now: Box::new(Timestamp::now),
            tell: Box::new(|trouble| eprintln!("{trouble:?}")),
            on_batch: Box::new(|_| {}),
        };
        writer.start(hooks).expect("a thread that writes").flush_and_close();
    }
}

fn request(number: i64, at: i64) -> RequestRecord {
    let (at_a_time, lasting) = SESSIONS;
    let session = format!("session-{}-{}", at / lasting, number % at_a_time);
    RequestRecord {
        at: Timestamp::from_millisecond(at).expect("a time"),
        session: Some(SessionId::new(session).expect("a session")),
        model: Some(ModelId::new(format!("model-{}", number % MODELS)).expect("a model")),
        route: InferenceRoute::Messages,
        status: 200,
        end: RequestEnd::Complete,
        tokens: Tokens { input: 20_000, cached: 19_000, output: 300 },
        first_token: Some(Duration::from_millis(180)),
        duration: Duration::from_millis(4_200),
        held: Duration::ZERO,
        overhead: Duration::from_micros(60),
        energy: None,
    }
}
