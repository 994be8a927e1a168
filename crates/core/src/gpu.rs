//! What the GPUs are doing, and which process, container and model holds their memory.

use std::fmt;
use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::id::ModelId;

mod history;

pub use history::{GpuHistory, GpuTrack, RecentReadings};

/// Tells what the GPUs are doing. They are read only while it matters to somebody.
#[async_trait]
pub trait GpuWatch: Debug + Send + Sync {
    /// A reading of this moment, or of one less than a second ago; for a scrape of one some seconds ago. A driver that does not answer is not waited for
    /// longer than a few seconds: the reading then says so.
    async fn read(&self, who: Look) -> Arc<GpuReading>;

    /// Readings from now on, one each second until this is dropped; the latest first, where it is not old.
    fn listen(&self) -> watch::Receiver<Option<Arc<GpuReading>>>;

    /// The numbers of the last minutes, as far as the GPUs were read for somebody: nothing is read for this.
    async fn history(&self) -> GpuHistory;
}

/// Who wants to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// A person, or a program that stands for one.
    Person,
    /// A program that may ask often, and wants to know how it is now: no GPU is kept from its sleep for it.
    Program,
    /// A program that asks for ever: for it no GPU is read more often than it is while a model is loaded.
    Scrape,
    /// Whoever waits for something to have changed: only a reading that was begun after the question does.
    Now,
}

/// One reading of the GPUs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GpuReading {
    /// When.
    pub at: Timestamp,
    /// By what the first GPU was read.
    pub source: GpuSource,
    /// Why there is nothing to be read, or not all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The GPUs, those of NVIDIA first; within a source in its own order.
    pub devices: Vec<GpuDevice>,
}

impl GpuReading {
    /// Memory in use and memory in all, in bytes, over the GPUs that tell both; none where no GPU does.
    pub fn memory(&self) -> Option<(u64, u64)> {
        let told = self.devices.iter().filter_map(|device| device.mem_used_bytes.zip(device.mem_total_bytes));
        told.reduce(|sum, one| (sum.0.saturating_add(one.0), sum.1.saturating_add(one.1)))
    }

    /// Whether a model of Corral's holds memory of a GPU.
    pub fn has_model(&self) -> bool {
        self.devices.iter().flat_map(|device| &device.processes).any(|process| process.model.is_some())
    }
}

/// By what GPUs are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum GpuSource {
    /// NVIDIA's management library, in this process.
    Nvml,
    /// What the kernel's `amdgpu` tells in files.
    Amdgpu,
    /// What the kernel's `i915` or `xe` tells in files.
    Intel,
    /// There is no GPU that can be read.
    #[default]
    None,
}

impl fmt::Display for GpuSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Nvml => "nvml",
            Self::Amdgpu => "amdgpu",
            Self::Intel => "intel",
            Self::None => "none",
        })
    }
}

/// How a GPU is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum GpuState {
    /// It is read.
    #[default]
    Ok,
    /// It is switched off to save power, and is not woken in order to be read.
    Asleep,
    /// It does not answer any more: off the bus, or in need of a reset.
    Lost,
    /// Its driver refuses this user.
    Denied,
    /// Its driver takes too long to answer.
    Silent,
}

/// One GPU. What it does not tell is null.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct GpuDevice {
    /// Its number: for NVIDIA that of NVML, which is the one that a catalog's `gpu` names.
    pub index: u32,
    /// What tells it from all others: NVIDIA's UUID, else its place on the PCI bus.
    pub uuid: String,
    /// What people call it.
    pub name: String,
    /// By what it is read.
    #[serde(default)]
    pub source: GpuSource,
    /// Its place on the PCI bus, for instance `0000:01:00.0`.
    #[serde(default)]
    pub pci: Option<String>,
    /// How it is.
    #[serde(default)]
    pub state: GpuState,
    /// Why it is so, or why something of it is not told.
    #[serde(default)]
    pub reason: Option<String>,
    /// Share of the time in which it worked, in percent.
    pub util_percent: Option<f64>,
    /// Share of the time in which its memory was read or written, in percent.
    #[serde(default)]
    pub mem_util_percent: Option<f64>,
    /// Memory in use, in bytes, without what the driver keeps for itself; with that of the machine, where it uses it as
    /// its own.
    pub mem_used_bytes: Option<u64>,
    /// Memory that can still be had, in bytes.
    #[serde(default)]
    pub mem_free_bytes: Option<u64>,
    /// Memory in all, in bytes.
    pub mem_total_bytes: Option<u64>,
    /// So much of all its memory is the machine's, in bytes, which programs use as well: for one of AMD's that is a part
    /// of the processor.
    #[serde(default)]
    pub mem_shared_bytes: Option<u64>,
    /// Degrees Celsius.
    pub temperature_c: Option<f64>,
    /// Watts that it draws.
    pub power_w: Option<f64>,
    /// Watts that it may draw.
    #[serde(default)]
    pub power_limit_w: Option<f64>,
    /// Energy that it has taken since its driver was loaded, in millijoules.
    #[serde(default)]
    pub energy_mj: Option<u64>,
    /// The speed of its fan, in percent of the highest.
    #[serde(default)]
    pub fan_percent: Option<f64>,
    /// How fast it is clocked.
    #[serde(default)]
    pub clocks: GpuClocks,
    /// How it is tied to the machine.
    #[serde(default)]
    pub pcie: GpuPcie,
    /// Why it runs slower than it could; null where it does not tell.
    #[serde(default)]
    pub throttle: Option<Vec<Throttle>>,
    /// Its parts, where it is divided (MIG).
    #[serde(default)]
    pub parts: Vec<GpuPart>,
    /// The processes that use it; the largest first.
    pub processes: Vec<GpuProcess>,
}

impl GpuDevice {
    /// What it is, without what it does: it is so, for this reason.
    #[must_use]
    pub fn unread(&self, state: GpuState, reason: impl Into<String>) -> Self {
        Self {
            index: self.index,
            uuid: self.uuid.clone(),
            name: self.name.clone(),
            source: self.source,
            pci: self.pci.clone(),
            mem_total_bytes: self.mem_total_bytes,
            mem_shared_bytes: self.mem_shared_bytes,
            state,
            reason: Some(reason.into()),
            ..Self::default()
        }
    }
}

/// Clocks, in megahertz.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct GpuClocks {
    /// Of the cores that compute.
    pub core_mhz: Option<u32>,
    /// Of the memory.
    pub memory_mhz: Option<u32>,
}

/// A link to the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct GpuPcie {
    /// The generation that is in use; an idle link falls back to a slower one.
    pub generation: Option<u32>,
    /// The fastest generation that card and machine have in common.
    pub max_generation: Option<u32>,
    /// Lanes in use.
    pub width: Option<u32>,
    /// Lanes that card and machine have in common.
    pub max_width: Option<u32>,
    /// Bytes per second to the GPU.
    pub rx_bytes_per_second: Option<u64>,
    /// Bytes per second from the GPU.
    pub tx_bytes_per_second: Option<u64>,
}

/// Why a GPU runs slower than it could.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Throttle {
    /// It has nothing to do.
    Idle,
    /// Somebody has set its clocks.
    Setting,
    /// It draws as many watts as it may.
    PowerCap,
    /// It is too hot.
    Thermal,
    /// The machine's power supply asks for less.
    PowerBrake,
    /// The hardware protects itself: too hot, or too little power.
    Hardware,
    /// It keeps step with other GPUs.
    SyncBoost,
}

impl Throttle {
    /// In a few words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Setting => "clocks set",
            Self::PowerCap => "power limit",
            Self::Thermal => "too hot",
            Self::PowerBrake => "power supply",
            Self::Hardware => "hardware slowdown",
            Self::SyncBoost => "in step with others",
        }
    }
}

/// A part of a GPU that is divided.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct GpuPart {
    /// What tells it from all others.
    pub uuid: String,
    /// What people call it.
    pub name: String,
    /// Memory in use, in bytes.
    pub mem_used_bytes: Option<u64>,
    /// Memory in all, in bytes.
    pub mem_total_bytes: Option<u64>,
}

/// A process that uses a GPU.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct GpuProcess {
    /// Its id, as this machine sees it.
    pub pid: u32,
    /// Its program, with the path where that can be seen; null where it has ended or is hidden.
    pub name: Option<String>,
    /// The user that it runs as.
    #[serde(default)]
    pub user: Option<String>,
    /// GPU memory that it holds, in bytes.
    pub mem_bytes: Option<u64>,
    /// The container that it runs in.
    pub container: Option<String>,
    /// The model that it serves, where it is a server of Corral's.
    pub model: Option<ModelId>,
}

/// What one or more drivers told, before it is known whose the processes are.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct GpuSample {
    /// By what the first device was read.
    pub source: GpuSource,
    /// Why there is nothing to be read, or not all.
    pub reason: Option<String>,
    /// The GPUs.
    pub devices: Vec<GpuDevice>,
    /// Whether a GPU is among them that sleeps when nobody uses it.
    pub may_sleep: bool,
}
