//! Starting, stopping and switching.

use corral_api::dto::{OperationAnswer, PlanAnswer};
use corral_core::snapshot::{OperationKind, Phase};
use corral_core::{Code, Error};
use corral_testkit::fakes::Verb;

use crate::bench::Bench;

#[tokio::test]
async fn a_start_is_accepted_at_once() {
    let bench = Bench::new().await;
    bench.engine.hold(Verb::AwaitReady);
    let answer = bench.post("/start", r#"{"model":"a"}"#).await;
    assert_eq!(answer.status, 202);
    let answer: OperationAnswer = serde_json::from_str(&answer.body).expect("an operation");
    assert_eq!((answer.operation.kind, answer.result), (OperationKind::Start, None));
    let status = bench.get("/status").await.json();
    assert_eq!(status["operation"]["id"], answer.operation.id.to_string());
    assert_eq!(status["operation"]["to"], "a");
    bench.engine.release(Verb::AwaitReady);
    bench.until(|snapshot| snapshot.phase == Phase::Ready).await;
}

#[tokio::test]
async fn who_waits_hears_the_end() {
    let bench = Bench::new().await;
    let answer = bench.post("/start", r#"{"model":"a","wait":true}"#).await;
    assert_eq!(answer.status, 200);
    let json = answer.json();
    assert_eq!((&json["result"]["to"], &json["result"]["id"]), (&"a".into(), &json["operation"]["id"]));
    assert_eq!(bench.get("/status").await.json()["phase"], "ready");

    let answer = bench.post("/switch", r#"{"model":"bee-large","wait":true}"#).await;
    let answer: OperationAnswer = serde_json::from_str(&answer.body).expect("an operation");
    let result = answer.result.expect("a result");
    assert_eq!((result.from.expect("a model").as_str(), result.to.expect("a model").as_str()), ("a", "b"));

    let answer = bench.post("/stop", r#"{"wait":true,"force":true}"#).await.json();
    assert_eq!((&answer["result"]["from"], &answer["result"]["to"]), (&"b".into(), &serde_json::Value::Null));
    assert_eq!(bench.get("/status").await.json()["phase"], "stopped");
}

#[tokio::test]
async fn who_waits_hears_the_failure() {
    let bench = Bench::new().await;
    let error = Error::new(Code::LoadFailed, "the file is damaged").hint("download it again").log(["boom".to_owned()]);
    bench.engine.fail(Verb::AwaitReady, "a", error);
    let answer = bench.post("/switch", r#"{"model":"a","wait":true}"#).await;
    let (message, _) = answer.error(502, "load_failed");
    assert!(message.contains("the file is damaged"), "{message}");
    assert_eq!(answer.json()["error"]["log"], serde_json::json!(["boom"]));
    assert_eq!(bench.post("/switch", r#"{"model":"b","wait":true}"#).await.status, 200);
}

#[tokio::test]
async fn what_cannot_be_is_refused() {
    let bench = Bench::new().await;
    for (path, body) in [
        ("/start", r#"{"model":"nope"}"#),
        ("/start", r#"{"model":""}"#),
        ("/switch", r#"{"model":"../a","wait":true}"#),
        ("/switch", r#"{"model":"nope","dry_run":true}"#),
    ] {
        bench.post(path, body).await.error(404, "unknown_model");
    }
    assert_eq!(bench.post("/start", r#"{"model":"a","wait":true}"#).await.status, 200);
    bench.post("/start", r#"{"model":"b","wait":true}"#).await.error(409, "already_running");
}

#[tokio::test]
async fn a_superseded_caller_is_told() {
    let bench = Bench::new().await;
    bench.engine.hold(Verb::AwaitReady);
    let first = bench.ask("POST", "/switch").body(r#"{"model":"a","wait":true}"#).send();
    let second = async {
        bench.until(|snapshot| snapshot.operation.is_some()).await;
        let second = bench.post("/switch", r#"{"model":"b"}"#).await;
        bench.engine.release(Verb::AwaitReady);
        second
    };
    let (first, second) = tokio::join!(first, second);
    first.error(409, "superseded");
    assert_eq!(second.status, 202);
    bench.until(|snapshot| snapshot.phase == Phase::Ready && snapshot.operation.is_none()).await;
    assert_eq!(bench.get("/status").await.json()["model"], "b");
}

#[tokio::test]
async fn a_caller_who_leaves_cancels_nothing() {
    let bench = Bench::new().await;
    bench.engine.hold(Verb::AwaitReady);
    let waiting = tokio::spawn(bench.ask("POST", "/start").body(r#"{"model":"a","wait":true}"#).open());
    bench.until(|snapshot| snapshot.phase == Phase::Loading).await;
    waiting.abort();
    assert!(waiting.await.is_err(), "the caller is gone before it had an answer");
    // A request on another connection gives the server time to notice.
    assert_eq!(bench.get("/status").await.json()["phase"], "loading");
    bench.engine.release(Verb::AwaitReady);
    bench.until(|snapshot| snapshot.phase == Phase::Ready).await;
}

#[tokio::test]
async fn a_dry_run_does_nothing() {
    let bench = Bench::new().await;
    assert_eq!(bench.post("/start", r#"{"model":"a","wait":true}"#).await.status, 200);
    let calls = |bench: &Bench| bench.engine.calls().iter().filter(|call| !call.starts_with("check")).count();
    let before = calls(&bench);
    let answer = bench.post("/switch", r#"{"model":"b","dry_run":true,"wait":true,"force":true}"#).await;
    assert_eq!(answer.status, 200);
    let PlanAnswer { plan } = serde_json::from_str(&answer.body).expect("a plan");
    assert_eq!((plan.from.expect("a model").as_str(), plan.to.as_str(), plan.already_loaded), ("a", "b", false));
    let status = bench.get("/status").await.json();
    assert_eq!((&status["model"], &status["operation"]), (&"a".into(), &serde_json::Value::Null));
    assert_eq!(calls(&bench), before);
}

#[tokio::test]
async fn without_a_controller_everything_that_changes_is_unavailable() {
    let bench = Bench::new().await;
    bench.controller.shut_down(false).await.expect("it ends");
    for (path, body) in [("/start", ""), ("/stop", ""), ("/switch", r#"{"model":"a"}"#)] {
        bench.post(path, body).await.error(503, "shutting_down");
    }
    assert_eq!(bench.get("/status").await.status, 200);
}
