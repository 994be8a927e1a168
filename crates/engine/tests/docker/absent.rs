//! An engine that is not there, goes away and comes back.

use std::path::{Path, PathBuf};
use std::time::Duration;

use corral_core::Code;
use corral_core::launch::Runtime;
use corral_core::ports::{Engine, EngineEvent, InstanceState, Job};
use corral_engine::docker::{docker_facts, image_present};
use corral_engine::{Engines, Environment};
use corral_testkit::eventually;
use tokio::io::copy_bidirectional;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::{AbortHandle, JoinSet};

use crate::fake::FakeDocker;
use crate::world::{World, next, only, ready};

/// A socket in front of the real engine, which can go away with all its connections.
struct Relay {
    path: PathBuf,
    task: AbortHandle,
}

impl Relay {
    fn open(path: &Path) -> Self {
        let listener = UnixListener::bind(path).expect("a socket");
        let task = tokio::spawn(async move {
            // Dropped with the task, and all connections with it.
            let mut connections = JoinSet::new();
            while let Ok((mut near, _)) = listener.accept().await {
                connections.spawn(async move {
                    let mut far = UnixStream::connect("/var/run/docker.sock").await.expect("Docker's socket");
                    let _ = copy_bidirectional(&mut near, &mut far).await;
                });
            }
        });
        Self { path: path.to_owned(), task: task.abort_handle() }
    }

    fn close(self) {
        self.task.abort();
        std::fs::remove_file(self.path).expect("removed");
    }
}

fn env_of(socket: &Path) -> Environment {
    [("DOCKER_HOST", format!("unix://{}", socket.display()))].into_iter().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_comes_late_and_goes_away_and_comes_back() {
    let world = World::new().await;
    let socket = world.home.run().join("docker.sock");
    let engine = world.engine_at(env_of(&socket));
    let mut events = engine.events();
    let error = engine.owned().await.expect_err("nobody there");
    assert_eq!(error.code(), Code::EngineUnavailable);
    assert!(error.to_string().contains("there is no such socket"), "{error}");
    assert!(error.body().hint.is_some_and(|hint| hint.contains("systemctl start docker")));
    let lost = next(&mut events).await;
    assert!(matches!(lost, EngineEvent::Lost { runtime: Runtime::Docker, .. }), "{lost:?}");

    let relay = Relay::open(&socket);
    // Nothing else comes between: being away is told once, however long it takes.
    let back = tokio::time::timeout(Duration::from_secs(3), events.recv()).await.expect("in time").expect("an event");
    assert!(matches!(back, EngineEvent::Back { runtime: Runtime::Docker }), "{back:?}");
    let (instance, _) = ready(&engine, &world.spec("m")).await;

    relay.close();
    let lost = next(&mut events).await;
    assert!(matches!(lost, EngineEvent::Lost { .. }), "{lost:?}");
    let error = engine.prepare(&world.spec("m"), &Job::unwatched()).await.expect_err("nobody there");
    assert_eq!(error.code(), Code::EngineUnavailable, "{error}");

    let _relay = Relay::open(&socket);
    let back = tokio::time::timeout(Duration::from_secs(3), events.recv()).await.expect("in time").expect("an event");
    assert!(matches!(back, EngineEvent::Back { .. }), "{back:?}");
    let owned = only(&engine).await;
    assert_eq!(owned.instance, instance);
    assert!(matches!(owned.state, InstanceState::Running(_)), "the server did not notice");
    engine.discard(&instance).await.expect("removed");
    assert!(matches!(next(&mut events).await, EngineEvent::Exited { .. }), "its events come again");
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_is_asked_only_where_it_is_in_use() {
    let world = World::new().await;
    let nowhere = world.config_at(env_of(Path::new("/nowhere/docker.sock")));
    assert_eq!(Engines::new(&nowhere, false).owned().await.expect("no Docker needed"), []);
    let error = Engines::new(&nowhere, true).owned().await.expect_err("Docker needed");
    assert_eq!(error.code(), Code::EngineUnavailable);

    let engines = Engines::new(&world.config_at(Environment::from_process()), true);
    let mut events = engines.events();
    let instance = engines.prepare(&world.spec("m"), &Job::unwatched()).await.expect("prepared");
    assert_eq!(engines.owned().await.expect("an answer").len(), 1);
    engines.set_docker_in_use(false);
    assert_eq!(engines.owned().await.expect("an answer").len(), 1, "what is left over is found");
    engines.discard(&instance).await.expect("removed");
    assert!(matches!(next(&mut events).await, EngineEvent::Exited { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_from_before_the_catalog_changed_is_found() {
    let world = World::new().await;
    let (instance, _) = ready(&world.engine(), &world.spec("m")).await;
    let engines = Engines::new(&world.config_at(Environment::from_process()), false);
    let mut events = engines.events();
    let owned = engines.owned().await.expect("an answer");
    assert_eq!(owned.iter().map(|owned| &owned.instance).collect::<Vec<_>>(), [&instance]);
    assert!(matches!(owned[0].state, InstanceState::Running(_)), "{owned:?}");
    world.remove(&instance.id.0).await;
    assert!(matches!(next(&mut events).await, EngineEvent::Exited { .. }), "from now on Docker is watched");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_holds_nothing_of_ours_is_not_watched() {
    let world = World::new().await;
    let docker = FakeDocker::open(&world.home.run(), |path| match path {
        "/info" => Some((200, "{}")),
        "/_ping" => Some((200, "OK")),
        "/containers/json" => Some((200, "[]")),
        _ => None,
    });
    let config = world.config_at(docker.env());
    let unused = Engines::new(&config, false);
    assert_eq!(unused.owned().await.expect("an answer"), []);
    assert!(docker.was_asked("/containers/json"));
    let used = Engines::new(&config, true);
    assert!(!docker.was_asked("/events"), "nothing of it is waited for");
    assert_eq!(used.owned().await.expect("an answer"), []);
    eventually(Duration::from_secs(10), || async { docker.was_asked("/events") }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_is_not_in_use_may_be_broken_or_hang() {
    let world = World::new().await;
    let docker = FakeDocker::open(&world.home.run(), |_| Some((500, r#"{"message":"on fire"}"#)));
    assert_eq!(Engines::new(&world.config_at(docker.env()), false).owned().await.expect("an answer"), []);
    let docker = FakeDocker::open(&world.home.run(), |_| None);
    let engines = Engines::new(&world.config_at(docker.env()), false);
    let mut events = engines.events();
    let soon = tokio::time::timeout(Duration::from_secs(5), engines.owned()).await.expect("it is not waited for long");
    assert_eq!(soon.expect("an answer"), []);
    assert!(events.try_recv().is_err(), "nothing is lost that nobody needs");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_container_that_is_not_found_is_not_there() {
    let world = World::new().await;
    let answers = |path: &str| match path {
        "/info" => Some((200, "{}")),
        "/containers/json" => Some((200, r#"[{"Id":"abc"}]"#)),
        "/containers/abc/json" => Some((500, r#"{"message":"the layer is locked"}"#)),
        _ => None,
    };
    let docker = FakeDocker::open(&world.home.run(), answers);
    let error = world.engine_at(docker.env()).owned().await.expect_err("it cannot be told");
    assert_eq!(error.code(), Code::EngineFailed);
    assert_eq!(error.to_string(), "Docker cannot look at a container: the layer is locked (status 500)");
    let docker = FakeDocker::open(&world.home.run(), move |path| match path {
        "/containers/abc/json" => Some((404, r#"{"message":"No such container: abc"}"#)),
        path => answers(path),
    });
    assert_eq!(world.engine_at(docker.env()).owned().await.expect("an answer"), [], "it went while it was asked for");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_facts_of_an_engine() {
    let world = World::new().await;
    let env = Environment::from_process();
    let facts = docker_facts(&env).await.expect("an engine");
    assert!(facts.version.contains('.') && facts.api_version.contains('.'), "{facts:?}");
    assert!(image_present(&env, &world.image).await.expect("an answer"));
    assert!(!image_present(&env, "nobody/nothing:nowhere").await.expect("an answer"));
    let error = docker_facts(&env_of(Path::new("/nowhere/docker.sock"))).await.expect_err("nobody there");
    assert_eq!(error.code(), Code::EngineUnavailable);
}
