//! A catalog of 10,000 models, read while one of them serves.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "test code: a panic is how it fails")]

use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use corral_tests::{Daemon, Inference, Models, PATIENCE};

/// How many models the catalog grows to.
const MANY: usize = 10_000;

/// The longest that one answer may take while the catalog is read: a pause that somebody would notice.
const PAUSE: Duration = Duration::from_secs(2);

#[test]
fn a_catalog_that_grows_to_ten_thousand_models_pauses_nothing() {
    let models = Models::process().tiny(&["a", "b"]);
    let daemon = Daemon::start(models.home());
    let api = daemon.api();
    let serving = Inference::of(&api.switched("a"));

    let read = AtomicBool::new(false);
    let (answers, longest) = std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let (mut answers, mut longest) = (0, Duration::ZERO);
            while !read.load(Ordering::Relaxed) || answers < 3 {
                let begin = Instant::now();
                serving.assert_answers("a");
                api.get("/healthz").expect(200);
                api.status();
                longest = longest.max(begin.elapsed());
                answers += 1;
            }
            (answers, longest)
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
    assert!(answers >= 3 && longest < PAUSE, "{answers} answers, the slowest after {longest:?}");
    assert_eq!(api.get("/models").expect(200)["models"].as_array().expect("a list").len(), MANY);
    Inference::of(&api.switched("b")).assert_answers("b");
}
