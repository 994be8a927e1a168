//! Whether models fit, as `GET /models` and a dry run tell it.

use std::sync::Arc;

use corral_core::fit::FitView;
use corral_core::ports::Ports;
use corral_testkit::fakes::{FakeFit, too_big};
use serde_json::Value;

use crate::bench::Bench;

async fn bench() -> Bench {
    let fit = Arc::<FakeFit>::default();
    fit.say("b", too_big());
    Bench::with_ports(|ports| Ports { memory: fit, ..ports }).await
}

#[tokio::test]
async fn verdicts_are_told_with_numbers_and_names() {
    let bench = bench().await;
    let models = bench.get("/models").await.json();
    assert_eq!(models["models"][0]["fit"], Value::Null);
    let fit: FitView = serde_json::from_value(models["models"][1]["fit"].clone()).expect("a verdict");
    assert_eq!(fit, too_big());
    let plan = bench.post("/switch", r#"{"model":"b","dry_run":true}"#).await.json();
    assert_eq!(plan["plan"]["fit"], models["models"][1]["fit"], "{plan:#}");
    assert_eq!(plan["plan"]["problem"]["code"], "insufficient_memory");
    let (message, hint) = bench.post("/switch", r#"{"model":"b","wait":true}"#).await.error(422, "insufficient_memory");
    assert!(message.contains("8.0 GB are needed") && hint.contains("--force"), "{message} {hint}");
    assert_eq!(bench.post("/switch", r#"{"model":"b","wait":true,"force":true}"#).await.status, 200);
}

#[tokio::test]
async fn a_session_hears_no_names_of_other_programs() {
    let bench = bench().await;
    let bearer = format!("Bearer {}", bench.controller.open_session(None).await.expect("a session").token.expose());
    let models = bench.ask("GET", "/models").with("Authorization", &bearer).send().await.json();
    assert_eq!(models["models"][1]["fit"]["verdict"], "no", "{models:#}");
    assert!(!models.to_string().contains("blender"), "{models:#}");
    let switch = bench.ask("POST", "/switch").body(r#"{"model":"b","dry_run":true}"#);
    let plan = switch.with("Authorization", &bearer).send().await.json();
    assert_eq!(plan["plan"]["fit"]["verdict"], "no", "{plan:#}");
    assert_eq!(plan["plan"]["problem"]["code"], "insufficient_memory", "{plan:#}");
    assert!(!plan.to_string().contains("blender"), "{plan:#}");
}
