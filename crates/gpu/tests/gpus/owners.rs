//! From a process to its model; and the reader as a whole, on the library that plays scenes.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use corral_core::gpu::{GpuProcess, GpuReading, GpuState, GpuWatch, Look};
use corral_core::launch::Runtime;
use corral_core::snapshot::{CatalogView, EngineView, Phase, Snapshot};
use corral_core::{ConfigHash, InstanceId, ModelId};
use corral_gpu::{Gpus, PATIENCE, Roots, Sampler};
use corral_testkit::fakes::CountingClock;
use nvml_scene::Stage;
use serde_json::json;
use tokio::sync::watch;

use crate::nvml::{card, scene};
use crate::tree::Tree;

pub(crate) const CONTAINER: &str = "8f31c2d4a9b00a1b2c3d4e5f60718293a4b5c6d7e8f90123456789abcdef0123";
const GIB: u64 = 1 << 30;

pub(crate) fn serving(id: &str, model: &str) -> Arc<Snapshot> {
    let engine = EngineView {
        runtime: Runtime::Docker,
        container_id: InstanceId(id.to_owned()),
        image: None,
        started_at: None,
        url: None,
        key_file: None,
        config_hash: ConfigHash("c".to_owned()),
        config_changed: false,
        context: None,
    };
    Arc::new(Snapshot {
        version: "0".to_owned(),
        phase: Phase::Ready,
        model: ModelId::new(model).ok(),
        operation: None,
        engine: Some(engine),
        error: None,
        gateway: None,
        sessions: Vec::new(),
        catalog: CatalogView::default(),
    })
}

struct Bed {
    stage: Stage,
    tree: Tree,
    snapshots: watch::Sender<Arc<Snapshot>>,
    sampler: Sampler,
}

fn bed() -> Bed {
    let (stage, tree) = (Stage::new(&scene(&[card(0)])), Tree::new());
    let (snapshots, watch) = watch::channel(serving(CONTAINER, "glm"));
    let roots = Roots { nvml: Some(stage.library()), ..tree.roots() };
    let probe = Box::new(Gpus::new(roots.clone()));
    let sampler = Sampler::start(probe, roots, Arc::<CountingClock>::default(), watch);
    Bed { stage, tree, snapshots, sampler }
}

type Told<'a> = (u32, Option<&'a str>, Option<&'a str>, Option<&'a str>);

/// The processes of the first GPU, with their programs, containers and models.
fn told<'a>(reading: &'a GpuReading) -> Vec<Told<'a>> {
    let processes = reading.devices[0].processes.iter();
    let of = |process: &'a GpuProcess| {
        let GpuProcess { pid, name, container, model, .. } = process;
        let name = name.as_deref().map(|name| Path::new(name).file_name().unwrap().to_str().unwrap());
        (*pid, name, container.as_deref(), model.as_ref().map(ModelId::as_str))
    };
    processes.map(of).collect()
}

#[tokio::test]
async fn a_process_leads_to_its_container_and_its_model() {
    let Bed { stage, tree, snapshots, sampler } = bed();
    let uid = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(tree.path("")).unwrap());
    tree.write("etc/passwd", format!("daemon:x:1:1::/:/bin/sh\nada:x:{uid}:1000:Ada:/home/ada:/bin/bash\n"));
    tree.process(4711, 1, "/app/llama-server", &format!("/system.slice/docker-{CONTAINER}.scope"), &[]);
    tree.process(100, 1, "/usr/bin/gnome-shell", "/user.slice/session-2.scope", &[]);
    let reading = sampler.read(Look::Person).await;
    let server = (4711, Some("llama-server"), Some(CONTAINER), Some("glm"));
    assert_eq!(told(&reading), [server, (100, Some("gnome-shell"), None, None)], "the largest first");
    assert_eq!(reading.devices[0].processes[1].user.as_deref(), Some("ada"));
    assert!(reading.has_model() && reading.memory() == Some((17 * GIB + GIB / 2, 24 * GIB)));

    // Another model is loaded, as a child process behind a wrapper, while the one before still ends.
    snapshots.send_replace(serving("0199-child", "qwen"));
    let mut later = card(0);
    later["compute"] = json!([[4711, GIB], [6000, 9 * GIB], [7000, null], [8000, GIB / 8]]);
    later["graphics"] = json!([]);
    stage.play(&scene(&[later]));
    tree.process(5999, 1, "/usr/bin/bwrap", "/user.slice", &[]);
    tree.write("proc/5999/environ", "HOME=/\0CORRAL_INSTANCE=0199-child\0");
    tree.process(6000, 5999, "/usr/bin/llama-server", "/user.slice", &[]);
    tree.process(8000, 1, "/usr/bin/llama-server", &format!("/docker/{}", CONTAINER.replace('8', "9")), &[]);
    let mut readings = sampler.listen();
    let with_child = |reading: &Option<Arc<GpuReading>>| {
        reading.as_ref().is_some_and(|reading| reading.devices[0].processes.len() == 4)
    };
    let reading = readings.wait_for(with_child).await.unwrap().clone().unwrap();
    let other = CONTAINER.replace('8', "9");
    assert_eq!(
        told(&reading),
        [
            (6000, Some("llama-server"), None, Some("qwen")),
            server,
            (8000, Some("llama-server"), Some(other.as_str()), None),
            (7000, None, None, None),
        ],
        "who cannot be seen is a number"
    );
}

#[tokio::test(start_paused = true)]
async fn sampling_off_means_no_call_at_all() {
    let Bed { stage, snapshots, sampler, .. } = bed();
    let mut nothing = (*serving(CONTAINER, "glm")).clone();
    (nothing.engine, nothing.model) = (None, None);
    let mut readings = sampler.listen();
    readings.wait_for(Option::is_some).await.unwrap();
    drop(readings);
    snapshots.send_replace(Arc::new(nothing));
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!(stage.calls_of("nvmlShutdown"), 1, "it lets go");
    let calls = stage.calls().len();
    tokio::time::sleep(Duration::from_hours(1)).await;
    assert_eq!(stage.calls().len(), calls, "{:?}", stage.calls().split_off(calls));
}

#[tokio::test]
async fn a_call_that_does_not_come_back_is_said_and_what_comes_later_is_taken() {
    let Bed { stage, tree: _tree, snapshots: _snapshots, sampler } = bed();
    assert_eq!(sampler.read(Look::Person).await.devices[0].state, GpuState::Ok);
    let mut held = scene(&[card(0)]);
    held["hold"] = json!("nvmlDeviceGetPowerUsage");
    stage.play(&held);
    let mut readings = sampler.listen();
    let is = |state| {
        move |reading: &Option<Arc<GpuReading>>| {
            reading.as_ref().is_some_and(|reading| reading.devices[0].state == state)
        }
    };
    let bound = PATIENCE + Duration::from_secs(20);
    tokio::time::timeout(bound, readings.wait_for(is(GpuState::Silent))).await.unwrap().unwrap();
    stage.play(&scene(&[card(0)]));
    tokio::task::spawn_blocking(move || stage.let_go()).await.unwrap();
    tokio::time::timeout(bound, readings.wait_for(is(GpuState::Ok))).await.unwrap().unwrap();
}
