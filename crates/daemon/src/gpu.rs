//! The machine's GPUs, read as often as it matters to somebody.

use std::path::PathBuf;
use std::sync::Arc;

use corral_core::command::ControllerHandle;
use corral_core::ports::Clock;
use corral_engine::Environment;
use corral_gpu::{GpuEnergy, Gpus, Roots, Sampler};

use crate::memory::MachineMemory;

/// The variable that names NVIDIA's library, where the driver has put it elsewhere than the loader looks.
const LIBRARY: &str = "CORRAL_NVML";

/// NVIDIA's library, where somebody names it.
pub(crate) fn library(env: &Environment) -> Option<PathBuf> {
    env.get(LIBRARY).map(PathBuf::from)
}

/// Begins to watch, and tells what requests take; nothing is touched before somebody looks or a model is loaded.
pub(crate) fn watch(
    nvml: Option<PathBuf>,
    controller: &ControllerHandle,
    clock: Arc<dyn Clock>,
    memory: MachineMemory,
) -> (Arc<Sampler>, Arc<GpuEnergy>) {
    let roots = Roots::of_machine(nvml);
    let probe = Box::new(Gpus::new(roots.clone()));
    let sampler = Sampler::start(probe, roots.clone(), clock.clone(), controller.watch_snapshot());
    let energy = GpuEnergy::new(sampler.clone(), roots, clock, Box::new(move |uuid| memory.is_on(uuid)));
    (Arc::new(sampler), Arc::new(energy))
}
