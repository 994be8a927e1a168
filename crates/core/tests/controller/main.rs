//! The controller over fakes of its ports: what callers and surfaces see.

#![allow(clippy::expect_used, reason = "test code: a panic is how it fails")]

mod bench;
mod clock;
mod fit;
mod service;

use std::collections::BTreeSet;
use std::sync::Arc;

use corral_core::launch::Runtime;
use corral_core::ports::{EngineEvent, Journal};
use corral_core::snapshot::{OperationKind, Phase, Snapshot, Step};
use corral_core::{Code, Error, ModelId};
use corral_testkit::fakes::{FakeEngine, Memory, Verb};

use self::bench::{Bench, MODELS, end, read};

#[tokio::test]
async fn a_switch_ends_in_a_snapshot_that_is_already_true() {
    let bench = Bench::new();
    let started = bench.switch("a").await.expect("a loads");
    assert_eq!(started.to.expect("a model").as_str(), "a");
    let switched = bench.switch("bee-large").await.expect("b loads");
    assert_eq!(switched.from.expect("a model").as_str(), "a");
    assert_eq!(switched.url.as_deref(), Some("http://127.0.0.1:41234"));
    let snapshot = bench.controller.snapshot();
    assert_eq!((snapshot.phase, snapshot.model.as_ref().map(ModelId::as_str)), (Phase::Ready, Some("b")));
    let engine = snapshot.engine.as_ref().expect("an engine");
    assert_eq!(engine.key_file.as_deref(), Some("/run/corral/api-key"));
    assert_eq!(bench.memory.key().as_deref(), Some("key-2"));
    assert_eq!(bench.memory.wanted().expect("a model").as_str(), "b");
    assert!(bench.memory.notices()[1].starts_with("switched from a to b in "), "{:?}", bench.memory.notices());
    bench.until_holds(&[("b", 'r')]).await;
}

#[tokio::test]
async fn a_missing_file_stops_nothing() {
    let bench = Bench::new();
    bench.switch("a").await.expect("a loads");
    bench.engine.fail(Verb::Check, "b", Error::new(Code::ModelFileMissing, "b.gguf is not there"));
    let error = bench.switch("b").await.expect_err("b is missing");
    assert_eq!(error.code(), Code::ModelFileMissing);
    assert_eq!(error.to_string(), "b.gguf is not there; `a` serves on");
    assert!(!bench.engine.calls().contains(&"stop a".to_owned()));
    assert_eq!(bench.controller.snapshot().error.as_ref().expect("shown").code, Code::ModelFileMissing);
    bench.switch("a").await.expect("a still serves");
    assert_eq!(bench.controller.snapshot().error, None, "cleared by what ends well");
}

#[tokio::test]
async fn a_failed_load_is_rolled_back() {
    let bench = Bench::new();
    bench.switch("a").await.expect("a loads");
    bench.engine.fail(Verb::AwaitReady, "b", Error::new(Code::LoadFailed, "exit code 1"));
    let error = bench.switch("b").await.expect_err("b does not load");
    assert_eq!(error.to_string(), "exit code 1; `a` serves again");
    assert_eq!(bench.controller.snapshot().phase, Phase::Ready);
    bench.until_holds(&[("a", 'r')]).await;
}

#[tokio::test]
async fn unknown_names_are_refused_with_the_nearest() {
    let bench = Bench::new();
    let error = bench.switch("be").await.expect_err("no such model");
    assert_eq!(error.code(), Code::UnknownModel);
    assert!(bench.engine.calls().is_empty());
}

#[tokio::test]
async fn another_catalog_has_another_revision_and_the_same_one_has_none() {
    let bench = Bench::new();
    let revision = || bench.controller.snapshot().catalog.revision;
    let first = revision();
    assert!(first > 0, "it differs from that of an earlier daemon");
    let renamed = MODELS.replace("a.gguf\"", "a.gguf\"\nname = \"Another\"");
    let moved = format!("{renamed}[models.d]\nfile = \"d.gguf\"\n").replace("models.a]", "models.e]");
    // The same models in another order.
    let (head, last) = moved.split_at(moved.rfind("[models.").expect("a model"));
    let turned = head.replacen("[models.", &format!("{last}[models."), 1);
    let mut seen = vec![first];
    for text in [&renamed, &moved, &turned] {
        bench.controller.catalog_read(read(text)).await.expect("taken");
        let before = *seen.last().expect("one");
        seen.push(bench.until(|snapshot| snapshot.catalog.revision > before).await.catalog.revision);
    }
    let problems = |count: usize| move |snapshot: &Arc<Snapshot>| snapshot.catalog.problems.len() == count;
    let last = *seen.last().expect("one");
    for (text, count) in [("= no catalog", 1), (&turned, 0)] {
        bench.controller.catalog_read(read(text)).await.expect("taken");
        bench.until(problems(count)).await;
        assert_eq!(revision(), last, "the catalog in force is the same");
    }
}

#[tokio::test]
async fn fifty_callers_at_once_are_each_answered_and_the_last_one_wins() {
    let bench = Bench::new();
    let mut ends = Vec::new();
    let mut ids = BTreeSet::new();
    for number in 0..50 {
        let model = ["a", "b", "c"][(number * 7 + number / 3) % 3];
        let accepted = bench.controller.switch(model.to_owned(), false).await.expect("taken");
        assert!(ids.insert(accepted.operation.id), "an id was used twice");
        ends.push((model, accepted));
    }
    let last = ends.last().expect("fifty").0;
    for (_, accepted) in ends {
        match end(Ok(accepted)).await {
            Ok(_) => {}
            Err(error) => assert_eq!(error.code(), Code::Superseded),
        }
    }
    let snapshot = bench.controller.snapshot();
    assert_eq!(snapshot.model.as_ref().map(ModelId::as_str), Some(last));
    assert_eq!(bench.engine.holds().iter().filter(|(_, state)| *state == 'r').count(), 1);
    let (began, ended) = bench.memory.operations();
    assert_eq!(BTreeSet::from_iter(began), BTreeSet::from_iter(ended));
}

#[tokio::test]
async fn running_requests_are_let_end_unless_forced() {
    let bench = Bench::new();
    bench.switch("a").await.expect("a loads");
    bench.engine.set_busy(1);
    let gentle = bench.controller.switch("b".into(), false).await.expect("taken");
    let snapshot = bench.until(|snapshot| snapshot.phase == Phase::Draining).await;
    assert_eq!(snapshot.operation.as_ref().map(|op| op.step), Some(Step::Drain));
    assert!(!bench.engine.calls().contains(&"stop a".to_owned()));
    bench.engine.set_busy(0);
    end(Ok(gentle)).await.expect("b loads once a is idle");
    bench.engine.set_busy(1);
    end(bench.controller.switch("a".into(), true).await).await.expect("force does not wait");
}

#[tokio::test]
async fn what_runs_already_is_adopted_and_what_was_wanted_is_brought_back() {
    let engine = Arc::new(FakeEngine::default());
    let memory = Arc::new(Memory::default());
    let catalog = read(MODELS).catalog.expect("good");
    let spec = &catalog.models.values().next().expect("a").launch;
    let adopted = engine.put_running(spec);
    let bench = Bench::with(engine.clone(), memory.clone());
    let snapshot = bench.until(|snapshot| snapshot.phase == Phase::Ready).await;
    assert_eq!(snapshot.engine.as_ref().expect("an engine").container_id, adopted.id);
    assert!(!engine.calls().iter().any(|call| call.starts_with("start")), "{:?}", engine.calls());

    let memory = Arc::new(Memory::default());
    memory.want(Some(&spec.model));
    let bench = Bench::with(Arc::default(), memory);
    let snapshot = bench.until(|snapshot| snapshot.phase == Phase::Ready).await;
    assert_eq!(snapshot.model.as_ref(), Some(&spec.model));
}

#[tokio::test]
async fn a_crash_and_a_lost_engine_are_told_and_healed() {
    let bench = Bench::new();
    bench.switch("a").await.expect("a loads");
    bench.engine.crash(Error::new(Code::ServerExited, "exit code 139"));
    let snapshot = bench.until(|snapshot| snapshot.operation.is_some()).await;
    assert_eq!(snapshot.error.as_ref().expect("told").code, Code::ServerExited);
    assert_eq!(snapshot.operation.as_ref().expect("a restart").kind, OperationKind::Restart);
    assert_eq!(bench.memory.key(), None, "a dead server's key is taken back");
    let snapshot = bench.until(|snapshot| snapshot.phase == Phase::Ready).await;
    assert_eq!((snapshot.model.as_ref().map(ModelId::as_str), &snapshot.error), (Some("a"), &None));

    bench.switch("b").await.expect("b loads");
    let gone = Error::new(Code::EngineUnavailable, "Docker does not answer");
    bench.engine.set_unavailable(Some(gone.clone()));
    bench.engine.emit(EngineEvent::Lost { runtime: Runtime::Docker, cause: gone });
    bench.until(|snapshot| snapshot.phase == Phase::Failed).await;
    bench.engine.set_unavailable(None);
    bench.engine.emit(EngineEvent::Back { runtime: Runtime::Docker });
    let snapshot = bench.until(|snapshot| snapshot.phase == Phase::Ready).await;
    assert_eq!(snapshot.model.as_ref().map(ModelId::as_str), Some("b"));
    assert_eq!(snapshot.error, None);
}

#[tokio::test]
async fn a_new_catalog_is_in_force_at_once_and_a_broken_one_never() {
    let bench = Bench::new();
    bench.switch("a").await.expect("a loads");
    let changed =
        MODELS.replace("file = \"a.gguf\"", "file = \"a.gguf\"\nctx = 1024") + "[models.d]\nfile = \"d.gguf\"\n";
    bench.controller.catalog_read(read(&changed)).await.expect("taken");
    let snapshot = bench.until(|snapshot| snapshot.catalog.models == 4).await;
    assert!(snapshot.engine.as_ref().expect("an engine").config_changed);
    bench.switch("d").await.expect("the new model loads");
    bench.controller.catalog_read(read("schema = 1\n[models")).await.expect("taken");
    let snapshot = bench.until(|snapshot| !snapshot.catalog.problems.is_empty()).await;
    assert_eq!(snapshot.catalog.models, 4, "the last good one stays");
    bench.switch("c").await.expect("and is usable");
}

#[tokio::test]
async fn shutting_down_stops_the_model_or_leaves_it() {
    for keep in [false, true] {
        let bench = Bench::new();
        bench.switch("a").await.expect("a loads");
        bench.switch("b").await.expect("b loads");
        bench.shut_down(keep).await;
        let expected: &[(String, char)] = if keep { &[("b".to_owned(), 'r')] } else { &[] };
        assert_eq!(bench.engine.holds(), expected, "keep = {keep}");
        assert_eq!(bench.memory.wanted().is_some(), keep);
        assert_eq!(bench.switch("a").await.expect_err("it has ended").code(), Code::ShuttingDown);
    }
}

#[tokio::test]
async fn shutting_down_in_the_middle_of_a_switch_answers_its_caller() {
    let bench = Bench::new();
    bench.switch("a").await.expect("a loads");
    bench.engine.hold(Verb::AwaitReady);
    let accepted = bench.controller.switch("b".into(), false).await.expect("taken");
    bench.until(|snapshot| snapshot.phase == Phase::Loading).await;
    bench.shut_down(false).await;
    assert_eq!(end(Ok(accepted)).await.expect_err("cut").code(), Code::ShuttingDown);
    assert!(bench.engine.holds().is_empty());
}

#[tokio::test]
async fn a_switch_that_has_begun_goes_on_until_there_is_a_model_to_leave() {
    let bench = Bench::new();
    bench.switch("a").await.expect("a loads");
    bench.engine.hold(Verb::Stop);
    let accepted = bench.controller.switch("b".into(), false).await.expect("taken");
    bench.until(|snapshot| snapshot.phase == Phase::Stopping).await;
    tokio::join!(bench.shut_down(true), async { bench.engine.release(Verb::Stop) });
    assert_eq!(end(Ok(accepted)).await.expect_err("not waited for").code(), Code::ShuttingDown);
    assert_eq!(bench.engine.holds(), [("b".to_owned(), 'r')]);
    assert_eq!(bench.memory.wanted().expect("a model").as_str(), "b");
}

#[tokio::test]
async fn an_engine_that_could_not_say_what_it_holds_is_asked_again() {
    tokio::time::pause();
    let engine = Arc::new(FakeEngine::default());
    let catalog = read(MODELS).catalog.expect("good");
    engine.put_running(&catalog.models.values().next().expect("a").launch);
    engine.set_unavailable(Some(Error::new(Code::EngineFailed, "status 500")));
    let bench = Bench::with(engine.clone(), Arc::default());
    bench.until(|snapshot| snapshot.phase == Phase::Failed).await;
    engine.set_unavailable(None);
    bench.until(|snapshot| snapshot.phase == Phase::Ready).await;
}

#[tokio::test]
async fn a_dry_run_says_what_would_happen_and_does_nothing() {
    let bench = Bench::new();
    bench.switch("a").await.expect("a loads");
    bench.engine.set_busy(2);
    bench.engine.fail(Verb::Check, "b", Error::new(Code::ModelFileMissing, "b.gguf is not there"));
    let plan = bench.controller.dry_run("b".into()).await.expect("a plan");
    assert_eq!((plan.already_loaded, plan.requests_running), (false, 2));
    assert_eq!(plan.problem.expect("told").code, Code::ModelFileMissing);
    assert!(bench.controller.dry_run("a".into()).await.expect("a plan").already_loaded);
    assert_eq!(bench.controller.snapshot().model.as_ref().map(ModelId::as_str), Some("a"));
}
