use std::sync::mpsc;

use corral_core::ports::UsageSource;
use corral_core::usage::{InferenceRoute, RequestEnd, Tokens, UsageBy, UsageRow};
use corral_core::{ModelId, SessionId};
use jiff::tz::TimeZone;
use tempfile::TempDir;

use super::*;
use crate::Store;

/// Now, in tests.
const NOW: i64 = 1_800_000_000_000;
const YEAR: Duration = Duration::from_hours(365 * 24);

pub(crate) fn request(at: i64, model: &str, tokens: u64) -> RequestRecord {
    RequestRecord {
        at: Timestamp::from_millisecond(at).unwrap(),
        session: Some(SessionId::new("s").unwrap()),
        model: Some(ModelId::new(model).unwrap()),
        route: InferenceRoute::Messages,
        status: 200,
        end: RequestEnd::Complete,
        tokens: Tokens { input: tokens, cached: tokens / 2, output: 1 },
        first_token: Some(Duration::from_millis(250)),
        duration: Duration::from_secs(2),
        held: Duration::ZERO,
        overhead: Duration::from_micros(80),
    }
}

/// What the ledger has told.
#[derive(Debug)]
enum Told {
    Batch(usize),
    Trouble(Trouble),
}

struct Bench {
    _folder: TempDir,
    path: PathBuf,
    store: Store,
    queue: Arc<Queue>,
    writer: RunningWriter,
    told: mpsc::Receiver<Told>,
}

fn hooks(keep: Duration) -> (Hooks, mpsc::Receiver<Told>) {
    let (sender, told) = mpsc::channel();
    let batches = sender.clone();
    let hooks = Hooks {
        keep: Box::new(move || keep),
        now: Box::new(|| Timestamp::from_millisecond(NOW).unwrap()),
        tell: Box::new(move |trouble| sender.send(Told::Trouble(trouble)).unwrap()),
        on_batch: Box::new(move |records| batches.send(Told::Batch(records.len())).unwrap()),
    };
    (hooks, told)
}

fn bench() -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("corral.sqlite3");
    let store = Store::open(&path).unwrap();
    let (queue, writer) = ledger(&path);
    let (hooks, told) = hooks(YEAR);
    let writer = writer.start(hooks).unwrap();
    Bench { _folder: folder, path, store, queue, writer, told }
}

pub(crate) fn by_model(store: &Store) -> Vec<UsageRow> {
    store.usage(UsageBy::Model, None, None, &TimeZone::UTC).unwrap()
}

fn requests(store: &Store) -> u64 {
    by_model(store).iter().map(|row| row.requests).sum()
}

const SOON: Duration = Duration::from_secs(20);

#[test]
fn what_is_recorded_is_written_soon() {
    let bench = bench();
    bench.queue.record(request(NOW, "a", 100));
    bench.queue.record(request(NOW, "b", 300));
    let mut seen = 0;
    while seen < 2 {
        let Told::Batch(count) = bench.told.recv_timeout(SOON).unwrap() else { panic!("no trouble") };
        seen += count;
    }
    let began = Instant::now();
    while requests(&bench.store) < 2 {
        assert!(began.elapsed() < SOON);
        std::thread::yield_now();
    }
    let rows = by_model(&bench.store);
    let row = |key: &str, tokens_in| UsageRow {
        key: key.to_owned(),
        requests: 1,
        tokens_in,
        tokens_out: 1,
        tokens_cached: tokens_in / 2,
        seconds: 2.0,
    };
    assert_eq!(rows, [row("b", 300), row("a", 100)]);
}

#[test]
fn the_end_loses_nothing() {
    let bench = bench();
    for number in 0..20_000 {
        bench.queue.record(request(NOW + number, "a", 1));
    }
    bench.writer.flush_and_close();
    assert_eq!(requests(&bench.store), 20_000);
    let told: Vec<_> = bench.told.iter().collect();
    let seen: usize = told.iter().map(|told| if let Told::Batch(count) = told { *count } else { 0 }).sum();
    assert_eq!(seen, 20_000);
    assert!(!told.iter().any(|told| matches!(told, Told::Trouble(_))), "{told:?}");
}

#[test]
fn what_came_before_the_start_is_written_too_and_what_is_dropped_is_flushed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("corral.sqlite3");
    let store = Store::open(&path).unwrap();
    let (queue, writer) = ledger(&path);
    queue.record(request(NOW, "a", 1));
    let (hooks, _told) = hooks(YEAR);
    drop(writer.start(hooks).unwrap());
    assert_eq!(requests(&store), 1);
}
