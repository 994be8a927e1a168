//! A catalog of 10,000 models, read while one of them serves.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "test code: a panic is how it fails")]

use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};

use corral_tests::{Daemon, Inference, Models, PATIENCE};

/// How many models the catalog grows to.
const MANY: usize = 10_000;

#[test]
fn a_catalog_that_grows_to_ten_thousand_models_is_read_while_requests_are_answered() {
    let models = Models::process().tiny(&["a", "b"]);
    let daemon = Daemon::start(models.home());
    let api = daemon.api();
    let serving = Inference::of(&api.switched("a"));

    let read = AtomicBool::new(false);
    let answers = std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut answers = 0;
            while !read.load(Ordering::Relaxed) || answers < 3 {
                // Each of these fails by itself where no answer comes.
                serving.assert_answers("a");
                api.get("/healthz").expect(200);
                api.status();
                answers += 1;
            }
            answers
        });
        let mut text = models.text();
        for number in 2..MANY {
            writeln!(text, "[models.m{number}]\nfile = \"m{number}.gguf\"").unwrap();
        }
        daemon.home().write_catalog(&text);
        api.until(PATIENCE, "all are known", |status| status.catalog.models == MANY);
        read.store(true, Ordering::Relaxed);
        asking.join().expect("every request was answered")
    });
    assert!(answers >= 3, "{answers} answers");
    assert_eq!(api.get("/models").expect(200)["models"].as_array().expect("a list").len(), MANY);
    Inference::of(&api.switched("b")).assert_answers("b");
}
