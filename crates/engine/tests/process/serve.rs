//! What goes well: start, answer, stop, start again.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use corral_core::Code;
use corral_core::launch::LaunchSpec;
use corral_core::ports::{Engine, EngineEvent, InstanceState, Job};
use corral_testkit::eventually;
use http::{Method, StatusCode};

use crate::bed::{Bed, LONG, allowed_origin, chat, endless, exited, group_ended};

#[tokio::test]
async fn a_model_is_served_stopped_and_served_again() {
    let bed = Bed::new();
    let mut events = bed.engine.events();
    let instance = bed.engine.prepare(&bed.tiny(), &Job::unwatched()).await.unwrap();
    assert_eq!(bed.engine.owned().await.unwrap()[0].state, InstanceState::Created);
    for round in 0..2 {
        let endpoint = bed.engine.start(&instance).await.unwrap();
        assert_eq!(bed.engine.start(&instance).await.unwrap(), endpoint, "a second start changes nothing");
        bed.engine.await_ready(&instance, &endpoint, LONG, &Job::unwatched()).await.unwrap();
        let (status, answer) = chat(&endpoint, Some(&instance.api_key)).await;
        assert_eq!((status, &answer["usage"]["completion_tokens"].is_u64()), (StatusCode::OK, &true), "{answer}");
        assert_eq!(chat(&endpoint, None).await.0, StatusCode::UNAUTHORIZED);
        assert_eq!(bed.engine.busy(&instance, &endpoint).await.unwrap(), 0);
        let owned = bed.engine.owned().await.unwrap();
        assert_eq!((&owned[0].instance, &owned[0].state), (&instance, &InstanceState::Running(endpoint.clone())));

        let pid = bed.pid(&instance);
        bed.engine.stop(&instance).await.unwrap();
        assert!(group_ended(pid), "round {round}");
        bed.engine.stop(&instance).await.unwrap();
        let (id, _) = exited(&mut events).await;
        assert_eq!(id, instance.id);
        assert_eq!(bed.engine.owned().await.unwrap()[0].state, InstanceState::Exited);
    }
    let loads = || bed.logs.tail(10_000).into_iter().filter(|record| record.msg.contains("model loaded")).count();
    // The log is read beside all else.
    eventually(LONG, || async { loads() >= 2 }).await;
    assert_eq!(loads(), 2, "{:#?}", bed.logs.tail(100));

    bed.engine.discard(&instance).await.unwrap();
    bed.engine.discard(&instance).await.unwrap();
    assert!(!bed.record_path(&instance).exists() && !bed.log_path(&instance).exists());
    assert_eq!(bed.engine.owned().await.unwrap(), []);
    assert_eq!(bed.engine.start(&instance).await.unwrap_err().code(), Code::EngineFailed);
}

#[tokio::test]
async fn the_key_is_nobody_elses() {
    let bed = Bed::new();
    let (instance, _) = bed.ready(&bed.tiny()).await;
    let key = instance.api_key.expose();
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let cmdline = fs::read(process.path().join("cmdline")).unwrap_or_default();
        assert!(!String::from_utf8_lossy(&cmdline).contains(key), "{:?} shows the key", process.path());
    }
    let environ = fs::read(format!("/proc/{}/environ", bed.pid(&instance).as_raw_nonzero())).unwrap();
    assert!(String::from_utf8_lossy(&environ).contains(key), "it is where only this user can read it");
    assert!(!String::from_utf8_lossy(&environ).contains("CORRAL_TOKEN"));
    let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(bed.record_path(&instance)), 0o600);
    assert_eq!(mode(bed.log_path(&instance)), 0o600);
    assert_eq!(mode(bed.home.state().join("instances")), 0o700);
}

#[tokio::test]
async fn requests_count_while_they_run_or_wait_and_until_their_client_is_gone() {
    let bed = Bed::new();
    // Room for an answer that is still being written when the test is over.
    let (instance, endpoint) = bed.ready(&LaunchSpec { ctx: 131_072, ..bed.tiny() }).await;
    let busy = async || bed.engine.busy(&instance, &endpoint).await.unwrap();
    assert_eq!(busy().await, 0);
    let running = endless(&endpoint, &instance.api_key);
    eventually(LONG, || async { busy().await == 1 }).await;
    let waiting = endless(&endpoint, &instance.api_key);
    eventually(LONG, || async { busy().await == 2 }).await;
    assert!(!running.is_finished() && !waiting.is_finished());
    drop(waiting);
    drop(running);
    eventually(LONG, || async { busy().await == 0 }).await;
}

#[tokio::test]
async fn no_web_page_but_one_of_this_machine_may_read_an_answer() {
    let bed = Bed::new();
    let (_, endpoint) = bed.ready(&bed.tiny()).await;
    for method in [Method::OPTIONS, Method::POST] {
        let near = allowed_origin(&endpoint, method.clone(), "http://localhost:3000").await;
        assert_eq!(near.as_deref(), Some("http://localhost:3000"), "{method}");
        for origin in ["https://example.com", "http://localhost.example.com", "null"] {
            let far = allowed_origin(&endpoint, method.clone(), origin).await.unwrap_or_default();
            assert!(far != "*" && far != origin, "{method} {origin}: {far}");
        }
    }
}

#[tokio::test]
async fn discarding_ends_what_runs() {
    let bed = Bed::new();
    let (instance, _) = bed.ready(&bed.tiny()).await;
    let pid = bed.pid(&instance);
    bed.engine.discard(&instance).await.unwrap();
    assert!(group_ended(pid));
    assert!(!bed.record_path(&instance).exists());
}

#[tokio::test]
async fn two_servers_run_side_by_side() {
    let bed = Bed::new();
    let spec = bed.tiny();
    let (first, second) = tokio::join!(bed.ready(&spec), bed.ready(&spec));
    assert_ne!(first.1.url, second.1.url);
    assert_eq!(chat(&first.1, Some(&second.0.api_key)).await.0, StatusCode::UNAUTHORIZED);
    bed.engine.stop(&first.0).await.unwrap();
    assert_eq!(chat(&second.1, Some(&second.0.api_key)).await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_killed_server_is_noticed_at_once() {
    let bed = Bed::new();
    let mut events = bed.engine.events();
    let (instance, _) = bed.ready(&bed.tiny()).await;
    let killed = jiff::Timestamp::now();
    rustix::process::kill_process(bed.pid(&instance), rustix::process::Signal::KILL).unwrap();
    let Some(EngineEvent::Exited { at, cause, .. }) = events.recv().await else { panic!("no end") };
    assert_eq!(cause.code(), Code::ServerKilled, "{cause}");
    assert!(cause.to_string().contains("SIGKILL"), "{cause}");
    assert!(!cause.body().log.is_empty());
    assert!(at.duration_since(killed).as_millis() < 1000, "{at} after {killed}");
    eventually(LONG, || async { bed.engine.owned().await.unwrap()[0].state == InstanceState::Exited }).await;
}
