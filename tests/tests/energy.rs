//! What requests take of a GPU's energy, from its counter to the bill: a real daemon with a real `llama-server`, and
//! NVIDIA's library as one of ours that plays a scene.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "test code: a panic is how it fails")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::time::Instant;

use corral_core::snapshot::{Phase, Step};
use corral_testkit::SandboxHome;
use corral_tests::{Client, Daemon, Manner, Models, PATIENCE, Question, parts, process, until};
use nvml_scene::Stage;
use serde_json::{Value, json};

const ENERGY: &str = "nvmlDeviceGetTotalEnergyConsumption";
const POWER: &str = "nvmlDeviceGetPowerUsage";
/// What only a look at the energy calls: readings of everything go by the numbers of GPUs.
const LOOK: &str = "nvmlDeviceGetHandleByPciBusId_v2";
const WATTS: f64 = 312.5;

/// A GPU with so much on its counter, and this process on it.
fn scene(energy_mj: u64, server: Option<u32>) -> Value {
    let processes: Vec<_> = server.iter().map(|pid| json!([pid, 18_200_000_000_u64])).collect();
    let device = json!({
        "uuid": "GPU-1", "name": "NVIDIA GeForce RTX 4090", "pci": "00000000:01:00.0", "util": 71,
        "total": 25_769_803_776_u64, "reserved": 0, "free": 5_769_803_776_u64, "used": 20_000_000_000_u64,
        "power_mw": 312_500, "energy_mj": energy_mj, "compute": processes,
    });
    json!({ "driver": "580.95.05", "devices": [device] })
}

struct Bed {
    stage: Stage,
    daemon: Daemon,
    open: Client,
    server: u32,
}

impl Bed {
    /// A model is loaded, and its server is seen on the GPU.
    fn new(stage: Stage) -> Self {
        let ctx = "ctx = 131072\nparallel = 2\nargs = [\"--ignore-eos\"]";
        let home = Models::process().one_thread().with("ctx = 4096", ctx).tiny(&["a"]).home();
        let daemon = Daemon::start_with(home, &[("CORRAL_NVML", stage.library().to_str().unwrap())]);
        let open = Client::of(&daemon.api().switched("a"));
        // The server, or whatever runs it on this machine.
        let servers = process::with_argument(daemon.home().path());
        let server = servers.into_iter().find(|pid| *pid != daemon.pid()).expect("a server runs");
        let bed = Self { stage, daemon, open, server };
        assert_eq!(bed.looks(), 0, "no request has run");
        bed.play(1_000);
        until(PATIENCE, "the model is seen on the GPU", || {
            let told = bed.daemon.api().get("/gpu").expect(200);
            (told["devices"][0]["processes"][0]["model"] == "a").then_some(())
        });
        bed
    }

    fn play(&self, energy_mj: u64) {
        self.stage.play(&scene(energy_mj, Some(self.server)));
    }

    /// How often the energy was looked at for requests.
    fn looks(&self) -> usize {
        self.stage.calls_of(LOOK)
    }

    fn until_looks(&self, count: usize) {
        until(PATIENCE, "the energy is looked at", || (self.looks() >= count).then_some(()));
    }

    /// A long answer that runs until it is left.
    fn stream(client: &Client) -> TcpStream {
        let question = Question::new(Manner::Chat, "hello").tokens(60_000);
        let mut socket = TcpStream::connect(client.address()).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let body = question.body.to_string();
        socket.write_all(&client.bytes("POST", Manner::Chat.path(), body.as_bytes())).unwrap();
        let mut came = [0; 512];
        assert!(socket.read(&mut came).unwrap() > 0, "it answers");
        // Nobody reads any further, but nothing gets stuck soon.
        socket
    }

    /// Waits until requests that are answered are known to run.
    fn settle(&self) {
        // One look may have been under way, and one may have begun with what came before. With the third, the one between
        // is over, and knows of them.
        self.until_looks(self.looks() + 3);
    }

    fn usage(&self, by: &str, requests: u64) -> Value {
        until(PATIENCE, "it is written down", || {
            let out = self.daemon.corral(&["usage", "--by", by, "--json"]);
            let told: Value = serde_json::from_slice(&out.stdout).expect("JSON");
            let rows = told["rows"].as_array().expect("rows");
            let all: u64 = rows.iter().map(|row| row["requests"].as_u64().unwrap()).sum();
            (all == requests).then_some(told)
        })
    }
}

/// How many requests there were, and of how many the energy was measured.
fn measured(usage: &Value, key: &str) -> (u64, u64) {
    let row = usage["rows"].as_array().unwrap().iter().find(|row| row["key"] == key);
    let count =
        |name: &str| row.and_then(|row| row[name].as_u64()).unwrap_or_else(|| panic!("{name} of {key:?}: {usage:#}"));
    (count("requests"), count("energy_requests"))
}

fn joules(usage: &Value, key: &str) -> Option<f64> {
    let row = usage["rows"].as_array().unwrap().iter().find(|row| row["key"] == key);
    row.unwrap_or_else(|| panic!("a row of {key:?}: {usage:#}"))["energy_joules"].as_f64()
}

#[test]
fn two_requests_share_what_the_counter_says_down_to_the_bill() {
    let bed = Bed::new(Stage::new(&scene(0, None)));
    let api = bed.daemon.api();
    api.put("/settings", &json!({ "electricity_price": "0.32 EUR" })).expect(200);
    let (id, token) = api.open_session("mine");
    let streams = [Bed::stream(&bed.open.with_token(&token)), Bed::stream(&bed.open)];
    bed.settle();
    // Two kilowatt-hours.
    bed.play(1_000 + 7_200_000_000);
    drop(streams);
    let by_model = bed.usage("model", 2);
    assert_eq!(joules(&by_model, "a"), Some(7.2e6), "{by_model:#}");
    assert_eq!(by_model["electricity_price"], "0.32 EUR", "{by_model:#}");
    let by_session = bed.usage("session", 2);
    assert_eq!((joules(&by_session, &id), joules(&by_session, "")), (Some(3.6e6), Some(3.6e6)), "{by_session:#}");
    let shown = String::from_utf8(bed.daemon.corral(&["usage"]).stdout).unwrap();
    let heads: Vec<_> = shown.lines().next().unwrap().split_whitespace().rev().take(2).collect();
    assert_eq!(heads, ["COST", "ENERGY"], "{shown}");
    assert!(shown.lines().last().unwrap().ends_with("2.00 kWh  0.64 EUR"), "{shown}");
    let session = until(PATIENCE, "the session has its sum", || {
        let live = api.get("/live").expect(200);
        live["sessions"][0]["energy_joules"].as_f64()
    });
    assert!((session - 3.6e6).abs() < 1e-3, "{session}");

    // Nobody looks at it while no request runs, however much it counts, and it is let go of.
    let held = |bed: &Bed| bed.stage.calls_of("nvmlInit_v2") - bed.stage.calls_of("nvmlShutdown");
    until(PATIENCE, "the library is let go of", || (held(&bed) == 1).then_some(()));
    let looks = bed.looks();
    bed.play(9_000_000_000);
    let full = bed.stage.calls_of(POWER);
    until(PATIENCE, "everybody's readings go on", || {
        api.get("/gpu").expect(200);
        (bed.stage.calls_of(POWER) >= full + 3).then_some(())
    });
    assert_eq!(bed.looks(), looks);
    bed.open.ask_now(&Question::new(Manner::Messages, "hello")).complete();
    let after = bed.usage("model", 3);
    assert_eq!(measured(&after, "a"), (3, 3), "{after:#}");
    assert_eq!(joules(&after, "a"), Some(7.2e6), "what was taken meanwhile is nobody's: {after:#}");
    assert!(bed.looks() >= looks + 2, "at its beginning and at its end");
}

#[test]
fn where_there_is_no_counter_the_power_is_added_up_and_a_gpu_that_is_lost_costs_no_record() {
    let bed = Bed::new(Stage::without(&[ENERGY], &scene(0, None)));
    let (id, token) = bed.daemon.api().open_session("lost");
    let client = bed.open.with_token(&token);
    let began = Instant::now();
    let stream = Bed::stream(&bed.open);
    bed.until_looks(1);
    let running = Instant::now();
    bed.until_looks(3);
    let at_least = running.elapsed();
    drop(stream);
    let usage = bed.usage("model", 1);
    let at_most = began.elapsed();
    let spent = joules(&usage, "a").expect("it was measured");
    // The first look may have taken a moment.
    assert!(spent >= WATTS * (at_least.as_secs_f64() - 0.5), "{spent} J in {at_least:?}");
    assert!(spent <= WATTS * at_most.as_secs_f64(), "{spent} J in {at_most:?}");

    // It falls off the bus while a request runs.
    let stream = Bed::stream(&client);
    let mut lost = scene(0, Some(bed.server));
    lost["devices"][0]["answers"] = json!({ "*": 15 });
    bed.stage.play(&lost);
    drop(stream);
    let usage = bed.usage("session", 2);
    assert_eq!(joules(&usage, &id), None, "it is not known, and not nothing: {usage:#}");
    assert_eq!(measured(&usage, &id), (1, 0), "{usage:#}");
    assert_eq!(measured(&bed.usage("model", 2), "a"), (2, 1));
    let shown = String::from_utf8(bed.daemon.corral(&["usage"]).stdout).unwrap();
    assert!(shown.lines().last().unwrap().ends_with("  1 of 2"), "{shown}");
}

/// A GPU of a driver that lists no process, with so many gigabytes in use.
fn unlisted(used_gb: u64, energy_mj: u64) -> Value {
    let mut scene = scene(energy_mj, None);
    let (device, used) = (&mut scene["devices"][0], used_gb * 1_000_000_000);
    device["used"] = json!(used);
    device["free"] = json!(25_769_803_776 - used);
    scene
}

#[test]
fn where_the_driver_lists_no_process_the_memory_that_comes_and_goes_with_the_model_tells() {
    // A server that says when it was started, loads when it may, and does not say that it uses no GPU.
    let home = SandboxHome::new();
    let [started, go, program] = ["started", "go", "llama-server.sh"].map(|name| home.path().join(name));
    let script = format!(
        "#!/bin/bash\n: >'{}'\nwhile [ ! -e '{}' ]; do sleep 0.01; done\nsilent='s/fit_memory_breakdown/kept_to_itself/'\n\
         exec '{}' \"$@\" > >(sed -u \"$silent\") 2> >(sed -u \"$silent\" >&2)\n",
        started.display(),
        go.display(),
        parts::llama_server().display()
    );
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let ctx = "ctx = 131072\nargs = [\"--ignore-eos\"]";
    let models = Models::program(&program).one_thread().with("ctx = 4096", ctx);
    models.tiny_with("a", "").tiny_with("c", "gpu = \"none\"").write(&home);
    let stage = Stage::new(&unlisted(1, 0));
    let daemon = Daemon::start_with(home, &[("CORRAL_NVML", stage.library().to_str().unwrap())]);
    let api = daemon.api();
    // So many gigabytes come with it.
    let load = |after: u64| {
        until(PATIENCE, "the server is started", || started.exists().then_some(()));
        stage.play(&unlisted(after, 0));
        std::fs::write(&go, "").unwrap();
        let ready = api.until(PATIENCE, "it is loaded", |status| status.phase == Phase::Ready);
        for file in [&started, &go] {
            std::fs::remove_file(file).unwrap();
        }
        Client::of(&ready)
    };
    let ask = |open: &Client| open.ask_now(&Question::new(Manner::Chat, "hello").tokens(4)).complete();

    api.post("/switch", &json!({ "model": "a" })).expect(202);
    let open = load(9);
    until(PATIENCE, "the energy is looked at", || {
        drop(ask(&open));
        (stage.calls_of(LOOK) > 0).then_some(())
    });
    let stream = Bed::stream(&open);
    let looks = stage.calls_of(LOOK);
    until(PATIENCE, "it runs", || (stage.calls_of(LOOK) >= looks + 3).then_some(()));
    stage.play(&unlisted(9, 7_200_000_000));
    drop(stream);
    let told = until(PATIENCE, "it is written down", || {
        let row = api.usage("model").remove("a")?;
        row.energy_joules.filter(|joules| *joules > 0.0)
    });
    assert!((told - 7.2e6).abs() < 1e-3, "{told}");

    // Its memory takes its time, and then comes a model that uses none, while others take some.
    api.post("/switch", &json!({ "model": "c" })).expect(202);
    api.until(PATIENCE, "memory is waited for", |status| {
        status.operation.as_ref().is_some_and(|operation| operation.step == Step::Free)
    });
    assert!(!started.exists(), "nobody has freed it");
    stage.play(&unlisted(1, 0));
    let open = load(9);
    let looks = stage.calls_of(LOOK);
    for _ in 0..3 {
        drop(ask(&open));
    }
    let row =
        until(PATIENCE, "they are written down", || api.usage("model").remove("c").filter(|row| row.requests == 3));
    assert_eq!((row.energy_joules, row.energy_requests, stage.calls_of(LOOK)), (None, Some(0), looks), "{row:?}");
}
