//! `GET /gpu`, `GET /gpu/history`, and what Prometheus is told of GPUs.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use axum::Json;
use axum::extract::State;
use corral_core::gpu::{GpuDevice, GpuHistory, GpuReading, GpuSource, Look};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::metrics::word;
use crate::router::Shared;

type Labels = Vec<(&'static str, String)>;
type Gauges = Family<Labels, Gauge<f64, AtomicU64>>;

/// A number of a device, where it tells it.
type Of = fn(&GpuDevice) -> Option<f64>;

/// `GET /gpu`
pub(crate) async fn gpu(State(shared): State<Shared>) -> Json<Arc<GpuReading>> {
    Json(shared.gpu.read(Look::Person).await)
}

/// `GET /gpu/history`
pub(crate) async fn history(State(shared): State<Shared>) -> Json<GpuHistory> {
    Json(shared.gpu.history().await)
}

/// The names that users of NVIDIA's dcgm-exporter know, for what means the same there. The energy is a counter there
/// and has this very name, which a counter could not have here.
const KNOWN: [(&str, &str, Of); 16] = [
    ("DCGM_FI_DEV_SM_CLOCK", "SM clock frequency (in MHz)", |of| of.clocks.core_mhz.map(f64::from)),
    ("DCGM_FI_DEV_MEM_CLOCK", "Memory clock frequency (in MHz)", |of| of.clocks.memory_mhz.map(f64::from)),
    ("DCGM_FI_DEV_GPU_TEMP", "GPU temperature (in C)", |of| of.temperature_c),
    ("DCGM_FI_DEV_POWER_USAGE", "Power draw (in W)", |of| of.power_w),
    ("DCGM_FI_DEV_ENFORCED_POWER_LIMIT", "Power limit that is in force (in W)", |of| of.power_limit_w),
    ("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", "Energy taken since the driver was loaded (in mJ)", |of| {
        of.energy_mj.map(float)
    }),
    ("DCGM_FI_DEV_GPU_UTIL", "GPU utilization (in %)", |of| of.util_percent),
    ("DCGM_FI_DEV_MEM_COPY_UTIL", "Memory utilization (in %)", |of| of.mem_util_percent),
    ("DCGM_FI_DEV_FB_USED", "Memory in use (in MiB)", |of| of.mem_used_bytes.map(mebibytes)),
    ("DCGM_FI_DEV_FB_FREE", "Memory that can be had (in MiB)", |of| of.mem_free_bytes.map(mebibytes)),
    ("DCGM_FI_DEV_FB_TOTAL", "Memory in all (in MiB)", |of| of.mem_total_bytes.map(mebibytes)),
    ("DCGM_FI_DEV_FAN_SPEED", "Fan speed (in %)", |of| of.fan_percent),
    ("DCGM_FI_DEV_PCIE_LINK_GEN", "PCIe generation in use", |of| of.pcie.generation.map(f64::from)),
    ("DCGM_FI_DEV_PCIE_LINK_WIDTH", "PCIe lanes in use", |of| of.pcie.width.map(f64::from)),
    ("DCGM_FI_PROF_PCIE_TX_BYTES", "Sent over PCIe (in bytes per second)", |of| of.pcie.tx_bytes_per_second.map(float)),
    ("DCGM_FI_PROF_PCIE_RX_BYTES", "Received over PCIe (in bytes per second)", |of| {
        of.pcie.rx_bytes_per_second.map(float)
    }),
];

/// Registers what the GPUs tell; nothing where they tell nothing.
pub(crate) fn register(registry: &mut Registry, reading: &GpuReading) {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let labels = |device: &GpuDevice| -> Labels {
        let kind = if device.source == GpuSource::Nvml { "nvidia" } else { "card" };
        vec![
            ("gpu", device.index.to_string()),
            ("UUID", device.uuid.clone()),
            ("pci_bus_id", device.pci.clone().unwrap_or_default()),
            ("device", format!("{kind}{}", device.index)),
            ("modelName", device.name.clone()),
            ("Hostname", host.trim().to_owned()),
        ]
    };
    for (name, help, of) in KNOWN {
        let gauges = Gauges::default();
        let told: Vec<_> = reading.devices.iter().filter_map(|device| Some((device, of(device)?))).collect();
        for (device, value) in &told {
            gauges.get_or_create(&labels(device)).set(*value);
        }
        if !told.is_empty() {
            registry.register(name, help, gauges);
        }
    }
    register_parts_and_throttles(registry, reading);
    let held = Gauges::default();
    for device in &reading.devices {
        let of_model =
            device.processes.iter().filter_map(|process| Some((process.model.as_ref()?, process.mem_bytes?)));
        for (model, bytes) in of_model {
            let labels =
                vec![("model", model.to_string()), ("gpu", device.index.to_string()), ("UUID", device.uuid.clone())];
            held.get_or_create(&labels).inc_by(float(bytes));
        }
    }
    if reading.has_model() {
        registry.register("corral_model_gpu_memory_bytes", "GPU memory that a model holds", held);
    }
}

/// What dcgm-exporter tells in another form: the memory of a divided GPU's parts, and why a GPU runs slower than it could.
fn register_parts_and_throttles(registry: &mut Registry, reading: &GpuReading) {
    let (used, total, slowed) = (Gauges::default(), Gauges::default(), Gauges::default());
    let (mut divided, mut tells) = (false, false);
    for device in &reading.devices {
        let of = || vec![("gpu", device.index.to_string()), ("UUID", device.uuid.clone())];
        for part in &device.parts {
            divided = true;
            let labels: Labels = [of(), vec![("part", part.uuid.clone()), ("name", part.name.clone())]].concat();
            for (gauges, bytes) in [(&used, part.mem_used_bytes), (&total, part.mem_total_bytes)] {
                if let Some(bytes) = bytes {
                    gauges.get_or_create(&labels).set(float(bytes));
                }
            }
        }
        for reason in device.throttle.iter().flatten() {
            tells = true;
            slowed.get_or_create(&[of(), vec![("reason", word(reason))]].concat()).set(1.0);
        }
    }
    if divided {
        registry.register("corral_gpu_part_memory_used_bytes", "Memory in use of a divided GPU's part", used);
        registry.register("corral_gpu_part_memory_total_bytes", "Memory of a divided GPU's part in all", total);
    }
    if tells {
        registry.register(
            "corral_gpu_throttled",
            "1 for each reason for which a GPU runs slower than it could",
            slowed,
        );
    }
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus has no other numbers")]
fn float(number: u64) -> f64 {
    number as f64
}

fn mebibytes(bytes: u64) -> f64 {
    float(bytes >> 20)
}
