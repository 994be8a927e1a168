//! The same reading as `nvidia-smi` has, on a real GPU where one is there; else on the library of ours, and it says
//! which.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use corral_core::gpu::{GpuDevice, GpuState, Throttle};
use corral_core::ports::GpuProbe;
use corral_gpu::{Gpus, Roots};
use nvml_scene::Stage;

use crate::nvml::{card, scene};
use crate::tree::Tree;

const FIELDS: &str = "index,uuid,name,pci.bus_id,memory.total,memory.used,utilization.gpu,temperature.gpu,power.draw,\
enforced.power.limit,clocks.sm,clocks.mem,pcie.link.gen.current,pcie.link.gen.max,pcie.link.width.current,\
pcie.link.width.max,memory.free,fan.speed,clocks_throttle_reasons.active";
/// What it says of the processes that compute.
const APPS: &str = "gpu_uuid,pid,used_gpu_memory";

#[test]
fn it_tells_what_nvidia_smi_tells() {
    if !Path::new("/dev/nvidiactl").exists() {
        say("ran on the library of ours: there is no NVIDIA GPU here");
        let (stage, tree) = (Stage::new(&scene(&[card(0)])), Tree::new());
        let mut gpus = Gpus::new(Roots { nvml: Some(stage.library()), ..tree.roots() });
        let device = gpus.read(Duration::ZERO).devices.swap_remove(0);
        // What nvidia-smi prints of such a card.
        let line = "0, GPU-0, NVIDIA GeForce RTX 4090, 00000000:01:00.0, 24576, 17920, 71, 61, 312.50, 450.00, 2520, \
                    10501, 4, 4, 8, 16, 6144, 45, 0x0000000000000044";
        compare(line, &device);
        return compare_apps("GPU-0, 4711, 17408", &device);
    }
    say("ran on the real GPU of this machine");
    let mut gpus = Gpus::new(Roots::of_machine(None));
    let sample = gpus.read(Duration::ZERO);
    let told = ask(&format!("--query-gpu={FIELDS}"));
    let apps = ask(&format!("--query-compute-apps={APPS}"));
    assert_eq!(told.lines().count(), sample.devices.len(), "{sample:#?}");
    for (line, device) in told.lines().zip(&sample.devices) {
        say(&format!("nvidia-smi: {line}\ncorral: {device:?}"));
        compare(line, device);
        // A part that is divided tells its processes under its own name.
        if device.parts.is_empty() {
            compare_apps(&apps, device);
        }
    }
}

fn ask(query: &str) -> String {
    let told = Command::new("nvidia-smi").args([query, "--format=csv,noheader,nounits"]).output();
    let told = told.expect("nvidia-smi comes with the driver");
    assert!(told.status.success(), "{told:?}");
    String::from_utf8(told.stdout).unwrap()
}

/// Not captured: it is to be seen in each run.
fn say(what: &str) {
    writeln!(std::io::stderr(), "it_tells_what_nvidia_smi_tells: {what}").expect("standard error");
}

fn compare(line: &str, device: &GpuDevice) {
    let fields: Vec<&str> = line.split(", ").map(str::trim).collect();
    let number = |at: usize| fields[at].parse::<f64>().ok();
    let same = |at: usize, ours: Option<f64>, apart: f64| {
        let theirs = number(at);
        let near = match (theirs, ours) {
            (Some(theirs), Some(ours)) => (theirs - ours).abs() <= apart,
            // "[N/A]"
            (theirs, ours) => theirs.is_none() && ours.is_none(),
        };
        assert!(near, "field {at} of {FIELDS}: {theirs:?} and {ours:?}");
    };
    assert_eq!(device.state, GpuState::Ok);
    assert_eq!((fields[0], fields[1], fields[2]), (device.index.to_string().as_str(), &*device.uuid, &*device.name));
    assert!(fields[3].to_lowercase().ends_with(device.pci.as_ref().unwrap()));
    #[expect(clippy::cast_precision_loss, reason = "mebibytes")]
    let mebibytes = |bytes: Option<u64>| bytes.map(|bytes| (bytes >> 20) as f64);
    same(4, mebibytes(device.mem_total_bytes), 1.0);
    // What moves, by what it can move in a moment.
    same(5, mebibytes(device.mem_used_bytes), 64.0);
    same(6, device.util_percent, 30.0);
    same(7, device.temperature_c, 4.0);
    same(8, device.power_w, 60.0);
    same(9, device.power_limit_w, 0.1);
    same(10, device.clocks.core_mhz.map(f64::from), 400.0);
    same(11, device.clocks.memory_mhz.map(f64::from), 400.0);
    let pcie = device.pcie;
    same(12, pcie.generation.map(f64::from), 4.0);
    same(13, pcie.max_generation.map(f64::from), 0.0);
    same(14, pcie.width.map(f64::from), 0.0);
    same(15, pcie.max_width.map(f64::from), 0.0);
    same(16, mebibytes(device.mem_free_bytes), 64.0);
    same(17, device.fan_percent, 5.0);
    let told = u64::from_str_radix(fields[18].trim_start_matches("0x"), 16).ok();
    assert_eq!(told.map(throttles), device.throttle.as_deref().map(lasting), "field 18 of {FIELDS}: {}", fields[18]);
}

/// What the bits of nvml.h (`nvmlClocksEventReason...`) mean, without those that come and go within a moment.
fn throttles(bits: u64) -> BTreeSet<&'static str> {
    let table = [(0x2, Throttle::Setting), (0x100, Throttle::Setting), (0x10, Throttle::SyncBoost)];
    let lasting = table.into_iter().chain([(0x20, Throttle::Thermal), (0x40, Throttle::Thermal)]);
    let lasting = lasting.chain([(0x80, Throttle::PowerBrake)]);
    lasting.filter(|(bit, _)| bits & bit != 0).map(|(_, reason)| reason.words()).collect()
}

fn lasting(reasons: &[Throttle]) -> BTreeSet<&'static str> {
    let moves = [Throttle::Idle, Throttle::PowerCap, Throttle::Hardware];
    reasons.iter().filter(|reason| !moves.contains(reason)).map(|reason| reason.words()).collect()
}

/// Each process that computes is among ours, with as much memory.
fn compare_apps(told: &str, device: &GpuDevice) {
    for line in told.lines() {
        let fields: Vec<&str> = line.split(", ").map(str::trim).collect();
        let &[uuid, pid, memory] = fields.as_slice() else { panic!("{APPS}: {line}") };
        if uuid != device.uuid {
            continue;
        }
        let ours = device.processes.iter().find(|process| process.pid.to_string() == pid);
        let ours = ours.unwrap_or_else(|| panic!("{line}: {:?}", device.processes));
        let (theirs, ours) = (memory.parse::<u64>().ok(), ours.mem_bytes.map(|bytes| bytes >> 20));
        let near = theirs.zip(ours).is_none_or(|(theirs, ours)| theirs.abs_diff(ours) <= 64);
        assert!(near && theirs.is_some() == ours.is_some(), "{line}: {ours:?} MiB");
    }
}
