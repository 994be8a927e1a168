//! What reads the GPUs in a thread of its own: a driver may take its time.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use corral_core::gpu::GpuSample;
use corral_core::ports::GpuProbe;

use crate::owners::{Owners, Servers};
use crate::roots::Roots;

/// What reads, and is away while it does.
pub(super) struct Parts {
    pub(super) probe: Box<dyn GpuProbe>,
    pub(super) owners: Owners,
    pub(super) roots: Roots,
}

impl Parts {
    /// Reads, and says of each process what it belongs to.
    pub(super) fn read(mut self, now: Duration, servers: &Servers) -> (Self, GpuSample) {
        // A defect in what reads must not be the end of it.
        let sample = catch_unwind(AssertUnwindSafe(|| {
            let mut sample = self.probe.read(now);
            self.owners.tell(&self.roots, &mut sample.devices, servers);
            sample
        }));
        let sample = sample.unwrap_or_else(|_| {
            let reason = "the GPUs could not be read because of a defect in Corral; its own log says where";
            GpuSample { reason: Some(reason.to_owned()), ..GpuSample::default() }
        });
        (self, sample)
    }

    /// Lets go of the drivers.
    pub(super) fn released(mut self) -> Self {
        if catch_unwind(AssertUnwindSafe(|| self.probe.release())).is_err() {
            tracing::error!("GPUs: letting go of the drivers went wrong because of a defect in Corral");
        }
        self
    }
}

/// What reads is back, with what it has read; with nothing where it has let go.
pub(super) type Done = (Parts, Option<GpuSample>);
