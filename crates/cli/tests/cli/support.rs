//! Running the program in a home of its own, and a daemon for it: the real API and controller over a fake engine.

use std::ffi::OsStr;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use corral_api::{ApiState, Metrics};
use corral_core::Secret;
use corral_core::catalog::{Catalog, Surroundings};
use corral_core::command::ControllerHandle;
use corral_core::controller::{Controller, ControllerConfig};
use corral_core::listen::handover;
use corral_core::log::LogBuffer;
use corral_core::snapshot::Snapshot;
use corral_daemon::DaemonFile;
use corral_testkit::fakes::{FakeEngine, Memory, ports};
use corral_testkit::{FakeGpu, FakeUsage, SandboxHome};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

/// Three models; the file of the last is nowhere.
pub(crate) const THREE: &str = r#"schema = 1

[models.a]
file = "a.gguf"

[models.b]
name = "Model B"
file = "b.gguf"
aliases = ["bee-*"]

[models."c.1"]
file = "c.gguf"
"#;

/// The program in this home, and in no other part of the tester's environment.
pub(crate) fn corral<A: AsRef<OsStr>>(home: &SandboxHome, args: impl IntoIterator<Item = A>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corral"));
    command.args(args).env_clear().env("CORRAL_HOME", home.path()).env("HOME", home.path()).env("TZ", "UTC");
    command.stdin(Stdio::null());
    command
}

/// What a run of the program gave.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Run {
    /// Stdout as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl From<Output> for Run {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("output is UTF-8");
        Self { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

/// Runs the program to its end.
pub(crate) fn run(home: &SandboxHome, args: &[&str]) -> Run {
    corral(home, args).output().expect("the program runs").into()
}

/// A home with the three models.
pub(crate) fn three_models() -> SandboxHome {
    let home = SandboxHome::new();
    home.write_catalog(THREE);
    for file in ["a.gguf", "b.gguf"] {
        home.write_model(file, &corral_testkit::TinyModel::new(1));
    }
    home
}

/// A daemon of a home, in this process.
pub(crate) struct Daemon {
    pub(crate) home: SandboxHome,
    pub(crate) engine: Arc<FakeEngine>,
    pub(crate) logs: Arc<LogBuffer>,
    pub(crate) controller: ControllerHandle,
    pub(crate) usage: Arc<FakeUsage>,
    pub(crate) gpu: Arc<FakeGpu>,
    shutdown: CancellationToken,
    runtime: Runtime,
}

impl Daemon {
    /// Serves a home with the three models.
    pub(crate) fn new() -> Self {
        Self::serving(three_models(), THREE)
    }

    /// Serves a home with this text as its catalog.
    pub(crate) fn serving(home: SandboxHome, catalog: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (engine, logs) = (Arc::<FakeEngine>::default(), Arc::new(LogBuffer::new(1000, 1 << 20)));
        let surroundings =
            Surroundings { path: home.catalog(), home: home.path().to_owned(), models_dir: home.models() };
        let reading = Catalog::read(catalog, &surroundings);
        let config = ControllerConfig { version: "1.2.3".to_owned(), catalog_path: home.catalog(), gateway: None };
        let ports = ports(&engine, &Arc::<Memory>::default());
        let (controller, actor) = Controller::new(config, ports, reading, Catalog::default());
        let (usage, shutdown) = (Arc::<FakeUsage>::default(), CancellationToken::new());
        let gpu = Arc::<FakeGpu>::default();
        let state = ApiState {
            configuration: Arc::<corral_testkit::FakeConfiguration>::default(),
            machine: Arc::<corral_testkit::FakeMachine>::default(),
            live: Arc::<corral_testkit::FakeLive>::default(),
            gpu: gpu.clone(),
            controller: controller.clone(),
            logs: logs.clone(),
            token: Secret::new("a token"),
            metrics: Arc::new(Metrics::new()),
            usage: usage.clone(),
            version: "1.2.3".to_owned(),
        };
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let management = listener.local_addr().unwrap();
        runtime.spawn(actor.run());
        runtime.spawn(corral_api::serve(listener, handover().1, state, shutdown.clone()));
        announce(&home, management);
        Self { home, engine, logs, controller, usage, gpu, shutdown, runtime }
    }

    /// Runs the program against this daemon.
    pub(crate) fn run(&self, args: &[&str]) -> Run {
        run(&self.home, args)
    }

    /// Waits until the snapshot is as wanted.
    pub(crate) fn until(&self, what: impl FnMut(&Arc<Snapshot>) -> bool) {
        let mut watch = self.controller.watch_snapshot();
        let waited = async { tokio::time::timeout(Duration::from_secs(10), watch.wait_for(what)).await.map(|_| ()) };
        self.runtime.block_on(waited).expect("it comes true within 10 s");
    }

    /// Ends streams and waiting callers, as a daemon that ends does.
    pub(crate) fn shut_down(&self) {
        self.shutdown.cancel();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// Writes the files by which the program finds a daemon.
pub(crate) fn announce(home: &SandboxHome, management: std::net::SocketAddr) {
    let gateway = ([127, 0, 0, 1], 8080).into();
    let file = DaemonFile { pid: std::process::id(), management, gateway, version: "1.2.3".to_owned() };
    std::fs::write(home.run().join("daemon.json"), serde_json::to_vec(&file).unwrap()).unwrap();
    std::fs::write(home.run().join("token"), "a token\n").unwrap();
}
