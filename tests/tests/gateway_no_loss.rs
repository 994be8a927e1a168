//! No request is lost: 64 clients stream without a pause while the model is switched every two seconds.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "test code: a panic is how it fails")]
#![allow(clippy::print_stdout, reason = "test code: what was measured is shown where it is asked for")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use corral_core::usage::Tokens;
use corral_tests::gateway::Seen;
use corral_tests::random::Random;
use corral_tests::{Client, Daemon, Manner, Models, PATIENCE, Question, parts, prompt, until};
use serde_json::json;

const CLIENTS: u64 = 64;
const EVERY: Duration = Duration::from_secs(2);

/// What the clients saw, all together.
#[derive(Debug, Default)]
struct Sums {
    models: BTreeMap<String, (u64, Tokens)>,
    failures: Vec<String>,
}

impl Sums {
    fn add(&mut self, seen: &Seen) {
        self.failures.extend(seen.failure());
        let (requests, tokens) = self.models.entry(seen.model.clone()).or_default();
        *requests += 1;
        tokens.input += seen.tokens.input;
        tokens.cached += seen.tokens.cached;
        tokens.output += seen.tokens.output;
    }
}

/// The questions of one client, without end: in both protocols, of other lengths each time.
fn question(random: &mut Random) -> Question {
    let manner = *random.one_of(&[Manner::Messages, Manner::Chat]);
    let text = prompt(1 + random.below(1000) as u64, 20 + random.below(300));
    let question = Question::new(manner, &text).tokens(1 + u32::try_from(random.below(60)).expect("small"));
    // Who asks for the usage in a stream gets it; who does not has it counted all the same.
    if random.below(2) == 0 || manner == Manner::Messages {
        return question;
    }
    question.with("stream_options", json!({ "include_usage": true }))
}

#[test]
fn no_request_is_lost_while_models_change() {
    let seconds = parts::variable("CORRAL_TEST_NO_LOSS_SECONDS").map_or(60, |text| text.parse().expect("seconds"));
    let models =
        Models::docker().one_thread().gateway("min_stay = \"0s\"").with("ctx = 4096", "ctx = 8192\nparallel = 8");
    let daemon = Daemon::start(models.tiny(&["a", "b"]).home());
    let api = daemon.api();
    let client = Client::of(&api.switched("a"));

    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let (stop, sums) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Sums::default())));
    let clients: Vec<_> = (1..=CLIENTS)
        .map(|seed| {
            let (client, stop, sums) = (client.clone(), stop.clone(), sums.clone());
            runtime.spawn(async move {
                let mut random = Random::new(seed);
                while !stop.load(Ordering::Relaxed) {
                    let seen = client.ask(&question(&mut random)).await;
                    sums.lock().unwrap_or_else(PoisonError::into_inner).add(&seen);
                }
            })
        })
        .collect();

    let began = Instant::now();
    let mut switches = 0;
    while began.elapsed() < Duration::from_secs(seconds) {
        // The pause between two switches is part of what is tested.
        std::thread::park_timeout((began + EVERY * (switches + 1)).saturating_duration_since(Instant::now()));
        switches += 1;
        api.switched(if switches % 2 == 1 { "b" } else { "a" });
    }
    stop.store(true, Ordering::Relaxed);
    let all = async {
        for client in clients {
            client.await.expect("a client does not panic");
        }
    };
    runtime.block_on(async { tokio::time::timeout(PATIENCE, all).await }).expect("every request is answered");

    let sums = std::mem::take(&mut *sums.lock().unwrap_or_else(PoisonError::into_inner));
    let requests: u64 = sums.models.values().map(|(requests, _)| requests).sum();
    println!("{requests} requests, {switches} switches in {:?}: {:?}", began.elapsed(), sums.models);
    for past in api.history(3) {
        println!("{past:?}");
    }
    assert!(sums.failures.is_empty(), "{} of {requests} failed: {:#?}", sums.failures.len(), sums.failures.first());
    assert!(switches >= u32::try_from(seconds / 3).expect("small"), "{switches} switches");
    assert_eq!(sums.models.keys().collect::<Vec<_>>(), ["a", "b"], "both models answered");

    let mut ledger = BTreeMap::new();
    let same = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        until(PATIENCE, "the ledger has what the clients have seen", || {
            ledger = api
                .usage("model")
                .into_iter()
                .map(|(key, row)| {
                    let tokens = Tokens { input: row.tokens_in, cached: row.tokens_cached, output: row.tokens_out };
                    (key, (row.requests, tokens))
                })
                .collect();
            (ledger == sums.models).then_some(())
        });
    }));
    assert!(same.is_ok(), "the ledger says {ledger:#?}, the clients {:#?}", sums.models);
}
