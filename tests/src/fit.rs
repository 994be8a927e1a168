//! Estimates of a model's memory beside what a real `llama-server` says of the same settings.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use corral_core::fit::{Architecture, Placement, Profile, Space, Taken, estimate};
use corral_core::launch::{Gpu, LaunchSpec};
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
const COUNTED: u64 = 2 << 20;

/// A slow disk and a busy machine are no reason to fail: nothing is read but headers.
const PATIENCE: Duration = Duration::from_mins(3);

/// What to compare: a shape, a context in tokens, and what the catalog's `args` say.
pub type Setting = (&'static str, u32, &'static str);

/// Estimate and truth, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Compared {
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
    pub fn of(folder: &Path, (shape, ctx, args): Setting, whole: bool) -> Self {
        let file = folder.join(format!("{shape}.gguf"));
        if !file.exists() {
            ShapedModel::named(shape).expect("there is such a shape").write(&file).expect("a file");
        }
        let args = args.split_whitespace().map(str::to_owned).collect();
        let spec = LaunchSpec { file, ctx, args, gpu: Gpu::None, ..launch_spec("m") };
        let model = Architecture::of(&read_model(&spec.file).expect("a model")).expect("its figures");
        let on_host = Placement { gpus: Vec::new(), layers: 0 };
        let estimated = estimate(&model, &Profile::of(&spec), &on_host).host;
        Self { estimated, taken: taken(folder, &spec, whole) }
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

/// By how much of the truth an estimate is off; nothing where counting in MiB explains it.
pub fn error(estimated: u64, real: u64) -> f64 {
    let off = estimated.abs_diff(real);
    #[allow(clippy::cast_precision_loss, reason = "a ratio of sizes")]
    if off <= COUNTED { 0.0 } else { off as f64 / (real as f64).max(1.0) }
}

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn taken(folder: &Path, spec: &LaunchSpec, whole: bool) -> Space {
    let socket: PathBuf = folder.join("server.sock");
    // One that was killed before leaves it behind, and the next would not listen there.
    let _ = std::fs::remove_file(&socket);
    let paths = ServerPaths { model: spec.file.display().to_string(), mmproj: None, slots_dir: None };
    let listen = Listen { host: socket.display().to_string(), port: 1 };
    let mut command = Command::new(parts::llama_server());
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
            assert!(taken.need.gpus.is_empty(), "it uses a GPU: {line}");
            last = Some(taken.need.host);
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
