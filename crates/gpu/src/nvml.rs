//! NVIDIA's GPUs, through NVML in this process.
//!
//! The library is loaded only where a device is there, and let go of where all of them sleep or it has stopped
//! answering; the next reading loads it again.

mod device;
mod draw;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use corral_core::gpu::{GpuDevice, GpuSource, GpuState};
use nvml_wrapper::Nvml;
use nvml_wrapper::error::NvmlError;

use crate::pci::{Card, NVIDIA};
use crate::roots::Roots;
use device::Health;
pub(crate) use draw::NvmlDraw;

/// Where drivers put the library: by its name, and where neither NixOS nor WSL tell the loader.
const PLACES: [&str; 3] =
    ["libnvidia-ml.so.1", "/run/opengl-driver/lib/libnvidia-ml.so.1", "/usr/lib/wsl/lib/libnvidia-ml.so.1"];

/// A GPU that is lost comes back only to a library that is loaded anew, which is tried this often.
const RETRY: Duration = Duration::from_secs(10);

/// What was told of NVIDIA's GPUs.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) devices: Vec<GpuDevice>,
    pub(crate) reason: Option<String>,
}

/// Reads NVIDIA's GPUs.
#[derive(Default)]
pub(crate) struct NvmlProbe {
    library: Option<Nvml>,
    /// Since when a GPU has been lost to the library that is loaded.
    lost_since: Option<Duration>,
    /// What each GPU was, by its place on the bus and by its number, for when it does not tell any more.
    seen: BTreeMap<String, GpuDevice>,
}

impl fmt::Debug for NvmlProbe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NvmlProbe").field("loaded", &self.library.is_some()).finish_non_exhaustive()
    }
}

impl NvmlProbe {
    /// Lets go of the library, and so of the devices.
    pub(crate) fn release(&mut self) {
        self.library = None;
        self.lost_since = None;
    }

    /// Reads what is awake. `cards` are NVIDIA's on the bus, in order: NVML counts in the same.
    pub(crate) fn read(&mut self, roots: &Roots, cards: &[&Card], now: Duration) -> Told {
        debug_assert!(cards.iter().all(|card| card.vendor == NVIDIA));
        // NVML neither knows nor counts those that another driver has, one that hands them to virtual machines for instance.
        let all = cards;
        let cards: Vec<&Card> = all.iter().copied().filter(|card| card.driver().as_deref() == Some("nvidia")).collect();
        let cards = cards.as_slice();
        if !has_driver(roots) || (cards.is_empty() && !all.is_empty()) {
            self.release();
            if all.is_empty() {
                self.seen.clear();
                return Told::default();
            }
            return self.gone(no_driver(all));
        }
        let asleep: Vec<bool> = cards.iter().map(|card| card.sleeps()).collect();
        if !asleep.is_empty() && asleep.iter().all(|asleep| *asleep) {
            self.release();
            let devices = cards.iter().zip(0..).map(|(card, index)| self.sleeper(card, index)).collect();
            return Told { devices, reason: None };
        }
        if self.lost_since.is_some_and(|since| now.saturating_sub(since) >= RETRY) {
            self.release();
        }
        let library = match self.library.take().map_or_else(|| open(roots), Ok) {
            Ok(library) => library,
            Err(error) => return self.gone(reason(&error)),
        };
        match self.read_all(&library, cards, &asleep) {
            Ok((devices, lost)) => {
                self.library = Some(library);
                self.lost_since = lost.then(|| self.lost_since.unwrap_or(now));
                Told { devices, reason: None }
            }
            // The library is dropped: the next reading begins anew.
            Err(error) => self.gone(reason(&error)),
        }
    }

    /// All devices, and whether one of them is lost; an error where the library itself does not work any more.
    fn read_all(
        &mut self,
        library: &Nvml,
        cards: &[&Card],
        asleep: &[bool],
    ) -> Result<(Vec<GpuDevice>, bool), NvmlError> {
        let mut devices = Vec::new();
        let mut lost = false;
        // To ask for a device by its number would wake all of them.
        let by_bus = asleep.contains(&true);
        let count = if by_bus { u32::try_from(cards.len()).unwrap_or(0) } else { library.device_count()? };
        for (index, at) in (0..count).zip(0_usize..) {
            let card = cards.get(at).filter(|_| by_bus);
            if let Some(card) = card
                && asleep[at]
            {
                devices.push(self.sleeper(card, index));
                continue;
            }
            let opened = match card {
                Some(card) => library.device_by_pci_bus_id(card.address.as_str()),
                None => library.device_by_index(index),
            };
            let (mut device, health) = match opened.and_then(|device| device::read(&device)) {
                Ok(read) => read,
                Err(error) if device::is_of_library(&error) => return Err(error),
                Err(error) => (GpuDevice::default(), Health::of(&error)),
            };
            device.index = index;
            device.source = GpuSource::Nvml;
            if health.state == GpuState::Ok {
                device.reason = health.reason;
                self.remember(&device);
            } else {
                lost |= health.state == GpuState::Lost;
                device = GpuDevice { state: health.state, reason: health.reason, ..self.known(index) };
            }
            devices.push(device);
        }
        // Where a card was pulled out, those behind it have other numbers now.
        self.seen.retain(|key, device| *key != number(device.index) || device.index < count);
        Ok((devices, lost))
    }

    /// Keeps what a device is, without what it does.
    fn remember(&mut self, device: &GpuDevice) {
        let known = self.seen.get(&number(device.index));
        if known.is_some_and(|known| known.uuid == device.uuid) {
            return;
        }
        for key in device.pci.clone().into_iter().chain([number(device.index)]) {
            self.seen.insert(key, device.unread(GpuState::Ok, ""));
        }
    }

    /// What is known of a device by its number.
    fn known(&self, index: u32) -> GpuDevice {
        let unknown = || GpuDevice {
            index,
            uuid: number(index),
            name: format!("NVIDIA GPU {index}"),
            source: GpuSource::Nvml,
            ..GpuDevice::default()
        };
        self.seen.get(&number(index)).cloned().unwrap_or_else(unknown)
    }

    fn sleeper(&self, card: &Card, index: u32) -> GpuDevice {
        let asleep = card.asleep();
        match self.seen.get(&card.address) {
            Some(known) => GpuDevice { index, state: asleep.state, reason: asleep.reason, ..known.clone() },
            None => GpuDevice { index, source: GpuSource::Nvml, ..asleep },
        }
    }

    /// The devices that there were before library or driver stopped working, for this reason.
    fn gone(&self, reason: String) -> Told {
        let numbers = self.seen.iter().filter(|(key, device)| **key == number(device.index));
        let gone = |device: &GpuDevice| device.unread(GpuState::Lost, reason.clone());
        let mut devices: Vec<GpuDevice> = numbers.map(|(_, device)| gone(device)).collect();
        devices.sort_by_key(|device| device.index);
        Told { devices, reason: Some(reason) }
    }
}

/// The key of a device that is known by its number only.
fn number(index: u32) -> String {
    format!("gpu-{index}")
}

/// Whether NVIDIA's driver is there, as a look tells that costs nothing.
fn has_driver(roots: &Roots) -> bool {
    let there = [roots.proc.join("driver/nvidia"), roots.dev.join("nvidiactl"), roots.dev.join("dxg")];
    roots.nvml.is_some() || there.iter().any(|path| path.exists())
}

fn no_driver(cards: &[&Card]) -> String {
    match cards.iter().find_map(|card| card.driver()) {
        Some(driver) => {
            format!("the NVIDIA GPU runs on the kernel's {driver}, which tells nothing: NVIDIA's own driver does")
        }
        None => "the NVIDIA driver is not loaded".to_owned(),
    }
}

fn open(roots: &Roots) -> Result<Nvml, NvmlError> {
    let load = |path: &OsStr| Nvml::builder().lib_path(path).init();
    if let Some(path) = &roots.nvml {
        return load(path.as_os_str());
    }
    let first = load(OsStr::new(PLACES[0]));
    // Elsewhere only where it is not found by its name: what is found and fails has something to say.
    if let Err(NvmlError::LibloadingError(_)) = &first {
        let others = PLACES[1..].iter().filter(|place| Path::new(place).exists());
        if let Some(library) = others.map(|place| load(OsStr::new(place))).find(|library| match library {
            Err(NvmlError::LibloadingError(_)) => false,
            Ok(_) | Err(_) => true,
        }) {
            return library;
        }
    }
    first
}

/// What an error means to people.
fn reason(error: &NvmlError) -> String {
    match error {
        NvmlError::LibloadingError(_) | NvmlError::LibraryNotFound | NvmlError::FailedToLoadSymbol(_) => {
            "NVIDIA's library libnvidia-ml.so.1 cannot be loaded: it comes with the driver".to_owned()
        }
        NvmlError::DriverNotLoaded | NvmlError::Uninitialized => "the NVIDIA driver is not loaded".to_owned(),
        NvmlError::LibRmVersionMismatch => {
            "the NVIDIA driver was updated while the old one runs: restart the machine".to_owned()
        }
        NvmlError::NoPermission => "the NVIDIA driver refuses this user".to_owned(),
        NvmlError::OperatingSystem => "the system keeps this process from the GPU".to_owned(),
        NvmlError::GpuLost => "it has fallen off the bus: a restart of the machine mends that".to_owned(),
        NvmlError::ResetRequired => "it has to be reset: a restart of the machine does that".to_owned(),
        NvmlError::InsufficientPower => "its power cables are not connected as they should be".to_owned(),
        error => format!("the NVIDIA driver says: {error}"),
    }
}
