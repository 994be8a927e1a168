//! The real Claude Code, through the gateway: on both sides of a switch, its tokens in the ledger, and its dialect.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "test code: a panic is how it fails")]

use std::collections::BTreeMap;

use corral_core::usage::{Tokens, UsageRow};
use corral_tests::template::{DROPS_SYSTEM, REFUSES_SYSTEM, line};
use corral_tests::{Api, Claude, Client, Daemon, Inference, Models};
use serde_json::Value;

fn tokens(row: &UsageRow) -> Tokens {
    Tokens { input: row.tokens_in, cached: row.tokens_cached, output: row.tokens_out }
}

#[track_caller]
fn until_ledger(api: &Api, by: &str, wanted: &BTreeMap<String, Tokens>) {
    let mut seen = BTreeMap::new();
    for _ in 0..500 {
        seen = api.usage(by).iter().map(|(key, row)| (key.clone(), tokens(row))).collect();
        if seen == *wanted {
            return;
        }
        std::thread::park_timeout(corral_tests::wait::INTERVAL);
    }
    panic!("by {by} the ledger says {seen:#?}, llama-server {wanted:#?}");
}

#[test]
fn claude_code_works_on_both_sides_of_a_switch() {
    let models = Models::docker().one_thread().gateway("min_stay = \"0s\"").with("ctx = 4096", "ctx = 131072");
    let models = models.tiny(&["a"]).tiny_with("b", "aliases = [\"claude-haiku-*\"]");
    let daemon = Daemon::start(models.home());
    let api = daemon.api();
    let client = Client::of(&api.switched("a"));
    let (session, token) = api.open_session("hello");
    let claude = Claude::of(&client.url());

    // A session that was registered is told by its token.
    let on_a = claude.ask(&token, "a", "hello").counted();
    let a = Inference::of(&api.status()).tokens();
    assert_eq!(on_a, a, "what Claude Code was told is what llama-server counts");
    assert!(a.input > 500 && a.output > 0, "it asked something: {a:?}");

    // Of another, Claude Code says itself which it is.
    let said = claude.ask("local", "claude-haiku-4-5", "hello");
    let (on_b, own) = (said.counted(), said.session());
    api.until_serves("b");
    let b = Inference::of(&api.status()).tokens();
    assert_eq!(on_b, b, "what Claude Code was told is what llama-server counts");

    let by_model = BTreeMap::from([("a".to_owned(), a), ("b".to_owned(), b)]);
    until_ledger(api, "model", &by_model);
    until_ledger(api, "session", &BTreeMap::from([(session.clone(), a), (own, b)]));
    assert!(api.usage("session")[&session].seconds > 0.0);

    let printed = daemon.corral(&["usage", "--json"]);
    let printed: Value = serde_json::from_slice(&printed.stdout).unwrap_or_else(|error| panic!("{error}: {printed:?}"));
    let rows: Vec<UsageRow> = serde_json::from_value(printed["rows"].clone()).expect("rows");
    let rows: BTreeMap<_, _> = rows.iter().map(|row| (row.key.clone(), tokens(row))).collect();
    assert_eq!(rows, by_model, "`corral usage` says the same");
}

/// A model with this template, and another that is the same but for its requests, which are not adapted.
fn both(template: &str) -> Models {
    let models = Models::docker().one_thread().gateway("min_stay = \"0s\"").with("ctx = 4096", "ctx = 131072");
    let models = models.with("\"1\" }", "\"1\", LLAMA_SERVER_SLOTS_DEBUG = \"1\" }");
    let as_it_is = format!("{}adapt_requests = false", line(template));
    models.tiny_with("adapted", &line(template)).tiny_with("as-it-is", &as_it_is)
}

#[test]
fn sessions_of_claude_code_share_the_cache_of_their_system_prompt() {
    let daemon = Daemon::start(both(DROPS_SYSTEM).home());
    let api = daemon.api();
    let url = Client::of(&api.status()).url();
    let mut sessions = BTreeMap::new();
    let mut second_of_two = |claude: &Claude, model: &str| {
        let [_, second] = ["hello", "please write a poem about the sea"].map(|question| {
            let said = claude.ask("local", model, question);
            sessions.insert(said.session(), said.counted());
            said.counted()
        });
        second
    };
    let is_shared = |tokens: Tokens| tokens.input > 5000 && tokens.cached * 10 > tokens.input * 8;

    let attributing = Claude::of(&url).attributing();
    let adapted = second_of_two(&attributing, "adapted");
    assert!(is_shared(adapted), "{adapted:?}");
    // Its attribution, which it makes out of the question, is what else would keep them apart.
    let as_it_is = second_of_two(&attributing, "as-it-is");
    assert!(as_it_is.input > 5000 && as_it_is.cached < 100, "{as_it_is:?}");
    let without = second_of_two(&Claude::of(&url), "as-it-is");
    assert!(is_shared(without), "{without:?}");
    assert_eq!(sessions.len(), 6, "each was a session of its own");
    until_ledger(api, "session", &sessions);
}

#[test]
fn claude_code_works_on_a_model_that_takes_no_system_entries_amid_others() {
    let daemon = Daemon::start(both(REFUSES_SYSTEM).home());
    let api = daemon.api();
    let claude = Claude::of(&Client::of(&api.status()).url());
    claude.ask("local", "adapted", "hello").counted();
    let prompt = Inference::of(&api.status()).prompt();
    let (system, rest) = prompt.split_once("<|im_end|>").expect("a system prompt");
    assert!(system.contains("\n\n# Environment\n") && !rest.contains("# Environment"), "{prompt}");

    let why = claude.ask("local", "as-it-is", "hello").refused(400);
    assert!(why.contains("System message must be at the beginning."), "{why}");
}
