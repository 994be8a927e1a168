//! From "the old server is told to stop" to "the new one answers", against what a person would do by hand.

use std::time::{Duration, Instant};

use bollard::query_parameters::RemoveContainerOptionsBuilder;
use corral_core::ports::{Engine, Instance, Job};
use corral_engine::docker::DockerEngine;

use crate::world::{World, get, ready};

const ROUNDS: usize = 7;

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// One switch: the new server is prepared while the old one serves. The times until the old one has ended, until the
/// new one has started, and until it is ready.
async fn switch(world: &World, engine: &DockerEngine, old: &Instance) -> (Instance, [Duration; 3]) {
    let spec = world.spec("m");
    let new = engine.prepare(&spec, &Job::unwatched()).await.expect("prepared");
    let began = Instant::now();
    engine.stop(old).await.expect("stopped");
    let stopped = began.elapsed();
    let endpoint = engine.start(&new).await.expect("started");
    let started = began.elapsed();
    engine.await_ready(&new, &endpoint, spec.load_timeout, &Job::unwatched()).await.expect("ready");
    let ready = began.elapsed();
    engine.discard(old).await.expect("removed");
    (new, [stopped, started, ready])
}

/// The same by hand: remove, create, start, and ask for the health every 10 ms; without the time of a command line.
async fn by_hand(world: &World, engine: &DockerEngine, old: &Instance) -> Duration {
    let inspected = world.docker.inspect_container(&old.id.0, None).await.expect("a container");
    let config = inspected.config.expect("a configuration");
    let mut command = config.cmd.expect("a command");
    command.truncate(command.len() - 2);
    let body = bollard::models::ContainerCreateBody {
        image: config.image,
        cmd: Some(command),
        env: config.env,
        labels: config.labels,
        exposed_ports: config.exposed_ports,
        host_config: inspected.host_config,
        ..Default::default()
    };
    let began = Instant::now();
    let force = RemoveContainerOptionsBuilder::default().force(true).build();
    world.docker.remove_container(&old.id.0, Some(force)).await.expect("removed");
    let id = world.docker.create_container(None, body).await.expect("created").id;
    world.docker.start_container(&id, None).await.expect("started");
    let owned = engine.owned().await.expect("an answer");
    let url = owned.iter().find_map(|owned| match &owned.state {
        corral_core::ports::InstanceState::Running(endpoint) => Some(endpoint.url.clone()),
        _ => None,
    });
    let probe = corral_engine::health::Probe::new();
    let url = url.expect("it runs");
    while probe.health(&url).await != corral_engine::health::Health::Ready {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let took = began.elapsed();
    world.remove(&id).await;
    took
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switch_is_faster_than_by_hand() {
    let world = World::new().await;
    let engine = world.engine();
    let (mut current, endpoint) = ready(&engine, &world.spec("m")).await;
    assert_eq!(get(&endpoint.url, "/health", None).await.0, 200);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (new, took) = switch(&world, &engine, &current).await;
        ours.push(took);
        theirs.push(by_hand(&world, &engine, &new).await);
        current = ready(&engine, &world.spec("m")).await.0;
    }
    let [stopped, started, ready] = [0, 1, 2].map(|at| median(ours.iter().map(|times| times[at]).collect()));
    let theirs = median(theirs);
    println!("stopped {stopped:?}, started {started:?}, ready {ready:?}; by hand {theirs:?}");
    assert!(ready < theirs, "a switch takes {ready:?}, by hand {theirs:?}");
}
