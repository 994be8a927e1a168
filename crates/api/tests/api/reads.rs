//! Calls that only read.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::time::Duration;

use corral_api::dto::{ModelList, ModelState};
use corral_api::openapi;
use corral_core::ports::Ended;
use corral_core::snapshot::{OperationKind, OperationView, Snapshot, Step};
use corral_core::{Code, Error, OperationId};
use serde_json::{Value, json};

use crate::bench::{Bench, MODELS};

#[tokio::test]
async fn healthz_and_status() {
    let bench = Bench::new().await;
    let health = bench.get("/healthz").await;
    assert_eq!((health.status, health.json()), (200, json!({ "status": "ok", "version": "1.2.3" })));
    let status = bench.get("/status").await;
    let snapshot: Snapshot = serde_json::from_str(&status.body).expect("a snapshot");
    assert_eq!((snapshot.version.as_str(), snapshot.catalog.models), ("1.2.3", 3));
    for key in ["version", "phase", "model", "operation", "engine", "error", "gateway", "sessions", "catalog"] {
        assert!(status.json().get(key).is_some(), "{key} is there, even when null");
    }
}

#[tokio::test]
async fn the_status_says_whose_requests_may_load_a_model() {
    for (key, policy) in
        [("", "always"), ("auto_switch = \"sessions\"", "sessions"), ("auto_switch = \"never\"", "never")]
    {
        let folder = tempfile::tempdir().expect("a folder");
        let bench = Bench::with_catalog(&format!("{MODELS}\n[gateway]\n{key}\n"), folder).await;
        assert_eq!(bench.get("/status").await.json()["auto_switch"], policy);
    }
}

#[tokio::test]
async fn models_say_what_they_do_and_what_is_wrong() {
    let bench = Bench::new().await;
    let list = async || serde_json::from_str::<ModelList>(&bench.get("/models").await.body).expect("models").models;
    let models = list().await;
    let ids: Vec<&str> = models.iter().map(|model| model.id.as_str()).collect();
    assert_eq!(ids, ["a", "b", "gone"], "in the order of the file");
    let [a, b, gone] = &models[..] else { panic!("three models") };
    assert_eq!((a.name.as_str(), a.size_bytes, a.state), ("Model A", Some(100), ModelState::Available));
    assert_eq!(a.file, bench.models_dir.path().join("a.gguf").display().to_string());
    assert_eq!(
        (b.ctx, b.parallel, &b.aliases[..], b.description.as_deref()),
        (4096, 2, &["bee-*".to_owned()][..], Some("The second"))
    );
    assert_eq!((gone.size_bytes, gone.state), (None, ModelState::Missing));
    assert_eq!(gone.problem.as_ref().map(|problem| problem.code), Some(Code::ModelFileMissing));
    assert!(models.iter().all(|model| model.fit.is_none()));

    assert_eq!(bench.post("/start", r#"{"model":"a","wait":true}"#).await.status, 200);
    let states: Vec<ModelState> = list().await.iter().map(|model| model.state).collect();
    assert_eq!(states, [ModelState::Ready, ModelState::Available, ModelState::Missing]);
    let json = bench.get("/models").await.json();
    assert_eq!(json["models"][0]["fit"], Value::Null);
    assert_eq!(json["models"][0].get("problem"), None);
}

#[tokio::test]
async fn mistakes_in_the_catalog_show_in_the_status() {
    let folder = tempfile::tempdir().expect("a folder");
    let bench = Bench::with_catalog(&format!("{MODELS}[models.bad]\nfile = 1\n"), folder).await;
    let status = bench.get("/status").await.json();
    assert_eq!(status["catalog"]["problems"][0]["code"], "model_invalid", "{status}");
    assert_eq!(bench.get("/models").await.json()["models"].as_array().expect("models").len(), 3);
    let metrics = bench.get("/metrics").await.body;
    assert!(metrics.contains("\ncorral_catalog_problems 1\n") && metrics.contains("\ncorral_catalog_models 3\n"));
}

#[tokio::test]
async fn ten_thousand_models_are_listed() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut text = "schema = 1\n".to_owned();
    for number in 0..10_000 {
        let _ = writeln!(text, "[models.m{number}]\nfile = \"m{number}.gguf\"");
        std::fs::write(folder.path().join(format!("m{number}.gguf")), "x").expect("a file");
    }
    let bench = Bench::with_catalog(&text, folder).await;
    let answer = bench.get("/models").await;
    let list: ModelList = serde_json::from_str(&answer.body).expect("models");
    assert_eq!(list.models.len(), 10_000);
    assert!(list.models.iter().all(|model| model.size_bytes == Some(1)));
}

#[tokio::test]
async fn metrics_count() {
    let bench = Bench::new().await;
    let started_at = "2026-01-01T00:00:00Z".parse().expect("a time");
    let operation = OperationView {
        id: OperationId(uuid::Uuid::nil()),
        kind: OperationKind::Switch,
        from: None,
        to: None,
        step: Step::Load,
        progress: None,
        started_at,
        expected_ms: None,
    };
    // The clock was set back in between.
    let at = "2025-12-31T00:00:03Z".parse().expect("a time");
    let failed = Some(Error::new(Code::LoadFailed, "it broke"));
    let steps = vec![(Step::Start, Duration::from_secs(1)), (Step::Load, Duration::from_secs(2))];
    let ended = Ended { operation, at, error: None, steps, saved: None, restored: None };
    bench.metrics.operation_ended(&ended);
    let gave_way = Some(Error::new(Code::Superseded, "another was asked for"));
    bench.metrics.operation_ended(&Ended { error: gave_way, steps: Vec::new(), ..ended.clone() });
    bench.metrics.operation_ended(&Ended { error: failed, ..ended });

    let answer = bench.get("/metrics").await;
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    for line in [
        r#"corral_build_info{version="1.2.3"} 1"#,
        r#"corral_phase{phase="stopped"} 1"#,
        r#"corral_phase{phase="ready"} 0"#,
        r#"corral_operations_total{kind="switch",outcome="done"} 1"#,
        r#"corral_operations_total{kind="switch",outcome="load_failed"} 1"#,
        r#"corral_operations_total{kind="switch",outcome="superseded"} 1"#,
        r#"corral_operations_total{kind="stop",outcome="done"} 0"#,
        r#"corral_operation_seconds_count{kind="switch"} 2"#,
        r#"corral_operation_seconds_sum{kind="switch"} 6.0"#,
        r#"corral_operation_seconds_bucket{le="2.5",kind="switch"} 0"#,
        r#"corral_operation_seconds_bucket{le="5.0",kind="switch"} 2"#,
        "corral_catalog_models 3",
        "corral_catalog_problems 0",
        "# EOF",
    ] {
        assert!(answer.body.lines().any(|there| there == line), "{line} is not in\n{}", answer.body);
    }
    assert_eq!(answer.body.matches("\ncorral_phase{").count(), 8);
    let resident = answer.body.lines().find_map(|line| line.strip_prefix("process_resident_memory_bytes "));
    assert!(resident.expect("the resident set").parse::<u64>().expect("bytes") > 1 << 20);

    let ask = bench.ask("GET", "/metrics").and("Accept", "application/openmetrics-text;version=1.0.0,text/plain;q=0.5");
    let open = ask.send().await;
    assert_eq!(open.header("content-type"), Some("application/openmetrics-text; version=1.0.0; charset=utf-8"));
}

#[tokio::test]
async fn the_document_is_whole() {
    let bench = Bench::new().await;
    let document = bench.get("/openapi.json").await.json();
    assert_eq!(document, openapi());
    assert_eq!(document.to_string(), openapi().to_string(), "in the same order each time");
    assert_eq!(document["openapi"], "3.1.0");

    let mut seen = HashSet::new();
    check_refs(&document, &document, &mut seen);
    for name in
        ["Snapshot", "ErrorAnswer", "Code", "StartRequest", "SwitchRequest", "LogRecord", "Notice", "SwitchPlan"]
    {
        assert!(seen.contains(&format!("#/components/schemas/{name}")), "{name} is used");
    }
    let defined = document["components"]["schemas"].as_object().expect("schemas");
    for name in defined.keys() {
        assert!(seen.contains(&format!("#/components/schemas/{name}")), "{name} is defined and not used");
    }

    let mut names = HashSet::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("methods") {
            let text = |key: &str| operation[key].as_str().is_some_and(|text| !text.is_empty());
            assert!(text("summary") && text("operationId"), "{method} {path}");
            assert!(names.insert(operation["operationId"].clone()), "{method} {path} has a name of its own");
            let responses = operation["responses"].as_object().expect("responses");
            assert!(responses.keys().any(|status| status.starts_with('2') || status == "307"), "{method} {path}");
            for status in ["403", "500"] {
                assert!(responses.contains_key(status), "{method} {path} {status}");
            }
            let open = operation["security"] == json!([]);
            // What is given there in place of a token may be refused.
            let refuses = responses.contains_key("401") && path != "/dashboard/token";
            assert_eq!((path == "/healthz" || crate::doors::is_page(path), !refuses), (open, open), "{method} {path}");
            let names = path.split('/').filter(|part| part.starts_with('{')).count();
            let parameters = operation["parameters"].as_array().map_or(&[][..], Vec::as_slice);
            assert_eq!(parameters.iter().filter(|parameter| parameter["in"] == "path").count(), names, "{path}");
            assert_eq!(
                operation.get("requestBody").is_some(),
                ["post", "put", "patch"].contains(&method.as_str()) && path != "/dashboard",
                "{method} {path}"
            );
        }
    }
}

/// Checks that every `$ref` below `value` leads somewhere.
fn check_refs(document: &Value, value: &Value, seen: &mut HashSet<String>) {
    match value {
        Value::Object(object) => {
            if let Some(Value::String(reference)) = object.get("$ref") {
                let pointer = reference.strip_prefix('#').expect("a reference within the document");
                assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
                seen.insert(reference.clone());
            }
            object.values().for_each(|value| check_refs(document, value, seen));
        }
        Value::Array(array) => array.iter().for_each(|value| check_refs(document, value, seen)),
        _ => {}
    }
}
