//! What NVML tells of one device.

use std::collections::BTreeMap;

use corral_core::gpu::{GpuClocks, GpuDevice, GpuPart, GpuPcie, GpuProcess, GpuState, Throttle};
use nvml_wrapper::Device;
use nvml_wrapper::bitmasks::device::ThrottleReasons;
use nvml_wrapper::enum_wrappers::device::{Clock, PcieUtilCounter, TemperatureSensor};
use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::struct_wrappers::device::ProcessInfo;

use super::reason;

/// How a device is.
#[derive(Debug, Default)]
pub(super) struct Health {
    pub(super) state: GpuState,
    pub(super) reason: Option<String>,
}

impl Health {
    /// That of a device which answers nothing but this.
    pub(super) fn of(error: &NvmlError) -> Self {
        let state = match error {
            NvmlError::NoPermission | NvmlError::OperatingSystem => GpuState::Denied,
            NvmlError::Timeout => GpuState::Silent,
            _ => GpuState::Lost,
        };
        Self { state, reason: Some(reason(error)) }
    }
}

/// Whether an error says that the library has to be loaded anew, whatever was asked.
pub(super) fn is_of_library(error: &NvmlError) -> bool {
    matches!(
        error,
        NvmlError::Uninitialized
            | NvmlError::DriverNotLoaded
            | NvmlError::LibRmVersionMismatch
            | NvmlError::FailedToLoadSymbol(_)
            | NvmlError::FunctionNotFound
    )
}

/// Takes answers, and notes what the bad ones say of the device.
#[derive(Default)]
struct Answers {
    /// It does not answer any more, or the library does not.
    broken: Option<NvmlError>,
    denied: bool,
}

impl Answers {
    fn take<T>(&mut self, answer: Result<T, NvmlError>) -> Option<T> {
        match answer {
            Ok(value) => return Some(value),
            Err(NvmlError::NoPermission) => self.denied = true,
            Err(
                error @ (NvmlError::GpuLost
                | NvmlError::ResetRequired
                | NvmlError::Uninitialized
                | NvmlError::DriverNotLoaded
                | NvmlError::LibRmVersionMismatch),
            ) => self.broken = Some(error),
            // Not every device tells everything, and older drivers know fewer functions.
            Err(_) => {}
        }
        None
    }
}

/// Reads a device. An error where it is not there any more.
pub(super) fn read(device: &Device<'_>) -> Result<(GpuDevice, Health), NvmlError> {
    // What no device keeps to itself; where it does all the same, it is not there.
    let uuid = device.uuid()?;
    let mut answers = Answers::default();
    let name = answers.take(device.name()).unwrap_or_else(|| "NVIDIA GPU".to_owned());
    let memory = answers.take(device.memory_info());
    let util = answers.take(device.utilization_rates());
    let throttle = answers.take(device.current_throttle_reasons()).map(throttles);
    let watts = |milliwatts: u32| f64::from(milliwatts) / 1000.0;
    let told = GpuDevice {
        uuid,
        name,
        pci: answers.take(device.pci_info()).map(|pci| address(&pci.bus_id)),
        util_percent: util.as_ref().map(|util| f64::from(util.gpu)),
        mem_util_percent: util.as_ref().map(|util| f64::from(util.memory)),
        mem_used_bytes: memory.as_ref().map(|memory| memory.used),
        mem_free_bytes: memory.as_ref().map(|memory| memory.free),
        mem_total_bytes: memory.as_ref().map(|memory| memory.total),
        temperature_c: answers.take(device.temperature(TemperatureSensor::Gpu)).map(f64::from),
        power_w: answers.take(device.power_usage()).map(watts),
        power_limit_w: answers.take(device.enforced_power_limit()).map(watts),
        energy_mj: answers.take(device.total_energy_consumption()),
        fan_percent: answers.take(device.fan_speed(0)).map(f64::from),
        clocks: GpuClocks {
            core_mhz: answers.take(device.clock_info(Clock::SM)),
            memory_mhz: answers.take(device.clock_info(Clock::Memory)),
        },
        pcie: link(device, &mut answers),
        throttle,
        parts: Vec::new(),
        processes: Vec::new(),
        ..GpuDevice::default()
    };
    let (parts, processes) = who(device, &mut answers);
    if let Some(error) = answers.broken {
        return Err(error);
    }
    let denied = "the NVIDIA driver does not tell this user everything".to_owned();
    let health = Health { state: GpuState::Ok, reason: answers.denied.then_some(denied) };
    Ok((GpuDevice { parts, processes, ..told }, health))
}

fn link(device: &Device<'_>, answers: &mut Answers) -> GpuPcie {
    let bytes = |kilobytes: u32| u64::from(kilobytes) * 1000;
    GpuPcie {
        generation: answers.take(device.current_pcie_link_gen()),
        max_generation: answers.take(device.max_pcie_link_gen()),
        width: answers.take(device.current_pcie_link_width()),
        max_width: answers.take(device.max_pcie_link_width()),
        rx_bytes_per_second: answers.take(device.pcie_throughput(PcieUtilCounter::Receive)).map(bytes),
        tx_bytes_per_second: answers.take(device.pcie_throughput(PcieUtilCounter::Send)).map(bytes),
    }
}

/// The parts of a device that is divided, and the processes on it and on them.
fn who(device: &Device<'_>, answers: &mut Answers) -> (Vec<GpuPart>, Vec<GpuProcess>) {
    let mut found = BTreeMap::new();
    processes(device, answers, &mut found);
    let divided = answers.take(device.mig_mode()).is_some_and(|mode| mode.current == 1);
    let most = if divided { answers.take(device.mig_device_count()).unwrap_or(0) } else { 0 };
    let mut parts = Vec::new();
    for index in 0..most {
        // Fewer are there than there could be.
        let Some(part) = answers.take(device.mig_device_by_index(index)) else { continue };
        processes(&part, answers, &mut found);
        let memory = answers.take(part.memory_info());
        parts.push(GpuPart {
            uuid: answers.take(part.uuid()).unwrap_or_default(),
            name: answers.take(part.name()).unwrap_or_default(),
            mem_used_bytes: memory.as_ref().map(|memory| memory.used),
            mem_total_bytes: memory.as_ref().map(|memory| memory.total),
        });
    }
    let process = |(pid, mem_bytes)| GpuProcess { pid, mem_bytes, ..GpuProcess::default() };
    (parts, found.into_iter().map(process).collect())
}

/// Processes by their id. One that computes and draws is told twice with the same memory.
fn processes(device: &Device<'_>, answers: &mut Answers, found: &mut BTreeMap<u32, Option<u64>>) {
    let lists = [
        device.running_compute_processes(),
        device.running_graphics_processes(),
        device.mps_running_compute_processes(),
    ];
    for ProcessInfo { pid, used_gpu_memory, .. } in lists.into_iter().filter_map(|list| answers.take(list)).flatten() {
        let bytes = match used_gpu_memory {
            UsedGpuMemory::Used(bytes) => Some(bytes),
            UsedGpuMemory::Unavailable => None,
        };
        let known = found.entry(pid).or_default();
        *known = (*known).max(bytes);
    }
}

fn throttles(reasons: ThrottleReasons) -> Vec<Throttle> {
    let table = [
        (ThrottleReasons::GPU_IDLE, Throttle::Idle),
        (ThrottleReasons::APPLICATIONS_CLOCKS_SETTING, Throttle::Setting),
        (ThrottleReasons::DISPLAY_CLOCK_SETTING, Throttle::Setting),
        (ThrottleReasons::SW_POWER_CAP, Throttle::PowerCap),
        (ThrottleReasons::SW_THERMAL_SLOWDOWN, Throttle::Thermal),
        (ThrottleReasons::HW_THERMAL_SLOWDOWN, Throttle::Thermal),
        (ThrottleReasons::HW_POWER_BRAKE_SLOWDOWN, Throttle::PowerBrake),
        (ThrottleReasons::HW_SLOWDOWN, Throttle::Hardware),
        (ThrottleReasons::SYNC_BOOST, Throttle::SyncBoost),
    ];
    let mut found: Vec<Throttle> =
        table.into_iter().filter(|(bit, _)| reasons.contains(*bit)).map(|(_, reason)| reason).collect();
    found.dedup();
    found
}

/// An address as the kernel writes it: NVML's has a longer domain, in capitals.
fn address(bus_id: &str) -> String {
    let lower = bus_id.to_ascii_lowercase();
    match lower.split_once(':') {
        Some((domain, rest)) if domain.len() > 4 && domain.starts_with("0000") => {
            format!("{}:{rest}", &domain[domain.len() - 4..])
        }
        _ => lower,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_the_kernels() {
        assert_eq!(address("00000000:0A:00.0"), "0000:0a:00.0");
        assert_eq!(address("0000:01:00.0"), "0000:01:00.0");
        assert_eq!(address("00010000:01:00.0"), "00010000:01:00.0");
    }
}
