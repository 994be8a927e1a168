//! GPUs, as a real daemon tells of them: NVIDIA's library is one of ours that plays a scene, all else is real.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "test code: a panic is how it fails")]

use corral_tests::{Daemon, Models, PATIENCE, process, until};
use nvml_scene::Stage;
use serde_json::{Value, json};

/// A GPU that these processes hold memory of.
fn scene(processes: &[(u32, u64)]) -> Value {
    let processes: Vec<_> = processes.iter().map(|(pid, bytes)| json!([pid, bytes])).collect();
    let device = json!({
        "uuid": "GPU-1", "name": "NVIDIA GeForce RTX 4090", "pci": "00000000:01:00.0", "util": 71, "mem_util": 40,
        "total": 25_769_803_776_u64, "reserved": 0, "free": 5_769_803_776_u64, "used": 20_000_000_000_u64,
        "temperature": 61, "power_mw": 312_500, "energy_mj": 1_000, "compute": processes,
    });
    json!({ "driver": "580.95.05", "devices": [device] })
}

#[test]
fn the_memory_of_a_gpu_leads_to_the_model_that_holds_it() {
    let stage = Stage::new(&scene(&[]));
    let library = stage.library();
    let home = Models::process().one_thread().tiny(&["a"]).home();
    let daemon = Daemon::start_with(home, &[("CORRAL_NVML", library.to_str().unwrap())]);
    let api = daemon.api();
    assert!(api.status().model.is_none());
    assert_eq!(api.get("/gpu/history").expect(200), json!({ "at": [], "devices": [] }));
    assert_eq!(stage.calls(), [""; 0], "nobody looks, and nothing is loaded");

    api.switched("a");
    assert!(stage.calls_of("nvmlInit_v2") > 0, "a switch is looked at");
    // The server, or whatever runs it on this machine.
    let servers = process::with_argument(daemon.home().path());
    let server = servers.into_iter().find(|pid| *pid != daemon.pid()).expect("a server runs");
    let own = std::process::id();
    stage.play(&scene(&[(server, 18_200_000_000), (own, 1_000_000_000)]));
    let told = until(PATIENCE, "the reading is of now", || {
        let told = api.get("/gpu").expect(200);
        (told["devices"][0]["processes"].as_array()?.len() == 2).then_some(told)
    });
    assert_eq!((&told["source"], told.get("reason")), (&"nvml".into(), None), "{told:#}");
    let device = &told["devices"][0];
    assert_eq!((&device["power_w"], &device["energy_mj"]), (&json!(312.5), &json!(1_000)), "{told:#}");
    let processes = &device["processes"];
    assert_eq!((&processes[0]["pid"], &processes[0]["model"]), (&server.into(), &"a".into()), "{told:#}");
    assert_eq!((&processes[1]["pid"], &processes[1]["model"]), (&own.into(), &Value::Null), "{told:#}");
    let program = std::env::current_exe().unwrap();
    assert_eq!(processes[1]["name"].as_str(), program.to_str());

    let name = api.get("/models").expect(200)["models"][0]["name"].as_str().unwrap().to_owned();
    let shown = daemon.corral(&["gpu"]);
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.starts_with("GPU 0  NVIDIA GeForce RTX 4090\n"), "{shown}");
    assert!(shown.contains(&format!("held by  {name}, 18.2 GB\n")), "{shown}");

    // It is let go of when the model is, and nobody looks.
    api.stopped();
    let released = |stage: &Stage| stage.calls().last().is_some_and(|call| call == "nvmlShutdown");
    until(PATIENCE, "the library is let go of", || released(&stage).then_some(()));
    let calls = stage.calls().len();
    let history = api.get("/gpu/history").expect(200);
    let track = &history["devices"][0];
    assert_eq!((&track["uuid"], &track["power_w"][0]), (&"GPU-1".into(), &json!(312.5)), "{history:#}");
    assert_eq!(track["util_percent"].as_array().map(Vec::len), history["at"].as_array().map(Vec::len));
    assert_eq!(stage.calls().len(), calls, "what is remembered is not read anew");
}

#[test]
fn without_a_driver_everything_else_goes_on() {
    let daemon = Daemon::start_with(
        Models::process().one_thread().tiny(&["a"]).home(),
        &[("CORRAL_NVML", "/nothing/libnvidia-ml.so.1")],
    );
    let told = daemon.api().get("/gpu").expect(200);
    assert!(told["reason"].as_str().unwrap().contains("libnvidia-ml.so.1 cannot be loaded"), "{told:#}");
    daemon.api().switched("a");
}
