//! GPUs whose driver does not say who has their memory.

use super::*;

/// What a server says whose layers are on no GPU, though it uses one now and then.
const NO_LAYERS: &str = r#"{"type":"fit_memory_breakdown","data":{"unit":"MiB","rows":[
    {"kind":"device","name":"CUDA0","model":0,"context":0,"compute":600,"unaccounted":2000},
    {"kind":"host","name":"Host","model":4281,"context":4096,"compute":72}]}}"#;

/// The GPU of the bed.
const GPU: &str = "GPU-1";

impl Bed {
    /// Loads this model, which says so; in use of the GPU are so many GB before and after, by nobody who is known.
    async fn load(&self, spec: &LaunchSpec, (before, after): (u64, u64), says: &str) {
        self.start(spec, before).await;
        self.gpu(24 * GB - after, &[]);
        self.loaded(spec, says).await;
    }

    async fn start(&self, spec: &LaunchSpec, before: u64) {
        self.gpu(24 * GB - before, &[]);
        self.fit(spec).await.unwrap();
        assert_eq!(self.memory.held().await, None);
    }

    async fn loaded(&self, spec: &LaunchSpec, says: &str) {
        self.says(spec.model.as_str(), says);
        self.learn(spec, true).await;
    }
}

#[tokio::test]
async fn memory_that_came_with_the_model_is_the_models_and_is_waited_for() {
    let bed = Bed::new(64);
    let (spec, next) = (bed.spec("b", "llama-3.1-8b"), bed.spec("c", "small-llama"));
    assert!(!bed.memory.is_on(GPU));
    bed.load(&spec, (GB, 11 * GB), BREAKDOWN).await;
    assert!(bed.memory.is_on(GPU) && !bed.memory.is_on("GPU-2"));

    bed.fit(&next).await.unwrap();
    assert!(bed.memory.is_on(GPU), "it serves until it is stopped");
    let held = bed.memory.held().await.unwrap();
    assert_eq!(held, "GPU 0 (RTX 4090) still has 11000 MB in use, though nobody says by whom");
    assert!(!bed.memory.is_on(GPU), "it has ended");
    bed.gpu(18 * GB, &[]);
    assert!(bed.memory.held().await.is_some(), "half of it is not all");
    bed.gpu(22 * GB, &[]);
    assert_eq!(bed.memory.held().await, None, "others may take a little meanwhile");
    // The next one takes less, and begins with what is left.
    bed.gpu(21 * GB, &[]);
    bed.loaded(&next, BREAKDOWN).await;
    assert!(bed.memory.is_on(GPU));
}

#[tokio::test]
async fn what_others_take_is_not_the_models() {
    let bed = Bed::new(64);
    let spec = bed.spec("b", "small-llama");
    bed.load(&spec, (GB, GB + 200_000_000), BREAKDOWN).await;
    assert!(!bed.memory.is_on(GPU), "a desktop takes so much");
    // What is on the processor alone takes nothing, whatever comes meanwhile.
    let on_cpu = LaunchSpec { gpu: Gpu::None, ..spec.clone() };
    bed.load(&on_cpu, (GB, 9 * GB), BREAKDOWN).await;
    assert!(!bed.memory.is_on(GPU));
    bed.load(&spec, (GB, 9 * GB), NO_LAYERS).await;
    assert!(!bed.memory.is_on(GPU));
    // Here the driver says who it is.
    bed.load(&spec, (GB, GB), BREAKDOWN).await;
    bed.memory.held().await;
    bed.gpu(15 * GB, &[(9, 8 * GB, None)]);
    bed.loaded(&spec, BREAKDOWN).await;
    assert!(!bed.memory.is_on(GPU), "a game");
    bed.gpu(15 * GB, &[(7, 8 * GB, Some("b"))]);
    bed.loaded(&spec, BREAKDOWN).await;
    assert!(!bed.memory.is_on(GPU), "the driver says that it is there");
}

#[tokio::test]
async fn how_it_was_before_must_be_known() {
    let bed = Bed::new(64);
    let spec = bed.spec("b", "llama-3.1-8b");
    bed.gpu(13 * GB, &[]);
    bed.loaded(&spec, BREAKDOWN).await;
    assert!(!bed.memory.is_on(GPU), "it ran before Corral did");
    assert_eq!(bed.memory.held().await, None);
}

#[tokio::test]
async fn what_is_gone_is_not_waited_for() {
    let bed = Bed::new(64);
    let spec = bed.spec("b", "llama-3.1-8b");
    bed.load(&spec, (GB, 11 * GB), BREAKDOWN).await;
    // It has ended by itself.
    bed.gpu(23 * GB, &[]);
    bed.fit(&spec).await.unwrap();
    assert_eq!(bed.memory.held().await, None);

    bed.load(&spec, (GB, 11 * GB), BREAKDOWN).await;
    let end = |id: &str| {
        let (instance, spec) = (InstanceId(id.to_owned()), Arc::new(spec.clone()));
        bed.memory.learn(Load { instance, spec, since: Timestamp::UNIX_EPOCH, runs: false })
    };
    end("another").await;
    assert!(bed.memory.is_on(GPU), "one that was before it");
    end("i").await;
    assert!(!bed.memory.is_on(GPU));
}

#[tokio::test]
async fn what_the_loaded_model_has_is_given_back_to_the_next() {
    let bed = Bed::new(64);
    let (spec, next) = (bed.spec("b", "llama-3.1-8b"), bed.spec("c", "llama-3.1-8b"));
    bed.load(&spec, (GB, 18 * GB), BREAKDOWN).await;
    let fit = bed.fit(&next).await.unwrap();
    assert_eq!((fit.verdict, fit.vram_free_bytes), (FitVerdict::Fits, 23 * GB), "{fit:?}");
    let listed = bed.memory.fits(&[Arc::new(next.clone())], 0, Ask::List).await;
    assert_eq!(listed, [Some(fit)]);

    // Where little is left that nobody is known to have, the numbers are sure.
    let all = LaunchSpec { gpu_layers: Some(corral_core::launch::GpuLayers::All), ..next };
    for (before, hopeless) in [(GB, true), (3 * GB, false)] {
        let bed = Bed::new(64);
        bed.load(&bed.spec("b", "llama-3.1-8b"), (before, before + 2 * GB), BREAKDOWN).await;
        bed.gpu(GB, &[(9, 21 * GB - before, None)]);
        let fit = bed.fit(&all).await.unwrap();
        assert_eq!((fit.verdict, fit.hopeless, fit.vram_free_bytes), (FitVerdict::No, hopeless, 3 * GB), "{fit:?}");
    }
}

#[tokio::test]
async fn a_load_teaches_the_same_where_the_room_it_had_was_just_enough() {
    let lesson = async |before: u64| {
        let bed = Bed::new(64);
        let spec = bed.spec("b", "llama-3.1-8b");
        bed.load(&spec, (before, before + 10 * GB), BREAKDOWN).await;
        let lesson = lock(&bed.memory.0.lessons).get(&spec.model).cloned().unwrap();
        lesson.correction
    };
    assert_eq!(lesson(GB).await, lesson(10 * GB).await);
}

#[tokio::test]
async fn a_process_that_is_listed_without_its_memory_has_what_came_with_the_model() {
    let bed = Bed::new(64);
    let (spec, next) = (bed.spec("b", "llama-3.1-8b"), bed.spec("c", "llama-3.1-8b"));
    bed.start(&spec, GB).await;
    let mut device = Bed::device(6 * GB, &[(7, 0, Some("b"))]);
    device.processes[0].mem_bytes = None;
    bed.tell(device);
    bed.loaded(&spec, BREAKDOWN).await;
    let fit = bed.fit(&next).await.unwrap();
    assert_eq!((fit.verdict, fit.vram_free_bytes), (FitVerdict::Fits, 23 * GB), "{fit:?}");
    bed.gpu(6 * GB, &[]);
    assert!(bed.memory.held().await.is_some(), "the process is gone, its memory is not");
    bed.gpu(22 * GB, &[]);
    assert_eq!(bed.memory.held().await, None);
}

#[tokio::test]
async fn a_gpu_that_sleeps_has_nothing_in_use() {
    let bed = Bed::new(64);
    let spec = bed.spec("b", "llama-3.1-8b");
    let pci = Some("0000:01:00.0".to_owned());
    let asleep = |uuid: &str| {
        GpuDevice { uuid: uuid.to_owned(), pci: pci.clone(), ..Bed::device(0, &[]) }
            .unread(corral_core::gpu::GpuState::Asleep, "it sleeps")
    };
    // It was never seen awake: nobody knows its UUID.
    bed.tell(asleep("0000:01:00.0"));
    bed.fit(&spec).await.unwrap();
    assert_eq!(bed.memory.held().await, None);
    bed.tell(GpuDevice { pci: pci.clone(), ..Bed::device(13 * GB, &[]) });
    bed.loaded(&spec, BREAKDOWN).await;
    assert!(bed.memory.is_on(GPU));
    bed.fit(&spec).await.unwrap();
    bed.tell(asleep(GPU));
    assert_eq!(bed.memory.held().await, None, "nobody has memory of what sleeps");
}

#[tokio::test]
async fn a_server_that_has_ended_before_it_was_looked_at_has_nothing() {
    let bed = Bed::new(64);
    let spec = bed.spec("b", "llama-3.1-8b");
    bed.start(&spec, GB).await;
    bed.gpu(13 * GB, &[]);
    // Its log is late.
    tokio::join!(bed.learn(&spec, true), bed.learn(&spec, false), async { bed.says("b", BREAKDOWN) });
    assert!(!bed.memory.is_on(GPU), "it has ended");

    let spec = bed.spec("c", "llama-3.1-8b");
    bed.start(&spec, GB).await;
    tokio::join!(bed.learn(&spec, true), async {
        bed.start(&spec, GB).await;
        bed.gpu(13 * GB, &[]);
        bed.says("c", BREAKDOWN);
    });
    assert!(!bed.memory.is_on(GPU), "another one comes");
}
