//! What the GPUs are doing.

use corral_core::ModelId;
use corral_core::gpu::{GpuDevice, GpuHistory, GpuPart, GpuPcie, GpuProcess, GpuReading, GpuSource, Throttle};
use jiff::Timestamp;

use crate::bench::{Bench, in_time};

fn reading() -> GpuReading {
    let process = |pid, model: Option<&str>, mem_bytes| GpuProcess {
        pid,
        mem_bytes: Some(mem_bytes),
        model: model.and_then(|model| ModelId::new(model).ok()),
        ..GpuProcess::default()
    };
    let device = GpuDevice {
        uuid: "GPU-0".to_owned(),
        name: "A card".to_owned(),
        source: GpuSource::Nvml,
        pci: Some("0000:01:00.0".to_owned()),
        util_percent: Some(71.0),
        mem_used_bytes: Some(17 << 30),
        power_w: Some(312.5),
        energy_mj: Some(987_654_321_000),
        pcie: GpuPcie { tx_bytes_per_second: Some(250_000), ..GpuPcie::default() },
        throttle: Some(vec![Throttle::PowerCap]),
        parts: vec![GpuPart { uuid: "MIG-0".to_owned(), mem_used_bytes: Some(5 << 30), ..GpuPart::default() }],
        processes: vec![process(1, Some("a"), 3 << 30), process(2, Some("a"), 1 << 30), process(3, None, 1 << 20)],
        ..GpuDevice::default()
    };
    let asleep = GpuDevice { index: 1, uuid: "GPU-1".to_owned(), source: GpuSource::Amdgpu, ..GpuDevice::default() };
    GpuReading { at: Timestamp::UNIX_EPOCH, source: GpuSource::Nvml, reason: None, devices: vec![device, asleep] }
}

#[tokio::test]
async fn a_reading_is_told_whole() {
    let bench = Bench::new().await;
    let none = bench.get("/gpu").await.json();
    assert_eq!((&none["source"], &none["devices"]), (&"none".into(), &serde_json::json!([])));
    assert!(none["reason"].is_string());
    bench.gpu.tell(reading());
    let told = bench.get("/gpu").await;
    assert_eq!(serde_json::from_str::<GpuReading>(&told.body).unwrap(), reading());
    let told = told.json();
    assert!(told.get("reason").is_none() && told["devices"][1]["util_percent"].is_null(), "{told:#}");
    assert_eq!(bench.gpu.asked(), 2);
}

#[tokio::test]
async fn what_was_read_of_late_is_told_as_columns() {
    let bench = Bench::new().await;
    let told = bench.get("/gpu/history").await.json();
    assert_eq!(told, serde_json::json!({ "at": [], "devices": [] }));
    for (second, power) in [(10, Some(100.0)), (11, None)] {
        let mut reading = reading();
        reading.at = Timestamp::from_second(second).unwrap();
        reading.devices[0].power_w = power;
        bench.gpu.tell(reading);
    }
    let told = bench.get("/gpu/history").await;
    let history: GpuHistory = serde_json::from_str(&told.body).unwrap();
    assert_eq!(history.devices[0].util_percent, [Some(71.0), Some(71.0)]);
    let told = told.json();
    assert_eq!(told["at"], serde_json::json!(["1970-01-01T00:00:10Z", "1970-01-01T00:00:11Z"]));
    assert_eq!(told["devices"][0]["power_w"], serde_json::json!([100.0, null]));
    assert_eq!(bench.gpu.asked(), 0, "nothing is read for it");
}

#[tokio::test]
async fn readings_come_to_those_who_want_them() {
    let bench = Bench::new().await;
    bench.gpu.tell(reading());
    let mut plain = bench.ask("GET", "/events").open().await;
    assert_eq!(plain.event().await.0, "snapshot");
    assert_eq!(bench.gpu.listeners(), 0, "nobody wants them");
    let mut eager = bench.ask("GET", "/events?gpu=1&live=0").open().await;
    assert_eq!(eager.event().await.0, "snapshot", "the present value first");
    let (name, told) = eager.event().await;
    assert_eq!((name.as_str(), &told["devices"][0]["name"]), ("gpu", &"A card".into()));
    assert_eq!(bench.gpu.listeners(), 1);
    drop(eager);
    in_time(async {
        while bench.gpu.listeners() > 0 {
            // A stream notices who is gone when it writes.
            bench.gpu.tell(reading());
            tokio::task::yield_now().await;
        }
    })
    .await;
    bench.get("/events?gpu=perhaps").await.error(400, "invalid_request");
}

#[tokio::test]
async fn prometheus_is_told_under_names_that_are_known() {
    let bench = Bench::new().await;
    let metrics = bench.get("/metrics").await.body;
    assert!(!metrics.contains("DCGM") && !metrics.contains("gpu_memory"), "{metrics}");
    bench.gpu.tell(reading());
    let metrics = bench.get("/metrics").await.body;
    let value = |name: &str| {
        let lines: Vec<&str> = metrics.lines().filter(|line| line.starts_with(&format!("{name}{{"))).collect();
        assert_eq!(lines.len(), 1, "{name}: {lines:?}");
        let (labels, value) = lines[0].rsplit_once(' ').unwrap();
        (labels.to_owned(), value.parse::<f64>().unwrap())
    };
    let (labels, energy) = value("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION");
    assert!((energy - 987_654_321_000.0).abs() < 1.0, "{energy}");
    for label in ["gpu=\"0\"", "UUID=\"GPU-0\"", "device=\"nvidia0\"", "modelName=\"A card\"", "Hostname=\""] {
        assert!(labels.contains(label), "{labels}");
    }
    for (name, expected) in [
        ("DCGM_FI_DEV_GPU_UTIL", 71.0),
        ("DCGM_FI_DEV_FB_USED", 17_408.0),
        ("DCGM_FI_DEV_POWER_USAGE", 312.5),
        ("corral_model_gpu_memory_bytes", 4_294_967_296.0),
        ("DCGM_FI_PROF_PCIE_TX_BYTES", 250_000.0),
        ("corral_gpu_throttled", 1.0),
        ("corral_gpu_part_memory_used_bytes", 5_368_709_120.0),
    ] {
        assert!((value(name).1 - expected).abs() < f64::EPSILON, "{name}");
    }
    assert!(value("corral_gpu_throttled").0.contains("reason=\"power_cap\""));
    assert!(value("corral_gpu_part_memory_used_bytes").0.contains("part=\"MIG-0\""));
    assert!(!metrics.contains("DCGM_FI_DEV_GPU_TEMP"), "what no device tells is left out");
}
