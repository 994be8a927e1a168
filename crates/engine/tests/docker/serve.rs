//! What goes well.

use std::time::Duration;

use crate::world::{World, get, next, only, ready};
use corral_core::ports::{Engine, EngineEvent, InstanceState, Job};
use corral_testkit::eventually;

const SOON: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_prepared_started_stopped_started_again_and_removed() {
    let world = World::new().await;
    let engine = world.engine();
    let spec = world.spec("m");
    let instance = engine.prepare(&spec, &Job::unwatched()).await.expect("prepared");
    assert_eq!(only(&engine).await.state, InstanceState::Created);
    assert_eq!(world.log_lines("loading model"), 0, "it does not load before it is started");

    let endpoint = engine.start(&instance).await.expect("started");
    engine.await_ready(&instance, &endpoint, SOON, &Job::unwatched()).await.expect("ready");
    assert_eq!(get(&endpoint.url, "/health", None).await.0, 200);
    assert_eq!(get(&endpoint.url, "/slots", None).await.0, 401, "without the key");
    assert_eq!(get(&endpoint.url, "/slots", Some(instance.api_key.expose())).await.0, 200, "with the key");
    assert_eq!(engine.busy(&instance, &endpoint).await.expect("an answer"), 0);
    let owned = only(&engine).await;
    assert_eq!(owned.instance, instance);
    assert!(matches!(&owned.state, InstanceState::Running(at) if at.url == endpoint.url), "{owned:?}");

    engine.stop(&instance).await.expect("stopped");
    engine.stop(&instance).await.expect("stopping what has stopped is fine");
    assert_eq!(only(&engine).await.state, InstanceState::Exited);

    let again = engine.start(&instance).await.expect("started again");
    engine.await_ready(&instance, &again, SOON, &Job::unwatched()).await.expect("ready again");
    assert!(again.started_at > endpoint.started_at);

    engine.discard(&instance).await.expect("removed");
    engine.discard(&instance).await.expect("removing what is gone is fine");
    assert_eq!(engine.owned().await.expect("an answer"), []);
    assert_eq!(std::fs::read_dir(world.home.run().join("gates")).expect("a folder").count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_has_no_rights_and_keeps_its_key_to_itself() {
    let world = World::new().await;
    let engine = world.engine();
    let (instance, _) = ready(&engine, &world.spec("m")).await;
    let inspected = world.docker.inspect_container(&instance.id.0, None).await.expect("a container");
    let init = inspected.state.and_then(|state| state.pid).expect("a process");
    let children = std::fs::read_to_string(format!("/proc/{init}/task/{init}/children")).expect("children");
    let server = children.split_whitespace().next().expect("llama-server");
    let status = std::fs::read_to_string(format!("/proc/{server}/status")).expect("its status");
    for line in ["CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1"] {
        assert!(status.contains(line), "{line} is missing in {status}");
    }
    for process in [init.to_string(), server.to_owned()] {
        let arguments = std::fs::read_to_string(format!("/proc/{process}/cmdline")).expect("its arguments");
        assert!(arguments.contains("m.gguf") && !arguments.contains(instance.api_key.expose()), "{arguments}");
    }
    let mounts = std::fs::read_to_string(format!("/proc/{server}/mounts")).expect("its mounts");
    let options = |target: &str| mounts.lines().find(|line| line.split(' ').nth(1) == Some(target)).map(str::to_owned);
    for read_only in ["/", "/models"] {
        assert!(options(read_only).is_some_and(|line| line.contains(" ro,")), "{read_only}: {mounts}");
    }
    assert!(options("/slots").is_some_and(|line| line.contains(" rw,")), "{mounts}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_elsewhere_is_reached_through_its_link() {
    let world = World::new().await;
    let engine = world.engine();
    let elsewhere = tempfile::tempdir().expect("a folder");
    let mut spec = world.spec("m");
    let real = elsewhere.path().join("blob");
    std::fs::rename(&spec.file, &real).expect("moved");
    spec.file = world.home.models().join("link.gguf");
    std::os::unix::fs::symlink(&real, &spec.file).expect("a link");
    ready(&engine, &spec).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_corral_adopts_what_runs_with_its_key_and_its_log() {
    let world = World::new().await;
    let (instance, endpoint) = ready(&world.engine(), &world.spec("m")).await;
    let engine = world.engine();
    let before = world.log_lines("model loaded");
    let mut events = engine.events();
    let owned = only(&engine).await;
    assert_eq!(owned.instance, instance);
    let InstanceState::Running(adopted) = owned.state else { panic!("it runs") };
    assert_eq!(adopted.url, endpoint.url);
    eventually(SOON, || async { world.log_lines("model loaded") > before }).await;
    engine.stop(&instance).await.expect("stopped");
    let EngineEvent::Exited { instance: ended, .. } = next(&mut events).await else { panic!("an exit") };
    assert_eq!(ended, instance.id);
    let endpoint = engine.start(&instance).await.expect("started again");
    engine.await_ready(&instance, &endpoint, SOON, &Job::unwatched()).await.expect("ready again");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_line_of_the_log_is_there_once() {
    let world = World::new().await;
    let engine = world.engine();
    let (instance, _) = ready(&engine, &world.spec("m")).await;
    eventually(SOON, || async { world.log_lines("model loaded") == 1 }).await;
    engine.stop(&instance).await.expect("stopped");
    eventually(SOON, || async { world.log_lines("cleaning up") == 1 }).await;
    let endpoint = engine.start(&instance).await.expect("started again");
    engine.await_ready(&instance, &endpoint, SOON, &Job::unwatched()).await.expect("ready again");
    eventually(SOON, || async { world.log_lines("model loaded") == 2 }).await;
    engine.owned().await.expect("an answer");
    engine.stop(&instance).await.expect("stopped");
    eventually(SOON, || async { world.log_lines("cleaning up") == 2 }).await;
    assert_eq!(world.log_lines("model loaded"), 2, "{:#?}", world.logs.tail(100));
    assert!(world.logs.tail(100).iter().all(|record| record.model == instance.model));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_cannot_be_held_back_is_only_created_ahead() {
    // An engine that is reached over TCP is taken to be on another kernel, which no pipe reaches.
    let world = World::new().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let host = format!("tcp://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut far = tokio::net::UnixStream::connect("/var/run/docker.sock").await.expect("Docker's socket");
                let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
            });
        }
    });
    let engine = world.engine_at([("DOCKER_HOST", host)].into_iter().collect());
    let instance = engine.prepare(&world.spec("m"), &Job::unwatched()).await.expect("prepared");
    assert_eq!(only(&engine).await.state, InstanceState::Created);
    let inspected = world.docker.inspect_container(&instance.id.0, None).await.expect("a container");
    assert_eq!(inspected.state.and_then(|state| state.running), Some(false));
    let endpoint = engine.start(&instance).await.expect("started");
    engine.await_ready(&instance, &endpoint, SOON, &Job::unwatched()).await.expect("ready");
    engine.discard(&instance).await.expect("removed");
}

#[tokio::test(flavor = "multi_thread")]
async fn starting_what_runs_already_changes_nothing() {
    let world = World::new().await;
    let engine = world.engine();
    let (instance, endpoint) = ready(&engine, &world.spec("m")).await;
    let again = engine.start(&instance).await.expect("it runs");
    assert_eq!(again.url, endpoint.url);
    engine.await_ready(&instance, &again, SOON, &Job::unwatched()).await.expect("still ready");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_was_held_back_by_a_corral_that_died_is_found() {
    let world = World::new().await;
    let first = world.engine();
    let instance = first.prepare(&world.spec("m"), &Job::unwatched()).await.expect("prepared");
    drop(first);
    // Whoever held it is gone, so it goes on by itself: it is found running, and can be used or removed.
    let engine = world.engine();
    let owned = only(&engine).await;
    assert_eq!(owned.instance, instance);
    let InstanceState::Running(endpoint) = owned.state else { panic!("it goes on: {owned:?}") };
    engine.await_ready(&instance, &endpoint, SOON, &Job::unwatched()).await.expect("ready");
    engine.discard(&instance).await.expect("removed");
    assert_eq!(engine.owned().await.expect("an answer"), []);
}
