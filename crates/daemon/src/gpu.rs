//! The machine's GPUs, read as often as it matters to somebody.

use std::path::PathBuf;
use std::sync::Arc;

use corral_core::command::ControllerHandle;
use corral_core::ports::Clock;
use corral_engine::Environment;
use corral_gpu::{Gpus, Roots, Sampler};

/// The variable that names NVIDIA's library, where the driver has put it elsewhere than the loader looks.
const LIBRARY: &str = "CORRAL_NVML";

/// NVIDIA's library, where somebody names it.
pub(crate) fn library(env: &Environment) -> Option<PathBuf> {
    env.get(LIBRARY).map(PathBuf::from)
}

/// Begins to watch; nothing is touched before somebody looks or a model is loaded.
pub(crate) fn watch(nvml: Option<PathBuf>, controller: &ControllerHandle, clock: Arc<dyn Clock>) -> Sampler {
    let roots = Roots::of_machine(nvml);
    Sampler::start(Box::new(Gpus::new(roots.clone())), roots, clock, controller.watch_snapshot())
}
