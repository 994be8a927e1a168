//! What the GPUs of a model take: NVIDIA's through the real wrapper, AMD's and Intel's out of files as the kernel has them.

use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use corral_core::gpu::{GpuState, GpuWatch, Look};
use corral_core::ports::{Clock, EnergyCounter};
use corral_core::snapshot::Snapshot;
use corral_gpu::{GpuEnergy, Gpus, Roots, Sampler};
use corral_testkit::fakes::CountingClock;
use nvml_scene::Stage;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::files::{ARC, RADEON, arc, radeon};
use crate::nvml::{card, scene};
use crate::owners::{CONTAINER, serving};
use crate::tree::Tree;

const ENERGY: &str = "nvmlDeviceGetTotalEnergyConsumption";
const POWER: &str = "nvmlDeviceGetPowerUsage";

struct Bed {
    tree: Tree,
    sampler: Sampler,
    energy: Arc<GpuEnergy>,
    /// The GPUs that the model is known to be on beside those where the driver lists it.
    unlisted: Arc<Mutex<Vec<String>>>,
    _snapshots: watch::Sender<Arc<Snapshot>>,
}

impl Bed {
    /// On these files, where process 4711 serves a model.
    fn new(tree: Tree, stage: Option<&Stage>) -> Self {
        tree.process(4711, 1, "/app/llama-server", &format!("/docker/{CONTAINER}"), &[]);
        let (snapshots, watch) = watch::channel(serving(CONTAINER, "glm"));
        let roots = Roots { nvml: stage.map(Stage::library), ..tree.roots() };
        let clock: Arc<dyn Clock> = Arc::<CountingClock>::default();
        let sampler = Sampler::start(Box::new(Gpus::new(roots.clone())), roots.clone(), clock.clone(), watch);
        let unlisted = Arc::<Mutex<Vec<String>>>::default();
        let known = unlisted.clone();
        let on = Box::new(move |uuid: &str| known.lock().unwrap().iter().any(|on| on == uuid));
        let energy = Arc::new(GpuEnergy::new(sampler.clone(), roots, clock, on));
        Self { tree, sampler, energy, unlisted, _snapshots: snapshots }
    }

    /// All of the GPUs is read anew.
    async fn look(&self) {
        // The first may have been begun before.
        for _ in 0..2 {
            tokio::time::advance(Duration::from_secs(1)).await;
            self.sampler.read(Look::Person).await;
        }
    }

    /// What was taken since the last time, in millijoules.
    fn taken(&self) -> Option<u64> {
        self.energy.read().map(|taken| taken.0)
    }
}

/// A card with so many millijoules on its counter.
fn counted(index: u64, energy_mj: u64) -> Value {
    let mut card = card(index);
    card["energy_mj"] = json!(energy_mj);
    card
}

/// A card that nobody uses.
fn unused(index: u64, energy_mj: u64) -> Value {
    let mut card = counted(index, energy_mj);
    (card["compute"], card["graphics"]) = (json!([]), json!([]));
    card
}

#[tokio::test(start_paused = true)]
async fn what_a_model_takes_is_what_the_counters_of_its_gpus_say() {
    let stage = Stage::new(&scene(&[counted(0, 1_000), unused(1, 5_000), counted(2, 100)]));
    let bed = Bed::new(Tree::new(), Some(&stage));
    assert!(!bed.energy.counts(), "nobody has looked where the model is");
    assert_eq!((bed.taken(), stage.calls_of(ENERGY)), (None, 0));
    bed.look().await;
    assert!(bed.energy.counts());
    assert_eq!(bed.taken(), None, "this is the first");
    let before = stage.calls();
    stage.play(&scene(&[counted(0, 1_700), unused(1, 9_000), counted(2, 123)]));
    assert_eq!(bed.taken(), Some(700 + 23));
    let calls: Vec<_> = stage.calls().split_off(before.len());
    assert_eq!(calls, ["nvmlDeviceGetHandleByPciBusId_v2", ENERGY].repeat(2), "and nothing else is asked");
    tokio::time::advance(Duration::from_hours(2)).await;
    assert_eq!(bed.taken(), Some(0));

    // The model goes, and so does what counts.
    stage.play(&scene(&[unused(0, 2_000), unused(1, 9_000), unused(2, 200)]));
    bed.look().await;
    assert_eq!((bed.energy.counts(), bed.taken()), (false, None));
}

#[tokio::test(start_paused = true)]
async fn a_gpu_whose_driver_lists_no_process_counts_where_the_model_is_known_to_be_on_it() {
    let stage = Stage::new(&scene(&[unused(0, 1_000), unused(1, 5_000)]));
    let bed = Bed::new(Tree::new(), Some(&stage));
    bed.look().await;
    assert_eq!((bed.energy.counts(), bed.taken()), (false, None));
    let uuid = bed.sampler.latest().unwrap().devices[1].uuid.clone();
    bed.unlisted.lock().unwrap().push(uuid);
    assert!(bed.energy.counts());
    assert_eq!(bed.taken(), None, "this is the first");
    stage.play(&scene(&[unused(0, 9_000), unused(1, 5_400)]));
    assert_eq!(bed.taken(), Some(400));
    // One that does not answer tells nothing, and may have lost it.
    let mut lost = unused(1, 5_800);
    lost["answers"] = json!({ "*": 15 });
    stage.play(&scene(&[unused(0, 9_000), lost]));
    bed.look().await;
    assert_eq!((bed.energy.counts(), bed.taken()), (false, None));
    stage.play(&scene(&[unused(0, 9_000), unused(1, 6_000)]));
    bed.look().await;
    assert!(bed.energy.counts());
}

/// In real time, as what hangs is a thread.
#[tokio::test]
async fn readings_that_hang_do_not_hold_the_energy_up() {
    for listed in [true, false] {
        let card = |energy_mj| if listed { counted(0, energy_mj) } else { unused(0, energy_mj) };
        let stage = Stage::new(&scene(&[card(1_000)]));
        let bed = Bed::new(Tree::new(), Some(&stage));
        let first = bed.sampler.read(Look::Now).await;
        bed.unlisted.lock().unwrap().extend((!listed).then(|| first.devices[0].uuid.clone()));
        assert_eq!(bed.taken(), None);
        let mut held = scene(&[card(1_700)]);
        held["hold"] = json!("nvmlDeviceGetMemoryInfo_v2");
        stage.play(&held);
        let (told, asked) = (bed.sampler.clone(), stage.calls().len());
        let reading = tokio::spawn(async move { told.read(Look::Now).await });
        let calls = || stage.calls().split_off(asked);
        while !calls().iter().any(|call| call.starts_with("nvmlDeviceGetMemoryInfo")) {
            tokio::task::yield_now().await;
        }
        let told = |bed: &Bed| {
            let (energy, (sender, told)) = (bed.energy.clone(), mpsc::channel());
            std::thread::spawn(move || sender.send((energy.counts(), energy.read().map(|taken| taken.0))));
            told.recv_timeout(Duration::from_secs(20)).expect("it does not wait for the reading")
        };
        assert_eq!(told(&bed), (true, Some(700)), "by the reading before");
        assert_eq!(reading.await.unwrap().devices[0].state, GpuState::Silent);
        assert_eq!(told(&bed), (false, None), "whether the model is still there is not known");
        stage.play(&scene(&[card(2_000)]));
        stage.let_go();
        while bed.sampler.read(Look::Now).await.devices[0].state != GpuState::Ok {}
        assert_eq!(told(&bed), (true, None));
        stage.play(&scene(&[card(2_300)]));
        assert_eq!(told(&bed), (true, Some(300)));
    }
}

#[tokio::test(start_paused = true)]
async fn drivers_are_let_go_of_and_taken_again() {
    let stage = Stage::new(&scene(&[counted(0, 1_000)]));
    let bed = Bed::new(Tree::new(), Some(&stage));
    bed.look().await;
    bed.taken();
    let held = || (stage.calls_of("nvmlInit_v2"), stage.calls_of("nvmlShutdown"));
    assert_eq!(held(), (2, 0), "one is the sampler's");
    bed.energy.rest();
    bed.energy.rest();
    assert_eq!(held(), (2, 1));
    stage.play(&scene(&[counted(0, 1_400)]));
    assert_eq!((bed.taken(), held()), (Some(400), (3, 1)));
}

#[tokio::test(start_paused = true)]
async fn without_a_counter_the_power_is_added_up() {
    let mut unsupported = card(0);
    unsupported["answers"] = json!({ ENERGY: 3 });
    for stage in [Stage::without(&[ENERGY], &scene(&[card(0)])), Stage::new(&scene(&[unsupported]))] {
        let bed = Bed::new(Tree::new(), Some(&stage));
        bed.look().await;
        assert!(bed.energy.counts());
        let before = stage.calls_of(POWER);
        assert_eq!(bed.taken(), None);
        tokio::time::advance(Duration::from_secs(4)).await;
        assert_eq!(bed.taken(), Some(4 * 312_500));
        assert_eq!(stage.calls_of(POWER), before + 2);
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_gpu_does_not_tell_is_not_known_and_heals() {
    // Lost, denied, the library gone.
    for code in [15, 4, 1, 999] {
        let stage = Stage::new(&scene(&[counted(0, 1_000), counted(1, 1_000)]));
        let bed = Bed::new(Tree::new(), Some(&stage));
        bed.look().await;
        bed.taken();
        let mut broken = counted(1, 2_000);
        broken["answers"] = json!({ ENERGY: code });
        stage.play(&scene(&[counted(0, 2_000), broken]));
        assert_eq!(bed.taken(), None, "of one of them nothing is known: {code}");
        stage.play(&scene(&[counted(0, 3_000), counted(1, 3_000)]));
        assert_eq!(bed.taken(), None, "since when, is not known: {code}");
        stage.play(&scene(&[counted(0, 3_001), counted(1, 3_002)]));
        assert_eq!(bed.taken(), Some(3), "{code}");
    }
}

#[tokio::test(start_paused = true)]
async fn cards_that_tell_in_files_are_read_there() {
    let sensor = |card: &str, name: &str| format!("sys/bus/pci/devices/{card}/hwmon/{name}");
    let info = |driver: &str, card: &str| {
        format!("drm-driver:\t{driver}\ndrm-client-id:\t7\ndrm-pdev:\t{card}\ndrm-memory-vram:\t1048576 KiB\n")
    };
    let serve = |bed: &Bed, info: &str| {
        bed.tree.process(4711, 1, "/app/llama-server", &format!("/docker/{CONTAINER}"), &[(5, info)]);
    };
    let bed = Bed::new(radeon(), None);
    serve(&bed, &info("amdgpu", RADEON));
    bed.look().await;
    assert!(bed.energy.counts());
    bed.taken();
    tokio::time::advance(Duration::from_secs(2)).await;
    bed.tree.write(&sensor(RADEON, "hwmon3/power1_average"), "313000000\n");
    assert_eq!(bed.taken(), Some(2 * 300_000), "between 287 and 313 watts");

    // Some cards tell of the chip alone.
    for counter in ["hwmon5/energy1_input", "hwmon5/energy2_input"] {
        let bed = Bed::new(arc(), None);
        std::fs::remove_file(bed.tree.path(&sensor(ARC, "hwmon5/energy1_input"))).unwrap();
        bed.tree.write(&sensor(ARC, counter), "5000000\n");
        serve(&bed, &info("xe", ARC));
        bed.look().await;
        bed.taken();
        bed.tree.write(&sensor(ARC, counter), "7500000\n");
        assert_eq!(bed.taken(), Some(2_500), "{counter}");
    }
}
