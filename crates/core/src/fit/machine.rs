//! The memory there is, out of a reading of the GPUs.

use super::{Holder, Machine, Memory};
use crate::gpu::{GpuDevice, GpuReading, GpuSource, GpuState};

/// So much of a GPU's memory, in bytes, may be in use by nobody who is known: its driver's own.
const UNSEEN: u64 = 1 << 30;

/// The machine that a server sees: its GPUs of one kind, and the host. Without a kind it is that of the first GPU which has
/// memory of its own. `unlisted` says what the model that is loaded has of a GPU (its `uuid`), in bytes, though no driver
/// does. None where one of these GPUs does not tell how large it is.
pub fn machine(
    reading: &GpuReading,
    kind: Option<GpuSource>,
    unlisted: impl Fn(&str) -> u64,
    host: Memory,
) -> Option<Machine> {
    // What has no memory of its own uses the host's.
    let own = |device: &&GpuDevice| device.source != GpuSource::Intel || device.mem_total_bytes.is_some();
    let kind = kind.or_else(|| reading.devices.iter().find(own).map(|device| device.source));
    let gpus = reading.devices.iter().filter(own).filter(|device| Some(device.source) == kind);
    let gpus = gpus.map(|device| memory(device, unlisted(&device.uuid), &host)).collect::<Option<Vec<_>>>()?;
    // No count of a process's memory on the host has this in it.
    let given_back = gpus.iter().map(|gpu| gpu.given_back.min(gpu.shared)).fold(host.given_back, u64::saturating_add);
    Some(Machine { gpus, host: Memory { given_back, ..host } })
}

fn memory(device: &GpuDevice, unlisted: u64, host: &Memory) -> Option<Memory> {
    let total = device.mem_total_bytes?;
    let used = device.mem_used_bytes.map(|used| total.saturating_sub(used));
    // What is the machine's may be in use by programs.
    let most = device.mem_shared_bytes.map_or(total, |shared| total.saturating_sub(shared).saturating_add(host.free));
    let told = device.mem_free_bytes.or(used).filter(|_| device.state == GpuState::Ok).map(|free| free.min(most));
    let is_own = |own: bool| device.processes.iter().filter(move |process| process.model.is_some() == own);
    let nobodys = nobodys(device);
    let unlisted = unlisted.min(nobodys);
    let given_back = is_own(true).filter_map(|process| process.mem_bytes).fold(unlisted, u64::saturating_add);
    let program = |path: &str| path.rsplit('/').next().unwrap_or(path).to_owned();
    let mut holders: Vec<Holder> = is_own(false)
        .filter_map(|process| {
            let name = process.name.as_deref().map_or_else(|| "a program".to_owned(), program);
            Some(Holder { name: format!("{name} (process {})", process.pid), bytes: process.mem_bytes? })
        })
        .filter(|holder| holder.bytes > 0)
        .collect();
    holders.sort_by_key(|holder| std::cmp::Reverse(holder.bytes));
    Some(Memory {
        name: format!("GPU {} ({})", device.index, device.name),
        total,
        // What sleeps is used by nobody.
        free: told.unwrap_or(if device.state == GpuState::Asleep { total } else { 0 }),
        assumed: told.is_none(),
        // AMD's GPUs use the host's memory beside their own. And what is nobody's may be the model that is loaded.
        unsure: device.source == GpuSource::Amdgpu || nobodys - unlisted > UNSEEN,
        shared: device.mem_shared_bytes.unwrap_or(0),
        given_back,
        holders,
    })
    .filter(|_| told.is_some() || device.state == GpuState::Asleep)
    // Which of its parts a server gets is not known here.
    .filter(|_| device.parts.is_empty())
}

/// What is in use of a GPU by nobody who is known, in bytes: a lot with WSL or in another namespace of processes.
fn nobodys(device: &GpuDevice) -> u64 {
    let known = device.processes.iter().filter(|process| process.name.is_some());
    let known = known.filter_map(|process| process.mem_bytes).fold(0, u64::saturating_add);
    device.mem_used_bytes.unwrap_or(0).saturating_sub(known)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::gpu::GpuProcess;
    use crate::id::ModelId;

    const GB: u64 = 1_000_000_000;

    fn device(source: GpuSource, total: Option<u64>, free: Option<u64>) -> GpuDevice {
        let name = "RTX 4090".to_owned();
        GpuDevice { source, name, mem_total_bytes: total, mem_free_bytes: free, ..GpuDevice::default() }
    }

    fn process(pid: u32, name: &str, bytes: u64, model: Option<&str>) -> GpuProcess {
        let model = model.map(|model| ModelId::new(model).unwrap());
        GpuProcess { pid, name: Some(name.to_owned()), mem_bytes: Some(bytes), model, ..GpuProcess::default() }
    }

    fn of(devices: Vec<GpuDevice>, kind: Option<GpuSource>) -> Option<Machine> {
        let reading = GpuReading { at: Timestamp::UNIX_EPOCH, source: GpuSource::None, reason: None, devices };
        machine(&reading, kind, |_| 0, Memory { total: 64 * GB, ..Memory::default() })
    }

    #[test]
    fn a_model_gives_back_what_it_has_and_others_are_in_the_way() {
        let mut nvidia = device(GpuSource::Nvml, Some(24 * GB), Some(2 * GB));
        nvidia.processes = vec![
            process(7, "/app/llama-server", 18 * GB, Some("a")),
            process(8, "/usr/bin/blender", GB, None),
            process(9, "Xorg", 3 * GB, None),
        ];
        let told = of(vec![nvidia], None).unwrap();
        assert_eq!((told.gpus.len(), told.host.total), (1, 64 * GB));
        let gpu = &told.gpus[0];
        assert_eq!((gpu.name.as_str(), gpu.free, gpu.given_back), ("GPU 0 (RTX 4090)", 2 * GB, 18 * GB));
        let names: Vec<_> = gpu.holders.iter().map(|holder| (holder.name.as_str(), holder.bytes)).collect();
        assert_eq!(names, [("Xorg (process 9)", 3 * GB), ("blender (process 8)", GB)]);
    }

    #[test]
    fn only_gpus_of_one_kind_with_memory_of_their_own_count() {
        let nvidia = device(GpuSource::Nvml, Some(24 * GB), Some(20 * GB));
        let (amd, intel) = (device(GpuSource::Amdgpu, Some(GB), None), device(GpuSource::Intel, None, None));
        let count = |devices: &[&GpuDevice], kind| {
            of(devices.iter().map(|device| (*device).clone()).collect(), kind).map(|machine| machine.gpus.len())
        };
        assert_eq!(count(&[&nvidia, &intel], None), Some(1));
        assert_eq!(count(&[&intel], None), Some(0), "it works with the host's memory");
        assert_eq!(count(&[], None), Some(0));
        assert_eq!(count(&[&nvidia, &intel], Some(GpuSource::Amdgpu)), Some(0));
        assert_eq!(count(&[&amd], None), None, "nobody knows what is free");
    }

    #[test]
    fn what_nobody_is_known_to_hold_may_be_the_models() {
        let unsure = |device: GpuDevice| of(vec![device], None).unwrap().gpus.remove(0).unsure;
        let mut nvidia = device(GpuSource::Nvml, Some(24 * GB), Some(4 * GB));
        nvidia.mem_used_bytes = Some(20 * GB);
        assert!(unsure(nvidia.clone()), "nobody is listed");
        nvidia.processes = vec![process(7, "llama-server", 19 * GB, Some("a"))];
        assert!(!unsure(nvidia.clone()));
        nvidia.processes[0].name = None;
        assert!(unsure(nvidia.clone()), "it is a process of elsewhere");
        assert!(unsure(device(GpuSource::Amdgpu, Some(24 * GB), Some(24 * GB))));
        nvidia.parts = vec![crate::gpu::GpuPart::default()];
        assert_eq!(of(vec![nvidia], None), None, "a server gets a part");
    }

    #[test]
    fn what_no_driver_lists_of_the_model_is_given_back() {
        let mut nvidia = device(GpuSource::Nvml, Some(24 * GB), Some(4 * GB));
        nvidia.uuid = "GPU-1".to_owned();
        nvidia.mem_used_bytes = Some(20 * GB);
        let gpu = |device: &GpuDevice, unlisted: u64| {
            let (at, source, reason, devices) = (Timestamp::UNIX_EPOCH, GpuSource::Nvml, None, vec![device.clone()]);
            let unlisted = |uuid: &str| if uuid == "GPU-1" { unlisted } else { 0 };
            let reading = GpuReading { at, source, reason, devices };
            let gpu = machine(&reading, None, unlisted, Memory::default()).unwrap().gpus.remove(0);
            (gpu.given_back, gpu.unsure)
        };
        assert_eq!(gpu(&nvidia, 19 * GB), (19 * GB, false));
        assert_eq!(gpu(&nvidia, 18 * GB), (18 * GB, true), "so much may be anybody's");
        assert_eq!(gpu(&nvidia, 22 * GB), (20 * GB, false), "there is no more to give");
        nvidia.processes = vec![process(8, "/usr/bin/blender", 5 * GB, None)];
        assert_eq!(gpu(&nvidia, 18 * GB), (15 * GB, false));
    }

    #[test]
    fn a_part_of_the_processor_has_what_the_machine_has_left() {
        let free = |host: u64| {
            let mut apu = device(GpuSource::Amdgpu, Some(65 * GB), Some(60 * GB));
            apu.mem_shared_bytes = Some(64 * GB);
            apu.processes = vec![process(7, "llama-server", 3 * GB, Some("a"))];
            let reading =
                GpuReading { at: Timestamp::UNIX_EPOCH, source: GpuSource::None, reason: None, devices: vec![apu] };
            let host = Memory { total: 128 * GB, free: host, given_back: GB, ..Memory::default() };
            let mut told = machine(&reading, None, |_| 0, host).unwrap();
            assert_eq!((told.gpus[0].shared, told.host.given_back), (64 * GB, 4 * GB), "both get back what it has");
            told.gpus.remove(0).free
        };
        assert_eq!((free(100 * GB), free(20 * GB)), (60 * GB, 21 * GB));
    }

    #[test]
    fn what_sleeps_is_judged_by_all_its_memory() {
        let asleep = GpuDevice { state: GpuState::Asleep, ..device(GpuSource::Nvml, Some(8 * GB), None) };
        let gpu = of(vec![asleep.clone()], None).unwrap().gpus.remove(0);
        assert_eq!((gpu.free, gpu.assumed), (8 * GB, true));
        let unknown = GpuDevice { mem_total_bytes: None, ..asleep };
        assert_eq!(of(vec![unknown], None), None, "it was never seen awake");
        let lost = GpuDevice { state: GpuState::Lost, ..device(GpuSource::Nvml, Some(8 * GB), None) };
        assert_eq!(of(vec![lost], None), None);
    }
}
