//! Will a model fit into the memory there is? Arithmetic on what its files say, without starting anything.
//!
//! [`Architecture`] is what the model file tells, [`Profile`] how `llama-server` is to run it, [`Machine`] what memory
//! there is and who has it. [`estimate`] says how much is needed where, [`judge`] whether that is there. What a load
//! really took comes back as [`Taken`], and [`Correction`] remembers how far off the estimate was.
//!
//! The rules are those of llama.cpp 0.7 (its `llama_kv_cache`, `llama_memory_recurrent`, `llama_model_loader` and what
//! its graph allocator was seen to need); `make bench` holds them against a real `llama-server`. Weights and KV cache
//! follow from the file. The compute buffer is what a graph of one micro-batch holds at the same time, which is
//! measured, not derived: on the CPU, and on devices of the Vulkan backend. It is the same on all backends as far as their
//! tensors are, and what drivers take beyond is [`OVERHEAD`].

mod architecture;
mod breakdown;
mod compute;
mod correction;
mod machine;
mod memory;
mod port;
mod profile;
mod verdict;
mod view;
mod window;

pub use architecture::{Architecture, Layer};
pub use breakdown::Taken;
pub use correction::{Correction, Lesson};
pub use machine::machine;
pub use memory::{Need, Placement, Space, estimate, place};
pub use port::{Ask, Load, ModelMemory, UnknownMemory};
pub use profile::Profile;
pub use verdict::{Fit, Holder, Machine, Memory, Reduction, Verdict, judge, need_of};
pub use view::{FitVerdict, FitView};

/// What a GPU's driver takes for a process that uses it, in bytes, beyond all buffers: seen with CUDA are 300 to 500
/// MiB. The first load says how much it is here.
pub const OVERHEAD: u64 = 512 << 20;

/// What `llama-server` leaves free on each GPU where it chooses the layers itself: its `--fit-target`, in bytes.
pub const MARGIN: u64 = 1 << 30;

/// Below this many tokens a context is of no use: `--fit-ctx` of `llama-server`.
pub const SMALLEST_CONTEXT: u32 = 4096;
