//! The real Claude Code, through the gateway, on both sides of a switch; and its tokens in the ledger.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "test code: a panic is how it fails")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use corral_core::usage::{Tokens, UsageRow};
use corral_tests::{Api, Client, Daemon, Inference, Models, PATIENCE, parts, until};
use serde_json::Value;

/// Runs `claude -p hello` in a home of its own, and returns what it printed.
fn hello(home: &Path, gateway: &str, token: &str, model: &str) -> Value {
    std::fs::create_dir_all(home.join(".claude")).expect("a folder");
    let mut command = Command::new(parts::claude());
    command.args(["-p", "hello", "--output-format", "json", "--model", model]).env_clear().current_dir(home);
    command.env("HOME", home).env("PATH", "/usr/bin:/bin").env("LANG", "C.UTF-8");
    command.env("ANTHROPIC_BASE_URL", gateway).env("ANTHROPIC_AUTH_TOKEN", token).env("ANTHROPIC_API_KEY", "");
    for kind in ["OPUS", "SONNET", "HAIKU", "FABLE"] {
        command.env(format!("ANTHROPIC_DEFAULT_{kind}_MODEL"), model);
    }
    for name in ["ANTHROPIC_MODEL", "ANTHROPIC_SMALL_FAST_MODEL"] {
        command.env(name, model);
    }
    let settings = [
        ("CLAUDE_CODE_MAX_CONTEXT_TOKENS", "131072"),
        ("CLAUDE_CODE_MAX_OUTPUT_TOKENS", "8192"),
        ("CLAUDE_CODE_ATTRIBUTION_HEADER", "0"),
        ("ENABLE_TOOL_SEARCH", "false"),
        ("API_TIMEOUT_MS", "3600000"),
        ("CLAUDE_STREAM_IDLE_TIMEOUT_MS", "1800000"),
    ];
    command.envs(settings);
    let disabled = ["EXPERIMENTAL_BETAS", "NONESSENTIAL_TRAFFIC", "OFFICIAL_MARKETPLACE_AUTOINSTALL", "BUNDLED_SKILLS"];
    for what in disabled.into_iter().chain(["AUTO_MEMORY", "WORKFLOWS", "CRON"]) {
        command.env(format!("CLAUDE_CODE_DISABLE_{what}"), "1");
    }
    for name in ["DISABLE_AUTOUPDATER", "DISABLE_TELEMETRY", "DISABLE_ERROR_REPORTING"] {
        command.env(name, "1");
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("Claude Code can be started");
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        until(2 * PATIENCE, "Claude Code ends", || child.try_wait().expect("a child can be waited for"));
    }));
    let _ = child.kill();
    let output = child.wait_with_output().expect("its output");
    assert!(ended.is_ok(), "Claude Code does not end: {output:?}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

/// Checks that it went well, and returns the tokens that Claude Code counts itself.
fn counted(answer: &Value) -> Tokens {
    assert_eq!((&answer["type"], &answer["is_error"]), (&"result".into(), &false.into()), "{answer:#}");
    let number = |key: &str| answer["usage"][key].as_u64().unwrap_or_else(|| panic!("{key} in {answer:#}"));
    let cached = number("cache_read_input_tokens");
    Tokens { input: number("input_tokens") + cached, cached, output: number("output_tokens") }
}

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
    let home = tempfile::tempdir().expect("a folder");

    // A session that was registered is told by its token.
    let on_a = counted(&hello(home.path(), &client.url(), &token, "a"));
    let a = Inference::of(&api.status()).tokens();
    assert_eq!(on_a, a, "what Claude Code was told is what llama-server counts");
    assert!(a.input > 500 && a.output > 0, "it asked something: {a:?}");

    // Of another, Claude Code says itself which it is.
    let answer = hello(home.path(), &client.url(), "local", "claude-haiku-4-5");
    let on_b = counted(&answer);
    let own = format!("claude:{}", answer["session_id"].as_str().expect("a session"));
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
