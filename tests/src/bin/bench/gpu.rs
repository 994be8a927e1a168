//! What a reading of the GPUs costs.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use corral_core::gpu::{GpuWatch, Look};
use corral_core::snapshot::{CatalogView, Phase, Snapshot};
use corral_gpu::{Gpus, Roots, Sampler};
use corral_testkit::fakes::CountingClock;
use nvml_scene::Stage;
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::figures::{Bounds, Series};

/// Longer than a reading is told again.
const APART: Duration = Duration::from_millis(950);

/// The processor time of this whole process for a reading of two GPUs with three processes each, from the real wrapper
/// on the library that plays scenes to whose they are; what the library itself takes is in it.
pub(crate) fn costs(pairs: usize, bounds: &mut Bounds) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let stage = Stage::new(&json!({ "driver": "580.95.05", "devices": [card(0), card(1)] }));
    let mut taken = Series::default();
    runtime.block_on(async {
        let roots = Roots { nvml: Some(stage.library()), ..Roots::below(Path::new("/")) };
        let (_snapshots, watch) = watch::channel(Arc::new(snapshot()));
        let probe = Box::new(Gpus::new(roots.clone()));
        let sampler = Sampler::start(probe, roots, Arc::<CountingClock>::default(), watch);
        // The first one loads the library.
        sampler.read(Look::Person).await;
        for _ in 0..pairs {
            tokio::time::sleep(APART).await;
            let before = processor_time();
            let reading = sampler.read(Look::Person).await;
            taken.push(processor_time().saturating_sub(before).as_secs_f64() * 1e6);
            assert_eq!(reading.devices.iter().filter(|device| device.power_w.is_some()).count(), 2, "{reading:?}");
        }
    });
    println!("\na reading of two GPUs, {pairs} times: medians (quartiles) of processor time in µs");
    let verdict = bounds.at_most("the processor time of a reading of two GPUs", taken.median(), 1_000.0, " µs");
    println!("  NVML           {taken} {verdict}");
}

fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap(), time.tv_nsec.try_into().unwrap())
}

fn card(index: u32) -> Value {
    json!({
        "uuid": format!("GPU-{index}"), "name": "NVIDIA GeForce RTX 4090",
        "pci": format!("00000000:0{}:00.0", index + 1),
        "util": 71, "mem_util": 40, "total": 24_u64 << 30, "reserved": 0, "free": 6_u64 << 30, "used": 18_u64 << 30,
        "temperature": 61, "power_mw": 312_500, "limit_mw": 450_000, "energy_mj": 987_654_321_u64, "core_mhz": 2_520,
        "memory_mhz": 10_501, "generation": 4, "max_generation": 4, "width": 8, "max_width": 16, "rx_kb": 1_500,
        "tx_kb": 250, "throttle": 4, "fan": 45,
        "compute": [[std::process::id(), 17_u64 << 30], [1, 1 << 20], [2, null]],
    })
}

fn snapshot() -> Snapshot {
    Snapshot {
        version: "0".to_owned(),
        phase: Phase::Stopped,
        model: None,
        operation: None,
        engine: None,
        error: None,
        gateway: None,
        sessions: Vec::new(),
        catalog: CatalogView::default(),
    }
}
