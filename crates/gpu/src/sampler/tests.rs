use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use corral_core::gpu::{GpuDevice, GpuProcess, GpuSource};
use corral_core::launch::Runtime;
use corral_core::snapshot::{CatalogView, EngineView, OperationKind, OperationView, Phase, Step};
use corral_core::{ConfigHash, InstanceId, ModelId, OperationId};
use corral_testkit::fakes::CountingClock;

use super::*;

/// A fake of what reads: counts, and holds what the test says.
#[derive(Debug, Clone, Default)]
struct Fake(Arc<FakeState>);

#[derive(Debug, Default)]
struct FakeState {
    reads: AtomicU64,
    releases: AtomicU64,
    sample: Mutex<GpuSample>,
    hold: Mutex<Option<std::sync::mpsc::Receiver<()>>>,
    broken: std::sync::atomic::AtomicBool,
}

impl GpuProbe for Fake {
    fn read(&mut self, _: Duration) -> GpuSample {
        self.0.reads.fetch_add(1, Ordering::SeqCst);
        // Comes back when the other end is dropped.
        if let Some(held) = self.0.hold.lock().unwrap().take() {
            let _ = held.recv();
        }
        assert!(!self.0.broken.load(Ordering::SeqCst), "a defect");
        self.0.sample.lock().unwrap().clone()
    }

    fn release(&mut self) {
        self.0.releases.fetch_add(1, Ordering::SeqCst);
        assert!(!self.0.broken.load(Ordering::SeqCst), "a defect");
    }
}

struct Bed {
    fake: Fake,
    snapshots: watch::Sender<Arc<Snapshot>>,
    sampler: Sampler,
}

impl Bed {
    fn new(may_sleep: bool) -> Self {
        let fake = Fake::default();
        let device = GpuDevice { uuid: "a".to_owned(), source: GpuSource::Nvml, ..GpuDevice::default() };
        *fake.0.sample.lock().unwrap() =
            GpuSample { source: GpuSource::Nvml, reason: None, devices: vec![device], may_sleep };
        let (snapshots, watch) = watch::channel(Arc::new(snapshot()));
        let roots = Roots::below(std::path::Path::new("/nothing"));
        let sampler = Sampler::start(Box::new(fake.clone()), roots, Arc::<CountingClock>::default(), watch);
        Self { fake, snapshots, sampler }
    }

    fn reads(&self) -> u64 {
        self.fake.0.reads.load(Ordering::SeqCst)
    }

    fn releases(&self) -> u64 {
        self.fake.0.releases.load(Ordering::SeqCst)
    }

    /// How often it is read and let go of in so many seconds, and a little more: timers are late by a millisecond.
    async fn within(&self, seconds: u64) -> (u64, u64) {
        let before = (self.reads(), self.releases());
        tokio::time::sleep(Duration::from_millis(seconds * 1_000 + 500)).await;
        (self.reads() - before.0, self.releases() - before.1)
    }

    fn load(&self, loaded: bool, switching: bool) {
        self.snapshots.send_modify(|snapshot| {
            let snapshot = Arc::make_mut(snapshot);
            snapshot.engine = loaded.then(engine);
            snapshot.model = loaded.then(|| ModelId::new("m").unwrap());
            snapshot.operation = switching.then(operation);
        });
    }
}

fn snapshot() -> Snapshot {
    Snapshot {
        version: "0".to_owned(),
        phase: Phase::Stopped,
        model: None,
        operation: None,
        engine: None,
        error: None,
        gateway: None,
        sessions: Vec::new(),
        catalog: CatalogView::default(),
    }
}

fn engine() -> EngineView {
    EngineView {
        runtime: Runtime::Docker,
        container_id: InstanceId("i".to_owned()),
        image: None,
        started_at: None,
        url: None,
        key_file: None,
        config_hash: ConfigHash("c".to_owned()),
        config_changed: false,
        context: None,
    }
}

fn operation() -> OperationView {
    OperationView {
        id: OperationId(uuid::Uuid::from_u128(1)),
        kind: OperationKind::Start,
        from: None,
        to: None,
        step: Step::Load,
        progress: None,
        started_at: jiff::Timestamp::UNIX_EPOCH,
        expected_ms: None,
    }
}

#[tokio::test(start_paused = true)]
async fn they_are_read_each_second_while_somebody_looks_and_not_at_all_while_nobody_does() {
    let bed = Bed::new(false);
    assert_eq!(bed.within(600).await, (0, 0), "nobody looks");
    let mut all = [bed.sampler.listen(), bed.sampler.listen()];
    for one in &mut all {
        one.wait_for(Option::is_some).await.unwrap();
    }
    assert_eq!(bed.within(20).await, (20, 0), "once for all who look");
    drop(all);
    assert_eq!(bed.within(600).await, (0, 1), "it ends, and lets go");
}

#[tokio::test(start_paused = true)]
async fn a_switch_is_looked_at_and_a_loaded_model_now_and_then() {
    let bed = Bed::new(false);
    bed.load(false, true);
    assert_eq!(bed.within(10).await.0, 10 + 1);
    bed.load(true, false);
    assert_eq!(bed.within(60).await, (1 + 4, 0), "and once when it has ended");
    bed.load(false, false);
    assert_eq!(bed.within(600).await, (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_gpu_that_would_rather_sleep_is_let_go_of_after_each_reading_unless_a_model_holds_it() {
    let bed = Bed::new(true);
    bed.load(true, false);
    assert_eq!(bed.within(61).await, (5, 5), "the model runs elsewhere");
    let process = GpuProcess { pid: 1, model: ModelId::new("m").ok(), ..GpuProcess::default() };
    bed.fake.0.sample.lock().unwrap().devices[0].processes = vec![process];
    assert_eq!(bed.within(60).await, (4, 0));
    bed.fake.0.sample.lock().unwrap().devices[0].state = GpuState::Asleep;
    let (reads, _) = bed.within(600).await;
    assert_eq!(reads, 1, "it is not looked after while it sleeps");
}

#[tokio::test(start_paused = true)]
async fn the_last_reading_is_told_without_another() {
    let bed = Bed::new(false);
    assert_eq!(bed.sampler.latest(), None);
    let reading = bed.sampler.read(Look::Person).await;
    assert_eq!(bed.within(600).await.0, 0);
    assert!(Arc::ptr_eq(&bed.sampler.latest().unwrap(), &reading));
    assert_eq!(bed.within(600).await.0, 0, "nobody looks for that");
}

#[tokio::test(start_paused = true)]
async fn a_program_that_asks_for_ever_keeps_no_gpu_awake() {
    let cases = [
        (true, Look::Program, 3),
        (true, Look::Scrape, 3),
        (false, Look::Program, 36),
        (false, Look::Scrape, 12),
        (true, Look::Person, 36),
    ];
    for (may_sleep, who, most) in cases {
        let bed = Bed::new(may_sleep);
        for _ in 0..36 {
            assert_eq!(bed.sampler.read(who).await.devices.len(), 1);
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
        assert_eq!(bed.reads(), most, "{may_sleep} {who:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_scrapes_does_not_set_the_pace() {
    for (who, reads) in [(Look::Scrape, 4), (Look::Person, 60)] {
        let bed = Bed::new(false);
        bed.load(true, false);
        for _ in 0..60 {
            bed.sampler.read(who).await;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        assert_eq!(bed.reads(), reads, "{who:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_asks_at_once_shares_a_reading() {
    let bed = Bed::new(false);
    let ask = || bed.sampler.read(Look::Person);
    let all = tokio::join!(ask(), ask(), ask());
    assert!(Arc::ptr_eq(&all.0, &all.1) && Arc::ptr_eq(&all.1, &all.2));
    tokio::time::sleep(Duration::from_millis(500)).await;
    ask().await;
    assert_eq!(bed.reads(), 1);
    tokio::time::sleep(Duration::from_millis(500)).await;
    ask().await;
    assert_eq!(bed.reads(), 2);
}

#[tokio::test]
async fn a_driver_that_does_not_answer_is_said_and_heals() {
    let bed = Bed::new(false);
    bed.sampler.read(Look::Person).await;
    let mut listener = bed.sampler.listen();
    let (held, until_dropped) = std::sync::mpsc::channel();
    *bed.fake.0.hold.lock().unwrap() = Some(until_dropped);
    let silent = listener
        .wait_for(|reading| reading.as_ref().is_some_and(|reading| reading.devices[0].state == GpuState::Silent))
        .await
        .unwrap()
        .clone();
    let reading = silent.unwrap();
    assert!(reading.reason.as_ref().unwrap().contains("not answered"), "{reading:?}");
    let reads = bed.reads();
    let begun = std::time::Instant::now();
    assert_eq!(bed.sampler.read(Look::Person).await.devices[0].state, GpuState::Silent);
    assert!(begun.elapsed() < PATIENCE, "it is not waited for again");
    assert_eq!(bed.reads(), reads, "and not asked again");
    drop(held);
    let well = |reading: &Option<Arc<GpuReading>>| {
        reading.as_ref().is_some_and(|reading| reading.devices[0].state == GpuState::Ok && reading.reason.is_none())
    };
    tokio::time::timeout(Duration::from_secs(20), listener.wait_for(well)).await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_was_read_for_somebody_is_remembered_and_nothing_is_read_to_be_remembered() {
    let bed = Bed::new(false);
    for _ in 0..100 {
        assert_eq!(bed.sampler.history().await, GpuHistory::default());
    }
    assert_eq!(bed.within(60).await, (0, 0), "nobody looks");
    bed.load(true, false);
    bed.within(45).await;
    let remembered = bed.sampler.history().await;
    assert_eq!((remembered.at.len(), bed.reads()), (4, 4), "of a loaded model, too");
    assert_eq!(remembered.devices[0].uuid, "a");
    bed.load(false, false);
    let mut listener = bed.sampler.listen();
    listener.wait_for(Option::is_some).await.unwrap();
    bed.within(2_000).await;
    assert_eq!(bed.sampler.history().await.at.len(), 900, "however long somebody looks");
    drop(listener);
    // One may be under way.
    bed.within(60).await;
    bed.sampler.history().await;
    assert_eq!(bed.within(60).await.0, 0, "nobody looks any more");
}

#[tokio::test(start_paused = true)]
async fn a_defect_in_what_reads_is_not_the_end_of_it() {
    let bed = Bed::new(false);
    bed.fake.0.broken.store(true, Ordering::SeqCst);
    let reading = bed.sampler.read(Look::Person).await;
    assert!(reading.reason.as_ref().unwrap().contains("defect"), "{reading:?}");
    assert_eq!(bed.within(10).await.1, 1, "nor in what lets go");
    bed.fake.0.broken.store(false, Ordering::SeqCst);
    assert_eq!(bed.sampler.read(Look::Person).await.devices.len(), 1);
}

#[tokio::test]
async fn who_waits_for_a_change_is_told_only_what_was_read_after_the_question() {
    let bed = Bed::new(false);
    bed.sampler.read(Look::Person).await;
    bed.sampler.read(Look::Person).await;
    assert_eq!(bed.reads(), 1, "what is fresh is told again");
    bed.sampler.read(Look::Now).await;
    assert_eq!(bed.reads(), 2);
    // One that is under way was begun before the question.
    let (let_go, held) = std::sync::mpsc::channel();
    *bed.fake.0.hold.lock().unwrap() = Some(held);
    let ask = |who| {
        let sampler = bed.sampler.clone();
        tokio::spawn(async move { sampler.read(who).await })
    };
    let first = ask(Look::Now);
    while bed.reads() < 3 {
        tokio::task::yield_now().await;
    }
    let second = ask(Look::Now);
    // The sampler has taken the question once it takes this one.
    bed.sampler.asks.send(Ask::Reading { who: Look::Person, reply: oneshot::channel().0 }).await.unwrap();
    while bed.sampler.asks.capacity() < bed.sampler.asks.max_capacity() {
        tokio::task::yield_now().await;
    }
    drop(let_go);
    first.await.unwrap();
    second.await.unwrap();
    assert_eq!(bed.reads(), 4);
}
