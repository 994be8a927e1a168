//! What the GPUs of the loaded model take, read where a request begins and ends.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use corral_core::energy::{Draw, EnergyMeter};
use corral_core::gpu::{GpuDevice, GpuSource, GpuState};
use corral_core::ports::{Clock, EnergyCounter};
use corral_core::usage::Millijoules;

use crate::files;
use crate::nvml::NvmlDraw;
use crate::roots::Roots;
use crate::sampler::Sampler;

/// Says of a GPU, by its `uuid`, whether the model is on it though its driver lists no process of the model there. It is
/// asked on the way of requests.
pub type Unlisted = Box<dyn Fn(&str) -> bool + Send + Sync>;

/// Reads the GPUs that the last full reading found the model on, and those that it is known to be on beside them: NVIDIA's
/// counter, else what they draw; AMD's and Intel's through the kernel's files.
pub struct GpuEnergy {
    sampler: Sampler,
    roots: Roots,
    clock: Arc<dyn Clock>,
    unlisted: Unlisted,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    nvml: NvmlDraw,
    meter: EnergyMeter,
}

impl fmt::Debug for GpuEnergy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GpuEnergy").field("roots", &self.roots).finish_non_exhaustive()
    }
}

impl GpuEnergy {
    /// That of the GPUs which this sampler reads, below the same folders.
    pub fn new(sampler: Sampler, roots: Roots, clock: Arc<dyn Clock>, unlisted: Unlisted) -> Self {
        Self { sampler, roots, clock, unlisted, state: Mutex::default() }
    }

    /// Whether the model is on it, or a part of the model.
    fn holds(&self, device: &GpuDevice) -> bool {
        // What does not answer may have lost it.
        let unlisted = || device.state == GpuState::Ok && (self.unlisted)(&device.uuid);
        device.processes.iter().any(|process| process.model.is_some()) || unlisted()
    }
}

impl EnergyCounter for GpuEnergy {
    fn counts(&self) -> bool {
        let tells = |device: &GpuDevice| Draw { energy_mj: device.energy_mj, power_w: device.power_w }.tells();
        self.sampler
            .latest()
            .is_some_and(|latest| latest.devices.iter().any(|device| self.holds(device) && tells(device)))
    }

    fn read(&self) -> Option<Millijoules> {
        let latest = self.sampler.latest();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State { nvml, meter } = &mut *state;
        let of = |device: &GpuDevice| {
            let draw = device.pci.as_deref().map(|pci| match device.source {
                GpuSource::Nvml => nvml.read(&self.roots, pci),
                _ => files::taken(&self.roots.sys.join("bus/pci/devices").join(pci)),
            });
            (device.uuid.clone(), draw.unwrap_or_default())
        };
        let devices = latest.iter().flat_map(|latest| &latest.devices).filter(|device| self.holds(device));
        let told = devices.map(of).collect();
        meter.take(self.clock.uptime(), told)
    }

    fn rest(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).nvml.release();
    }
}
