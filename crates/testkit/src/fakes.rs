//! The ports, in memory.

mod clock;
mod engine;
mod fit;
mod memory;

use std::sync::Arc;

use corral_core::fit::UnknownMemory;
use corral_core::ports::Ports;

pub use self::clock::CountingClock;
pub use self::engine::{FakeEngine, Verb};
pub use self::fit::{FakeFit, fit_view, too_big};
pub use self::memory::Memory;

/// All ports on one fake engine and one memory.
pub fn ports(engine: &Arc<FakeEngine>, memory: &Arc<Memory>) -> Ports {
    Ports {
        engine: engine.clone(),
        files: engine.clone(),
        memory: Arc::new(UnknownMemory),
        contexts: memory.clone(),
        traffic: memory.clone(),
        journal: memory.clone(),
        notifier: memory.clone(),
        endpoint_file: memory.clone(),
        clock: Arc::new(CountingClock::default()),
    }
}
