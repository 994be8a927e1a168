//! All GPUs of the machine, each by what reads it.

use std::time::Duration;

use corral_core::gpu::{GpuDevice, GpuSample, GpuSource};
use corral_core::ports::GpuProbe;

use crate::amd;
use crate::fdinfo::Clients;
use crate::intel::IntelProbe;
use crate::nvml::{NvmlProbe, Told};
use crate::pci::{AMD, Bus, Card, INTEL, NVIDIA};
use crate::roots::Roots;

/// Reads NVIDIA's, AMD's and Intel's GPUs.
#[derive(Debug)]
pub struct Gpus {
    roots: Roots,
    bus: Bus,
    nvml: NvmlProbe,
    intel: IntelProbe,
    clients: Clients,
}

impl Gpus {
    /// Those that are found below these folders. Nothing is touched yet.
    pub fn new(roots: Roots) -> Self {
        let (bus, nvml, intel, clients) = Default::default();
        Self { roots, bus, nvml, intel, clients }
    }
}

impl GpuProbe for Gpus {
    fn read(&mut self, now: Duration) -> GpuSample {
        let cards = self.bus.cards(&self.roots, now);
        let of = |vendor: &str| cards.iter().filter(|card| card.vendor == vendor).collect::<Vec<&Card>>();
        let (nvidia, amd, intel) = (of(NVIDIA), of(AMD), of(INTEL));
        let Told { mut devices, reason } = self.nvml.read(&self.roots, &nvidia, now);
        let awake = amd.iter().chain(&intel).any(|card| !card.sleeps());
        let clients = if awake { self.clients.read(&self.roots, now) } else { Vec::new() };
        for card in amd {
            let asleep = || GpuDevice { source: GpuSource::Amdgpu, ..card.asleep() };
            devices.push(if card.sleeps() { asleep() } else { amd::read(&self.roots, card, &clients) });
        }
        for card in intel {
            let asleep = || GpuDevice { source: GpuSource::Intel, ..card.asleep() };
            devices.push(if card.sleeps() { asleep() } else { self.intel.read(card, &clients, now) });
        }
        for (index, device) in (0..).zip(&mut devices) {
            device.index = index;
        }
        let source = devices.first().map_or(GpuSource::None, |device| device.source);
        let nothing = || "no GPU of NVIDIA, AMD or Intel was found".to_owned();
        let reason = reason.or_else(|| devices.is_empty().then(nothing));
        GpuSample { source, reason, may_sleep: cards.iter().any(Card::may_sleep), devices }
    }

    fn release(&mut self) {
        self.nvml.release();
    }
}
