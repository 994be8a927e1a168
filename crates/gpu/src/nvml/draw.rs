//! What NVIDIA's GPUs take, and nothing else of them: two calls in place of forty.

use corral_core::energy::Draw;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml};

use super::{has_driver, open};
use crate::roots::Roots;

/// Reads what GPUs take, with a library of its own: readings of all that they do may take long.
#[derive(Default)]
pub(crate) struct NvmlDraw {
    library: Option<Nvml>,
}

impl NvmlDraw {
    /// Lets go of the library.
    pub(crate) fn release(&mut self) {
        self.library = None;
    }

    /// What the GPU at this place on the bus told; nothing where it does not answer.
    pub(crate) fn read(&mut self, roots: &Roots, pci: &str) -> Draw {
        if !has_driver(roots) {
            self.release();
            return Draw::default();
        }
        let Ok(library) = self.library.take().map_or_else(|| open(roots), Ok) else { return Draw::default() };
        // By its place: to ask for it by its name would wake others.
        match library.device_by_pci_bus_id(pci).and_then(|device| draw(&device)) {
            Ok(draw) => {
                self.library = Some(library);
                draw
            }
            // The library is dropped: the next reading begins anew.
            Err(error) => {
                tracing::debug!(%error, pci, "a GPU does not tell what it takes");
                Draw::default()
            }
        }
    }
}

/// Its counter; where it has none, or its driver knows of none, what it draws at the moment.
fn draw(device: &Device<'_>) -> Result<Draw, NvmlError> {
    match device.total_energy_consumption() {
        Ok(energy_mj) => Ok(Draw { energy_mj: Some(energy_mj), power_w: None }),
        Err(NvmlError::NotSupported | NvmlError::FunctionNotFound | NvmlError::FailedToLoadSymbol(_)) => {
            Ok(Draw { energy_mj: None, power_w: Some(f64::from(device.power_usage()?) / 1000.0) })
        }
        Err(error) => Err(error),
    }
}
