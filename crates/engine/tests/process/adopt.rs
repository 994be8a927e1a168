//! A server outlives the Corral that started it, and the next one takes it over.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

use corral_core::log::LogBuffer;
use corral_core::ports::{Engine, InstanceState, Job};
use corral_core::{Code, InstanceId};
use corral_engine::process::ProcessEngine;
use corral_testkit::{TinyModel, eventually};
use http::StatusCode;
use rustix::process::Signal;
use serde_json::Value;

use crate::bed::{Bed, LONG, chat, config, exited, group_ended, llama_server, spec};

#[tokio::test]
async fn another_engine_takes_a_running_server_over() {
    let bed = Bed::new();
    let (instance, endpoint) = bed.ready(&bed.tiny()).await;
    let (second, logs) = bed.another_engine();
    let mut events = second.events();
    let owned = second.owned().await.unwrap();
    assert_eq!(owned.len(), 1);
    assert_eq!((&owned[0].instance, &owned[0].state), (&instance, &InstanceState::Running(endpoint.clone())));
    second.await_ready(&instance, &endpoint, LONG, &Job::unwatched()).await.unwrap();
    assert_eq!(second.busy(&instance, &endpoint).await.unwrap(), 0);
    eventually(LONG, || async { logs.tail(1000).iter().any(|record| record.msg.contains("model loaded")) }).await;

    let pid = bed.pid(&instance);
    second.stop(&instance).await.unwrap();
    assert!(group_ended(pid));
    assert_eq!(exited(&mut events).await.0, instance.id);
    let again = second.start(&instance).await.unwrap();
    second.await_ready(&instance, &again, LONG, &Job::unwatched()).await.unwrap();
    rustix::process::kill_process(bed.pid(&instance), Signal::KILL).unwrap();
    assert_eq!(exited(&mut events).await.1.code(), Code::ServerKilled);
    second.discard(&instance).await.unwrap();
    assert!(!bed.record_path(&instance).exists());
}

#[tokio::test]
async fn a_server_survives_the_death_of_its_corral() {
    let bed = Bed::new();
    bed.home.write_model("tiny.gguf", &TinyModel::new(1));
    // This very program is the Corral that dies: the ignored test below.
    let mut corral = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--ignored", "adopt::a_corral_that_waits_for_its_death"])
        .env("CORRAL_TEST_HOME", bed.home.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let told = bed.home.path().join("told");
    eventually(LONG, || async { told.exists() }).await;
    corral.kill().unwrap();
    corral.wait().unwrap();

    let mut events = bed.engine.events();
    let owned = bed.engine.owned().await.unwrap();
    let InstanceState::Running(endpoint) = &owned[0].state else { panic!("{owned:?}") };
    let instance = &owned[0].instance;
    assert_eq!(chat(endpoint, Some(&instance.api_key)).await.0, StatusCode::OK);
    let pid = bed.pid(instance);
    rustix::process::kill_process(pid, Signal::KILL).unwrap();
    let (id, cause) = exited(&mut events).await;
    assert_eq!(id, instance.id);
    // Only a parent learns how a process ended.
    assert_eq!(cause.code(), Code::ServerExited, "{cause}");
    bed.engine.discard(instance).await.unwrap();
    assert_eq!(bed.engine.owned().await.unwrap(), []);
}

#[tokio::test]
#[ignore = "run by the test above, in a process of its own"]
async fn a_corral_that_waits_for_its_death() {
    let Some(home) = std::env::var_os("CORRAL_TEST_HOME").map(PathBuf::from) else { return };
    let engine = ProcessEngine::new(config(&home, Arc::new(LogBuffer::new(10, 1000))));
    let instance =
        engine.prepare(&spec(llama_server(), home.join("data/models/tiny.gguf")), &Job::unwatched()).await.unwrap();
    let endpoint = engine.start(&instance).await.unwrap();
    engine.await_ready(&instance, &endpoint, LONG, &Job::unwatched()).await.unwrap();
    fs::write(home.join("told"), "").unwrap();
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn a_server_whose_number_was_not_written_down_is_found() {
    let bed = Bed::new();
    let (instance, endpoint) = bed.ready(&bed.tiny()).await;
    let pid = bed.pid(&instance);
    // As when Corral is killed right after it started the process.
    rewrite(&bed, &instance.id, |record| record["run"]["process"] = Value::Null);
    let (second, _) = bed.another_engine();
    assert_eq!(second.owned().await.unwrap()[0].state, InstanceState::Running(endpoint));
    second.discard(&instance).await.unwrap();
    assert!(group_ended(pid));
}

#[tokio::test]
async fn a_number_that_another_process_has_now_is_left_alone() {
    let bed = Bed::new();
    let (instance, endpoint) = bed.ready(&bed.tiny()).await;
    rewrite(&bed, &instance.id, |record| record["run"]["process"]["start_ticks"] = 1.into());
    let (second, _) = bed.another_engine();
    assert_eq!(second.owned().await.unwrap()[0].state, InstanceState::Exited);
    second.stop(&instance).await.unwrap();
    second.discard(&instance).await.unwrap();
    assert_eq!(chat(&endpoint, Some(&instance.api_key)).await.0, StatusCode::OK, "it is not ours, so it goes on");
    bed.engine.discard(&instance).await.unwrap();
}

#[tokio::test]
async fn what_an_old_session_left_is_removed() {
    let bed = Bed::new();
    let old = bed.home.state().join("llama-server-0123456789abcdef.log");
    let other = bed.home.state().join("corral.log");
    fs::write(&old, "").unwrap();
    fs::write(&other, "").unwrap();
    let (instance, _) = bed.ready(&bed.tiny()).await;
    bed.engine.owned().await.unwrap();
    assert!(!old.exists() && other.exists() && bed.log_path(&instance).exists());
    bed.engine.stop(&instance).await.unwrap();
    let (second, _) = bed.another_engine();
    assert_eq!(second.owned().await.unwrap()[0].state, InstanceState::Exited, "the controller discards it");
}

fn rewrite(bed: &Bed, id: &InstanceId, change: impl FnOnce(&mut Value)) {
    let path = bed.home.state().join(format!("instances/{id}.json"));
    let mut record: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut record);
    fs::write(&path, record.to_string()).unwrap();
}
