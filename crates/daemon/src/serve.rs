//! `corral serve`: everything wired together, from the first lock to the last answer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use corral_api::{ApiState, Metrics};
use corral_core::command::ControllerHandle;
use corral_core::controller::{Controller, ControllerConfig};
use corral_core::launch::Runtime;
use corral_core::log::LogBuffer;
use corral_core::ports::Ports;
use corral_core::settings::{OnQuit, Settings};
use corral_core::{Code, Error, Result};
use corral_engine::files::LocalModelFiles;
use corral_engine::{EngineConfig, Engines, Environment, SlotFiles};
use corral_gateway::{Gate, GatewayPorts};
use corral_store::Store;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::adapters::{CountedJournal, LoggedNotices, SystemClock};
use crate::catalog_file::{self, ensure_catalog};
use crate::configuration::ConfigurationFiles;
use crate::energy::MeasuredLedger;
use crate::gpu;
use crate::jails::{Jails, JailsPorts};
use crate::live::{LiveReader, Recent};
use crate::machine::ThisMachine;
use crate::memory::MachineMemory;
use crate::paths::Paths;
use crate::runtime_files::{DaemonFile, HomeLock, KeyFile, new_token, private_dir, remove};
use crate::settings_file::read_settings;
use crate::usage;

/// Bounds of `llama-server`'s log in memory: records, and bytes of text.
const LOG_BOUNDS: (usize, usize) = (5_000, 1 << 20);

/// How long the model may take to stop when Corral ends; the API's own grace comes on top and both stay below the
/// 10 seconds that service supervisors usually give.
const STOP_BOUND: Duration = Duration::from_secs(6);

/// As many open files as all connections of both ports can take.
const WANTED_FILES: u64 = 32_768;

/// What `corral serve` can be told.
pub struct ServeOptions {
    /// Called once, when the management API answers.
    pub on_ready: Box<dyn FnOnce(&Serving) + Send>,
    /// Ends it when cancelled, as a signal does.
    pub end: CancellationToken,
}

/// Where a daemon serves.
#[derive(Debug, Clone)]
pub struct Serving {
    /// The management API.
    pub management: SocketAddr,
    /// The inference gateway.
    pub gateway: SocketAddr,
    /// Its files.
    pub paths: Paths,
}

/// Serves until SIGTERM, SIGINT or SIGHUP, then ends in order: callers answered, the model stopped or left as
/// `settings.toml` says.
pub fn serve(env: Environment, options: ServeOptions) -> Result<()> {
    let runtime = runtime()?;
    let result = runtime.block_on(run(env, options));
    // A blocking read on a stuck file system must not hold the program.
    runtime.shutdown_timeout(Duration::from_millis(200));
    result
}

/// The runtime that [`run`] is made for.
pub fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        // Blocking work is rare and small; idle threads would only hold memory.
        .max_blocking_threads(8)
        .thread_keep_alive(Duration::from_secs(2))
        .thread_name("corral")
        .enable_all()
        .build()
        .map_err(|error| Error::new(Code::Io, "cannot start the runtime").because(error))
}

/// Lets this process have as many files open as it may: each request takes two, and the usual limit is 1024.
fn allow_many_connections() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // Where it stays as it is, connections wait to be accepted.
    let wanted = maximum.map_or(WANTED_FILES, |maximum| maximum.min(WANTED_FILES));
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum }) {
        tracing::debug!(%error, "the limit on open files stays as it is");
    }
}

/// The same as [`serve`], as a task beside others.
pub async fn run(env: Environment, options: ServeOptions) -> Result<()> {
    allow_many_connections();
    let mut signals = Signals::new()?;
    let paths = Paths::resolve(&env)?;
    let _lock = take_home(&paths)?;
    let settings = settings_of_the_start(&paths);
    let (catalog_text, reading) = catalog_of_the_start(&paths)?;
    let fallback = corral_core::catalog::Catalog::default();
    let in_force = reading.catalog.as_ref().unwrap_or(&fallback);
    let server = in_force.server.clone();
    let (listener, management) = bind("management", server.management, &paths).await?;
    let (inference_listener, gateway) = bind("gateway", server.gateway, &paths).await?;
    let jails = Jails::bind(&paths)?;

    let version = env!("CARGO_PKG_VERSION").to_owned();
    let logs = Arc::new(LogBuffer::new(LOG_BOUNDS.0, LOG_BOUNDS.1));
    let metrics = Arc::new(Metrics::new());
    let (machine, nvml) = (Arc::new(ThisMachine::new(env.clone(), &paths)), gpu::library(&env));
    let store = Arc::new(Store::open(&paths.database)?);
    let memory = MachineMemory::new(&env, logs.clone(), store.clone());
    let engine_config = engine_config(&paths, env, logs.clone(), version.clone());
    let engines = Engines::new(&engine_config, catalog_file::uses(in_force, Runtime::Docker));
    // Whoever serves requests records them here; it takes them from now on.
    let (request_ledger, ledger_writer) = corral_store::ledger(&paths.database);
    let clock = Arc::new(SystemClock::new());
    let gate = Gate::new(clock.clone());
    metrics.watch_gateway(usage::waiting(gate.clone()));
    let journal = CountedJournal { store: store.clone(), metrics: metrics.clone() };
    let contexts = SlotFiles::new(&engine_config);
    let ports = ports(&paths, (engines.clone(), contexts, memory.clone()), gate.clone(), journal, clock.clone());
    let config = controller_config(&paths, gateway, &version);
    let (handle, controller) = Controller::new(config, ports, reading, fallback);
    let recent = Arc::<Recent>::default();
    let (gpu, energy) = gpu::watch(nvml, &handle, clock.clone(), memory.clone());
    let (request_ledger, measuring) = MeasuredLedger::start(request_ledger, energy);
    memory.watch(gpu.clone());
    let live = Arc::new(LiveReader::new(gate.clone(), handle.clone(), clock.clone(), recent.clone()));
    let ledger_writer = ledger_writer.start(usage::hooks(&handle, metrics.clone(), recent.clone()))?;
    let token = new_token(&paths)?;
    DaemonFile { pid: std::process::id(), management, gateway, version: version.clone() }.write(&paths)?;

    let mut actor = tokio::spawn(controller.run());
    let watching = catalog_file::watch(paths.clone(), catalog_text, server, handle.clone(), engines);
    let telling = live.clone().tell_speed();
    let watcher = tokio::spawn(async { tokio::join!(watching, telling) });
    let end = CancellationToken::new();
    let (controller, configuration) = (handle.clone(), ConfigurationFiles::new(paths.clone(), handle.clone()));
    let configuration = Arc::new(configuration);
    let state = ApiState { controller, logs, token, metrics, usage: store, configuration, machine, live, gpu, version };
    let (jails_ports, from_jails) = JailsPorts::new(handle.clone());
    let api = tokio::spawn(corral_api::serve(listener, from_jails.management, state, end.clone()));
    let gateway_ports = GatewayPorts { controller: handle.clone(), ledger: Arc::new(request_ledger), clock };
    let inference = corral_gateway::serve(inference_listener, from_jails.gateway, gate, gateway_ports, end.clone());
    let mut inference = tokio::spawn(inference);
    let jails = tokio::spawn(jails.serve(jails_ports, end.clone()));
    (options.on_ready)(&Serving { management, gateway, paths: paths.clone() });

    tokio::select! {
        () = signals.wait() => {}
        () = options.end.cancelled() => {}
        ended = &mut actor => return Err(ended_by_itself("the controller", ended.map(Ok))),
        ended = &mut inference => return Err(ended_by_itself("the gateway", ended)),
    }
    watcher.abort();
    // Read now: the setting may have changed since the start.
    let settings = read_settings(&paths).unwrap_or_else(|error| {
        tracing::warn!("{error}; the settings of the start stay in force");
        settings
    });
    shut_down(&handle, actor, settings.on_quit, &mut signals).await;
    end.cancel();
    let gateway_end = end_of("the gateway", inference).await;
    let api_end = end_of("the API", api).await;
    jails.await.unwrap_or_else(|error| tracing::error!(%error, "the listeners of jails ended badly"));
    // After everything that records.
    measuring.close().await;
    usage::flush(ledger_writer).await;
    clear(&paths);
    gateway_end.and(api_end)
}

/// Takes away what leads to this daemon.
fn clear(paths: &Paths) {
    for file in [&paths.daemon_file, &paths.token] {
        remove(file);
    }
}

/// The catalog, and its text; one with examples is made where there is none.
fn catalog_of_the_start(paths: &Paths) -> Result<(Option<String>, corral_core::catalog::Reading)> {
    if ensure_catalog(paths)? {
        tracing::info!("made {} with examples: edit it to name your models", paths.catalog.display());
    }
    let read = catalog_file::read(paths);
    for problem in &read.1.problems {
        tracing::warn!("{problem}");
    }
    Ok(read)
}

/// The settings; the defaults where they cannot be read: whoever is to mend the file may want the dashboard for that.
fn settings_of_the_start(paths: &Paths) -> Settings {
    read_settings(paths).unwrap_or_else(|error| {
        tracing::warn!("{error}; the defaults are in force");
        Settings::default()
    })
}

/// What the controller is told once.
fn controller_config(paths: &Paths, gateway: SocketAddr, version: &str) -> ControllerConfig {
    let gateway = Some(format!("http://{gateway}"));
    ControllerConfig { version: version.to_owned(), catalog_path: paths.catalog.clone(), gateway }
}

/// What the controller has of the world.
fn ports(
    paths: &Paths,
    (engines, contexts, memory): (Engines, SlotFiles, MachineMemory),
    gate: Gate,
    journal: CountedJournal,
    clock: Arc<SystemClock>,
) -> Ports {
    Ports {
        engine: Arc::new(engines),
        files: Arc::new(LocalModelFiles),
        memory: Arc::new(memory),
        contexts: Arc::new(contexts),
        traffic: Arc::new(gate),
        journal: Arc::new(journal),
        notifier: Arc::new(LoggedNotices),
        endpoint_file: Arc::new(KeyFile::new(paths.clone())),
        clock,
    }
}

/// Makes the folders, and holds them for this daemon.
fn take_home(paths: &Paths) -> Result<HomeLock> {
    for folder in [&paths.run_dir, &paths.state_dir, &paths.slots_dir, &paths.data_dir] {
        private_dir(folder)?;
    }
    HomeLock::take(paths)
}

/// How a part ended that was told to.
async fn end_of(what: &str, part: JoinHandle<Result<()>>) -> Result<()> {
    let badly = |error| Error::new(Code::Internal, format!("{what} ended badly")).because(error);
    part.await.unwrap_or_else(|error| Err(badly(error)))
}

/// The error of a part that ended though nobody had told it to.
fn ended_by_itself(what: &str, ended: Result<Result<()>, JoinError>) -> Error {
    let error =
        Error::new(Code::Internal, format!("{what} ended by itself")).hint("start Corral again, and report this");
    match ended {
        Ok(Ok(())) => error,
        Ok(Err(cause)) => cause,
        Err(cause) => error.because(cause),
    }
}

fn engine_config(paths: &Paths, env: Environment, logs: Arc<LogBuffer>, version: String) -> EngineConfig {
    EngineConfig {
        home_id: paths.home_id(),
        slots_dir: paths.slots_dir.clone(),
        state_dir: paths.state_dir.clone(),
        run_dir: paths.run_dir.clone(),
        env,
        logs,
        version,
    }
}

/// Ends the controller, and with it the model or not, within bounds.
async fn shut_down(handle: &ControllerHandle, actor: JoinHandle<()>, on_quit: OnQuit, signals: &mut Signals) {
    let keep = on_quit == OnQuit::Keep;
    tracing::info!("ending; the model is {}", if keep { "left running" } else { "stopped" });
    let stopped = tokio::time::timeout(STOP_BOUND, async {
        let answered = handle.shut_down(keep).await;
        let _ = actor.await;
        answered
    });
    tokio::select! {
        stopped = stopped => match stopped {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the controller had ended already"),
            Err(_) => tracing::warn!("not everything ended in time; the next start of Corral takes over what runs"),
        },
        () = signals.wait() => tracing::warn!("told to end a second time: ending at once"),
    }
}

/// Takes one of Corral's ports; `key` is its name in `[server]`.
async fn bind(key: &str, address: SocketAddr, paths: &Paths) -> Result<(TcpListener, SocketAddr)> {
    let bound = TcpListener::bind(address).await.and_then(|listener| {
        let address = listener.local_addr()?;
        Ok((listener, address))
    });
    bound.map_err(|error| {
        let taken = error.kind() == std::io::ErrorKind::AddrInUse;
        let code = if taken { Code::PortTaken } else { Code::Io };
        Error::new(code, format!("cannot serve the {key} port on {address}")).because(error).hint(format!(
            "`ss -ltnp 'sport = :{}'` shows who has the port; `[server] {key}` in {} names another",
            address.port(),
            paths.catalog.display()
        ))
    })
}

/// The signals that end the program.
struct Signals([Signal; 3]);

impl Signals {
    fn new() -> Result<Self> {
        let on = |kind| signal(kind).map_err(|e| Error::new(Code::Io, "cannot listen for signals").because(e));
        Ok(Self([on(SignalKind::terminate())?, on(SignalKind::interrupt())?, on(SignalKind::hangup())?]))
    }

    async fn wait(&mut self) {
        let [terminate, interrupt, hang_up] = &mut self.0;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = hang_up.recv() => {}
        }
    }
}
