//! What a load teaches: what was really taken, beside what was estimated.

use std::sync::Arc;
use std::time::Duration;

use corral_core::ModelId;
use corral_core::fit::{self, Correction, Lesson, Load, Need, Profile, Taken, Verdict};
use corral_core::gpu::{GpuReading, Look};
use corral_core::launch::Gpu;
use corral_core::log::{LogBuffer, LogRecord};
use jiff::Timestamp;
use tokio::sync::broadcast::error::RecvError;

use super::{Asked, Inner, Seen, lock, no_gpu};

/// How long the log of a server may be behind.
const LOG_WITHIN: Duration = Duration::from_secs(2);

/// How long Docker may take to tell what a server was made of.
const BUILD_WITHIN: Duration = Duration::from_secs(2);

/// As much of the log as there is.
const WHOLE_LOG: usize = usize::MAX;

/// Compares what a server says that it took, and what its processes have of the GPUs, with the estimate.
pub(super) async fn learn(inner: &Arc<Inner>, load: Load) {
    // What ends may still be there when the GPUs are read.
    let mut unlisted = lock(&inner.unlisted).clone();
    if load.runs {
        lock(&inner.unlisted).runs(load.instance.clone());
    } else {
        lock(&inner.unlisted).ended(&load.instance);
    }
    let taken = said(&inner.logs, &load.spec.model, load.since).await;
    let look = if load.runs { Look::Now } else { Look::Person };
    let reading = if load.spec.gpu == Gpu::None { None } else { inner.read(look).await };
    let reading = reading.unwrap_or_else(no_gpu);
    if load.runs {
        let mut now = lock(&inner.unlisted);
        now.loaded(&load.instance, &reading, taken.as_ref());
        unlisted = now.clone();
    }
    let unlisted = unlisted.took_of(&reading);
    let seen = Seen { reading, unlisted };
    let build = build(inner, &load).await;
    let inner = inner.clone();
    let learned = tokio::task::spawn_blocking(move || {
        if let Some(lesson) = lesson(&inner, &load, build, taken.as_ref(), &seen) {
            tracing::debug!(model = %load.spec.model, ?lesson, "a load has taught");
            inner.correct(&load.spec.model, lesson);
        }
    });
    if let Err(error) = learned.await {
        tracing::error!(%error, "learning from a load went wrong");
    }
}

/// The build that a server runs, or ran: when it ends, what it was made of may be replaced already, so that it is the one
/// which its load has taught about.
async fn build(inner: &Inner, load: &Load) -> Option<String> {
    let before = lock(&inner.lessons).get(&load.spec.model).and_then(|lesson| lesson.build.clone());
    if !load.runs && before.is_some() {
        return before;
    }
    let told = inner.builds.of_instance(&load.instance, &load.spec);
    tokio::time::timeout(BUILD_WITHIN, told).await.ok().flatten()
}

fn lesson(inner: &Inner, load: &Load, build: Option<String>, taken: Option<&Taken>, seen: &Seen) -> Option<Lesson> {
    let asked = inner.asked(&load.spec, build.as_deref(), true)?;
    let Asked { architecture, bytes, mut profile, lesson: before, .. } = asked;
    if build.is_none() && before.build.is_some() {
        // It would hold for no build, in the place of what holds for one.
        return None;
    }
    // What was learned about GPUs does not keep from learning anew.
    profile.gpu = Profile::of(&load.spec).gpu;
    let held = held(&load.spec.model, &seen.reading);
    let on_cpu = taken.is_some_and(|taken| taken.need.gpus.is_empty()) && held == 0;
    let there_are = inner.machine(&load.spec, &profile, seen, 0).is_some_and(|machine| !machine.gpus.is_empty());
    if on_cpu {
        profile.gpu = Gpu::None;
    }
    let machine = inner.machine(&load.spec, &profile, seen, 0)?;
    let judged = fit::judge(&architecture, &profile, &machine, &Correction::default());
    let estimated = fit::need_of(&architecture, &profile, &machine, judged.gpu_layers);
    let mut correction = match taken {
        Some(taken) => Correction::learn(&estimated, &taken.need),
        // Then only what all of it takes is known.
        None if held > 0 && judged.verdict == Verdict::Fits => Correction::default(),
        None => return None,
    };
    // What servers say of it has other programs in it; what the driver says of one process has not.
    correction.overhead = if held > 0 {
        let said = taken.map_or(&estimated, |taken| &taken.need);
        beyond(said, held)
    } else {
        before.correction.overhead.or(correction.overhead)
    };
    let on_cpu = on_cpu && there_are && load.spec.gpu != Gpu::None;
    let devices = if on_cpu { Profile::devices(&load.spec) } else { Vec::new() };
    Some(Lesson { model_bytes: bytes, build, correction, on_cpu, devices })
}

/// GPU memory that processes of the model's servers hold, in bytes.
fn held(model: &ModelId, reading: &GpuReading) -> u64 {
    let processes = reading.devices.iter().flat_map(|device| &device.processes);
    processes.filter(|process| process.model.as_ref() == Some(model)).filter_map(|process| process.mem_bytes).sum()
}

/// What is held beyond the buffers, on each GPU; none where there is nothing beyond.
fn beyond(need: &Need, held: u64) -> Option<u64> {
    let used = need.gpus.iter().filter(|space| space.weights > 0 || space.kv > 0).count() as u64;
    let buffers = need.gpus.iter().map(|space| space.weights.saturating_add(space.kv).saturating_add(space.compute));
    let more = held.checked_sub(buffers.fold(0, u64::saturating_add))?;
    more.checked_div(used).filter(|more| *more > 0)
}

/// What the server of a model says that it took, last and not before `since`.
async fn said(logs: &LogBuffer, model: &ModelId, since: Timestamp) -> Option<Taken> {
    let of = |record: &LogRecord| {
        let may_be = record.model == *model && record.ts >= since && record.msg.contains("fit_memory_breakdown");
        may_be.then(|| Taken::of_line(&record.msg)).flatten()
    };
    let (tail, mut live) = logs.tail_and_follow(WHOLE_LOG);
    if let Some(taken) = tail.iter().rev().find_map(of) {
        return Some(taken);
    }
    let coming = async {
        loop {
            match live.recv().await {
                Ok(record) => {
                    if let Some(taken) = of(&record) {
                        return Some(taken);
                    }
                }
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return None,
            }
        }
    };
    tokio::time::timeout(LOG_WITHIN, coming).await.ok().flatten()
}
