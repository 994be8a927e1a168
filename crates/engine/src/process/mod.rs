//! `llama-server` as a child process, for machines without a container engine.
//!
//! A server outlives the Corral that started it, by design: it writes to a file, is in a process group of its own, and
//! a record in the state folder says which process it is. The next Corral adopts it from there.

use std::collections::HashMap;
use std::fs;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use corral_core::launch::LaunchSpec;
use corral_core::ports::{Endpoint, Engine, EngineEvent, Instance, InstanceState, Job, Owned};
use corral_core::{Code, Error, InstanceId, Result, Secret};
use jiff::Timestamp;
use rustix::process::Signal;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::args::{self, Listen, ServerPaths};
use crate::environment::EngineConfig;
use crate::errors::{self, superseded};
use crate::health::Probe;
use crate::load::{self, Loaded};
use crate::slot_files::folder::{self, Writer};
use crate::{progress, random};

mod binary;
mod follow;
mod identity;
mod record;
mod run;

pub use binary::find as find_binary;

use follow::Follower;
use identity::Identity;
use record::{Record, Records, RunRecord};
use run::Run;

/// How long a server may take to end by itself.
const STOP_PATIENCE: Duration = Duration::from_secs(5);
/// How long the kernel may take to end it: a process that waits for a GPU's driver can take a while.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

/// Runs `llama-server` as a child process. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ProcessEngine {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: EngineConfig,
    records: Records,
    probe: Probe,
    servers: Mutex<HashMap<InstanceId, Server>>,
    readers: Mutex<Vec<mpsc::UnboundedSender<EngineEvent>>>,
}

/// A server that is prepared, runs or ran.
#[derive(Debug)]
struct Server {
    record: Record,
    /// The size of its model's files; none where it was started by an earlier Corral.
    model_bytes: Option<u64>,
    run: Option<Arc<Run>>,
}

impl Server {
    fn running(&self) -> Option<&Arc<Run>> {
        self.run.as_ref().filter(|run| run.ended().is_none())
    }

    fn state(&self) -> InstanceState {
        match self.running() {
            Some(run) => InstanceState::Running(run.endpoint.clone()),
            None if self.record.run.is_none() => InstanceState::Created,
            None => InstanceState::Exited,
        }
    }
}

impl ProcessEngine {
    /// An engine whose records and logs are in `config.state_dir`.
    pub fn new(config: EngineConfig) -> Self {
        let records = Records::new(&config.state_dir);
        let probe = Probe::new();
        let (servers, readers) = (Mutex::default(), Mutex::default());
        Self { shared: Arc::new(Shared { config, records, probe, servers, readers }) }
    }
}

#[async_trait]
impl Engine for ProcessEngine {
    async fn prepare(&self, spec: &LaunchSpec, job: &Job) -> Result<Instance> {
        if job.cancelled.is_cancelled() {
            return Err(superseded());
        }
        let record = self.shared.new_record(spec)?;
        let instance = record.instance();
        let server = Server { record, model_bytes: progress::model_bytes(spec), run: None };
        self.shared.servers().insert(instance.id.clone(), server);
        Ok(instance)
    }

    async fn start(&self, instance: &Instance) -> Result<Endpoint> {
        // Without a point to be interrupted at: a server that was started is a server that is known.
        self.shared.start(&instance.id)
    }

    async fn await_ready(&self, instance: &Instance, endpoint: &Endpoint, timeout: Duration, job: &Job) -> Result<()> {
        let run = self.shared.run(&instance.id).ok_or_else(|| unknown(&instance.id))?;
        run.loading.store(true, Ordering::Relaxed);
        let model_bytes = self.shared.servers().get(&instance.id).and_then(|server| server.model_bytes);
        let ready = self.shared.probe.until_ready(&endpoint.url);
        let progress = progress::report_loading(Some(run.identity.pid), model_bytes, job);
        match load::wait(run.until_ended(), ready, progress, timeout, &job.cancelled).await {
            Loaded::Ended(cause) => Err(cause),
            // It has ended, and its end is being looked into: who answered may have been another on the same port.
            Loaded::Ready if run.identity.open().is_none() => Err(run.until_ended().await),
            Loaded::Ready => {
                run.loading.store(false, Ordering::Relaxed);
                Ok(())
            }
            Loaded::Cancelled => Err(superseded()),
            Loaded::TooSlow => Err(errors::too_slow(&instance.model, timeout, &run.last_lines.get())),
        }
    }

    async fn busy(&self, instance: &Instance, endpoint: &Endpoint) -> Result<u32> {
        self.shared.probe.busy(&endpoint.url, &instance.api_key).await
    }

    fn memory(&self, instance: &Instance) -> Option<u64> {
        let run = self.shared.run(&instance.id).filter(|run| run.ended().is_none())?;
        progress::private(run.identity.pid)
    }

    async fn stop(&self, instance: &Instance) -> Result<()> {
        let Some(run) = self.shared.run(&instance.id) else { return Ok(()) };
        end(&run, &[(Signal::TERM, STOP_PATIENCE), (Signal::KILL, KILL_PATIENCE)]).await
    }

    async fn discard(&self, instance: &Instance) -> Result<()> {
        if let Some(run) = self.shared.run(&instance.id) {
            end(&run, &[(Signal::KILL, KILL_PATIENCE)]).await?;
        }
        self.shared.forget(&instance.id);
        Ok(())
    }

    async fn owned(&self) -> Result<Vec<Owned>> {
        self.shared.owned()
    }

    fn events(&self) -> mpsc::UnboundedReceiver<EngineEvent> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.shared.readers.lock().unwrap_or_else(PoisonError::into_inner).push(sender);
        receiver
    }
}

impl Shared {
    fn servers(&self) -> MutexGuard<'_, HashMap<InstanceId, Server>> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last run of an instance, ended or not.
    fn run(&self, id: &InstanceId) -> Option<Arc<Run>> {
        self.servers().get(id)?.run.clone()
    }

    fn new_record(&self, spec: &LaunchSpec) -> Result<Record> {
        let program = binary::find(&spec.binary, &self.config.env)?;
        let id = random::hex::<8>()?;
        let api_key = random::hex::<32>()?;
        let (state_dir, slots_dir) = (&self.config.state_dir, &self.config.slots_dir);
        fs::create_dir_all(state_dir).map_err(|error| errors::unusable("cannot make", state_dir, error))?;
        let slots_dir = folder::make(slots_dir, &spec.model, Writer::Own)
            .map_err(|error| errors::unusable("cannot make", &folder::of(slots_dir, &spec.model), error))?;
        let paths = ServerPaths {
            model: spec.file.to_string_lossy().into_owned(),
            mmproj: spec.mmproj.as_ref().map(|path| path.to_string_lossy().into_owned()),
            slots_dir: Some(slots_dir.to_string_lossy().into_owned()),
        };
        let listen = Listen { host: "127.0.0.1".to_owned(), port: 0 };
        Ok(Record {
            home_id: self.config.home_id.clone(),
            model: spec.model.clone(),
            config_hash: spec.hash(),
            env: binary::environment(spec, &Secret::new(api_key.clone()), &self.config.env),
            api_key,
            program,
            args: args::server_args(spec, &paths, &listen),
            log: self.config.state_dir.join(format!("llama-server-{id}.log")),
            id: InstanceId(id),
            run: None,
        })
    }

    fn start(self: &Arc<Self>, id: &InstanceId) -> Result<Endpoint> {
        let mut servers = self.servers();
        let server = servers.get_mut(id).ok_or_else(|| unknown(id))?;
        if let Some(run) = server.running() {
            return Ok(run.endpoint.clone());
        }
        let port = free_port()?;
        let mut record = server.record.clone();
        record.run = Some(RunRecord { port, started_at: Timestamp::now(), process: None });
        // Written before there is a process: should Corral be killed right now, the next one knows what to look for.
        self.records.write(&record)?;
        match self.spawn(&mut record, port) {
            Ok(run) => {
                let endpoint = run.endpoint.clone();
                (server.record, server.run) = (record, Some(run));
                Ok(endpoint)
            }
            Err(error) => {
                // Nothing runs, so the record is as wrong as none: it goes with the last log.
                self.records.remove(id);
                Err(error)
            }
        }
    }

    fn spawn(self: &Arc<Self>, record: &mut Record, port: u16) -> Result<Arc<Run>> {
        let opened = || {
            let log = follow::open(&record.log)?;
            let (stdout, stderr) = (log.try_clone()?, log.try_clone()?);
            let follower = Follower::new(log, &record.log, false, self.config.logs.clone(), record.model.clone())?;
            Ok((stdout, stderr, follower))
        };
        let (stdout, stderr, follower) =
            opened().map_err(|error| errors::unusable("cannot write", &record.log, error))?;
        let mut command = Command::new(&record.program);
        command.args(record.args_on(port)).env_clear().envs(&record.env).env(identity::MARK, &record.id.0);
        // Its own group: ^C in the terminal of `corral serve` is not meant for it, and a stop reaches all of it.
        command.current_dir("/").stdin(Stdio::null()).stdout(stdout).stderr(stderr).process_group(0);
        let mut child = command.spawn().map_err(|error| cannot_run(&record.program, error))?;
        let known = self.attended(record, &mut child);
        let (identity, handle) = known.inspect_err(|_| {
            let _ = child.kill().and_then(|()| child.wait());
        })?;
        Ok(self.attend(record, identity, handle, Some(child), follower))
    }

    /// Writes down which process it is, and opens what its end is noticed by.
    fn attended(&self, record: &mut Record, child: &mut Child) -> Result<(Identity, AsyncFd<OwnedFd>)> {
        let failed = |what: &str| {
            Error::new(Code::EngineFailed, format!("llama-server was started, but {what}"))
                .hint("Corral must see its children in /proc, and be allowed the system call `pidfd_open`")
        };
        let pid = i32::try_from(child.id()).map_err(|error| failed("its number is odd").because(error))?;
        // Even a server that has ended already is still there until it is waited for.
        let identity = Identity::of_child(pid).ok_or_else(|| failed("it cannot be seen in /proc"))?;
        let handle = identity.handle().and_then(run::waitable);
        let handle = handle.map_err(|error| failed("its end cannot be watched for").because(error))?;
        if let Some(run) = &mut record.run {
            run.process = Some(identity.clone());
        }
        self.records.write(record)?;
        Ok((identity, handle))
    }

    /// Sets a task on a process that follows its log and tells of its end.
    fn attend(
        self: &Arc<Self>,
        record: &Record,
        identity: Identity,
        handle: AsyncFd<OwnedFd>,
        child: Option<Child>,
        follower: Follower,
    ) -> Arc<Run> {
        let (port, started_at) = record.run.as_ref().map_or_else(Default::default, |run| (run.port, run.started_at));
        let endpoint = Endpoint { url: format!("http://127.0.0.1:{port}"), started_at };
        let run = Arc::new(Run::new(identity, endpoint, follower.last_lines(), child.is_some()));
        let (shared, attended) = (self.clone(), run.clone());
        let (id, model) = (record.id.clone(), record.model.clone());
        tokio::spawn(async move {
            let cause = run::attend(&attended, &model, handle, child, follower).await;
            attended.end(cause.clone());
            let event = EngineEvent::Exited { instance: id, at: Timestamp::now(), cause };
            let mut readers = shared.readers.lock().unwrap_or_else(PoisonError::into_inner);
            readers.retain(|reader| reader.send(event.clone()).is_ok());
        });
        run
    }

    fn owned(self: &Arc<Self>) -> Result<Vec<Owned>> {
        let records = self.records.read(&self.config.home_id)?;
        let mut servers = self.servers();
        for record in records {
            if !servers.contains_key(&record.id) {
                servers.insert(record.id.clone(), self.adopt(record));
            }
        }
        self.remove_old_logs(&servers);
        let mut owned: Vec<Owned> = servers
            .values()
            .map(|server| Owned { instance: server.record.instance(), state: server.state() })
            .collect();
        owned.sort_by(|a, b| a.instance.id.cmp(&b.instance.id));
        Ok(owned)
    }

    /// Takes over what an earlier Corral started, where it still runs.
    fn adopt(self: &Arc<Self>, mut record: Record) -> Server {
        let written = record.run.as_ref().and_then(|run| run.process.clone());
        let Some(identity) = written.or_else(|| Identity::marked(&record.id)) else {
            return Server { record, model_bytes: None, run: None };
        };
        let handle = identity.open().map(run::waitable);
        let follower = follow::open(&record.log)
            .and_then(|log| Follower::new(log, &record.log, true, self.config.logs.clone(), record.model.clone()));
        match (handle, follower) {
            (Some(Ok(handle)), Ok(follower)) => {
                if let Some(run) = &mut record.run {
                    run.process = Some(identity.clone());
                }
                let run = self.attend(&record, identity, handle, None, follower);
                Server { record, model_bytes: None, run: Some(run) }
            }
            (None, _) => Server { record, model_bytes: None, run: None },
            (Some(Err(error)), _) | (_, Err(error)) => {
                // Better none than one whose end nobody would notice.
                tracing::warn!(id = %record.id, %error, "cannot attend a server that still runs: it is ended");
                identity.signal(Signal::KILL);
                Server { record, model_bytes: None, run: None }
            }
        }
    }

    /// Removes the logs that no server has: of one that could not be started the record goes first.
    fn remove_old_logs(&self, servers: &HashMap<InstanceId, Server>) {
        let Ok(entries) = fs::read_dir(&self.config.state_dir) else { return };
        for entry in entries.filter_map(std::result::Result::ok) {
            let name = entry.file_name();
            let id = name.to_str().and_then(|name| name.strip_prefix("llama-server-")?.strip_suffix(".log"));
            if id.is_some_and(|id| !servers.contains_key(&InstanceId(id.to_owned()))) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    fn forget(&self, id: &InstanceId) {
        if let Some(server) = self.servers().remove(id) {
            let _ = fs::remove_file(&server.record.log);
        }
        self.records.remove(id);
    }
}

/// Sends signals, each with the time it has, until the run has ended.
async fn end(run: &Run, signals: &[(Signal, Duration)]) -> Result<()> {
    for (signal, patience) in signals {
        if run.ended().is_some() {
            return Ok(());
        }
        run.identity.signal(*signal);
        if timeout(*patience, run.until_ended()).await.is_ok() {
            return Ok(());
        }
    }
    let text = format!("llama-server (process {}) does not end, not even when killed", run.identity.pid);
    Err(Error::new(Code::StopFailed, text)
        .hint("the kernel holds it, most often in the GPU's driver: a restart may be needed"))
}

/// A port that nobody has at the moment.
fn free_port() -> Result<u16> {
    let bound = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let address = bound.map_err(|error| {
        Error::new(Code::PortTaken, "no port is free").because(error).hint("`ss -tlnp` shows which programs have them")
    })?;
    Ok(address.port())
}

fn cannot_run(program: &Path, error: std::io::Error) -> Error {
    let text = format!("`{}` cannot be run", program.display());
    binary::missing(text, "it must be a program for this machine, with all that it needs").because(error)
}

fn unknown(id: &InstanceId) -> Error {
    Error::new(Code::EngineFailed, format!("no llama-server process is known as {id}"))
        .hint("it was removed meanwhile; `corral switch` makes a new one")
}
