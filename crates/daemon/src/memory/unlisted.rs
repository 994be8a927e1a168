//! Where the model is on GPUs whose driver does not say who has their memory, as with WSL, in another namespace of
//! processes, or for a user who may not ask: where memory was taken as it was loaded, by nobody who is known.

use std::collections::HashMap;

use corral_core::InstanceId;
use corral_core::fit::Taken;
use corral_core::gpu::{GpuDevice, GpuProcess, GpuReading, GpuState};

/// So many bytes a model takes at least, and what a desktop does in the time of a load takes less.
const RISE: u64 = 256 << 20;

/// By the names of GPUs (`uuid`), in bytes.
pub(super) type Bytes = HashMap<String, u64>;

/// What was seen before and after the last load.
#[derive(Debug, Clone, Default)]
pub(super) struct Unlisted {
    /// What nobody who is known had of each GPU (its [`place`]) before the last start.
    before: Bytes,
    /// The server that runs, and what came with it.
    took: Option<(InstanceId, Bytes)>,
}

impl Unlisted {
    /// A server is about to start, and none runs: this is how the GPUs are.
    pub(super) fn starts(&mut self, reading: &GpuReading) {
        self.took = None;
        self.before = all(reading);
    }

    /// This server has loaded; what it took is seen soon.
    pub(super) fn runs(&mut self, instance: InstanceId) {
        self.took = Some((instance, Bytes::new()));
    }

    /// The GPUs are so with this server, unless it has ended or another one comes; `said` is what it says that it took.
    pub(super) fn loaded(&mut self, instance: &InstanceId, reading: &GpuReading, said: Option<&Taken>) {
        if self.took.as_ref().is_none_or(|(id, _)| id != instance) {
            return;
        }
        let uses = |taken: &Taken| taken.need.gpus.iter().any(|space| space.weights > 0 || space.kv > 0);
        let took = if said.is_none_or(uses) { self.rise(reading) } else { Bytes::new() };
        if !took.is_empty() {
            tracing::debug!(?took, "the driver does not say whose this GPU memory is: it came with the model");
        }
        self.took = Some((instance.clone(), took));
    }

    /// What nobody who is known has more of this GPU than before the last start.
    fn more(&self, device: &GpuDevice) -> Option<u64> {
        nobodys(device)?.checked_sub(*self.before.get(place(device))?)
    }

    fn rise(&self, reading: &GpuReading) -> Bytes {
        let devices = reading.devices.iter().filter(|device| !listed(device));
        let risen = devices.filter_map(|device| {
            let more = self.more(device)?;
            (more >= RISE).then(|| (device.uuid.clone(), more))
        });
        risen.collect()
    }

    /// This server has ended.
    pub(super) fn ended(&mut self, instance: &InstanceId) {
        self.took.take_if(|(id, _)| id == instance);
    }

    /// What the server that runs took of this GPU, where that still seems to be there: it may have ended by itself.
    pub(super) fn took(&self, device: &GpuDevice) -> Option<u64> {
        if listed(device) {
            return None;
        }
        let took = *self.took.as_ref()?.1.get(&device.uuid)?;
        (self.more(device)? >= took / 2).then_some(took)
    }

    /// The same of all GPUs.
    pub(super) fn took_of(&self, reading: &GpuReading) -> Bytes {
        let devices = reading.devices.iter();
        devices.filter_map(|device| Some((device.uuid.clone(), self.took(device)?))).collect()
    }

    /// Whether the server that runs took memory of this GPU.
    pub(super) fn is_on(&self, uuid: &str) -> bool {
        self.took.as_ref().is_some_and(|(_, took)| took.contains_key(uuid))
    }
}

fn all(reading: &GpuReading) -> Bytes {
    reading.devices.iter().filter_map(|device| Some((place(device).to_owned(), nobodys(device)?))).collect()
}

/// What tells a GPU from all others from the first: one that was never seen awake has no UUID yet.
fn place(device: &GpuDevice) -> &str {
    device.pci.as_deref().unwrap_or(&device.uuid)
}

/// Whether the driver says what a server of Corral's has of it.
fn listed(device: &GpuDevice) -> bool {
    device.processes.iter().any(|process| process.model.is_some() && process.mem_bytes.is_some())
}

/// What is in use of a GPU by nobody who is known; none where that cannot be told, and where it is divided, since which of
/// its parts a server gets is not known here.
fn nobodys(device: &GpuDevice) -> Option<u64> {
    let told = matches!(device.state, GpuState::Ok | GpuState::Asleep) && device.parts.is_empty();
    left(device, |_| true).filter(|_| told)
}

/// What is in use of a GPU by servers of Corral's, or by nobody who is known; none where that is not told.
pub(super) fn not_others(device: &GpuDevice) -> Option<u64> {
    left(device, |process| process.model.is_none())
}

/// What is in use of a GPU without what those processes have that are known, and are such.
fn left(device: &GpuDevice, such: impl Fn(&GpuProcess) -> bool) -> Option<u64> {
    // What sleeps is used by nobody.
    let used = device.mem_used_bytes.or((device.state == GpuState::Asleep).then_some(0))?;
    // One without a name is of elsewhere.
    let known = device.processes.iter().filter(|process| process.name.is_some() && such(process));
    Some(used.saturating_sub(known.filter_map(|process| process.mem_bytes).fold(0, u64::saturating_add)))
}
