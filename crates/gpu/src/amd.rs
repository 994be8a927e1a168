//! AMD's GPUs, through what `amdgpu` and `amdkfd` tell in files.

use std::collections::BTreeMap;
use std::path::PathBuf;

use corral_core::gpu::{GpuClocks, GpuDevice, GpuProcess, GpuSource};

use crate::fdinfo::Client;
use crate::files::{Sensors, entries, name, number, text};
use crate::pci::Card;
use crate::roots::Roots;

/// Reads a card that is awake.
pub(crate) fn read(roots: &Roots, card: &Card, clients: &[Client]) -> GpuDevice {
    let value = |file: &str| number::<u64>(&card.path.join(file));
    let Sensors { temperature_c, power_w, power_limit_w, energy_mj, fan_percent, core_mhz, memory_mhz } =
        Sensors::read(&card.path);
    let is_part = is_part_of_processor(card);
    // Such a one works in the machine's memory, and has but a little set apart for it.
    let shared = if is_part { value("mem_info_gtt_total") } else { None };
    let with = |own: &str, of_machine: &str| {
        let more = if shared.is_some() { value(of_machine).unwrap_or(0) } else { 0 };
        value(own).map(|own| own.saturating_add(more))
    };
    let used = with("mem_info_vram_used", "mem_info_gtt_used");
    let total = with("mem_info_vram_total", "mem_info_gtt_total");
    let mut device = GpuDevice {
        uuid: card.address.clone(),
        name: card.name.clone(),
        source: GpuSource::Amdgpu,
        pci: Some(card.address.clone()),
        util_percent: number(&card.path.join("gpu_busy_percent")),
        mem_util_percent: number(&card.path.join("mem_busy_percent")),
        mem_used_bytes: used,
        mem_free_bytes: used.zip(total).map(|(used, total)| total.saturating_sub(used)),
        mem_total_bytes: total,
        mem_shared_bytes: shared,
        temperature_c,
        power_w,
        power_limit_w,
        energy_mj,
        fan_percent,
        clocks: GpuClocks { core_mhz, memory_mhz },
        pcie: card.link(),
        ..GpuDevice::default()
    };
    if total.is_none() && device.util_percent.is_none() {
        device.reason = Some(match card.driver() {
            Some(driver) if driver == "amdgpu" => "amdgpu tells nothing of it".to_owned(),
            Some(driver) => format!("it runs on the kernel's {driver}, which tells nothing: amdgpu does"),
            None => "it has no driver: amdgpu is not loaded for it".to_owned(),
        });
    }
    device.processes = processes(roots, card, clients, is_part);
    device
}

/// Whether it is a part of the processor: the driver's table of measurements has a form of its own for these, from the
/// second on (`struct metrics_table_header` of Linux' `kgd_pp_interface.h`).
fn is_part_of_processor(card: &Card) -> bool {
    std::fs::read(card.path.join("gpu_metrics")).is_ok_and(|table| table.get(2).is_some_and(|form| *form >= 2))
}

/// Those that draw or compute through the device's own file, and those that compute through `ROCm`'s.
fn processes(roots: &Roots, card: &Card, clients: &[Client], is_part: bool) -> Vec<GpuProcess> {
    let mut found: BTreeMap<u32, Option<u64>> = BTreeMap::new();
    for client in clients.iter().filter(|client| client.pci == card.address) {
        let known = found.entry(client.pid).or_default();
        let told = [client.memory, client.shared.filter(|_| is_part)];
        *known = known.iter().chain(told.iter().flatten()).copied().reduce(u64::saturating_add);
    }
    for (pid, bytes) in computing(roots, card) {
        // Newer kernels tell the same memory in both places.
        let known = found.entry(pid).or_default();
        *known = (*known).max(Some(bytes));
    }
    found.into_iter().map(|(pid, mem_bytes)| GpuProcess { pid, mem_bytes, ..GpuProcess::default() }).collect()
}

/// The processes of `amdkfd`, with the memory that they hold of a card.
fn computing(roots: &Roots, card: &Card) -> Vec<(u32, u64)> {
    let kfd = roots.sys.join("class/kfd/kfd");
    let node =
        entries(&kfd.join("topology/nodes")).into_iter().find(|node| place(node).as_ref() == Some(&card.address));
    let Some(id) = node.and_then(|node| text(&node.join("gpu_id"))) else { return Vec::new() };
    let of = |process: PathBuf| {
        let bytes = number::<u64>(&process.join(format!("vram_{id}")))?;
        Some((name(&process).parse().ok()?, bytes)).filter(|(_, bytes)| *bytes > 0)
    };
    entries(&kfd.join("proc")).into_iter().filter_map(of).collect()
}

/// Where on the bus a node of `amdkfd` is.
fn place(node: &std::path::Path) -> Option<String> {
    let properties = text(&node.join("properties"))?;
    let property = |key: &str| {
        let line = properties.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))?;
        line.trim().parse::<u32>().ok()
    };
    let (location, domain) = (property("location_id").filter(|at| *at > 0)?, property("domain").unwrap_or(0));
    let (bus, slot, function) = (location >> 8, (location >> 3) & 0x1f, location & 7);
    Some(format!("{domain:04x}:{bus:02x}:{slot:02x}.{function}"))
}
