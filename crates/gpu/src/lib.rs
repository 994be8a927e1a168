//! What the GPUs are doing: NVIDIA's through NVML in this process, AMD's and Intel's through the kernel's files; whose
//! the processes on them are; how often all that is read; and what they take while requests run.
//!
//! No driver, no permission, a GPU that has fallen off the bus, one that sleeps: states with a reason, which heal by
//! themselves. Nothing here ends the reading.

mod amd;
mod energy;
mod fdinfo;
mod files;
mod intel;
mod nvml;
mod owners;
mod pci;
mod probe;
mod roots;
mod sampler;

pub use energy::{GpuEnergy, Unlisted};
pub use probe::Gpus;
pub use roots::Roots;
pub use sampler::{PATIENCE, Sampler};
