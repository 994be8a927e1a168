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
        energy: None,
    }
}

/// What the ledger has told.
#[derive(Debug)]
enum Told {
    Batch(usize),
    Trouble(String),
}

struct Bench {
    _folder: TempDir,
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
        tell: Box::new(move |trouble| sender.send(Told::Trouble(format!("{trouble:?}"))).unwrap()),
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
    Bench { _folder: folder, store, queue, writer, told }
}

pub(crate) fn by_model(store: &Store) -> Vec<UsageRow> {
    store.usage(UsageBy::Model, None, None, &TimeZone::UTC).unwrap()
}

fn requests(store: &Store) -> u64 {
    by_model(store).iter().map(|row| row.requests).sum()
}

fn troubles(told: &[Told]) -> Vec<&str> {
    told.iter()
        .filter_map(|told| if let Told::Trouble(trouble) = told { Some(trouble.as_str()) } else { None })
        .collect()
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
        label: None,
        requests: 1,
        tokens_in,
        tokens_out: 1,
        tokens_cached: tokens_in / 2,
        seconds: 2.0,
        energy_joules: None,
        energy_requests: Some(0),
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
    assert_eq!(troubles(&told), Vec::<&str>::new());
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

#[test]
fn what_finds_no_room_is_lost_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("corral.sqlite3");
    let store = Store::open(&path).unwrap();
    let (queue, writer) = ledger(&path);
    for _ in 0..CAPACITY + 10 {
        queue.record(request(NOW, "a", 1));
    }
    let (hooks, told) = hooks(YEAR);
    writer.start(hooks).unwrap().flush_and_close();
    assert_eq!(requests(&store), CAPACITY as u64);
    assert_eq!(troubles(&told.iter().collect::<Vec<_>>()), ["Lost(10)"]);
}

#[test]
fn what_is_too_old_is_removed_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("corral.sqlite3");
    let store = Store::open(&path).unwrap();
    let day = 24 * 3_600_000;
    // Old ones in many buckets, far apart; the clock has been wrong, too.
    for at in (0..2_000).map(|number| NOW - 400 * day + number * 3_600_000).chain([-5, 0, NOW + day]) {
        crate::batch::Writer::new(path.clone()).write(&[request(at, "old", 1)]).unwrap();
    }
    let (queue, writer) = ledger(&path);
    queue.record(request(NOW - 29 * day, "new", 1));
    let (hooks, _told) = hooks(Duration::from_hours(30 * 24));
    writer.start(hooks).unwrap().flush_and_close();
    let counts: Vec<_> = by_model(&store).into_iter().map(|row| (row.key, row.requests)).collect();
    assert_eq!(counts, [("new".to_owned(), 1), ("old".to_owned(), 1)]);
    let connection = rusqlite::Connection::open(&path).unwrap();
    let rows = |table: &str| -> i64 {
        connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
    };
    assert_eq!(["requests", "usage_by_model", "usage_by_session", "names"].map(rows), [2, 2, 2, 3]);
}
