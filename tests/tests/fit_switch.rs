//! Whether a model fits, in a real daemon: refused, forced, waited for and learned. NVIDIA's library is one of ours that
//! plays a scene; the files, the servers and the host's memory are real.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "test code: a panic is how it fails")]

use corral_core::ModelId;
use corral_core::fit::Taken;
use corral_core::snapshot::Step;
use corral_store::Store;
use corral_testkit::gguf::ShapedModel;
use corral_tests::{Daemon, Models, PATIENCE, process, until};
use nvml_scene::Stage;
use serde_json::{Value, json};

const GB: u64 = 1_000_000_000;

/// A GPU of 24 GB with so much free, which these processes hold memory of.
fn scene(free: u64, processes: &[(u32, u64)]) -> Value {
    let processes: Vec<_> = processes.iter().map(|(pid, bytes)| json!([pid, bytes])).collect();
    let device = json!({
        "uuid": "GPU-1", "name": "NVIDIA GeForce RTX 4090", "pci": "00000000:01:00.0", "total": 24 * GB, "reserved": 0,
        "free": free, "used": 24 * GB - free, "compute": processes,
    });
    json!({ "driver": "580.95.05", "devices": [device] })
}

fn fit_of(daemon: &Daemon, model: &str) -> Value {
    let models = daemon.api().get("/models").expect(200);
    let models = models["models"].as_array().unwrap();
    models.iter().find(|one| one["id"] == model).unwrap_or_else(|| panic!("{model} in {models:#?}"))["fit"].clone()
}

#[test]
fn what_surely_does_not_fit_is_refused_until_somebody_insists() {
    // This very test has nearly all of it.
    let own = std::process::id();
    let stage = Stage::new(&scene(GB / 1000, &[(own, 23 * GB)]));
    let home = Models::process().one_thread().tiny(&["a"]).tiny_with("b", "gpu_layers = 99").home();
    let daemon = Daemon::start_with(home, &[("CORRAL_NVML", stage.library().to_str().unwrap())]);
    let api = daemon.api();
    api.switched("a");

    let fit = fit_of(&daemon, "b");
    assert_eq!((&fit["verdict"], &fit["hopeless"]), (&json!("no"), &json!(true)), "{fit:#}");
    assert!(fit["vram_bytes"].as_u64().unwrap() > fit["vram_free_bytes"].as_u64().unwrap(), "{fit:#}");
    let program = std::env::current_exe().unwrap();
    let holder = format!("{} (process {own})", program.file_name().unwrap().to_str().unwrap());
    assert_eq!(fit["in_the_way"], json!([{ "name": holder, "bytes": 23 * GB }]), "{fit:#}");
    let list = daemon.corral(&["list"]);
    assert!(String::from_utf8(list.stdout).unwrap().contains("too big"), "a person sees it in the list");

    let said = ["`b` does not fit", "GPU 0 (NVIDIA GeForce RTX 4090) has 1 MB to give", &holder];
    let plan = api.post("/switch", &json!({ "model": "b", "dry_run": true })).expect(200);
    // What is free of the host's memory is another number each moment.
    let lasting = |mut fit: Value| {
        fit["host_free_bytes"] = json!(0);
        fit
    };
    assert_eq!(lasting(plan["plan"]["fit"].clone()), lasting(fit), "{plan:#}");
    corral_tests::api::expect_error(&plan["plan"]["problem"], "insufficient_memory", &said);
    assert_eq!(daemon.corral(&["switch", "b", "--dry-run"]).status.code(), Some(1));
    let error = api.switch_wait("b").expect_error("insufficient_memory", &said);
    assert!(error["message"].as_str().unwrap().ends_with("`a` serves on"), "{error:#}");
    assert!(error["hint"].as_str().unwrap().contains("corral switch b --force"), "{error:#}");
    corral_tests::api::assert_serves(&api.status(), "a");

    // Its server is built without support for GPUs, so it loads; and that is known from then on.
    let forced = api.post("/switch", &json!({ "model": "b", "force": true, "wait": true })).expect(200);
    assert_eq!(forced["result"]["to"], "b", "{forced:#}");
    until(PATIENCE, "it is known that this server uses no GPU", || {
        let fit = fit_of(&daemon, "b");
        (fit["verdict"] == "fits" && fit["vram_bytes"] == 0).then_some(())
    });
}

#[test]
fn the_next_model_waits_until_the_memory_of_the_one_before_is_free() {
    let stage = Stage::new(&scene(23 * GB, &[]));
    let home = Models::process().one_thread().tiny(&["a", "b"]).home();
    let daemon = Daemon::start_with(home, &[("CORRAL_NVML", stage.library().to_str().unwrap())]);
    let api = daemon.api();
    api.switched("a");
    let servers = process::with_argument(daemon.home().path());
    let server = servers.into_iter().find(|pid| *pid != daemon.pid()).expect("a server runs");
    stage.play(&scene(5 * GB, &[(server, 18 * GB)]));
    until(PATIENCE, "the memory is seen to be the model's", || {
        let told = api.get("/gpu").expect(200);
        (told["devices"][0]["processes"][0]["model"] == "a").then_some(())
    });

    std::thread::scope(|scope| {
        let switch = scope.spawn(|| api.switch_wait("b"));
        // The process is gone, but the driver has yet to give its memory back.
        api.until(PATIENCE, "the memory is waited for", |status| {
            status.operation.as_ref().is_some_and(|operation| operation.step == Step::Free)
        });
        assert!(!process::runs(server), "the old server has ended");
        let looks = stage.calls_of("nvmlDeviceGetMemoryInfo_v2");
        until(PATIENCE, "it is looked at again", || {
            (stage.calls_of("nvmlDeviceGetMemoryInfo_v2") > looks + 2).then_some(())
        });
        let others: Vec<_> = process::with_argument(daemon.home().path());
        assert!(others.iter().all(|pid| *pid == daemon.pid()), "nothing is started beside it: {others:?}");
        stage.play(&scene(23 * GB, &[]));
        let ended = switch.join().expect("an answer").expect(200);
        assert_eq!(ended["result"]["to"], "b", "{ended:#}");
    });
}

#[test]
fn what_a_load_took_is_what_is_said_of_it_from_then_on() {
    // What replaces a figure of the file is not followed: the cache is estimated to be half of what it will be.
    let wider = "args = [\"--override-kv\", \"gemma3.attention.sliding_window=int:16384\"]";
    let table = format!("file = \"a.gguf\"\ngpu = \"none\"\nctx = 65536\n{wider}");
    let home = Models::process().one_thread().table("a", &table).home();
    let file = home.models().join("a.gguf");
    ShapedModel::named("small-gemma3").unwrap().write(&file).unwrap();
    let mut daemon = Daemon::start(home);
    let host_bytes = |fit: &Value| fit["host_bytes"].as_u64().unwrap();
    let before = fit_of(&daemon, "a");
    assert_eq!((&before["verdict"], &before["vram_bytes"]), (&json!("fits"), &json!(0)), "{before:#}");
    daemon.api().switched("a");
    let said = || {
        let lines = daemon.api().logs(5000);
        let lines: Vec<_> = lines.iter().filter_map(|line| Taken::of_line(line["msg"].as_str()?)).collect();
        lines.last().cloned()
    };
    let taken = until(PATIENCE, "llama-server says what it takes", said).need.host.total();
    // llama-server counts whole MiB, in up to two rows of three kinds each.
    let counted = 6 << 20;
    let off = host_bytes(&before).abs_diff(taken);
    assert!(off > 4 * counted, "the estimate is right without anything learned: {before:#} of {taken}");
    let database = daemon.home().path().join("data/corral.sqlite3");
    let model = ModelId::new("a").unwrap();
    daemon.api().stopped();
    daemon.terminate();
    let lessons = Store::open(&database).unwrap().lessons();
    let lesson = &lessons[&model];
    assert!(lesson.model_bytes > 0 && !lesson.on_cpu, "{lesson:?}");
    assert!(lesson.correction.kv > 1.5, "its ratio is that of the cache: {lesson:?}");
    let program = corral_tests::parts::llama_server().display().to_string();
    assert!(lesson.build.as_ref().is_some_and(|build| build.starts_with(&program)), "{lesson:?}");
    daemon.restart();
    let after = host_bytes(&fit_of(&daemon, "a"));
    assert!(after.abs_diff(taken) < off / 4, "{after} of {taken}, and {before:#} before");
    assert!(after.abs_diff(taken) <= counted, "{after} of {taken}");
}
