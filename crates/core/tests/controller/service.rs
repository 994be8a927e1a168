//! What the controller does for requests.

use std::sync::Arc;

use corral_core::command::OpenedSession;
use corral_core::ports::FirstAnswer;
use corral_core::session::About;
use corral_core::snapshot::{ContextOutcome, OperationKind, Snapshot, Step};
use corral_core::usage::Tokens;
use corral_core::{Code, InstanceId, ModelId, Secret};
use corral_testkit::fakes::Verb;

use crate::bench::{Bench, end};

#[tokio::test]
async fn requests_are_let_go_only_to_a_model_that_is_ready_and_conversations_come_back_with_it() {
    let bench = Bench::new();
    bench.switch("a").await.expect("a loads");
    bench.switch("b").await.expect("b loads");
    bench.switch("a").await.expect("a loads again");
    let traffic = bench.memory.traffic().join(", ");
    let away = "close, drain, cut, drain, cut";
    assert_eq!(traffic, format!("open a, {away}, open b, {away}, open a"));
    let context = bench.controller.snapshot().engine.as_ref().and_then(|engine| engine.context).expect("brought back");
    assert_eq!((context.restored_tokens, context.outcome), (100, ContextOutcome::Pending));
    let ended = bench.memory.finished().pop().expect("three operations");
    assert!(ended.saved.is_some() && ended.restored.is_some(), "{ended:?}");
    let steps: Vec<Step> = ended.steps.iter().map(|(step, _)| *step).collect();
    assert_eq!(steps, [Step::Prepare, Step::Drain, Step::Save, Step::Stop, Step::Start, Step::Load, Step::Restore]);
}

#[tokio::test]
async fn the_first_answer_says_whether_bringing_back_was_of_use() {
    for (cached, outcome) in [(95, ContextOutcome::Kept), (3, ContextOutcome::Lost)] {
        let bench = Bench::new();
        for model in ["a", "b", "a"] {
            bench.switch(model).await.expect("it loads");
        }
        let instance = bench.controller.snapshot().engine.as_ref().expect("one serves").container_id.clone();
        let answer = |cached, continues| {
            let tokens = Tokens { input: 120, cached, output: 1 };
            FirstAnswer { tokens, continues, first_token_at: jiff::Timestamp::now() }
        };
        let other = InstanceId("other".to_owned());
        bench.controller.first_answer(other, answer(cached, None)).await.expect("taken");
        bench.controller.first_answer(instance.clone(), answer(0, Some(false))).await.expect("taken");
        bench.controller.first_answer(instance.clone(), answer(0, None)).await.expect("taken");
        bench.controller.first_answer(instance, answer(cached, Some(true))).await.expect("taken");
        let told = |snapshot: &Arc<Snapshot>| {
            let context = snapshot.engine.as_ref().and_then(|engine| engine.context);
            context.is_some_and(|context| context.outcome == outcome && context.cached_tokens == Some(cached))
        };
        bench.until(told).await;
        let warned = bench.memory.notices().iter().any(|notice| notice.contains("brought back into"));
        assert_eq!(warned, outcome == ContextOutcome::Lost, "{:?}", bench.memory.notices());
        assert_eq!(bench.memory.first_answers().len(), 3, "one that is none of this server's does not count");
    }
}

#[tokio::test]
async fn what_is_asked_for_the_sake_of_requests_waits_its_turn() {
    let bench = Bench::new();
    bench.switch("a").await.expect("a loads");
    let unload = |model: &str| bench.controller.unload(ModelId::new(model).expect("an id"));
    assert_eq!(unload("b").await.expect_err("b is not loaded").code(), Code::Busy);
    bench.engine.hold(Verb::AwaitReady);
    let switch = bench.controller.switch("b".to_owned(), false).await.expect("taken");
    let id = ModelId::new("c").expect("an id");
    assert_eq!(bench.controller.switch_for_request(&id).await.expect_err("busy").code(), Code::Busy);
    assert_eq!(unload("a").await.expect_err("busy").code(), Code::Busy);
    bench.engine.release(Verb::AwaitReady);
    switch.end.await.expect("an answer").expect("b loads");
    let switched = end(bench.controller.switch_for_request(&id).await).await.expect("c loads");
    assert_eq!(switched.to, Some(id.clone()));
    let unloaded = end(bench.controller.unload(id).await).await.expect("c is unloaded");
    assert_eq!((unloaded.kind, unloaded.to), (OperationKind::Unload, None));
    let started = end(bench.controller.start_for_request().await).await.expect("the one used last loads");
    bench.engine.hold(Verb::Stop);
    let stop = bench.controller.stop(false).await.expect("taken");
    assert_eq!(bench.controller.start_for_request().await.expect_err("busy").code(), Code::Busy);
    bench.engine.release(Verb::Stop);
    let stopped = stop.end.await.expect("an answer").expect("it is not undone");
    assert_eq!((started.to.clone(), stopped.to), (stopped.from, None));
}

#[tokio::test]
async fn sessions_have_tokens_of_their_own() {
    let bench = Bench::new();
    let a = bench.controller.open_session(Some("a".to_owned())).await.expect("attached");
    let b = bench.controller.open_session(None).await.expect("attached");
    let whose = |token: &Secret| bench.controller.session_of(token.expose());
    assert_eq!((whose(&a.token), whose(&b.token)), (Some(a.session.id.clone()), Some(b.session.id.clone())));
    assert_eq!(bench.controller.snapshot().sessions, [a.session.clone(), b.session.clone()]);
    bench.controller.close_session(a.session.id.clone()).await.expect("detached");
    assert_eq!((whose(&a.token), whose(&b.token)), (None, Some(b.session.id.clone())));
    let again = bench.controller.close_session(a.session.id).await.expect_err("gone");
    assert_eq!(again.code(), Code::NotFound);
    assert_eq!(bench.controller.snapshot().sessions, [b.session]);
}

#[tokio::test]
async fn a_session_goes_on_with_its_token_after_a_restart_and_not_after_its_end() {
    let before = Bench::new();
    let other = before.controller.open_session(None).await.expect("attached").session.id;
    let OpenedSession { session, token } = before.controller.open_session(None).await.expect("attached");
    assert_ne!(session.id, other);
    let after = Bench::new();
    let resumed =
        after.controller.resume_session(About::label(Some("a".to_owned())), token.clone()).await.expect("attached");
    assert_eq!((&resumed.token, resumed.session.label.as_deref()), (&token, Some("a")));
    let id = resumed.session.id.clone();
    assert_eq!(id, session.id, "it is the same session");
    assert_eq!(after.controller.session_of(token.expose()), Some(id.clone()));
    assert_eq!(after.controller.snapshot().sessions, [resumed.session]);
    let twice = after.controller.resume_session(About::default(), token.clone()).await.expect_err("it is attached");
    assert_eq!(twice.code(), Code::InvalidRequest);
    after.controller.close_session(id).await.expect("detached");
    let ended = after.controller.resume_session(About::default(), token).await.expect_err("it has ended");
    assert_eq!(ended.code(), Code::InvalidRequest);
}
