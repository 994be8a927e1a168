//! What goes wrong, and what is said of it.

use std::time::Duration;

use crate::world::{World, next, ready};
use corral_core::Code;
use corral_core::launch::Gpu;
use corral_core::ports::{Endpoint, Engine, EngineEvent, Job};
use corral_testkit::eventually;
use tokio::io::AsyncWriteExt;
use tokio_util::sync::CancellationToken;

const SOON: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn an_argument_that_the_server_does_not_know_shows_before_anything_is_stopped() {
    let world = World::new().await;
    let engine = world.engine();
    let mut spec = world.spec("m");
    spec.args = vec!["--flux-capacitor".to_owned()];
    let error = engine.prepare(&spec, &Job::unwatched()).await.expect_err("an unknown argument");
    assert_eq!(error.code(), Code::LoadFailed);
    assert_eq!(error.to_string(), "this llama-server does not know the argument `--flux-capacitor`");
    assert!(error.body().hint.is_some_and(|hint| hint.contains("`args` of `m`")));
    assert_eq!(world.containers().await, Vec::<String>::new(), "nothing is left behind");
    assert_eq!(std::fs::read_dir(world.home.run().join("gates")).expect("a folder").count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_file_fails_the_load_with_the_reason() {
    let world = World::new().await;
    let engine = world.engine();
    let spec = world.spec("m");
    std::fs::write(&spec.file, "nonsense, and some more of it").expect("a file");
    let instance = engine.prepare(&spec, &Job::unwatched()).await.expect("prepared");
    let endpoint = engine.start(&instance).await.expect("started");
    let error = engine.await_ready(&instance, &endpoint, SOON, &Job::unwatched()).await.expect_err("no model");
    assert_eq!(error.code(), Code::LoadFailed);
    assert!(error.to_string().contains("no GGUF file: invalid magic"), "{error}");
    assert!(error.body().log.iter().any(|line| line.contains("failed to load model")), "{:?}", error.body().log);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_is_nowhere_is_missing() {
    let world = World::new().await;
    let engine = world.engine();
    let mut spec = world.spec("m");
    spec.image = "localhost:1/nobody/nothing:server".to_owned();
    let error = engine.prepare(&spec, &Job::unwatched()).await.expect_err("no image");
    assert_eq!(error.code(), Code::ImageMissing);
    let hint = error.body().hint.expect("a hint");
    assert_eq!(hint, "see whether `docker pull localhost:1/nobody/nothing:server` works");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gpu_that_docker_cannot_hand_on_is_told_before_anything_is_stopped() {
    let world = World::new().await;
    let engine = world.engine();
    let mut spec = world.spec("m");
    spec.gpu = Gpu::Devices(vec![0]);
    let error = engine.prepare(&spec, &Job::unwatched()).await.expect_err("no GPU here");
    assert_eq!(error.code(), Code::GpuRuntimeMissing, "{error}");
    assert!(error.body().hint.is_some_and(|hint| hint.contains("nvidia-ctk runtime configure")));
    assert_eq!(world.containers().await, Vec::<String>::new(), "nothing is left behind");
    spec.gpu = Gpu::None;
    ready(&engine, &spec).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_slow_is_an_error_and_a_cancelled_wait_ends() {
    let world = World::new().await;
    let engine = world.engine();
    let instance = engine.prepare(&world.spec("m"), &Job::unwatched()).await.expect("prepared");
    let endpoint = engine.start(&instance).await.expect("started");
    engine.stop(&instance).await.expect("stopped");
    // One that has not started yet is as slow as can be.
    let slow = engine.prepare(&world.spec("slow"), &Job::unwatched()).await.expect("prepared");
    let timeout = Duration::from_millis(1);
    let error = engine.await_ready(&slow, &endpoint, timeout, &Job::unwatched()).await.expect_err("too slow");
    assert_eq!(error.code(), Code::LoadTimeout);
    assert!(error.body().hint.is_some_and(|hint| hint.contains("load_timeout")));
    let cancelled = CancellationToken::new();
    cancelled.cancel();
    let job = Job::new(|_, _| {}, cancelled);
    let error = engine.await_ready(&slow, &endpoint, SOON, &job).await.expect_err("cancelled");
    assert_eq!(error.code(), Code::Superseded);
    let error = engine.prepare(&world.spec("m"), &job).await.expect_err("cancelled");
    assert_eq!(error.code(), Code::Superseded);
    assert_eq!(world.containers().await.len(), 2, "the cancelled one left nothing behind");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_stops_waiting_leaves_nothing_behind() {
    let world = World::new().await;
    let engine = world.engine();
    // Long enough for the container to be there, too short for it to be done.
    let _ = tokio::time::timeout(Duration::from_millis(100), engine.prepare(&world.spec("m"), &Job::unwatched())).await;
    eventually(SOON, || async { world.containers().await.is_empty() }).await;
    eventually(SOON, || async {
        std::fs::read_dir(world.home.run().join("gates")).is_ok_and(|folder| folder.count() == 0)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_from_outside_is_told_within_a_second() {
    let world = World::new().await;
    let engine = world.engine();
    let mut events = engine.events();
    let (killed, _) = ready(&engine, &world.spec("m")).await;
    let options = bollard::query_parameters::KillContainerOptionsBuilder::default().signal("SIGKILL").build();
    world.docker.kill_container(&killed.id.0, Some(options)).await.expect("killed");
    let EngineEvent::Exited { instance, at, cause } = next(&mut events).await else { panic!("an exit") };
    assert_eq!((instance, cause.code()), (killed.id.clone(), Code::ServerKilled), "{cause}");
    let late = jiff::Timestamp::now().duration_since(at);
    assert!(!late.is_negative() && late.as_millis() < 1000, "told {late:?} after the end");

    let (removed, endpoint) = ready(&engine, &world.spec("m")).await;
    world.remove(&removed.id.0).await;
    let EngineEvent::Exited { instance, at, cause } = next(&mut events).await else { panic!("an exit") };
    assert_eq!((instance, cause.code()), (removed.id.clone(), Code::ServerKilled), "{cause}");
    assert!(at > endpoint.started_at);
    engine.stop(&removed).await.expect("stopping what is gone is fine");
    engine.discard(&removed).await.expect("removing what is gone is fine");
    let error = engine.start(&removed).await.expect_err("it is gone");
    assert!(error.to_string().contains("is gone"), "{error}");
    engine.discard(&killed).await.expect("removed");
    assert!(events.try_recv().is_err(), "each end is told once");
}

/// Nobody listens there: to whoever asks, the server loads for ever.
const NOWHERE: &str = "http://127.0.0.1:1";

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_or_removed_while_it_loads_is_told_as_that() {
    let world = World::new().await;
    let engine = world.engine();
    let mut events = engine.events();
    for (number, end) in ["kill", "rm -f"].into_iter().enumerate() {
        let instance = engine.prepare(&world.spec("m"), &Job::unwatched()).await.expect("prepared");
        let endpoint = Endpoint { url: NOWHERE.to_owned(), ..engine.start(&instance).await.expect("started") };
        eventually(SOON, || async { world.log_lines("loading model") > number }).await;
        let job = Job::unwatched();
        let (loaded, ()) = tokio::join!(engine.await_ready(&instance, &endpoint, SOON, &job), async {
            match end {
                "kill" => world.docker.kill_container(&instance.id.0, None).await.expect("killed"),
                _ => world.remove(&instance.id.0).await,
            }
        });
        let error = loaded.expect_err("it ended");
        let EngineEvent::Exited { instance: ended, cause, .. } = next(&mut events).await else { panic!("an exit") };
        assert_eq!(ended, instance.id);
        for error in [error, cause] {
            assert_eq!(error.code(), Code::ServerKilled, "{end}: {error}");
            assert!(error.to_string().contains("from outside"), "{end}: {error}");
            assert!(error.to_string().contains("while it loaded"), "{end}: {error}");
            let body = error.body();
            assert!(body.hint.is_some() && !body.log.is_empty(), "{end}: {body:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_answers_and_ends_is_not_ready() {
    let world = World::new().await;
    let engine = world.engine();
    let instance = engine.prepare(&world.spec("m"), &Job::unwatched()).await.expect("prepared");
    let started = engine.start(&instance).await.expect("started");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let (docker, id) = (world.docker.clone(), instance.id.0.clone());
    tokio::spawn(async move {
        // The answer of another program on the server's port, at the worst moment.
        let (mut stream, _) = listener.accept().await.expect("a question");
        docker.kill_container(&id, None).await.expect("killed");
        loop {
            let answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}";
            let _ = stream.write_all(answer).await;
            stream = listener.accept().await.expect("a question").0;
        }
    });
    let endpoint = Endpoint { url, ..started };
    let error = engine.await_ready(&instance, &endpoint, SOON, &Job::unwatched()).await.expect_err("it ended");
    assert_eq!(error.code(), Code::ServerKilled, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn running_out_of_memory_is_told_as_that() {
    let world = World::new().await;
    let engine = world.engine();
    let mut events = engine.events();
    let mut spec = world.spec("m");
    spec.ctx = 131_072;
    spec.parallel = 64;
    let instance = engine.prepare(&spec, &Job::unwatched()).await.expect("prepared");
    let limit = Some(24 << 20);
    let limits = bollard::models::ContainerUpdateBody { memory: limit, memory_swap: limit, ..Default::default() };
    world.docker.update_container(&instance.id.0, limits).await.expect("a limit");
    let endpoint = engine.start(&instance).await.expect("started");
    let error = engine.await_ready(&instance, &endpoint, SOON, &Job::unwatched()).await.expect_err("no memory");
    assert_eq!(error.code(), Code::OutOfMemory, "{error} {:?}", error.body().log);
    let EngineEvent::Exited { cause, .. } = next(&mut events).await else { panic!("an exit") };
    assert_eq!(cause.code(), Code::OutOfMemory, "{cause}");
}
