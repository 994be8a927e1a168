//! What inference is sent through: a backend with fixed answers behind Corral, nginx and `LiteLLM`.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use corral_tests::daemon::END_BOUND;
use corral_tests::wait::INTERVAL;
use corral_tests::{Daemon, Models, PATIENCE, parts, process, until};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::figures::resident;

/// The id of the one model; it says what is behind it.
pub(crate) const MODEL: &str = "fixed";

/// Tokens that the backend sends on each stream in a second.
pub(crate) const PACE: usize = 100;

/// Threads of `corral serve`, and with them workers of nginx.
const WORKERS: usize = 2;

/// A real `corral serve` with the fixed answers as its `llama-server`.
pub(crate) struct Corral {
    pub(crate) daemon: Daemon,
    /// Where the fixed answers come from.
    pub(crate) backend: SocketAddr,
    /// Where Corral's gateway listens, where it has one.
    pub(crate) gateway: Option<SocketAddr>,
}

impl Corral {
    pub(crate) fn start() -> Self {
        let program = std::env::current_exe().expect("this program has a path").with_file_name("fixed-answer");
        assert!(program.is_file(), "there is no {}: run scripts/bench.sh, which builds it", program.display());
        let pace = format!("args = [\"--tokens-per-second\", \"{PACE}\"]\n");
        let daemon = Daemon::start(Models::program(&program).tiny_with(MODEL, &pace).home());
        let status = daemon.api().switched(MODEL);
        let address = |url: &str| url.trim_start_matches("http://").parse().expect("an address and a port");
        let backend = status.engine.and_then(|engine| engine.url).expect("the address of the backend");
        Self { backend: address(&backend), gateway: status.gateway.as_deref().map(address), daemon }
    }
}

/// Another program in front of the same backend; ended when dropped.
pub(crate) struct Hop {
    child: Child,
    pub(crate) address: SocketAddr,
    /// What it says of its version.
    pub(crate) version: String,
    /// Its configuration and its log.
    folder: TempDir,
}

impl Hop {
    /// nginx as a reverse proxy: kept-alive connections on both sides, no log, nothing buffered.
    pub(crate) fn nginx(backend: SocketAddr) -> Self {
        let program = program("CORRAL_BENCH_NGINX");
        let folder = tempfile::tempdir().expect("a folder");
        let address = free_address();
        let in_folder = |name: &str| folder.path().join(name).display().to_string();
        // Without these paths it would need folders of the system's own nginx.
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("  {kind}_temp_path {};\n", in_folder(kind)))
            .concat();
        let config = format!(
            "daemon off;\nworker_processes {WORKERS};\npid {pid};\nevents {{ worker_connections 4096; }}\nhttp {{\n\
             {temporary}  access_log off;\n  keepalive_requests 100000000;\n  \
             upstream backend {{ server {backend}; keepalive 128; keepalive_requests 100000000; }}\n  \
             server {{\n    listen {address};\n    location / {{\n      proxy_pass http://backend;\n      \
             proxy_http_version 1.1;\n      proxy_set_header Connection \"\";\n      proxy_buffering off;\n    \
             }}\n  }}\n}}\n",
            pid = in_folder("pid"),
        );
        fs::write(folder.path().join("nginx.conf"), config).expect("a configuration");
        let mut command = Command::new(&program);
        command.args(["-e", &in_folder("error.log"), "-p", &in_folder(""), "-c", &in_folder("nginx.conf")]);
        Self::start(command, address, version(Command::new(&program).arg("-v")), folder)
    }

    /// `LiteLLM`'s proxy as it comes, on loopback alone: one worker, no database, no key to check.
    pub(crate) fn litellm(backend: SocketAddr) -> Self {
        let program = program("CORRAL_BENCH_LITELLM");
        let folder = tempfile::tempdir().expect("a folder");
        let address = free_address();
        let config = folder.path().join("config.yaml");
        let model = format!("{{ model: openai/{MODEL}, api_base: \"http://{backend}/v1\", api_key: none }}");
        let text = format!(
            "model_list:\n  - model_name: {MODEL}\n    litellm_params: {model}\n\
             litellm_settings: {{ num_retries: 0, telemetry: false }}\n"
        );
        fs::write(&config, text).expect("a configuration");
        let command = || {
            let mut command = Command::new(&program);
            command.env_clear().env("HOME", folder.path()).current_dir(folder.path());
            command.envs(parts::variable("PATH").map(|path| ("PATH", path)));
            command.env("LITELLM_LOCAL_MODEL_COST_MAP", "True").env("LITELLM_LOG", "ERROR");
            command.env("LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY", "true");
            command
        };
        let mut serve = command();
        serve.arg("--config").arg(&config).args(["--host", "127.0.0.1", "--keepalive_timeout", "600"]);
        serve.args(["--port", &address.port().to_string()]);
        let version = version(command().arg("--version"));
        Self::start(serve, address, version, folder)
    }

    fn start(mut command: Command, address: SocketAddr, version: String, folder: TempDir) -> Self {
        let log = folder.path().join("log");
        let file = File::create(&log).expect("a log file");
        command.stdin(Stdio::null()).stdout(file.try_clone().expect("a descriptor")).stderr(file);
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let mut hop = Self { child, address, version, folder };
        until(2 * PATIENCE, &format!("{command:?} listens"), || {
            let ended = hop.child.try_wait().expect("a child can be waited for");
            assert!(ended.is_none(), "{command:?} ended: {ended:?}\n{}", hop.said());
            TcpStream::connect(address).ok()
        });
        hop
    }

    /// The end of what it has printed, which is where it says why it ended.
    fn said(&self) -> String {
        let logs =
            ["error.log", "log"].map(|name| fs::read(self.folder.path().join(name)).unwrap_or_default()).concat();
        String::from_utf8_lossy(&logs[logs.len().saturating_sub(2000)..]).into_owned()
    }

    /// Resident memory in MB, that of its workers included.
    pub(crate) fn resident(&self) -> f64 {
        let pid = self.child.id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        let children = children.split_whitespace().filter_map(|child| child.parse().ok());
        std::iter::once(pid).chain(children).map(resident).sum()
    }
}

impl Drop for Hop {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            process::signal(self.child.id(), Signal::TERM);
            let deadline = Instant::now() + END_BOUND;
            while self.child.try_wait().is_ok_and(|ended| ended.is_none()) && Instant::now() < deadline {
                std::thread::park_timeout(INTERVAL);
            }
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// The program that `scripts/bench.sh` has brought.
fn program(name: &str) -> PathBuf {
    let path =
        parts::variable(name).unwrap_or_else(|| panic!("{name} is not set: run scripts/bench.sh, which sets it"));
    assert!(Path::new(&path).is_file(), "there is no {path} ({name}): run scripts/bench.sh, which brings it");
    PathBuf::from(path)
}

/// The first number with dots in what a program says of its version.
fn version(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    let words = said.split(|letter: char| !letter.is_ascii_digit() && letter != '.');
    let numbered = |word: &&str| word.starts_with(|letter: char| letter.is_ascii_digit()) && word.contains('.');
    words.into_iter().find(numbered).unwrap_or("of an unknown version").to_owned()
}

/// A port that was free a moment ago: these programs cannot be told to take any.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port")
}
