//! Events and logs as they come, and how they end.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use corral_api::router;
use corral_core::ModelId;
use corral_core::catalog::Catalog;
use corral_core::command::channel;
use corral_core::log::{LogLevel, LogRecord};
use corral_core::snapshot::{CatalogView, Notice, NoticeLevel, Phase, Snapshot};
use corral_testkit::fakes::Verb;
use futures_util::StreamExt;
use http::Request;
use jiff::Timestamp;
use tokio::io::AsyncWriteExt;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::bench::{Bench, TOKEN, api_state, in_time};

fn record(msg: &str) -> LogRecord {
    let model = ModelId::new("a").expect("an id");
    LogRecord { ts: Timestamp::UNIX_EPOCH, level: LogLevel::Info, model, msg: msg.to_owned() }
}

fn snapshot(version: &str) -> Snapshot {
    Snapshot {
        version: version.to_owned(),
        phase: Phase::Stopped,
        model: None,
        operation: None,
        engine: None,
        error: None,
        gateway: None,
        sessions: Vec::new(),
        catalog: CatalogView::default(),
    }
}

#[tokio::test]
async fn events_begin_with_the_present_and_go_on_with_changes() {
    let bench = Bench::new().await;
    let mut events = bench.ask("GET", "/events").open().await;
    assert_eq!(events.status, 200);
    assert_eq!(events.header("content-type"), Some("text/event-stream"));
    let (name, data) = events.event().await;
    assert_eq!((name.as_str(), &data["phase"]), ("snapshot", &"stopped".into()));

    assert_eq!(bench.post("/start", r#"{"model":"a"}"#).await.status, 202);
    let mut noticed = false;
    let mut ready = false;
    while !(noticed && ready) {
        match events.event().await {
            (name, data) if name == "snapshot" => ready |= data["phase"] == "ready" && data["model"] == "a",
            (name, data) if name == "notice" => noticed |= data["level"] == "info",
            (name, _) => panic!("an event called {name}"),
        }
    }
    let mut late = bench.ask("GET", "/events").open().await;
    assert_eq!(late.event().await.1["phase"], "ready", "who comes later begins with the newest");
}

#[tokio::test]
async fn a_slow_reader_gets_the_newest_snapshot() {
    let (handle, ends) = channel(snapshot("0"), Catalog::default());
    let bench = Bench::over(handle, Arc::default(), tempfile::tempdir().expect("a folder")).await;
    let mut events = bench.ask("GET", "/events").open().await;
    assert_eq!(events.event().await.1["version"], "0");
    // Nothing else runs on this thread meanwhile, so the stream cannot keep up.
    for version in 1..=1000 {
        ends.snapshot.send_replace(Arc::new(snapshot(&version.to_string())));
        let message = version.to_string();
        let notice = Notice { at: Timestamp::UNIX_EPOCH, level: NoticeLevel::Info, message, error: None };
        ends.notices.send(notice).expect("a reader");
    }
    let mut snapshots = Vec::new();
    while snapshots.last().is_none_or(|version| version != "1000") {
        let (name, data) = events.event().await;
        if name == "snapshot" {
            snapshots.push(data["version"].as_str().expect("a version").to_owned());
        }
    }
    assert!(snapshots.len() < 10, "those in between are left out: {snapshots:?}");
}

#[tokio::test(start_paused = true)]
async fn a_silent_stream_is_kept_alive() {
    let (handle, _ends) = channel(snapshot("0"), Catalog::default());
    let app = router(api_state(handle), 8081, CancellationToken::new());
    let request =
        Request::get("/events").header("Host", "127.0.0.1").header("Authorization", format!("Bearer {TOKEN}"));
    let answer = app.oneshot(request.body(Body::empty()).expect("a request")).await.expect("an answer");
    let mut body = answer.into_body().into_data_stream();
    let begin = tokio::time::Instant::now();
    let first = body.next().await.expect("an event").expect("an event");
    assert!(first.starts_with(b"event: snapshot\n"));
    assert_eq!(body.next().await.expect("a comment").expect("a comment"), ":\n\n".as_bytes());
    let silence = begin.elapsed();
    assert!(silence >= Duration::from_secs(15) && silence < Duration::from_secs(30), "{silence:?}");
}

#[tokio::test]
async fn logs_are_lines_of_json() {
    let bench = Bench::new().await;
    let empty = bench.get("/logs").await;
    assert_eq!((empty.status, empty.body.as_str()), (200, ""));
    for number in 0..300 {
        bench.logs.push(record(&format!("line {number}\nwith a break")));
    }
    let answer = bench.get("/logs").await;
    assert_eq!(answer.header("content-type"), Some("application/x-ndjson"));
    let records: Vec<LogRecord> =
        answer.body.lines().map(|line| serde_json::from_str(line).expect("a record")).collect();
    assert_eq!((records.len(), records[0].msg.as_str()), (200, "line 100\nwith a break"));
    assert_eq!(bench.get("/logs?tail=3").await.body.lines().count(), 3);
    assert_eq!(bench.get("/logs?tail=0&follow=0").await.body, "");
    assert_eq!(bench.get("/logs?tail=1000000").await.body.lines().count(), 300);
    for query in ["tail=x", "tail=-1", "tail=1.5", "follow=maybe", "lines=3"] {
        let (message, _) = bench.get(&format!("/logs?{query}")).await.error(400, "invalid_request");
        let name = query.split('=').next().expect("a name");
        assert!(message.contains(&format!("`{name}`")), "{message}");
    }
}

#[tokio::test]
async fn logs_are_followed_without_a_gap() {
    let bench = Bench::new().await;
    bench.logs.push(record("old"));
    let mut logs = bench.ask("GET", "/logs?tail=10&follow=1").open().await;
    for number in 0..100 {
        bench.logs.push(record(&number.to_string()));
    }
    assert_eq!(logs.record().await["msg"], "old");
    for number in 0..100 {
        assert_eq!(logs.record().await["msg"], number.to_string());
    }
    let mut quiet = bench.ask("GET", "/logs?tail=0&follow=true").open().await;
    bench.logs.push(record("news"));
    assert_eq!(quiet.record().await["msg"], "news");
}

#[tokio::test]
async fn what_a_slow_reader_missed_is_said() {
    let bench = Bench::new().await;
    bench.logs.push(record("old"));
    let mut logs = bench.ask("GET", "/logs?follow=1").open().await;
    assert_eq!(logs.record().await["msg"], "old");
    // Nothing else runs on this thread meanwhile, so the stream cannot keep up.
    for number in 0..5000 {
        bench.logs.push(record(&number.to_string()));
    }
    let warning = logs.record().await;
    assert_eq!((&warning["level"], &warning["model"]), (&"warn".into(), &"a".into()));
    let said = warning["msg"].as_str().expect("a text");
    let skipped: usize = said.split(' ').next().and_then(|number| number.parse().ok()).expect("a number");
    assert!(said.contains("lines were skipped"), "{said}");
    for number in skipped..5000 {
        assert_eq!(logs.record().await["msg"], number.to_string());
    }
}

#[tokio::test]
async fn shutting_down_ends_streams_and_callers_who_wait() {
    let bench = Bench::new().await;
    bench.engine.hold(Verb::AwaitReady);
    let mut events = bench.ask("GET", "/events").open().await;
    events.event().await;
    bench.logs.push(record("old"));
    let mut logs = bench.ask("GET", "/logs?follow=1").open().await;
    logs.record().await;
    let idle = bench.ask("GET", "/healthz").with("Connection", "keep-alive").open().await;
    let waiting = tokio::spawn(bench.ask("POST", "/start").body(r#"{"model":"a","wait":true}"#).send());
    bench.until(|snapshot| snapshot.phase == Phase::Loading).await;

    bench.shutdown.cancel();
    // Less than the grace that requests in progress have.
    let served = tokio::time::timeout(Duration::from_secs(2), bench.serving).await.expect("it ends at once");
    served.expect("no panic").expect("no error");
    waiting.await.expect("an answer").error(503, "shutting_down");
    events.end().await;
    logs.end().await;
    idle.end().await;
}

#[tokio::test]
async fn a_client_that_hangs_does_not_hold_up_the_end() {
    let bench = Bench::new().await;
    let mut hanging = tokio::net::TcpStream::connect(bench.address).await.expect("a connection");
    hanging.write_all(b"POST /stop HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Le").await.expect("sent");
    assert_eq!(bench.get("/healthz").await.status, 200);
    bench.shutdown.cancel();
    in_time(bench.serving).await.expect("no panic").expect("no error");
    assert!(tokio::net::TcpStream::connect(bench.address).await.is_err(), "the port is free");
}

#[tokio::test]
async fn what_goes_on_is_told_to_those_who_want_it() {
    let bench = Bench::new().await;
    let mut plain = bench.ask("GET", "/events").open().await;
    assert_eq!(plain.event().await.0, "snapshot");
    assert_eq!(bench.live.reads(), 0, "nobody wants it");
    let mut eager = bench.ask("GET", "/events?live=1").open().await;
    assert_eq!(eager.event().await.0, "snapshot", "the present value first");
    let (name, live) = eager.event().await;
    assert_eq!((name.as_str(), &live["tokens_per_second"]), ("live", &serde_json::json!(1.5)));
    let (_, next) = eager.event().await;
    assert!(next["requests"]["running"].as_u64() > live["requests"]["running"].as_u64(), "{live} {next}");
    for wrong in ["/events?live=maybe", "/events?lively=1"] {
        bench.get(wrong).await.error(400, "invalid_request");
    }
    assert_eq!(bench.get("/live").await.json()["context"], serde_json::json!(null));
    // How fast it is, everybody hears when it changes, and who comes later at once.
    bench.live.is_fast(41.5);
    let fast = ("speed".to_owned(), serde_json::json!({ "tokens_per_second": 41.5, "running": true }));
    assert_eq!(plain.event().await, fast);
    let mut later = bench.ask("GET", "/events").open().await;
    assert_eq!(later.event().await.0, "snapshot");
    assert_eq!(later.event().await, fast);
}
