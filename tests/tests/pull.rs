//! An image that is not on this machine comes from a registry, with its bytes shown, while the old model serves.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "test code: a panic is how it fails")]

use corral_core::snapshot::{Phase, Step};
use corral_tests::api::instance;
use corral_tests::registry::{NEW_BYTES, Registry};
use corral_tests::{Daemon, Docker, Inference, Models, PATIENCE, parts};
use serde_json::json;

#[test]
fn a_missing_image_is_pulled_with_progress_while_the_old_model_serves() {
    let docker = Docker::new();
    let registry = Registry::with(&docker, parts::image());
    let models = Models::docker()
        .tiny(&["a"])
        .tiny_with("pulled", &format!("image = \"{}\"", registry.image()))
        .tiny_with("nowhere", &format!("image = \"{}\"", registry.other_image()));
    let daemon = Daemon::start(models.home());
    let api = daemon.api();
    let before = api.switched("a");

    let error = api.switch_wait("nowhere").expect_error("image_missing", &["manifest unknown", "`a` serves on"]);
    assert!(error["hint"].to_string().contains(&registry.other_image()), "{error:#}");

    let events = api.events();
    api.post("/switch", &json!({ "model": "pulled" })).expect(202);
    let mut shown = Vec::new();
    events.until(PATIENCE, "the pull has shown its bytes and the model loads", |status| {
        let operation = status.operation.as_ref();
        if let Some(progress) = operation.filter(|op| op.step == Step::Pull).and_then(|op| op.progress) {
            assert_eq!((status.phase, instance(status)), (Phase::Ready, instance(&before)), "the old model serves");
            shown.push((progress.done_bytes, progress.total_bytes));
        }
        operation.is_some_and(|op| op.step == Step::Load)
    });
    assert!(shown.windows(2).all(|pair| pair[0].0 <= pair[1].0), "{shown:?}");
    let new = u64::try_from(NEW_BYTES).unwrap();
    let under_way = |(done, all): &(u64, Option<u64>)| *done > 0 && all.is_some_and(|all| *done < all && all >= new);
    assert!(shown.iter().any(under_way), "{shown:?}");
    let status = api.until_serves("pulled");
    Inference::of(&status).assert_answers("pulled");
    assert_eq!(status.engine.unwrap().image, Some(registry.image()));
}
