//! Estimates of a model's memory beside what a real `llama-server` says of the same settings.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use corral_core::fit::{Architecture, Need, Placement, Profile, Space, Taken, estimate};
use corral_core::launch::{Gpu, GpuLayers, LaunchSpec};
use corral_engine::args::{Listen, ServerPaths, server_args};
use corral_engine::files::read_model;
use corral_testkit::gguf::ShapedModel;
use corral_testkit::launch_spec;

use crate::parts;

/// The largest error of weights and KV cache, of the estimate's size.
pub const MEMORY_ERROR: f64 = 0.05;

/// The largest error of the compute buffer.
pub const COMPUTE_ERROR: f64 = 0.2;

/// `llama-server` counts in whole MiB and leaves out what is beyond them, in each of two rows where it keeps weights in
/// another form, too: below so many bytes, that alone can be more than a bound.
pub const COUNTED: u64 = 2 << 20;

/// A slow disk and a busy machine are no reason to fail: nothing is read but headers.
const PATIENCE: Duration = Duration::from_mins(3);

/// What to compare: a shape, a context in tokens, and what the catalog's `args` say.
pub type Setting = (&'static str, u32, &'static str);

/// What to compare on devices: such a setting, and the share of the layers that each of them gets.
pub type DeviceSetting = (Setting, &'static [f64]);

/// Estimate and truth of one device, or of the host, in bytes.
#[derive(Debug, Clone)]
pub struct Compared {
    /// `Host`, or what `llama-server` calls the device.
    pub name: String,
    /// What Corral says.
    pub estimated: Space,
    /// What `llama-server` says.
    pub taken: Space,
}

impl Compared {
    /// Asks for the settings, in a folder for the model's file, which is a hole for the most part.
    ///
    /// `llama-server` measures what it is going to take before it takes anything, and says so; with `whole` it loads
    /// the model and says what it took.
    pub fn of(folder: &Path, setting: Setting, whole: bool) -> Self {
        let spec = LaunchSpec { gpu: Gpu::None, ..spec(folder, setting) };
        let taken = taken(Command::new(parts::llama_server()), folder, &spec, whole);
        assert!(taken.need.gpus.is_empty(), "it uses a GPU: {taken:?}");
        let estimated = estimated(&spec, &[]);
        Self { name: "Host".to_owned(), estimated: estimated.host, taken: taken.need.host }
    }

    /// The same with the Vulkan backend, whose devices are this machine's processor: all of them, and the host at last.
    pub fn on_devices(folder: &Path, (setting, split): DeviceSetting, whole: bool) -> Vec<Self> {
        let tensor_split = if split.len() > 1 { split.to_vec() } else { Vec::new() };
        let spec = LaunchSpec { tensor_split, ..spec(folder, setting) };
        let mut command = Command::new(parts::llama_vulkan());
        // The same one, as often as it is named.
        command.env("GGML_VK_VISIBLE_DEVICES", vec!["0"; split.len()].join(","));
        let taken = taken(command, folder, &spec, whole);
        assert_eq!(taken.need.gpus.len(), split.len(), "it has these devices: {taken:?}");
        let estimated = estimated(&spec, split);
        let names = taken.names.iter().cloned().chain(["Host".to_owned()]);
        let places = |need: Need| need.gpus.into_iter().chain([need.host]);
        let spaces = places(estimated).zip(places(taken.need));
        names.zip(spaces).map(|(name, (estimated, taken))| Self { name, estimated, taken }).collect()
    }

    /// The three kinds of memory with their names: estimate, truth, and the error that is allowed.
    pub fn kinds(&self) -> [(&'static str, u64, u64, f64); 3] {
        let (guess, real) = (&self.estimated, &self.taken);
        [
            ("weights", guess.weights, real.weights, MEMORY_ERROR),
            ("KV", guess.kv, real.kv, MEMORY_ERROR),
            ("compute", guess.compute, real.compute, COMPUTE_ERROR),
        ]
    }
}

/// By how much of the truth an estimate is off.
pub fn error(estimated: u64, real: u64) -> f64 {
    #[allow(clippy::cast_precision_loss, reason = "a ratio of sizes")]
    let off = estimated.abs_diff(real) as f64 / (real as f64).max(1.0);
    off
}

/// Whether an estimate is off by no more than is allowed, or than counting in MiB explains.
pub fn is_right(estimated: u64, real: u64, allowed: f64) -> bool {
    estimated.abs_diff(real) <= COUNTED || error(estimated, real) <= allowed
}

fn spec(folder: &Path, (shape, ctx, args): Setting) -> LaunchSpec {
    let file = folder.join(format!("{shape}.gguf"));
    if !file.exists() {
        ShapedModel::named(shape).expect("there is such a shape").write(&file).expect("a file");
    }
    let args = args.split_whitespace().map(str::to_owned).collect();
    LaunchSpec { file, ctx, args, ..launch_spec("m") }
}

fn estimated(spec: &LaunchSpec, split: &[f64]) -> Need {
    let (model, profile) = (read_model(&spec.file).expect("a model"), Profile::of(spec));
    let layers = match profile.gpu_layers {
        GpuLayers::Count(layers) => layers,
        GpuLayers::All | GpuLayers::Auto => u32::MAX,
    };
    estimate(&Architecture::of(&model).expect("its figures"), &profile, &Placement { gpus: split.to_vec(), layers })
}

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn taken(mut command: Command, folder: &Path, spec: &LaunchSpec, whole: bool) -> Taken {
    let socket: PathBuf = folder.join("server.sock");
    // One that was killed before leaves it behind, and the next would not listen there.
    let _ = std::fs::remove_file(&socket);
    let paths = ServerPaths { model: spec.file.display().to_string(), mmproj: None, slots_dir: None };
    let listen = Listen { host: socket.display().to_string(), port: 1 };
    command.args(server_args(spec, &paths, &listen)).env("LLAMA_ARG_LOG_JSONL", "1");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut server = Server(command.spawn().expect("llama-server starts"));
    let output = server.0.stdout.take().expect("a pipe");
    let (sender, lines) = mpsc::channel();
    // It ends with the server, whose end closes the pipe.
    std::thread::spawn(move || {
        BufReader::new(output)
            .lines()
            .map_while(Result::ok)
            .take_while(|line| sender.send(line.clone()).is_ok())
            .count()
    });
    let (began, mut said, mut last, mut loaded) = (Instant::now(), Vec::new(), None, false);
    // The pipe's end is the server's: the last word is what it took.
    while let Ok(line) = lines.recv_timeout(PATIENCE.saturating_sub(began.elapsed())) {
        if let Some(taken) = Taken::of_line(&line) {
            last = Some(taken);
            if !whole {
                break;
            }
        }
        if whole && !loaded && line.contains("model loaded") {
            loaded = true;
            let pid = rustix::process::Pid::from_child(&server.0);
            rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it runs");
        }
        said.push(line);
    }
    let last = last.filter(|_| loaded || !whole);
    last.unwrap_or_else(|| panic!("llama-server did not say what it takes:\n{}", said.join("\n")))
}
