//! Which build a model would run, and which one it runs.

use std::process::Command;

use corral_core::launch::LaunchSpec;
use corral_core::ports::{Engine, Job};
use corral_engine::{Builds, Environment};

use crate::world::World;

/// A name for an image that goes with the test.
struct Tag(String);

impl Drop for Tag {
    fn drop(&mut self) {
        let _ = Command::new("docker").args(["rmi", "-f", &self.0]).output();
    }
}

fn docker(args: &[&str]) {
    let output = Command::new("docker").args(args).output().expect("there is a `docker` command");
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn an_image_that_was_replaced_is_another_build() {
    let world = World::new().await;
    let builds = Builds::new(Environment::from_process());
    let tag = Tag(format!("corral-test/{}:1", world.id));
    let spec = LaunchSpec { image: tag.0.clone(), ..world.spec("m") };
    assert_eq!(builds.of(&spec).await, None, "there is no such image");
    docker(&["tag", &world.image, &tag.0]);
    let first = builds.of(&spec).await.expect("it is here");
    assert!(first.starts_with("sha256:"), "{first}");
    let engine = world.engine();
    let instance = engine.prepare(&spec, &Job::unwatched()).await.expect("prepared");

    // Another image by the same name, as a pull brings it.
    docker(&["commit", "--change", "LABEL build=2", &instance.id.0, &tag.0]);
    let second = builds.of(&spec).await.expect("it is here");
    assert!(second.starts_with("sha256:") && second != first, "{second}");
    assert_eq!(builds.of_instance(&instance.id, &spec).await, Some(first), "it runs what it was created from");
    engine.discard(&instance).await.expect("removed");
    assert_eq!(builds.of_instance(&instance.id, &spec).await, None, "it is gone");
}

#[tokio::test]
async fn where_docker_does_not_answer_nobody_knows() {
    let spec = LaunchSpec { image: "any".to_owned(), ..corral_testkit::launch_spec("m") };
    let env: Environment = [("DOCKER_HOST", "unix:///nowhere.sock")].into_iter().collect();
    assert_eq!(Builds::new(env).of(&spec).await, None);
}
