//! Conversations are saved before a container ends, and brought back into the next one.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::Instant;

use corral_core::launch::LaunchSpec;
use corral_core::ports::{Contexts, Endpoint, Engine, Instance};
use corral_engine::{Environment, SlotFiles};
use serde_json::{Value, json};

use crate::world::{World, post, ready};

/// Room for everything, in bytes.
const PLENTY: u64 = 1 << 30;

/// Asks for an answer to some thousand tokens, and returns how many of them the server knew already, and of how many.
async fn ask(instance: &Instance, endpoint: &Endpoint) -> (u64, u64) {
    let text = "the quick brown fox jumps over it. ".repeat(120);
    let body = json!({"messages": [{"role": "user", "content": text}], "max_tokens": 4}).to_string();
    let (status, answer) = post(&endpoint.url, "/v1/chat/completions", instance.api_key.expose(), body).await;
    assert_eq!(status, 200, "{answer}");
    let answer: Value = serde_json::from_str(&answer).expect("JSON");
    let timings = |name: &str| answer["timings"][name].as_u64().expect("a number");
    (timings("cache_n"), timings("cache_n") + timings("prompt_n"))
}

/// Saves a conversation, brings it back into another container, and tells how long that took.
async fn come_back(world: &World, spec: &LaunchSpec) -> String {
    let engine = world.engine();
    let slot_files = SlotFiles::new(&world.config_at(Environment::from_process()));
    let (instance, endpoint) = ready(&engine, spec).await;
    let (cached, all) = ask(&instance, &endpoint).await;
    assert!(cached < 20 && all > 4000, "{cached} of {all}");
    let began = Instant::now();
    let kept = slot_files.save(&instance, &endpoint, spec, PLENTY).await.expect("saved");
    let save = began.elapsed();
    assert_eq!(kept.slots, 1);
    engine.stop(&instance).await.expect("stopped");
    engine.discard(&instance).await.expect("removed");

    let (instance, endpoint) = ready(&engine, spec).await;
    let began = Instant::now();
    let restored = slot_files.restore(&instance, &endpoint, spec).await.expect("restored");
    let took = format!("{kept:?}: saved in {save:?}, brought back in {:?}", began.elapsed());
    assert_eq!(restored, kept);
    let (cached, all) = ask(&instance, &endpoint).await;
    assert!(cached * 100 / all >= 95, "{cached} of {all}");
    engine.discard(&instance).await.expect("removed");
    took
}

#[tokio::test(flavor = "multi_thread")]
async fn conversations_outlive_their_container() {
    let world = World::new().await;
    let spec = LaunchSpec { ctx: 16_384, ..world.spec("m") };
    let slots = world.home.slots();
    let mode = |path: &std::path::Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
    let file = || {
        let mut files = fs::read_dir(slots.join("m")).expect("a folder").map(|entry| entry.expect("a file").path());
        let file = files.next().expect("a file");
        assert_eq!(files.next(), None);
        file
    };
    println!("{}", come_back(&world, &spec).await);
    assert_eq!((mode(&slots), mode(&file())), (0o700, 0o600));
    let nobody = fs::metadata(file()).expect("there").uid();
    let (instance, endpoint) = ready(&world.engine(), &spec).await;
    let (cached, all) = ask(&instance, &endpoint).await;
    assert!(cached < 20, "{cached} of {all} without anything brought back");
    world.engine().discard(&instance).await.expect("removed");

    // Where Corral is root, the container of a model that only root may read is another user, who has no rights either.
    fs::set_permissions(&spec.file, Permissions::from_mode(0o600)).expect("permissions");
    println!("{}", come_back(&world, &spec).await);
    assert_eq!((mode(&slots), mode(&file())), (0o700, 0o600));
    let own = rustix::process::getuid().as_raw();
    if own == 0 {
        assert_eq!((nobody, fs::metadata(file()).expect("there").uid()), (65534, 0));
    } else {
        assert_eq!(nobody, own);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_sees_its_own_conversations_only() {
    let world = World::new().await;
    let engine = world.engine();
    let (instance, _) = ready(&engine, &world.spec("m")).await;
    let other = world.home.slots().join("other");
    fs::create_dir(&other).expect("a folder");
    fs::write(other.join("a.kv"), "said").expect("written");
    let inspected = world.docker.inspect_container(&instance.id.0, None).await.expect("a container");
    let pid = inspected.state.and_then(|state| state.pid).expect("a process");
    let seen = |path: &str| fs::metadata(format!("/proc/{pid}/root/slots/{path}")).is_ok();
    assert!(seen("") && !seen("../slots/other/a.kv") && !seen("other/a.kv") && !seen(".index.json"));
}
