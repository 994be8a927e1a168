//! The real wrapper, on the library that plays scenes.

use std::path::PathBuf;
use std::time::Duration;

use corral_core::gpu::{GpuDevice, GpuPcie, GpuSample, GpuSource, GpuState, Throttle};
use corral_core::ports::GpuProbe;
use corral_gpu::{Gpus, Roots};
use nvml_scene::Stage;
use serde_json::{Value, json};

use crate::tree::Tree;

const GIB: u64 = 1 << 30;

/// A card at work.
pub(crate) fn card(index: u64) -> Value {
    json!({
        "uuid": format!("GPU-{index}"), "name": "NVIDIA GeForce RTX 4090",
        "pci": format!("00000000:0{}:00.0", index + 1),
        "util": 71, "mem_util": 40, "total": 24 * GIB, "reserved": GIB / 2, "free": 6 * GIB, "used": 17 * GIB + GIB / 2,
        "temperature": 61, "power_mw": 312_500, "limit_mw": 450_000, "energy_mj": 987_654_321_000_u64,
        "core_mhz": 2_520, "memory_mhz": 10_501, "generation": 4, "max_generation": 4, "width": 8, "max_width": 16,
        "rx_kb": 1_500, "tx_kb": 250, "throttle": 0x4 | 0x40, "fan": 45,
        "compute": [[4711, 17 * GIB]], "graphics": [[100, GIB / 4], [4711, 17 * GIB]],
    })
}

pub(crate) fn scene(devices: &[Value]) -> Value {
    json!({ "driver": "580.95.05", "devices": devices })
}

struct Bed {
    stage: Stage,
    tree: Tree,
    gpus: Gpus,
}

impl Bed {
    fn new(stage: Stage) -> Self {
        let tree = Tree::new();
        let gpus = Gpus::new(Roots { nvml: Some(stage.library()), ..tree.roots() });
        Self { stage, tree, gpus }
    }

    fn with(devices: &[Value]) -> Self {
        Self::new(Stage::new(&scene(devices)))
    }

    fn read(&mut self, second: u64) -> GpuSample {
        self.gpus.read(Duration::from_secs(second))
    }

    fn device(&mut self, second: u64) -> GpuDevice {
        self.read(second).devices.swap_remove(0)
    }

    /// Puts NVIDIA's cards on the bus, each with its power state.
    fn on_bus(&self, states: &[&str]) {
        for (at, state) in states.iter().enumerate() {
            let files = format!("vendor: 0x10de\nclass: 0x030000\ndevice: 0x2684\npower/runtime_status: {state}");
            self.tree.card(&format!("0000:0{}:00.0", at + 1), "nvidia", &format!("{files}\npower/control: auto"));
        }
    }
}

fn states(sample: &GpuSample) -> Vec<GpuState> {
    sample.devices.iter().map(|device| device.state).collect()
}

#[test]
fn two_gpus_tell_all() {
    let mut bed = Bed::with(&[card(0), card(1)]);
    let sample = bed.read(0);
    assert_eq!((sample.source, &sample.reason, sample.may_sleep), (GpuSource::Nvml, &None, false));
    assert_eq!(sample.devices.iter().map(|device| device.uuid.as_str()).collect::<Vec<_>>(), ["GPU-0", "GPU-1"]);
    let device = &sample.devices[1];
    let GpuDevice { clocks, pcie, processes, .. } = device.clone();
    assert_eq!((device.index, device.name.as_str(), device.state), (1, "NVIDIA GeForce RTX 4090", GpuState::Ok));
    assert_eq!(device.pci.as_deref(), Some("0000:02:00.0"));
    assert_eq!((device.util_percent, device.mem_util_percent), (Some(71.0), Some(40.0)));
    assert_eq!(device.mem_used_bytes, Some(17 * GIB + GIB / 2), "without what the driver keeps");
    assert_eq!((device.mem_free_bytes, device.mem_total_bytes), (Some(6 * GIB), Some(24 * GIB)));
    assert_eq!((device.temperature_c, device.fan_percent), (Some(61.0), Some(45.0)));
    assert_eq!(
        (device.power_w, device.power_limit_w, device.energy_mj),
        (Some(312.5), Some(450.0), Some(987_654_321_000))
    );
    assert_eq!((clocks.core_mhz, clocks.memory_mhz), (Some(2_520), Some(10_501)));
    let link = GpuPcie {
        generation: Some(4),
        max_generation: Some(4),
        width: Some(8),
        max_width: Some(16),
        rx_bytes_per_second: Some(1_500_000),
        tx_bytes_per_second: Some(250_000),
    };
    assert_eq!(pcie, link);
    assert_eq!(device.throttle, Some(vec![Throttle::PowerCap, Throttle::Thermal]));
    let told: Vec<_> = processes.iter().map(|process| (process.pid, process.mem_bytes)).collect();
    assert_eq!(told, [(100, Some(GIB / 4)), (4711, Some(17 * GIB))], "who computes and draws is told once");
}

#[test]
fn a_divided_gpu_tells_its_parts_and_who_is_on_them() {
    let mut divided = card(0);
    divided["name"] = json!("NVIDIA H100");
    // A divided card does not tell how busy it is.
    divided["answers"] = json!({ "nvmlDeviceGetUtilizationRates": 3 });
    divided["compute"] = json!([]);
    divided["graphics"] = json!([]);
    let part = |name: &str, used, compute| {
        json!({ "uuid": format!("MIG-{name}"), "name": name, "total": 20 * GIB, "reserved": 0, "free": 20 * GIB - used,
                "used": used, "compute": compute })
    };
    divided["parts"] = json!([part("1g.20gb", GIB, json!([[5, GIB]])), part("2g.20gb", 3 * GIB, json!([[6, null]]))]);
    let device = Bed::with(&[divided]).device(0);
    assert_eq!((device.util_percent, device.state), (None, GpuState::Ok));
    let parts: Vec<_> = device.parts.iter().map(|part| (part.uuid.as_str(), part.mem_used_bytes)).collect();
    assert_eq!(parts, [("MIG-1g.20gb", Some(GIB)), ("MIG-2g.20gb", Some(3 * GIB))]);
    let processes: Vec<_> = device.processes.iter().map(|process| (process.pid, process.mem_bytes)).collect();
    assert_eq!(processes, [(5, Some(GIB)), (6, None)]);
}

#[test]
fn what_an_older_driver_does_not_know_is_left_out() {
    let missing =
        ["nvmlDeviceGetTotalEnergyConsumption", "nvmlDeviceGetMPSComputeRunningProcesses_v3", "nvmlDeviceGetMigMode"];
    let device = Bed::new(Stage::without(&missing, &scene(&[card(0)]))).device(0);
    assert_eq!((device.energy_mj, device.power_w, device.state), (None, Some(312.5), GpuState::Ok));
    assert_eq!(device.processes.len(), 2);
    let mut bed = Bed::new(Stage::without(&["nvmlInit_v2"], &scene(&[card(0)])));
    assert!(bed.read(0).reason.unwrap().contains("cannot be loaded"));
}

#[test]
fn a_gpu_that_falls_off_the_bus_is_said_and_the_others_are_read_on() {
    let mut bed = Bed::with(&[card(0), card(1)]);
    assert_eq!(states(&bed.read(0)), [GpuState::Ok, GpuState::Ok]);
    let mut lost = card(0);
    lost["answers"] = json!({ "*": 15 });
    bed.stage.play(&scene(&[lost, card(1)]));
    let sample = bed.read(1);
    assert_eq!(states(&sample), [GpuState::Lost, GpuState::Ok]);
    let device = &sample.devices[0];
    assert_eq!((device.uuid.as_str(), device.util_percent, device.processes.len()), ("GPU-0", None, 0));
    assert!(device.reason.as_ref().unwrap().contains("off the bus"), "{device:?}");
    assert_eq!(sample.devices[1].power_w, Some(312.5));
    // It comes back to a library that is loaded anew, which is not done each time.
    bed.read(2);
    assert_eq!(bed.stage.calls_of("nvmlInit_v2"), 1);
    bed.stage.play(&scene(&[card(0), card(1)]));
    assert_eq!(states(&bed.read(12)), [GpuState::Ok, GpuState::Ok]);
    assert_eq!((bed.stage.calls_of("nvmlInit_v2"), bed.stage.calls_of("nvmlShutdown")), (2, 1));
}

#[test]
fn one_that_was_lost_from_the_start_is_there_by_its_number() {
    let mut lost = card(0);
    lost["answers"] = json!({ "nvmlDeviceGetHandleByIndex_v2": 15 });
    let sample = Bed::with(&[lost, card(1)]).read(0);
    assert_eq!(states(&sample), [GpuState::Lost, GpuState::Ok]);
    assert_eq!((sample.devices[0].name.as_str(), sample.devices[0].uuid.as_str()), ("NVIDIA GPU 0", "gpu-0"));
}

#[test]
fn who_may_not_look_is_told_so() {
    let mut closed = card(0);
    closed["answers"] = json!({ "nvmlDeviceGetHandleByIndex_v2": 4 });
    let mut secret = card(1);
    secret["answers"] = json!({ "nvmlDeviceGetComputeRunningProcesses_v3": 4 });
    let sample = Bed::with(&[closed, secret]).read(0);
    assert_eq!(states(&sample), [GpuState::Denied, GpuState::Ok]);
    assert!(sample.devices[0].reason.as_ref().unwrap().contains("refuses this user"), "{sample:?}");
    let device = &sample.devices[1];
    assert_eq!(device.util_percent, Some(71.0));
    assert!(device.reason.as_ref().unwrap().contains("not tell this user everything"), "{device:?}");
}

#[test]
fn a_driver_that_goes_and_comes_back_heals_by_itself() {
    for (code, said) in [(9, "not loaded"), (18, "restart the machine"), (4, "refuses this user"), (999, "says")] {
        let mut bed = Bed::with(&[card(0)]);
        bed.stage.play(&json!({ "driver": "580", "answers": { "nvmlInit_v2": code }, "devices": [card(0)] }));
        let sample = bed.read(0);
        assert_eq!((sample.devices.len(), sample.source), (0, GpuSource::None));
        assert!(sample.reason.as_ref().unwrap().contains(said), "{sample:?}");
        bed.stage.play(&scene(&[card(0)]));
        assert_eq!(states(&bed.read(1)), [GpuState::Ok]);
        // Unloaded under our feet, as for an upgrade.
        bed.stage.play(&json!({ "driver": "580", "answers": { "nvmlDeviceGetCount_v2": 1 }, "devices": [card(0)] }));
        let sample = bed.read(2);
        assert_eq!(states(&sample), [GpuState::Lost], "it is still known");
        assert_eq!((sample.devices[0].uuid.as_str(), sample.devices[0].power_w), ("GPU-0", None));
        bed.stage.play(&scene(&[card(0)]));
        assert_eq!((states(&bed.read(3)), bed.read(4).reason), (vec![GpuState::Ok], None));
        // It does not come back at once.
        bed.stage.play(&json!({ "driver": "580", "answers": { "nvmlDeviceGetCount_v2": 1 }, "devices": [card(0)] }));
        bed.read(5);
        bed.stage.play(&json!({ "driver": "580", "answers": { "nvmlInit_v2": code }, "devices": [card(0)] }));
        let sample = bed.read(6);
        assert_eq!((states(&sample), sample.devices[0].uuid.as_str()), (vec![GpuState::Lost], "GPU-0"), "{sample:?}");
        assert!(sample.devices[0].reason.as_ref().unwrap().contains(said), "{sample:?}");
    }
}

#[test]
fn without_a_library_or_a_driver_there_is_a_sentence() {
    let tree = Tree::new();
    let mut none = Gpus::new(Roots { nvml: Some(PathBuf::from("/nothing/libnvidia-ml.so")), ..tree.roots() });
    assert!(none.read(Duration::ZERO).reason.unwrap().contains("libnvidia-ml.so.1 cannot be loaded"));
    let mut none = Gpus::new(tree.roots());
    let sample = none.read(Duration::ZERO);
    assert_eq!((sample.source, sample.devices.len()), (GpuSource::None, 0));
    assert!(sample.reason.unwrap().contains("no GPU"));
    let card = "vendor: 0x10de\nclass: 0x030200\ndevice: 0x2331";
    tree.card("0000:01:00.0", "nouveau", card);
    assert!(none.read(Duration::from_mins(1)).reason.unwrap().contains("nouveau"));
}

#[test]
fn cards_of_another_driver_are_not_counted() {
    let mut bed = Bed::with(&[card(0)]);
    bed.on_bus(&["active"]);
    // One that waits for a virtual machine, and is off meanwhile.
    let idle = "vendor: 0x10de\nclass: 0x030000\ndevice: 0x2204\npower/runtime_status: suspended";
    bed.tree.card("0000:00:05.0", "vfio-pci", idle);
    let sample = bed.read(0);
    assert_eq!(states(&sample), [GpuState::Ok]);
    assert_eq!((sample.devices[0].uuid.as_str(), sample.devices[0].index), ("GPU-0", 0));
    // The other one is handed over as well.
    std::fs::remove_dir_all(bed.tree.path("sys/bus/pci/devices/0000:01:00.0")).unwrap();
    let sample = bed.read(60);
    assert!(sample.reason.as_ref().unwrap().contains("vfio-pci"), "{sample:?}");
}

#[test]
fn one_that_was_pulled_out_is_not_told_twice_when_the_driver_goes() {
    let mut bed = Bed::with(&[card(0), card(1)]);
    assert_eq!(bed.read(0).devices.len(), 2);
    let mut left = card(1);
    left["pci"] = json!("00000000:02:00.0");
    bed.stage.play(&scene(&[left.clone()]));
    assert_eq!(bed.device(1).uuid, "GPU-1");
    bed.stage.play(&json!({ "driver": "580", "answers": { "nvmlDeviceGetCount_v2": 1 }, "devices": [left] }));
    let gone: Vec<_> = bed.read(2).devices.into_iter().map(|device| (device.uuid, device.state)).collect();
    assert_eq!(gone, [("GPU-1".to_owned(), GpuState::Lost)]);
}

#[test]
fn a_gpu_that_sleeps_is_not_woken() {
    let mut bed = Bed::with(&[card(0), card(1)]);
    bed.on_bus(&["suspended", "suspended"]);
    let sample = bed.read(0);
    assert_eq!((states(&sample), sample.may_sleep), (vec![GpuState::Asleep, GpuState::Asleep], true));
    assert_eq!(bed.stage.calls(), [""; 0], "not one call");
    assert_eq!(sample.devices[1].name, "NVIDIA GPU 2684");
    // One wakes up: it alone is asked, by its place on the bus.
    bed.on_bus_state(1, "active");
    let sample = bed.read(1);
    assert_eq!(states(&sample), [GpuState::Asleep, GpuState::Ok]);
    assert_eq!((sample.devices[1].uuid.as_str(), sample.devices[1].index), ("GPU-1", 1));
    assert_eq!(bed.stage.calls_of("nvmlDeviceGetHandleByIndex_v2"), 0);
    assert_eq!(bed.stage.calls_of("nvmlDeviceGetHandleByPciBusId_v2"), 1);
    // It falls asleep again: it is let go of, and is known by its name.
    bed.on_bus_state(1, "suspended");
    let sample = bed.read(2);
    assert_eq!(states(&sample), [GpuState::Asleep, GpuState::Asleep]);
    assert_eq!(sample.devices[1].name, "NVIDIA GeForce RTX 4090");
    assert_eq!(bed.stage.calls_of("nvmlShutdown"), 1);
}

impl Bed {
    fn on_bus_state(&self, at: usize, state: &str) {
        self.tree.write(&format!("sys/bus/pci/devices/0000:0{}:00.0/power/runtime_status", at + 1), state);
    }
}

#[test]
fn what_is_let_go_of_is_not_called_until_it_is_read_again() {
    let mut bed = Bed::with(&[card(0)]);
    bed.device(0);
    bed.gpus.release();
    let calls = bed.stage.calls();
    assert_eq!(calls.last().map(String::as_str), Some("nvmlShutdown"));
    bed.gpus.release();
    assert_eq!(bed.stage.calls().len(), calls.len());
    assert_eq!(bed.device(1).state, GpuState::Ok);
}
