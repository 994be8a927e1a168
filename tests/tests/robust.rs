//! Many at once, and ends at bad moments: whatever happens, one truth, one container, and the next start serves.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "test code: a panic is how it fails")]

use std::collections::HashSet;
use std::time::Duration;

use corral_core::snapshot::{Phase, Snapshot, Step};
use corral_tests::api::instance;
use corral_tests::daemon::END_BOUND;
use corral_tests::random::Random;
use corral_tests::{Answer, Daemon, Docker, Inference, Models, PATIENCE, parts};
use serde_json::{Value, json};

#[test]
fn fifty_switches_at_once_end_in_the_last() {
    let ids = ["a", "b", "c", "d"];
    let daemon = Daemon::start(Models::docker().tiny(&ids).home());
    let api = daemon.api();
    api.switched("a");
    for seed in 1..=3 {
        let mut random = Random::new(seed);
        let wishes: Vec<(&str, bool)> = (0..50).map(|_| (*random.one_of(&ids), random.below(2) == 0)).collect();
        let answers: Vec<Answer> = std::thread::scope(|scope| {
            let ask = |(model, wait): (&'static str, bool)| {
                scope.spawn(move || api.post("/switch", &json!({ "model": model, "wait": wait })))
            };
            let asked: Vec<_> = wishes.iter().copied().map(ask).collect();
            asked.into_iter().map(|asked| asked.join().expect("an answer")).collect()
        });

        let mut accepted: Vec<(String, String)> = Vec::new();
        for (answer, (model, wait)) in answers.iter().zip(&wishes) {
            let operation = &answer.body["operation"];
            match answer.status {
                200 => assert_eq!((*wait, &answer.body["result"]["to"]), (true, &json!(model)), "{:#}", answer.body),
                202 => assert_eq!((*wait, &operation["to"]), (false, &json!(model)), "{:#}", answer.body),
                _ => drop(answer.expect_superseded()),
            }
            if let (Some(id), Some(to)) = (operation["id"].as_str(), operation["to"].as_str()) {
                accepted.push((id.to_owned(), to.to_owned()));
            }
        }
        let ids: HashSet<_> = accepted.iter().map(|(id, _)| id).collect();
        assert_eq!(ids.len(), accepted.len(), "seed {seed}: no id is used twice");
        // Ids sort by time, and the last of all is superseded by nobody, so its caller was told its id.
        let (_, last) = accepted.iter().max().expect("some were accepted");
        let status = api.until_serves(last);
        Inference::of(&status).assert_answers(last);
        assert_eq!(status.error, None, "seed {seed}: {status:#?}");
        daemon.until_owns_only(&[instance(&status)]);
    }
}

trait Superseded {
    fn expect_superseded(&self) -> Value;
}

impl Superseded for Answer {
    #[track_caller]
    fn expect_superseded(&self) -> Value {
        assert_eq!((self.status, &self.body["error"]["code"]), (409, &json!("superseded")), "{:#}", self.body);
        self.body.clone()
    }
}

/// A moment in a switch from `a`, and whether the model that it is for takes its time to load.
struct Moment {
    name: &'static str,
    slow: bool,
    reached: fn(&Snapshot) -> bool,
}

fn step(status: &Snapshot, step: Step) -> bool {
    status.operation.as_ref().is_some_and(|operation| operation.step == step)
}

const MOMENTS: [Moment; 6] = [
    Moment { name: "right after it was accepted", slow: false, reached: |_| true },
    Moment { name: "while it is prepared", slow: true, reached: |status| step(status, Step::Prepare) },
    Moment { name: "while the old one is stopped", slow: true, reached: |status| step(status, Step::Stop) },
    Moment { name: "while the new one is started", slow: true, reached: |status| step(status, Step::Start) },
    Moment { name: "while the new one loads", slow: true, reached: |status| status.phase == Phase::Loading },
    Moment { name: "when it has ended", slow: false, reached: |_| false },
];

impl Moment {
    /// Begins a switch from `a` and returns once the moment has come. A short step may pass between two events; then a
    /// later moment is hit, which is one as well.
    fn reach(&self, daemon: &Daemon) -> &'static str {
        let events = daemon.api().events();
        let to = if self.slow { "slow" } else { "b" };
        let begun = daemon.api().post("/switch", &json!({ "model": to })).expect(202);
        events.until(PATIENCE, self.name, |status| match &status.operation {
            Some(operation) => {
                assert_eq!(begun["operation"]["id"], operation.id.to_string());
                (self.reached)(status) || self.slow && status.phase == Phase::Loading
            }
            None => status.model.as_ref().is_some_and(|model| model.as_str() == to),
        });
        to
    }
}

fn two_models_and_a_slow_one(slow: &corral_tests::docker::SlowImage) -> Models {
    Models::docker().tiny(&["a", "b"]).tiny_with("slow", &format!("image = \"{}\"", slow.tag))
}

#[test]
fn a_daemon_killed_in_a_switch_leaves_what_the_next_one_can_use() {
    let slow = Docker::new().slow_image(parts::image(), 2);
    let mut daemon = Daemon::start(two_models_and_a_slow_one(&slow).home());
    for moment in MOMENTS {
        daemon.api().switched("a");
        let to = moment.reach(&daemon);
        daemon.kill9();
        daemon.restart();
        let status = daemon
            .api()
            .until(PATIENCE, moment.name, |status| status.phase == Phase::Ready && status.operation.is_none());
        let model = status.model.clone().expect("a model").to_string();
        assert!(model == "a" || model == to, "killed {}: {model} serves", moment.name);
        Inference::of(&status).assert_answers(&model);
        daemon.until_owns_only(&[instance(&status)]);
    }
}

#[test]
fn a_daemon_killed_beside_its_model_adopts_it() {
    for models in [Models::docker(), Models::process()] {
        let mut daemon = Daemon::start(models.tiny(&["a", "b"]).home());
        daemon.api().switched("b");
        let before = daemon.api().switched("a");
        let began = daemon.began(&before);
        daemon.kill9();
        Inference::of(&before).assert_answers("a");
        daemon.restart();
        let after = daemon.api().until_serves("a");
        assert_eq!(instance(&after), instance(&before));
        assert_eq!(daemon.began(&after), began, "it was not restarted");
        Inference::of(&daemon.api().switched("b")).assert_answers("b");
    }
}

#[test]
fn a_daemon_told_to_end_in_a_switch_ends_in_order() {
    let slow = Docker::new().slow_image(parts::image(), 600);
    let mut daemon = Daemon::start(two_models_and_a_slow_one(&slow).home());
    for moment in MOMENTS {
        daemon.api().switched("a");
        moment.reach(&daemon);
        let ended = daemon.terminate();
        assert!(ended.status.success() && ended.took < END_BOUND, "told {}: {ended:?}", moment.name);
        assert_eq!(daemon.docker().owned(&daemon.home_id()), [], "told {}", moment.name);
        daemon.restart();
        let status = daemon.api().until(PATIENCE, "nothing is wanted", |status| status.operation.is_none());
        assert_eq!((status.phase, status.error), (Phase::Stopped, None), "told {}", moment.name);
    }
}

#[test]
fn whoever_waits_is_told_that_the_daemon_ends() {
    let slow = Docker::new().slow_image(parts::image(), 600);
    let mut daemon = Daemon::start(two_models_and_a_slow_one(&slow).home());
    let (api, events) = (daemon.api().clone(), daemon.api().events());
    let waiting = std::thread::spawn(move || api.switch_wait("slow"));
    events.until(PATIENCE, "slow is loading", |status| status.phase == Phase::Loading);
    let ended = daemon.terminate();
    assert!(ended.status.success() && ended.took < END_BOUND, "{ended:?}");
    let answer = waiting.join().expect("an answer");
    let code = answer.body["error"]["code"].as_str().unwrap_or_default().to_owned();
    assert!(code == "shutting_down", "{:#}", answer.body);
}

#[test]
fn a_daemon_told_to_keep_in_a_switch_leaves_what_the_next_one_can_use() {
    let slow = Docker::new().slow_image(parts::image(), 2);
    let home = two_models_and_a_slow_one(&slow).home();
    std::fs::write(home.config().join("settings.toml"), "on_quit = \"keep\"\n").expect("settings can be written");
    let mut daemon = Daemon::start(home);
    for moment in MOMENTS {
        daemon.api().switched("a");
        let to = moment.reach(&daemon);
        let ended = daemon.terminate();
        assert!(ended.status.success() && ended.took < END_BOUND, "told {}: {ended:?}", moment.name);
        assert!(!daemon.running().is_empty(), "told {}: a model runs on", moment.name);
        daemon.restart();
        let status = daemon
            .api()
            .until(PATIENCE, moment.name, |status| status.phase == Phase::Ready && status.operation.is_none());
        let model = status.model.clone().expect("a model").to_string();
        assert!(model == "a" || model == to, "told {}: {model} serves", moment.name);
        Inference::of(&status).assert_answers(&model);
        daemon.until_owns_only(&[instance(&status)]);
    }
}

#[test]
fn a_saved_catalog_is_in_force_at_once_and_a_broken_one_is_not() {
    let models = Models::docker().tiny(&["a"]);
    let daemon = Daemon::start(models.home());
    let api = daemon.api();
    let before = api.switched("a");

    let more = models.tiny(&["b"]);
    more.write(daemon.home());
    api.until(Duration::from_secs(5), "the new model is known", |status| status.catalog.models == 2);
    assert_eq!(instance(&api.status()), instance(&before), "what did not change runs on");
    assert!(api.status().engine.is_some_and(|engine| !engine.config_changed));
    Inference::of(&api.switched("b")).assert_answers("b");

    daemon.home().write_catalog(&more.text().replace("[models.b]", "[models.b"));
    let status = api.until(Duration::from_secs(5), "the mistake is told", |status| !status.catalog.problems.is_empty());
    let problem = serde_json::to_value(&status.catalog.problems[0]).expect("JSON");
    corral_tests::api::expect_error(&problem, "catalog_invalid", &["models.toml:"]);
    assert_eq!(status.catalog.models, 2, "the last good one is in force: {status:#?}");
    Inference::of(&api.switched("a")).assert_answers("a");

    // One bad model does not take the others down.
    more.clone().table("bad", "file = \"a.gguf\"\nctxx = 1").write(daemon.home());
    let status = api.until(Duration::from_secs(5), "the next mistake is told", |status| {
        status.catalog.problems.iter().any(|problem| problem.message.contains("ctxx"))
    });
    assert_eq!(status.catalog.models, 2, "{status:#?}");
    api.switched("b");

    // A changed model says so, and the change is in force with the next switch.
    more.with("ctx = 4096", "ctx = 2048").write(daemon.home());
    let status = api.until(Duration::from_secs(5), "the change is seen", |status| {
        status.engine.as_ref().is_some_and(|engine| engine.config_changed)
    });
    assert_eq!(status.catalog.problems, [], "{status:#?}");
    let after = api.switched("b");
    assert_ne!(instance(&after), instance(&status), "it was started anew");
    assert!(after.engine.is_some_and(|engine| !engine.config_changed));
}
