use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

use corral_core::InstanceId;
use corral_core::fit::FitVerdict;
use corral_core::gpu::GpuProcess;
use corral_core::log::{LogLevel, LogRecord};
use corral_testkit::gguf::ShapedModel;
use corral_testkit::{FakeGpu, launch_spec};
use jiff::Timestamp;
use tempfile::TempDir;

use super::*;

mod unlisted;

const GB: u64 = 1_000_000_000;

struct Bed {
    gpu: Arc<FakeGpu>,
    logs: Arc<LogBuffer>,
    memory: MachineMemory,
    folder: TempDir,
}

impl Bed {
    /// A machine with so many GB of main memory, and no GPU.
    fn new(host: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let proc = folder.path().join("proc");
        std::fs::create_dir_all(&proc).unwrap();
        let kilobytes = host * GB / 1024;
        let meminfo = format!("MemTotal: {kilobytes} kB\nMemAvailable: {kilobytes} kB\n");
        std::fs::write(proc.join("meminfo"), meminfo).unwrap();
        let (gpu, logs) = (Arc::<FakeGpu>::default(), Arc::new(LogBuffer::new(1000, 1 << 20)));
        let memory = Self::on(&folder, logs.clone(), gpu.clone());
        let bed = Self { gpu, logs, memory, folder };
        bed.build("the first");
        bed
    }

    fn on(folder: &TempDir, logs: Arc<LogBuffer>, gpu: Arc<FakeGpu>) -> MachineMemory {
        let store = Arc::new(Store::open(&folder.path().join("corral.sqlite3")).unwrap());
        let mut memory = MachineMemory::new(&Environment::default(), logs, store);
        Arc::get_mut(&mut memory.0).unwrap().root = folder.path().to_owned();
        memory.watch(gpu);
        memory
    }

    /// The same after a restart of Corral.
    fn restart(&mut self) {
        self.memory = Self::on(&self.folder, self.logs.clone(), self.gpu.clone());
    }

    fn spec(&self, id: &str, shape: &str) -> LaunchSpec {
        let file = self.folder.path().join(format!("{shape}.gguf"));
        if !file.exists() {
            ShapedModel::named(shape).unwrap().write(&file).unwrap();
        }
        LaunchSpec { file, runtime: Runtime::Process, binary: self.binary(), ctx: 32_768, ..launch_spec(id) }
    }

    fn binary(&self) -> PathBuf {
        self.folder.path().join("llama-server")
    }

    /// Another build of the server takes the place of the one that is there.
    fn build(&self, build: &str) {
        std::fs::write(self.binary(), build).unwrap();
        std::fs::set_permissions(self.binary(), Permissions::from_mode(0o755)).unwrap();
    }

    /// One GPU of 24 GB with so much free, and these processes on it.
    fn gpu(&self, free: u64, processes: &[(u32, u64, Option<&str>)]) {
        self.tell(Self::device(free, processes));
    }

    fn device(free: u64, processes: &[(u32, u64, Option<&str>)]) -> GpuDevice {
        let process = |(pid, bytes, model): &(u32, u64, Option<&str>)| GpuProcess {
            pid: *pid,
            name: Some(if model.is_some() { "/app/llama-server" } else { "/usr/bin/blender" }.to_owned()),
            mem_bytes: Some(*bytes),
            model: model.map(|model| ModelId::new(model).unwrap()),
            ..GpuProcess::default()
        };
        GpuDevice {
            uuid: "GPU-1".to_owned(),
            name: "RTX 4090".to_owned(),
            source: GpuSource::Nvml,
            mem_total_bytes: Some(24 * GB),
            mem_free_bytes: Some(free),
            mem_used_bytes: Some(24 * GB - free),
            processes: processes.iter().map(process).collect(),
            ..GpuDevice::default()
        }
    }

    fn tell(&self, device: GpuDevice) {
        let (at, source) = (Timestamp::UNIX_EPOCH, GpuSource::Nvml);
        self.gpu.tell(GpuReading { at, source, reason: None, devices: vec![device] });
    }

    async fn fit(&self, spec: &LaunchSpec) -> Option<FitView> {
        self.memory.fits(&[Arc::new(spec.clone())], 0, Ask::Load).await.remove(0)
    }

    fn says(&self, model: &str, text: &str) {
        let model = ModelId::new(model).unwrap();
        self.logs.push(LogRecord { ts: Timestamp::now(), level: LogLevel::Debug, model, msg: text.to_owned() });
    }

    async fn learn(&self, spec: &LaunchSpec, runs: bool) -> Option<Lesson> {
        let (instance, since) = (InstanceId("i".to_owned()), Timestamp::UNIX_EPOCH);
        self.memory.learn(Load { instance, spec: Arc::new(spec.clone()), since, runs }).await;
        lock(&self.memory.0.lessons).get(&spec.model).cloned()
    }
}

#[tokio::test]
async fn a_model_is_judged_by_what_is_free_and_what_the_other_gives_back() {
    let bed = Bed::new(64);
    let spec = bed.spec("b", "llama-3.1-8b");
    bed.gpu(20 * GB, &[]);
    let fit = bed.fit(&spec).await.unwrap();
    assert_eq!((fit.verdict, fit.vram_free_bytes), (FitVerdict::Fits, 20 * GB), "{fit:?}");
    assert!(fit.vram_bytes > 9 * GB && fit.vram_bytes < 12 * GB, "{fit:?}");

    bed.gpu(2 * GB, &[(7, 20 * GB, Some("a"))]);
    assert_eq!(bed.fit(&spec).await.unwrap().verdict, FitVerdict::Fits, "the loaded model makes room");
    bed.gpu(2 * GB, &[(7, 22 * GB, None)]);
    let fit = bed.fit(&spec).await.unwrap();
    assert_eq!((fit.verdict, fit.hopeless), (FitVerdict::Reduced, false), "llama-server moves layers by itself");
    assert!(fit.layers_on_cpu > 20 && fit.in_the_way[0].name == "blender (process 7)", "{fit:?}");

    let all = LaunchSpec { gpu_layers: Some(corral_core::launch::GpuLayers::All), ..spec.clone() };
    let fit = bed.fit(&all).await.unwrap();
    assert_eq!((fit.verdict, fit.hopeless), (FitVerdict::No, true), "{fit:?}");
    let moved = LaunchSpec { override_tensor: vec!["a=CPU".to_owned()], ..all };
    assert!(!bed.fit(&moved).await.unwrap().hopeless, "that is a guess");
}

#[tokio::test]
async fn without_a_gpu_the_hosts_memory_decides() {
    let bed = Bed::new(6);
    let spec = bed.spec("b", "llama-3.1-8b");
    let fit = bed.fit(&LaunchSpec { ctx: 131_072, ..spec.clone() }).await.unwrap();
    assert_eq!((fit.verdict, fit.vram_bytes, fit.layers_on_cpu), (FitVerdict::Reduced, 0, 0), "{fit:?}");
    assert!(fit.ctx < 131_072 && fit.host_bytes > fit.host_free_bytes, "{fit:?}");
    assert!(fit.host_reduced_bytes.unwrap() <= fit.host_free_bytes, "{fit:?}");
    let small = Bed::new(2);
    let spec = small.spec("b", "llama-3.1-8b");
    let fit = small.fit(&spec).await.unwrap();
    assert_eq!((fit.verdict, fit.hopeless), (FitVerdict::No, false), "its weights can be read from the disk again");
    let locked = LaunchSpec { args: vec!["--no-mmap".to_owned()], ..spec };
    let fit = small.fit(&locked).await.unwrap();
    assert!(fit.hopeless && fit.reason.unwrap().contains("this machine has 2.0 GB to give"));
}

#[tokio::test]
async fn what_cannot_be_told_is_left_out() {
    let bed = Bed::new(64);
    let spec = bed.spec("b", "llama-3.1-8b");
    let missing = LaunchSpec { file: "/nothing.gguf".into(), ..spec.clone() };
    assert_eq!(bed.fit(&missing).await, None);
    // The driver is there, and yet no GPU can be read.
    std::fs::create_dir_all(bed.folder.path().join("dev")).unwrap();
    std::fs::write(bed.folder.path().join(DRIVERS[0]), "").unwrap();
    assert_eq!(bed.fit(&spec).await, None);
    assert!(bed.fit(&LaunchSpec { gpu: Gpu::None, ..spec.clone() }).await.is_some(), "it needs none");
    // An image for NVIDIA's GPUs, and none that can be read.
    let image = LaunchSpec { runtime: Runtime::Docker, image: "llama:server-cuda".to_owned(), ..spec };
    bed.gpu(20 * GB, &[]);
    assert_eq!(bed.fit(&image).await.unwrap().verdict, FitVerdict::Fits);
}

#[tokio::test]
async fn a_list_looks_at_gpus_once_and_reads_each_header_once() {
    let bed = Bed::new(64);
    bed.gpu(20 * GB, &[]);
    let specs: Vec<_> = (0..50).map(|n| Arc::new(bed.spec(&format!("m{n}"), "small-llama"))).collect();
    for _ in 0..2 {
        let fits = bed.memory.fits(&specs, 0, Ask::List).await;
        assert!(fits.len() == 50 && fits.iter().all(Option::is_some));
    }
    assert_eq!(bed.gpu.asked(), 2);
    let on_cpu: Vec<_> =
        specs.iter().map(|spec| Arc::new(LaunchSpec { gpu: Gpu::None, ..LaunchSpec::clone(spec) })).collect();
    bed.memory.fits(&on_cpu, 0, Ask::List).await;
    assert_eq!(bed.gpu.asked(), 2, "these use none");
}

#[tokio::test]
async fn memory_is_held_until_the_process_and_its_memory_are_gone() {
    let bed = Bed::new(64);
    let spec = bed.spec("b", "small-llama");
    assert_eq!(bed.memory.held().await, None, "there is no GPU");
    bed.gpu(4 * GB, &[(7, 18 * GB, Some("a")), (9, GB, None)]);
    bed.fit(&spec).await.unwrap();
    let held = bed.memory.held().await.unwrap();
    assert_eq!(held, "llama-server (process 7) still has memory of 18000 MB on GPU 0 (RTX 4090)");
    // It has ended, and nobody can say any more whose it was; then its entry goes, and at last its memory.
    bed.gpu(4 * GB, &[(7, 18 * GB, None)]);
    assert!(bed.memory.held().await.unwrap().contains("process 7"));
    bed.gpu(5 * GB, &[]);
    assert!(bed.memory.held().await.unwrap().contains("still has 19000 MB in use"));
    bed.gpu(14 * GB, &[]);
    assert!(bed.memory.held().await.is_some(), "half of it is not all");
    bed.gpu(21 * GB, &[(11, GB, None)]);
    assert_eq!(bed.memory.held().await, None);
}

#[tokio::test]
async fn what_others_take_meanwhile_is_not_waited_for() {
    let bed = Bed::new(64);
    let spec = bed.spec("b", "small-llama");
    bed.gpu(4 * GB, &[(7, 18 * GB, Some("a"))]);
    bed.fit(&spec).await.unwrap();
    bed.gpu(7 * GB, &[(11, 5 * GB, None)]);
    let held = bed.memory.held().await.unwrap();
    assert_eq!(held, "GPU 0 (RTX 4090) still has 12000 MB in use, though nobody says by whom");
    bed.gpu(17 * GB, &[(11, 5 * GB, None)]);
    assert_eq!(bed.memory.held().await, None);
}

const BREAKDOWN: &str = r#"{"type":"fit_memory_breakdown","data":{"unit":"MiB","rows":[
    {"kind":"device","name":"CUDA0","model":4155,"context":4096,"compute":600,"unaccounted":2000},
    {"kind":"host","name":"Host","model":281,"context":0,"compute":72}]}}"#;

#[tokio::test]
async fn what_a_load_took_corrects_what_is_said_from_then_on() {
    let mut bed = Bed::new(64);
    let spec = bed.spec("b", "llama-3.1-8b");
    bed.gpu(23 * GB, &[]);
    let before = bed.fit(&spec).await.unwrap();
    // The buffers are 8851 MiB of it.
    let held = (8851 + 350) << 20;
    bed.gpu(24 * GB - held, &[(7, held, Some("b"))]);
    bed.says("other", "nothing of the kind");
    bed.says("b", BREAKDOWN);
    let lesson = bed.learn(&spec, true).await.unwrap();
    assert_eq!((lesson.correction.overhead, lesson.on_cpu), (Some(350 << 20), false), "{lesson:?}");
    let after = bed.fit(&spec).await.unwrap();
    assert!(after.vram_bytes != before.vram_bytes);
    assert!(after.vram_bytes.abs_diff(held) < held / 50, "{after:?} {held}");
    // Its last word, after its end, has other programs in it where nobody is told by process.
    bed.gpu(23 * GB, &[]);
    assert_eq!(bed.learn(&spec, false).await.unwrap().correction.overhead, Some(350 << 20));

    bed.restart();
    let again = bed.fit(&spec).await.unwrap();
    assert_eq!(again.vram_bytes, after.vram_bytes, "it is kept");
    // Another file by the same name has taught nothing.
    std::fs::remove_file(&spec.file).unwrap();
    ShapedModel::named("small-llama").unwrap().write(&spec.file).unwrap();
    let other = bed.fit(&LaunchSpec { file: spec.file.clone(), ..bed.spec("c", "small-llama") }).await.unwrap();
    assert_eq!(bed.fit(&spec).await.unwrap().vram_bytes, other.vram_bytes);
}

#[tokio::test]
async fn a_server_that_uses_no_gpu_is_judged_by_the_hosts_memory_from_then_on() {
    let bed = Bed::new(64);
    let spec = bed.spec("b", "small-llama");
    bed.gpu(20 * GB, &[]);
    assert!(bed.fit(&spec).await.unwrap().vram_bytes > 0);
    bed.says("b", &BREAKDOWN.replace("\"device\"", "\"buffer_type\""));
    assert!(bed.learn(&spec, true).await.unwrap().on_cpu);
    assert_eq!(bed.fit(&spec).await.unwrap().vram_bytes, 0);
    // One that was built for it comes in its place.
    bed.gpu(15 * GB, &[(7, 5 * GB, Some("b"))]);
    assert!(!bed.learn(&spec, true).await.unwrap().on_cpu);
}

#[tokio::test]
async fn another_build_of_the_server_is_judged_afresh() {
    let mut bed = Bed::new(64);
    let spec = bed.spec("b", "llama-3.1-8b");
    bed.gpu(23 * GB, &[]);
    let before = bed.fit(&spec).await.unwrap();
    bed.says("b", &BREAKDOWN.replace("\"device\"", "\"buffer_type\""));
    assert!(bed.learn(&spec, true).await.unwrap().on_cpu);
    assert_eq!(bed.fit(&spec).await.unwrap().vram_bytes, 0);

    // One that has support for GPUs comes in its place, while the old one runs.
    bed.build("the second one");
    let afresh = bed.fit(&spec).await.unwrap();
    assert_eq!(afresh, before, "nothing was learned of it");
    assert!(bed.learn(&spec, false).await.unwrap().on_cpu, "the old one's last word is about the old one");
    assert_eq!(bed.fit(&spec).await.unwrap(), before);
    let listed = bed.memory.fits(&[Arc::new(spec.clone())], 0, Ask::List).await;
    assert_eq!(listed, [Some(before.clone())]);

    // Its own load teaches about it, and holds after a restart.
    bed.gpu(12 * GB, &[(7, 11 * GB, Some("b"))]);
    bed.says("b", BREAKDOWN);
    assert!(!bed.learn(&spec, true).await.unwrap().on_cpu);
    bed.gpu(23 * GB, &[]);
    let learned = bed.fit(&spec).await.unwrap();
    assert_ne!(learned.vram_bytes, before.vram_bytes);
    bed.restart();
    assert_eq!(bed.fit(&spec).await.unwrap(), learned);
    // The ratios of the second are not those of a third.
    bed.build("yet another one");
    assert_eq!(bed.fit(&spec).await.unwrap(), before);
}

#[tokio::test]
async fn what_settings_keep_off_the_gpus_is_not_held_against_the_build() {
    let bed = Bed::new(64);
    let spec = bed.spec("b", "llama-3.1-8b");
    bed.gpu(20 * GB, &[]);
    let with = |args: &[&str], env: &[(&str, &str)]| LaunchSpec {
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        env: env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        ..spec.clone()
    };
    for hidden in [
        with(&["-dev", "none"], &[]),
        with(&["--device=none"], &[]),
        with(&["-ngl", "0"], &[]),
        with(&[], &[("CUDA_VISIBLE_DEVICES", "")]),
        with(&[], &[("LLAMA_ARG_DEVICE", "none")]),
        LaunchSpec { gpu: Gpu::Devices(vec![5]), ..spec.clone() },
    ] {
        bed.says("b", &BREAKDOWN.replace("\"device\"", "\"buffer_type\""));
        bed.learn(&hidden, true).await.unwrap();
        assert_eq!(bed.fit(&hidden).await.unwrap().vram_bytes, 0, "{hidden:?}");
        assert!(bed.fit(&spec).await.unwrap().vram_bytes > 0, "taken away again: {hidden:?}");
    }
}

#[tokio::test]
async fn nothing_is_refused_because_the_last_load_used_no_gpu() {
    let bed = Bed::new(2);
    let args = vec!["--no-mmap".to_owned()];
    let spec = LaunchSpec { args, ..bed.spec("b", "llama-3.1-8b") };
    bed.gpu(20 * GB, &[]);
    bed.says("b", &BREAKDOWN.replace("\"device\"", "\"buffer_type\""));
    assert!(bed.learn(&spec, true).await.unwrap().on_cpu);
    let fit = bed.fit(&spec).await.unwrap();
    assert_eq!((fit.verdict, fit.vram_bytes, fit.hopeless), (FitVerdict::No, 0, false), "{fit:?}");
    assert!(fit.warning("b").is_some());
    let asked_for = LaunchSpec { gpu: Gpu::None, ..spec };
    assert!(bed.fit(&asked_for).await.unwrap().hopeless, "that is no guess");
}

#[tokio::test]
async fn a_build_that_is_not_told_takes_nothing_away() {
    let bed = Bed::new(64);
    let spec = bed.spec("b", "llama-3.1-8b");
    bed.gpu(12 * GB, &[(7, 11 * GB, Some("b"))]);
    bed.says("b", BREAKDOWN);
    let lesson = bed.learn(&spec, true).await.unwrap();
    assert!(lesson.build.is_some());
    let aside = bed.folder.path().join("aside");
    std::fs::rename(bed.binary(), &aside).unwrap();
    bed.gpu(10 * GB, &[(7, 13 * GB, Some("b"))]);
    assert_eq!(bed.learn(&spec, true).await, Some(lesson.clone()));
    std::fs::rename(&aside, bed.binary()).unwrap();
    let again = bed.learn(&spec, true).await.unwrap();
    assert!(again.build == lesson.build && again != lesson, "once it is told it is learned from again");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_says_nothing_teaches_nothing() {
    let bed = Bed::new(64);
    let spec = bed.spec("b", "small-llama");
    bed.says("other", BREAKDOWN);
    assert_eq!(bed.learn(&spec, true).await, None);
}
