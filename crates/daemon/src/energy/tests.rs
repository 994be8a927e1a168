//! The ledger that measures, over a fake of the counter.

use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, mpsc as std_mpsc};

use corral_core::ModelId;
use corral_core::usage::{InferenceRoute, RequestEnd, Tokens};
use jiff::Timestamp;

use super::*;

/// Says what a test says, and counts how often it is asked.
#[derive(Default)]
struct Played {
    counts: AtomicBool,
    unknown: AtomicBool,
    taken: AtomicU64,
    reads: AtomicU64,
    rests: AtomicU64,
    /// The next reading comes back when the other end is dropped.
    hold: Mutex<Option<std_mpsc::Receiver<()>>>,
}

impl EnergyCounter for Played {
    fn counts(&self) -> bool {
        self.counts.load(Ordering::SeqCst)
    }

    fn read(&self) -> Option<Millijoules> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        let held = self.hold.lock().unwrap().take();
        if let Some(held) = held {
            let _ = held.recv();
        }
        let taken = self.taken.swap(0, Ordering::SeqCst);
        (!self.unknown.load(Ordering::SeqCst)).then_some(Millijoules(taken))
    }

    fn rest(&self) {
        self.rests.fetch_add(1, Ordering::SeqCst);
    }
}

struct Told(mpsc::UnboundedSender<RequestRecord>);

impl Ledger for Told {
    fn record(&self, request: RequestRecord) {
        self.0.send(request).unwrap();
    }
}

fn request() -> RequestRecord {
    RequestRecord {
        at: Timestamp::UNIX_EPOCH,
        session: None,
        model: None,
        route: InferenceRoute::Messages,
        status: 200,
        end: RequestEnd::Complete,
        tokens: Tokens::default(),
        first_token: None,
        duration: Duration::ZERO,
        held: Duration::ZERO,
        overhead: Duration::ZERO,
        energy: None,
    }
}

struct Bed {
    ledger: MeasuredLedger,
    measuring: Measuring,
    counter: Arc<Played>,
    told: mpsc::UnboundedReceiver<RequestRecord>,
}

impl Bed {
    fn new() -> Self {
        let (sender, told) = mpsc::unbounded_channel();
        let counter = Arc::<Played>::default();
        counter.counts.store(true, Ordering::SeqCst);
        let (ledger, measuring) = MeasuredLedger::start(Arc::new(Told(sender)), counter.clone());
        Self { ledger, measuring, counter, told }
    }

    fn reads(&self) -> u64 {
        self.counter.reads.load(Ordering::SeqCst)
    }

    /// A request begins, and the reading for that is over.
    async fn sent(&self) -> Ticket {
        let (before, ticket) = (self.reads(), self.ledger.sent().unwrap());
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert!(self.reads() > before, "it is read where a request begins");
        ticket
    }

    fn takes(&self, millijoules: u64) {
        self.counter.taken.fetch_add(millijoules, Ordering::SeqCst);
    }

    async fn ended(&mut self, ticket: Ticket) -> Option<u64> {
        self.ledger.record_sent(ticket, request());
        self.told.recv().await.unwrap().energy.map(|energy| energy.0)
    }
}

#[tokio::test(start_paused = true)]
async fn requests_share_what_is_taken_and_nobody_asks_while_none_runs() {
    let mut bed = Bed::new();
    let a = bed.sent().await;
    bed.takes(100);
    let b = bed.sent().await;
    bed.takes(200);
    assert_eq!(bed.ended(a).await, Some(100 + 100));
    bed.takes(50);
    assert_eq!(bed.ended(b).await, Some(100 + 50));
    let reads = bed.reads();
    tokio::time::sleep(Duration::from_hours(1)).await;
    assert_eq!((bed.reads(), bed.counter.rests.load(Ordering::SeqCst)), (reads, 1), "it lets go, once");
    bed.takes(7_000);
    let c = bed.sent().await;
    assert_eq!(bed.ended(c).await, Some(0), "what was taken meanwhile is nobody's");
}

#[tokio::test(start_paused = true)]
async fn it_is_read_each_second_while_a_request_runs() {
    let mut bed = Bed::new();
    let ticket = bed.sent().await;
    let before = bed.reads();
    for _ in 0..60 {
        bed.takes(10);
        tokio::time::sleep(EVERY).await;
    }
    assert!((59..=61).contains(&(bed.reads() - before)), "{}", bed.reads() - before);
    assert_eq!(bed.ended(ticket).await, Some(600));
}

#[tokio::test(start_paused = true)]
async fn where_nobody_counts_records_go_on_at_once() {
    let mut bed = Bed::new();
    bed.counter.counts.store(false, Ordering::SeqCst);
    assert_eq!(bed.ledger.sent(), None);
    bed.ledger.record(request());
    assert_eq!(bed.told.try_recv().unwrap().energy, None);
    assert_eq!(bed.reads(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_came_to_no_model_took_nothing_where_energy_is_measured() {
    let mut bed = Bed::new();
    let with_model = || RequestRecord { model: ModelId::new("m").ok(), ..request() };
    bed.ledger.record(request());
    assert_eq!(bed.told.recv().await.unwrap().energy, None, "nothing was measured yet");
    let ticket = bed.sent().await;
    bed.ended(ticket).await;
    bed.ledger.record(request());
    assert_eq!(bed.told.recv().await.unwrap().energy, Some(Millijoules(0)));
    bed.ledger.record(with_model());
    assert_eq!(bed.told.recv().await.unwrap().energy, None, "it was with a model while nobody counted");
}

#[tokio::test(start_paused = true)]
async fn what_is_not_known_is_none_and_heals() {
    let mut bed = Bed::new();
    let across = bed.sent().await;
    bed.counter.unknown.store(true, Ordering::SeqCst);
    let within = bed.sent().await;
    assert_eq!(bed.ended(within).await, None, "and not nothing");
    bed.counter.unknown.store(false, Ordering::SeqCst);
    let after = bed.sent().await;
    bed.takes(9);
    assert_eq!((bed.ended(across).await, bed.ended(after).await), (None, Some(5)));
}

#[tokio::test(start_paused = true)]
async fn a_driver_that_does_not_answer_holds_no_record_for_long() {
    let mut bed = Bed::new();
    let first = bed.sent().await;
    let (held, until_dropped) = std_mpsc::channel::<()>();
    *bed.counter.hold.lock().unwrap() = Some(until_dropped);
    tokio::time::resume();
    assert_eq!(tokio::time::timeout(Duration::from_secs(20), bed.ended(first)).await, Ok(None));
    let reads = bed.reads();
    let second = bed.ledger.sent().unwrap();
    assert_eq!(bed.ended(second).await, None);
    assert_eq!(bed.reads(), reads, "it is not asked again meanwhile");
    drop(held);
    // It comes back some moment: what was taken until the reading after that is not known.
    let bound = std::time::Instant::now() + Duration::from_secs(20);
    loop {
        let next = bed.ledger.sent().unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
        if bed.ended(next).await.is_some() {
            break;
        }
        assert!(std::time::Instant::now() < bound, "it does not heal");
    }
}

#[tokio::test(start_paused = true)]
async fn the_end_loses_no_record() {
    let bed = Bed::new();
    let (a, b) = (bed.sent().await, bed.sent().await);
    let Bed { ledger, measuring, mut told, .. } = bed;
    ledger.record_sent(a, request());
    measuring.close().await;
    assert_eq!(told.try_recv().unwrap().energy, Some(Millijoules(0)));
    ledger.record_sent(b, request());
    assert_eq!(told.try_recv().unwrap().energy, None);
    assert_eq!(ledger.sent(), None);
}
