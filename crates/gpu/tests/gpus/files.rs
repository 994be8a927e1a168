//! AMD's and Intel's cards, out of the kernel's files.

use std::time::Duration;

use corral_core::gpu::{GpuDevice, GpuSource, GpuState, Throttle};
use corral_core::ports::GpuProbe;
use corral_gpu::Gpus;

use crate::tree::Tree;

const GIB: u64 = 1 << 30;
pub(crate) const RADEON: &str = "0000:03:00.0";
pub(crate) const ARC: &str = "0000:0a:00.0";

/// A Radeon RX 7900 XTX, as `amdgpu` shows it.
pub(crate) fn radeon() -> Tree {
    let tree = Tree::new();
    tree.write("usr/share/misc/pci.ids", "1002  AMD\n\t744c  Navi 31 [Radeon RX 7900 XT/7900 XTX]\n");
    tree.card(
        RADEON,
        "amdgpu",
        "vendor: 0x1002
         device: 0x744c
         class: 0x030000
         gpu_busy_percent: 93
         mem_busy_percent: 41
         mem_info_vram_total: 25753026560
         mem_info_vram_used: 19541440102
         current_link_speed: 16.0 GT/s PCIe
         max_link_speed: 16.0 GT/s PCIe
         current_link_width: 16
         max_link_width: 16
         power/runtime_status: active
         power/control: auto
         hwmon/hwmon3/name: amdgpu
         hwmon/hwmon3/temp1_input: 58000
         hwmon/hwmon3/temp2_input: 74000
         hwmon/hwmon3/power1_average: 287000000
         hwmon/hwmon3/power1_cap: 339000000
         hwmon/hwmon3/freq1_input: 2371000000
         hwmon/hwmon3/freq2_input: 1249000000
         hwmon/hwmon3/pwm1: 102",
    );
    // An NVMe drive, and a sound device on the same card, are none.
    tree.card("0000:04:00.0", "nvme", "vendor: 0x144d\nclass: 0x010802\ndevice: 0xa80c");
    tree.card("0000:03:00.1", "snd_hda_intel", "vendor: 0x1002\nclass: 0x040300\ndevice: 0xab30");
    tree
}

/// An Arc B580, as `xe` shows it.
pub(crate) fn arc() -> Tree {
    let tree = Tree::new();
    tree.card(
        ARC,
        "xe",
        "vendor: 0x8086
         device: 0xe20b
         class: 0x030000
         tile0/physical_vram_size_bytes: 12884901888
         tile0/gt0/freq0/act_freq: 2850
         tile0/gt0/freq0/throttle/status: 1
         tile0/gt0/freq0/throttle/reason_pl1: 1
         tile0/gt0/freq0/throttle/reason_thermal: 0
         hwmon/hwmon5/name: xe
         hwmon/hwmon5/temp2_input: 66000
         hwmon/hwmon5/power1_max: 190000000
         hwmon/hwmon5/energy1_input: 5000000000",
    );
    tree
}

fn read(gpus: &mut Gpus, second: u64) -> GpuDevice {
    let mut sample = gpus.read(Duration::from_secs(second));
    assert_eq!(sample.devices.len(), 1, "{sample:?}");
    assert_eq!(sample.source, sample.devices[0].source);
    sample.devices.swap_remove(0)
}

#[test]
fn amds_card_tells_what_it_does_and_for_whom() {
    let tree = radeon();
    let info = |client: u32, vram: u64| {
        format!("drm-driver:\tamdgpu\ndrm-client-id:\t{client}\ndrm-pdev:\t{RADEON}\ndrm-memory-vram:\t{vram} KiB\n")
    };
    // One file twice, and another one.
    let server = [(5, info(7, 1_048_576)), (6, info(7, 1_048_576)), (9, info(8, 524_288))];
    let server = server.each_ref().map(|(number, info)| (*number, info.as_str()));
    tree.process(4711, 1, "/app/llama-server", "/docker/x", &server);
    tree.process(100, 1, "/usr/bin/gnome-shell", "/user.slice", &[(3, &info(1, 262_144))]);
    tree.process(200, 1, "/usr/bin/bash", "/user.slice", &[]);
    // One that computes through ROCm, which the file of its device does not tell.
    tree.write_all("sys/class/kfd/kfd/topology/nodes/1", "gpu_id: 31337\nproperties: cpu_cores_count 0");
    tree.write("sys/class/kfd/kfd/topology/nodes/1/properties", "cpu_cores_count 0\nlocation_id 768\ndomain 0\n");
    tree.write("sys/class/kfd/kfd/proc/300/vram_31337", "17179869184\n");
    tree.write("sys/class/kfd/kfd/proc/301/vram_999", "17179869184\n");
    let device = read(&mut Gpus::new(tree.roots()), 0);
    assert_eq!((device.source, device.state, device.index), (GpuSource::Amdgpu, GpuState::Ok, 0));
    assert_eq!((device.name.as_str(), device.uuid.as_str()), ("AMD Radeon RX 7900 XT/7900 XTX", RADEON));
    assert_eq!((device.util_percent, device.mem_util_percent), (Some(93.0), Some(41.0)));
    assert_eq!((device.mem_used_bytes, device.mem_total_bytes), (Some(19_541_440_102), Some(25_753_026_560)));
    assert_eq!((device.temperature_c, device.power_w, device.power_limit_w), (Some(58.0), Some(287.0), Some(339.0)));
    assert_eq!((device.clocks.core_mhz, device.clocks.memory_mhz), (Some(2_371), Some(1_249)));
    assert_eq!((device.pcie.generation, device.pcie.width, device.fan_percent), (Some(4), Some(16), Some(40.0)));
    let processes: Vec<_> = device.processes.iter().map(|process| (process.pid, process.mem_bytes)).collect();
    assert_eq!(processes, [(100, Some(GIB / 4)), (300, Some(16 * GIB)), (4711, Some(3 * GIB / 2))]);
}

/// One that is a part of the processor, as `amdgpu` shows it: the table of measurements is of this form.
fn apu(form: u8) -> Tree {
    let tree = Tree::new();
    tree.card(
        RADEON,
        "amdgpu",
        "vendor: 0x1002
         device: 0x1586
         class: 0x038000
         gpu_busy_percent: 88
         mem_info_vram_total: 536870912
         mem_info_vram_used: 134217728
         mem_info_gtt_total: 68719476736
         mem_info_gtt_used: 17179869184",
    );
    let table = [80, 0, form, 0, 0xff, 0xff];
    std::fs::write(tree.path(&format!("sys/bus/pci/devices/{RADEON}/gpu_metrics")), table).unwrap();
    let info = format!(
        "drm-driver:\tamdgpu\ndrm-client-id:\t7\ndrm-pdev:\t{RADEON}\ndrm-memory-vram:\t65536 KiB\n\
         drm-memory-gtt:\t15 GiB\n"
    );
    tree.process(4711, 1, "/app/llama-server", "/docker/x", &[(5, &info)]);
    tree
}

#[test]
fn amds_part_of_the_processor_works_in_the_machines_memory() {
    let told = |form: u8| {
        let device = read(&mut Gpus::new(apu(form).roots()), 0);
        let held = device.processes[0].mem_bytes;
        (device.mem_used_bytes, device.mem_free_bytes, device.mem_total_bytes, device.mem_shared_bytes, held)
    };
    let (mib, own) = (1 << 20, 64 << 20);
    let with = (
        Some(16 * GIB + 128 * mib),
        Some(48 * GIB + 384 * mib),
        Some(64 * GIB + 512 * mib),
        Some(64 * GIB),
        Some(15 * GIB + own),
    );
    for form in [2, 3] {
        assert_eq!(told(form), with, "{form}");
    }
    // A card of its own spills into the machine's memory only where its own is full.
    assert_eq!(told(1), (Some(128 * mib), Some(384 * mib), Some(512 * mib), None, Some(own)));
}

#[test]
fn amds_card_that_sleeps_is_left_alone_and_one_without_a_driver_says_so() {
    let tree = radeon();
    let state = format!("sys/bus/pci/devices/{RADEON}/power/runtime_status");
    tree.write(&state, "suspended\n");
    let mut gpus = Gpus::new(tree.roots());
    let device = read(&mut gpus, 0);
    assert_eq!((device.state, device.util_percent, device.source), (GpuState::Asleep, None, GpuSource::Amdgpu));
    tree.write(&state, "active\n");
    assert_eq!(read(&mut gpus, 1).util_percent, Some(93.0));
    // It is unplugged.
    std::fs::remove_dir_all(tree.path(&format!("sys/bus/pci/devices/{RADEON}"))).unwrap();
    let sample = gpus.read(Duration::from_secs(2));
    assert_eq!((sample.devices.len(), sample.source), (0, GpuSource::None));
    let tree = Tree::new();
    tree.card(RADEON, "vfio-pci", "vendor: 0x1002\ndevice: 0x744c\nclass: 0x030000");
    let device = read(&mut Gpus::new(tree.roots()), 0);
    assert!(device.reason.as_ref().unwrap().contains("vfio-pci"), "{device:?}");
    assert_eq!(device.name, "AMD GPU 744c");
}

#[test]
fn intels_card_tells_what_it_did_between_two_readings() {
    let tree = arc();
    let info = |compute: u64, total: u64| {
        format!(
            "drm-driver:\txe\ndrm-client-id:\t4\ndrm-pdev:\t{ARC}\ndrm-resident-vram0:\t8 GiB\ndrm-total-vram0:\t9 GiB\n\
             drm-cycles-ccs:\t{compute}\ndrm-total-cycles-ccs:\t{total}\ndrm-cycles-rcs:\t0\ndrm-total-cycles-rcs:\t{total}\n"
        )
    };
    tree.process(4711, 1, "/app/llama-server", "/", &[(4, &info(1_000, 10_000))]);
    let mut gpus = Gpus::new(tree.roots());
    let device = read(&mut gpus, 10);
    assert_eq!((device.source, device.util_percent, device.power_w), (GpuSource::Intel, None, None));
    assert_eq!((device.mem_used_bytes, device.mem_total_bytes), (Some(8 * GIB), Some(12 * GIB)));
    assert_eq!((device.temperature_c, device.clocks.core_mhz), (Some(66.0), Some(2_850)));
    assert_eq!((device.energy_mj, device.power_limit_w), (Some(5_000_000), Some(190.0)));
    assert_eq!(device.throttle, Some(vec![Throttle::PowerCap]));
    tree.write("proc/4711/fdinfo/4", info(1_750, 11_000));
    tree.write(&format!("sys/bus/pci/devices/{ARC}/hwmon/hwmon5/energy1_input"), "5300000000\n");
    let device = read(&mut gpus, 12);
    assert_eq!((device.util_percent, device.power_w), (Some(75.0), Some(150.0)));
    assert_eq!(device.processes[0].mem_bytes, Some(8 * GIB));
}

#[test]
fn an_integrated_gpu_of_intels_tells_how_busy_it_is() {
    let tree = Tree::new();
    let card = "0000:00:02.0";
    let files = "vendor: 0x8086\ndevice: 0x46a6\nclass: 0x030000\npower/control: auto\npower/runtime_status: active";
    tree.card(card, "i915", files);
    tree.write(&format!("sys/bus/pci/devices/{card}/drm/card1/gt/gt0/rps_act_freq_mhz"), "1300\n");
    let info =
        |render: u64| format!("drm-driver: i915\ndrm-client-id: 2\ndrm-pdev: {card}\ndrm-engine-render: {render} ns\n");
    tree.process(9, 1, "/usr/bin/gnome-shell", "/", &[(4, &info(1_000))]);
    let mut gpus = Gpus::new(tree.roots());
    let sample = gpus.read(Duration::from_secs(1));
    assert!(!sample.may_sleep, "it is part of the processor");
    tree.write("proc/9/fdinfo/4", info(500_001_000));
    let device = read(&mut gpus, 3);
    assert_eq!((device.util_percent, device.clocks.core_mhz), (Some(25.0), Some(1_300)));
    assert_eq!((device.mem_used_bytes, device.mem_total_bytes), (None, None));
}

#[test]
fn new_processes_are_found_within_seconds_and_gone_ones_at_once() {
    let tree = radeon();
    let mut gpus = Gpus::new(tree.roots());
    assert_eq!(read(&mut gpus, 0).processes.len(), 0);
    let info = format!("drm-client-id: 1\ndrm-pdev: {RADEON}\ndrm-memory-vram: 1 KiB\n");
    tree.process(9, 1, "/usr/bin/new", "/", &[(4, &info)]);
    assert_eq!(read(&mut gpus, 5).processes.len(), 1);
    std::fs::remove_dir_all(tree.path("proc/9")).unwrap();
    assert_eq!(read(&mut gpus, 6).processes.len(), 0);
}
