//! The memory that models take, and the memory there is: out of files, readings of the GPUs, and what loads have taught.

mod builds;
mod headers;
mod host;
mod learn;
mod unlisted;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use corral_core::ModelId;
use corral_core::fit::{self, Architecture, Ask, FitView, Lesson, Load, Machine, ModelMemory, Profile};
use corral_core::gpu::{GpuDevice, GpuReading, GpuSource, GpuWatch, Look};
use corral_core::launch::{Gpu, LaunchSpec, Runtime};
use corral_core::log::LogBuffer;
use corral_engine::docker::{GpuKind, gpu_kind};
use corral_engine::{Builds, Environment};
use corral_store::Store;

use headers::Headers;
use unlisted::{Bytes, Unlisted, not_others};

/// How long headers are read for a list; of the models that are left, a later list tells.
const READING: Duration = Duration::from_secs(2);

/// How long all of it may take, a disk that hangs included.
const ANSWERED: Duration = Duration::from_secs(4);

/// So many may be judging at once.
const JUDGES: usize = 3;

/// What only a GPU's driver makes: where one of these is there and no GPU can be read, nobody knows what there is.
const DRIVERS: [&str; 3] = ["dev/nvidiactl", "dev/kfd", "dev/dxg"];

/// Judges models against this machine. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct MachineMemory(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Where `/proc`, `/sys` and `/dev` are.
    root: PathBuf,
    /// The engine for containers is on another machine.
    remote: bool,
    /// Set once there is one.
    gpu: OnceLock<Arc<dyn GpuWatch>>,
    logs: Arc<LogBuffer>,
    store: Arc<Store>,
    headers: Mutex<Headers>,
    builds: Builds,
    lessons: Mutex<HashMap<ModelId, Lesson>>,
    /// What servers of Corral's had of each GPU when one was last about to be replaced.
    had: Mutex<Vec<Had>>,
    /// Where the model is, though no driver says so.
    unlisted: Mutex<Unlisted>,
    /// How many are judging.
    judges: AtomicUsize,
    /// One list at a time: it may read many files.
    turn: tokio::sync::Mutex<()>,
}

/// What servers of Corral's had of a GPU; no process of theirs where the driver lists none.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Had {
    uuid: String,
    pids: Vec<u32>,
    bytes: u64,
    /// What was in use of it by them, or by nobody who is known.
    used: u64,
}

/// What is seen of the GPUs at a time.
struct Seen {
    reading: Arc<GpuReading>,
    /// What the model that is loaded has of them, though no driver says so.
    unlisted: Bytes,
}

/// What a model is judged by.
struct Asked {
    architecture: Arc<Architecture>,
    bytes: u64,
    profile: Profile,
    lesson: Lesson,
    /// That it uses no GPU was learned, and is nobody's wish.
    on_cpu: bool,
}

impl MachineMemory {
    pub(crate) fn new(env: &Environment, logs: Arc<LogBuffer>, store: Arc<Store>) -> Self {
        let host = env.get("DOCKER_HOST").unwrap_or_default();
        let remote = ["tcp://", "ssh://", "http://", "https://"].iter().any(|scheme| host.starts_with(scheme));
        let lessons = Mutex::new(store.lessons());
        let (gpu, headers, had, unlisted, judges, turn) = Default::default();
        let (root, builds) = (PathBuf::from("/"), Builds::new(env.clone()));
        Self(Arc::new(Inner { root, remote, gpu, logs, store, headers, builds, lessons, had, unlisted, judges, turn }))
    }

    /// From now on this tells of the GPUs.
    pub(crate) fn watch(&self, gpu: Arc<dyn GpuWatch>) {
        // It is called once.
        let _ = self.0.gpu.set(gpu);
    }

    /// Whether the model that runs took memory of this GPU (its `uuid`) as it was loaded, though no driver says that it is
    /// there.
    pub(crate) fn is_on(&self, uuid: &str) -> bool {
        lock(&self.0.unlisted).is_on(uuid)
    }
}

impl Inner {
    async fn read(&self, look: Look) -> Option<Arc<GpuReading>> {
        match self.gpu.get() {
            Some(gpu) => Some(gpu.read(look).await),
            None => None,
        }
    }

    /// What is known of a model that this build runs; none where its files tell nothing, or may not be read now.
    fn asked(&self, spec: &LaunchSpec, build: Option<&str>, may_read: bool) -> Option<Asked> {
        let (architecture, bytes) = headers::of(&self.headers, &spec.file, may_read)?;
        let lesson = lock(&self.lessons).get(&spec.model).filter(|lesson| lesson.holds_for(bytes, build)).cloned();
        let lesson = lesson.unwrap_or_default();
        let mut profile = Profile::of(spec);
        if let Some(projector) = &spec.mmproj {
            profile.projector_bytes = projector.metadata().ok()?.len();
        }
        let unsaid = spec.runtime == Runtime::Docker && gpu_kind(&spec.image) == GpuKind::Unsaid;
        // As the container engine does: an image that says nothing of GPUs gets one only where the catalog names it.
        if unsaid && profile.gpu == Gpu::Auto {
            profile.gpu = Gpu::None;
        }
        let on_cpu = profile.gpu != Gpu::None && lesson.is_on_cpu(spec);
        if on_cpu {
            profile.gpu = Gpu::None;
        }
        Some(Asked { architecture, bytes, profile, lesson, on_cpu })
    }

    /// The memory that a model's server sees; none where that cannot be told.
    fn machine(&self, spec: &LaunchSpec, profile: &Profile, seen: &Seen, given_back: u64) -> Option<Machine> {
        if self.remote && spec.runtime == Runtime::Docker {
            return None;
        }
        let host = host::memory(&self.root, spec.runtime, given_back)?;
        if profile.gpu == Gpu::None {
            return Some(Machine { gpus: Vec::new(), host });
        }
        let kind = match (spec.runtime, gpu_kind(&spec.image)) {
            (Runtime::Docker, GpuKind::Nvidia | GpuKind::Unsaid) => Some(GpuSource::Nvml),
            (Runtime::Docker, GpuKind::Rocm) => Some(GpuSource::Amdgpu),
            (Runtime::Docker, GpuKind::Render) | (Runtime::Process, _) => None,
        };
        let unlisted = |uuid: &str| seen.unlisted.get(uuid).copied().unwrap_or(0);
        let machine = fit::machine(&seen.reading, kind, unlisted, host)?;
        let unseen = machine.gpus.is_empty() && DRIVERS.iter().any(|file| self.root.join(file).exists());
        (!unseen).then_some(machine)
    }

    fn judge(
        &self,
        (spec, build): (&LaunchSpec, Option<&str>),
        seen: &Seen,
        given_back: u64,
        may_read: bool,
    ) -> Option<FitView> {
        let Asked { architecture, profile, lesson, on_cpu, .. } = self.asked(spec, build, may_read)?;
        let machine = self.machine(spec, &profile, seen, given_back)?;
        let mut fit = fit::judge(&architecture, &profile, &machine, &lesson.correction);
        // A backend for GPUs may lie beside the same program by now, and what is refused never teaches better.
        fit.hopeless &= !on_cpu;
        Some(fit.into())
    }

    /// Keeps what a load has taught, where that is anything new.
    fn correct(&self, model: &ModelId, lesson: Lesson) {
        let mut lessons = lock(&self.lessons);
        if lessons.get(model) != Some(&lesson) {
            self.store.keep_lesson(model, &lesson);
            lessons.insert(model.clone(), lesson);
        }
    }

    /// Remembers who holds what, for when it is to be free.
    fn remember(&self, reading: &GpuReading) {
        let had = |device: &GpuDevice| {
            let own = || device.processes.iter().filter(|process| process.model.is_some());
            let pids: Vec<_> = own().map(|process| process.pid).collect();
            // A process may be listed without its memory.
            let took = lock(&self.unlisted).took(device);
            let had = !pids.is_empty() || took.is_some();
            let bytes = own().filter_map(|process| process.mem_bytes).fold(took.unwrap_or(0), u64::saturating_add);
            let used = not_others(device).unwrap_or(0);
            had.then(|| Had { uuid: device.uuid.clone(), pids, bytes, used })
        };
        *lock(&self.had) = reading.devices.iter().filter_map(had).collect();
    }
}

/// The place of one that judges, given up with it.
struct Place(Arc<Inner>);

impl Place {
    /// None where all are taken.
    fn take(inner: &Arc<Inner>) -> Option<Self> {
        let place = Self(inner.clone());
        (place.0.judges.fetch_add(1, Ordering::Relaxed) < JUDGES).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.judges.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Who still has memory of a GPU of what servers of Corral's had there; none where it is free.
fn holder(device: &GpuDevice, had: Option<&Had>) -> Option<String> {
    let was_there = |pid: u32| had.is_some_and(|had| had.pids.contains(&pid));
    let process = device.processes.iter().find(|process| process.model.is_some() || was_there(process.pid));
    let gpu = format!("GPU {} ({})", device.index, device.name);
    if let Some(process) = process {
        let name = process.name.as_deref().and_then(|name| name.rsplit('/').next()).unwrap_or("a process");
        let has = process.mem_bytes.map_or_else(String::new, |bytes| format!(" of {} MB", bytes / 1_000_000));
        return Some(format!("{name} (process {}) still has memory{has} on {gpu}", process.pid));
    }
    let had = had?;
    let Some(used) = not_others(device) else { return Some(format!("{gpu} does not say what is in use")) };
    // Others who are not known may take a little of it meanwhile.
    let (little, most) = (had.bytes / 10, had.bytes - had.bytes / 10);
    let freed = used <= little || used.saturating_add(most) <= had.used;
    (!freed).then(|| format!("{gpu} still has {} MB in use, though nobody says by whom", used / 1_000_000))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A reading of no GPU.
fn no_gpu() -> Arc<GpuReading> {
    let (source, reason, devices) = Default::default();
    Arc::new(GpuReading { at: jiff::Timestamp::UNIX_EPOCH, source, reason, devices })
}

#[async_trait]
impl ModelMemory for MachineMemory {
    async fn fits(&self, specs: &[Arc<LaunchSpec>], given_back: u64, ask: Ask) -> Vec<Option<FitView>> {
        let _turn = match ask {
            Ask::List => Some(self.0.turn.lock().await),
            Ask::Load => None,
        };
        let look = if ask == Ask::List { Look::Program } else { Look::Person };
        // What uses none is no reason to look at them; but what is to go may be on them.
        let looks = ask == Ask::Load || specs.iter().any(|spec| spec.gpu != Gpu::None);
        let reading = if looks { self.0.read(look).await } else { None };
        let reading = reading.unwrap_or_else(no_gpu);
        if ask == Ask::Load {
            self.0.remember(&reading);
        }
        let unlisted = lock(&self.0.unlisted).took_of(&reading);
        let seen = Seen { reading, unlisted };
        let builds = self.0.builds(specs).await;
        let (inner, asked, count) = (self.0.clone(), specs.to_vec(), specs.len());
        // Those before wait for a disk that hangs: no more are to wait with them.
        let Some(place) = Place::take(&self.0) else { return vec![None; count] };
        let judging = tokio::task::spawn_blocking(move || {
            let _place = place;
            let began = Instant::now();
            let may_read = || ask == Ask::Load || began.elapsed() < READING;
            let judge = |spec: &Arc<LaunchSpec>| inner.judge((spec, builds.of(spec)), &seen, given_back, may_read());
            asked.iter().map(judge).collect()
        });
        match tokio::time::timeout(ANSWERED, judging).await {
            Ok(Ok(fits)) => fits,
            Ok(Err(error)) => {
                tracing::error!(%error, "judging whether models fit went wrong");
                vec![None; count]
            }
            Err(_) => {
                tracing::warn!("the headers of model files could not be read within {ANSWERED:?}: a disk may hang");
                vec![None; count]
            }
        }
    }

    async fn held(&self) -> Option<String> {
        let reading = self.0.read(Look::Now).await?;
        lock(&self.0.unlisted).starts(&reading);
        let had = lock(&self.0.had).clone();
        reading.devices.iter().find_map(|device| holder(device, had.iter().find(|had| had.uuid == device.uuid)))
    }

    async fn learn(&self, load: Load) {
        learn::learn(&self.0, load).await;
    }
}

#[cfg(test)]
mod tests;
