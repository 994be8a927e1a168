//! What was written down, and what is counted.

use std::time::Duration;

use corral_api::dto::{HistoryList, Requests, Status, UsageList};
use corral_core::history::PastOperation;
use corral_core::snapshot::OperationKind;
use corral_core::usage::{InferenceRoute, Millijoules, RequestEnd, RequestRecord, Tokens, UsageBy, UsageRow};
use corral_core::{Code, ModelId, OperationId};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::bench::Bench;

fn row(key: &str) -> UsageRow {
    UsageRow {
        key: key.to_owned(),
        label: None,
        requests: 3,
        tokens_in: 1000,
        tokens_out: 50,
        tokens_cached: 900,
        seconds: 12.5,
        energy_joules: None,
        energy_requests: None,
    }
}

#[tokio::test]
async fn usage_is_summed_up_as_it_was_asked_for() {
    let bench = Bench::new().await;
    let asked = || bench.usage.asked.lock().expect("not poisoned").take().expect("it was asked");
    assert_eq!(bench.get("/usage").await.body, r#"{"rows":[]}"#);
    assert_eq!(asked(), (UsageBy::Model, None, None));
    *bench.usage.rows.lock().expect("not poisoned") = vec![
        UsageRow { energy_joules: Some(1.5), energy_requests: Some(2), ..row("a") },
        UsageRow { energy_requests: Some(0), ..row("") },
    ];
    let answer = bench.get("/usage?by=session&since=30d").await;
    let expected = concat!(
        r#"{"rows":[{"key":"a","requests":3,"tokens_in":1000,"tokens_out":50,"tokens_cached":900,"seconds":12.5,"#,
        r#""energy_joules":1.5,"energy_requests":2},"#,
        r#"{"key":"","requests":3,"tokens_in":1000,"tokens_out":50,"tokens_cached":900,"seconds":12.5,"#,
        r#""energy_requests":0}]}"#
    );
    assert_eq!((answer.status, answer.body.as_str()), (200, expected));
    assert_eq!(serde_json::from_str::<UsageList>(&answer.body).expect("rows").rows.len(), 2);
    let (by, since, until) = asked();
    let ago = Timestamp::now().duration_since(since.expect("a time"));
    assert!((ago - SignedDuration::from_hours(30 * 24)).abs() < SignedDuration::from_mins(1), "{ago}");
    assert_eq!((by, until), (UsageBy::Session, None));
    bench.get("/usage?by=day&since=2026-11-01T08%3A00%3A00%2B02:00").await;
    assert_eq!(asked(), (UsageBy::Day, "2026-11-01T06:00:00Z".parse().ok(), None));
}

#[tokio::test]
async fn a_question_that_is_none_is_told_how_to_ask() {
    let bench = Bench::new().await;
    for (target, message, hint) in [
        ("/usage?by=week", "`by` is `week`", "by=day"),
        ("/usage?since=monday", "`since` is `monday`", "30d"),
        ("/usage?sinse=1d", "no parameter `sinse`", "did you mean `since`?"),
        ("/history?count=all", "`count` is `all`", "count=20"),
        ("/history?count=-1", "`count` is `-1`", "count=20"),
        ("/history?n=1", "no parameter `n`", "there is `count`"),
        ("/logs?colour=red", "no parameter `colour`", "there are `tail` and `follow`"),
    ] {
        let told = bench.get(target).await.error(400, "invalid_request");
        assert!(told.0.contains(message) && told.1.contains(hint), "{target}: {told:?}");
    }
}

#[tokio::test]
async fn the_history_has_phases() {
    let bench = Bench::new().await;
    let past = |number: u128| PastOperation {
        id: OperationId(uuid::Uuid::from_u128(number)),
        kind: OperationKind::Switch,
        from: None,
        to: ModelId::new("b").ok(),
        started_at: "2026-11-01T08:00:00Z".parse().expect("a time"),
        total_ms: Some(4_000),
        error: Some(Code::LoadFailed),
        drain_ms: None,
        save_ms: Some(7),
        stop_ms: Some(80),
        create_ms: Some(900),
        load_ms: Some(3_000),
        restore_ms: Some(9),
        saved_tokens: Some(4_096),
        restored_tokens: None,
        first_token_ms: Some(4_300),
        first_prompt_tokens: Some(5_000),
        first_cached_tokens: Some(4_090),
    };
    let many: Vec<_> = (0..30).map(past).collect();
    bench.usage.operations.lock().expect("not poisoned").clone_from(&many);
    let list = async |target: &str| {
        serde_json::from_str::<HistoryList>(&bench.get(target).await.body).expect("operations").operations
    };
    assert_eq!(list("/history").await, many[..20]);
    assert_eq!(list("/history?count=2").await, many[..2]);
    assert_eq!(list("/history?count=4000000000").await, many);
    let json = bench.get("/history?count=1").await.json();
    let first = &json["operations"][0];
    assert_eq!((&first["error"], &first["load_ms"]), (&"load_failed".into(), &3_000.into()));
    assert!(first["drain_ms"].is_null() && first.get("drain_ms").is_some());
}

fn request(model: Option<&str>, end: RequestEnd, first_token: Option<u64>) -> RequestRecord {
    RequestRecord {
        at: Timestamp::now(),
        session: None,
        model: model.and_then(|id| ModelId::new(id).ok()),
        route: InferenceRoute::ChatCompletions,
        status: 200,
        end,
        tokens: Tokens { input: 100, cached: 60, output: 7 },
        first_token: first_token.map(Duration::from_millis),
        duration: Duration::from_secs(3),
        held: Duration::ZERO,
        overhead: Duration::from_micros(40),
        energy: first_token.map(|_| Millijoules(1_250)),
    }
}

#[tokio::test]
async fn requests_are_counted() {
    let bench = Bench::new().await;
    let before = bench.get("/metrics").await.body;
    assert!(!before.contains("corral_requests_waiting"), "nobody says how many wait");
    let (done, cut) = (request(Some("a"), RequestEnd::Complete, Some(200)), request(Some("a"), RequestEnd::Cut, None));
    bench.metrics.requests(&[done.clone(), done, cut, request(None, RequestEnd::Refused, None)]);
    bench.metrics.watch_gateway(|| Requests { running: 2, waiting: 3 });
    let text = bench.get("/metrics").await.body;
    for line in [
        r#"corral_requests_total{model="a",route="/v1/chat/completions",end="complete"} 2"#,
        r#"corral_requests_total{model="a",route="/v1/chat/completions",end="cut"} 1"#,
        r#"corral_requests_total{model="",route="/v1/chat/completions",end="refused"} 1"#,
        r#"corral_tokens_total{model="a",kind="in"} 300"#,
        r#"corral_tokens_total{model="a",kind="out"} 21"#,
        r#"corral_tokens_total{model="a",kind="cached"} 180"#,
        r#"corral_request_duration_seconds_bucket{le="2.5",model="a"} 0"#,
        r#"corral_request_duration_seconds_bucket{le="5.0",model="a"} 3"#,
        r#"corral_first_token_seconds_count{model="a"} 2"#,
        r#"corral_first_token_seconds_bucket{le="0.25",model="a"} 2"#,
        r#"corral_gateway_overhead_seconds_bucket{le="0.000005"} 0"#,
        r#"corral_gateway_overhead_seconds_bucket{le="0.00005"} 3"#,
        r#"corral_gateway_overhead_seconds_bucket{le="0.1"} 3"#,
        r#"corral_energy_joules_total{model="a"} 2.5"#,
        r#"corral_energy_requests_total{model="a"} 2"#,
        "corral_requests_waiting 3",
        "corral_requests_running 2",
    ] {
        assert!(text.lines().any(|there| there == line), "{line} is not in\n{text}");
    }
}

#[tokio::test]
async fn the_status_says_how_many_requests_are_under_way_and_the_snapshot_does_not() {
    let bench = Bench::new().await;
    assert_eq!(bench.get("/status").await.json()["requests"], Value::Null, "nobody says how many there are");
    bench.metrics.watch_gateway(|| Requests { running: 2, waiting: 3 });
    let status = bench.get("/status").await;
    assert_eq!(status.json()["requests"], json!({ "running": 2, "waiting": 3 }));
    let status: Status = serde_json::from_str(&status.body).expect("a status");
    assert_eq!(status.snapshot, bench.controller.snapshot());
    assert_eq!(serde_json::to_value(&*status.snapshot).expect("JSON").get("requests"), None);
}
