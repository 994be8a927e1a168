//! Memory: what does not fit is refused, what is still held is waited for, and what ran out is explained.

use std::time::Duration;

use corral_core::fit::{FitVerdict, FitView};
use corral_core::snapshot::{Phase, Step};
use corral_core::{Code, Error, ModelId};
use corral_testkit::eventually;
use corral_testkit::fakes::{Verb, too_big};

use crate::bench::{Bench, end};

fn id(model: &str) -> ModelId {
    ModelId::new(model).expect("a valid id")
}

#[tokio::test]
async fn what_surely_does_not_fit_is_refused_and_the_old_model_serves_on() {
    let bench = Bench::new();
    bench.switch("a").await.expect("a loads");
    bench.fit.say("b", too_big());
    let error = bench.switch("b").await.expect_err("b is too big");
    assert_eq!(error.code(), Code::InsufficientMemory);
    for part in ["`b` does not fit", "GPU 0 has 2.0 GB to give, 8.0 GB are needed", "`a` serves on"] {
        assert!(error.to_string().contains(part), "{error}");
    }
    let hint = error.body().hint.expect("a hint");
    assert!(hint.contains("end blender (process 7)") && hint.contains("corral switch b --force"), "{hint}");
    let calls = bench.engine.calls();
    assert!(!calls.iter().any(|call| call == "prepare b" || call == "stop a"), "{calls:?}");
    assert_eq!(bench.controller.snapshot().model, Some(id("a")));

    let start = Bench::new();
    start.fit.say("b", too_big());
    let refused = end(start.controller.start(Some("b".into())).await).await.expect_err("nor is it started");
    assert_eq!(refused.code(), Code::InsufficientMemory);
    assert_eq!(start.controller.snapshot().phase, Phase::Failed);
}

#[tokio::test]
async fn with_force_and_where_it_is_only_guessed_it_is_tried_with_a_warning() {
    let bench = Bench::new();
    bench.fit.say("b", too_big());
    bench.fit.say("c", FitView { hopeless: false, ..too_big() });
    end(bench.controller.switch("b".into(), true).await).await.expect("force tries");
    bench.switch("c").await.expect("a guess keeps nobody from it");
    for name in ["b may not fit: ", "c may not fit: "] {
        let notices = bench.memory.notices();
        assert!(notices.iter().any(|notice| notice.starts_with(name)), "{notices:?}");
    }
    // llama-server moves layers to the CPU by itself: that is no news.
    let moved = FitView { verdict: FitVerdict::Reduced, layers_on_cpu: 3, hopeless: false, ..too_big() };
    bench.fit.say("a", moved);
    bench.switch("a").await.expect("a loads");
    assert!(!bench.memory.notices().iter().any(|notice| notice.starts_with("a may not fit")));
}

#[tokio::test]
async fn whoever_joins_with_force_is_not_refused_for_the_sake_of_the_first() {
    let bench = Bench::new();
    bench.fit.say("b", too_big());
    bench.engine.hold(Verb::Check);
    let first = bench.controller.switch("b".into(), false).await;
    let second = bench.controller.switch("b".into(), true).await;
    bench.engine.release(Verb::Check);
    end(first).await.expect("it joins the other");
    end(second).await.expect("it is tried");
    let prepared = bench.engine.calls().iter().filter(|call| *call == "prepare b").count();
    assert_eq!(prepared, 1);
}

#[tokio::test]
async fn nothing_is_started_before_the_memory_is_free() {
    let bench = Bench::new();
    bench.switch("a").await.expect("a loads");
    assert_eq!(bench.fit.looks(), 1, "one look where it is free");
    bench.fit.hold(usize::MAX);
    let accepted = bench.controller.switch("b".into(), false).await;
    bench.until(|snapshot| snapshot.operation.as_ref().is_some_and(|op| op.step == Step::Free)).await;
    eventually(Duration::from_secs(5), || async { bench.fit.looks() > 2 }).await;
    let started = || bench.engine.calls().contains(&"start b".to_owned());
    assert!(bench.engine.calls().contains(&"stop a".to_owned()) && !started());
    bench.fit.hold(0);
    end(accepted).await.expect("b loads");
    assert!(started() && !bench.memory.notices().iter().any(|notice| notice.contains("not free")));
}

#[tokio::test]
async fn memory_that_never_comes_free_is_not_waited_for_for_ever() {
    tokio::time::pause();
    let bench = Bench::new();
    bench.fit.hold(usize::MAX);
    let accepted = bench.controller.switch("a".into(), false).await.expect("taken");
    let ended = tokio::time::timeout(Duration::from_mins(1), accepted.end).await;
    ended.expect("it ends").expect("it is answered").expect("a loads all the same");
    let notices = bench.memory.notices();
    let told = notices.iter().find(|notice| notice.contains("not free 10 s after")).expect("a warning");
    assert!(told.ends_with("GPU 0: llama-server (process 7) has 6.0 GB"), "{told}");
}

#[tokio::test]
async fn a_stop_while_memory_is_waited_for_starts_nothing() {
    tokio::time::pause();
    let bench = Bench::new();
    bench.switch("a").await.expect("a loads");
    bench.fit.hold(usize::MAX);
    let switch = bench.controller.switch("b".into(), false).await.expect("taken");
    bench.until(|snapshot| snapshot.operation.as_ref().is_some_and(|op| op.step == Step::Free)).await;
    let began = tokio::time::Instant::now();
    end(bench.controller.stop(false).await).await.expect("it stops");
    assert!(began.elapsed() < Duration::from_secs(1), "it took {:?}", began.elapsed());
    let error = switch.end.await.expect("it is answered").expect_err("it was replaced");
    assert_eq!(error.code(), Code::Superseded);
    bench.until_holds(&[]).await;
    assert_eq!(bench.controller.snapshot().phase, Phase::Stopped);
    let calls = bench.engine.calls();
    assert!(!calls.contains(&"start b".to_owned()), "{calls:?}");
    assert!(!bench.memory.notices().iter().any(|notice| notice.contains("not free")));
}

#[tokio::test]
async fn another_switch_while_memory_is_waited_for_starts_only_its_own() {
    tokio::time::pause();
    let bench = Bench::new();
    bench.fit.hold(usize::MAX);
    let _replaced = bench.controller.switch("b".into(), false).await.expect("taken");
    let waits = |model: &str| {
        let model = id(model);
        bench.until(move |snapshot| {
            let op = snapshot.operation.as_ref();
            op.is_some_and(|op| op.step == Step::Free && op.to.as_ref() == Some(&model))
        })
    };
    waits("b").await;
    let accepted = bench.controller.switch("c".into(), false).await;
    waits("c").await;
    bench.fit.hold(0);
    end(accepted).await.expect("c loads");
    let calls = bench.engine.calls();
    assert!(calls.contains(&"start c".to_owned()) && !calls.contains(&"start b".to_owned()), "{calls:?}");
    bench.until_holds(&[("c", 'r')]).await;
}

#[tokio::test]
async fn memory_that_ran_out_is_explained_with_numbers() {
    let bench = Bench::new();
    let ran_out = "memory ran out: allocating 8192.00 MiB on device 0: cudaMalloc failed: out of memory";
    bench.fit.say("a", FitView { hopeless: false, ..too_big() });
    bench.engine.fail(Verb::AwaitReady, "a", Error::new(Code::OutOfMemory, ran_out).hint("less"));
    let error = bench.switch("a").await.expect_err("it does not load");
    let numbers = "it needs about 8.0 GB of GPU memory and 1.0 GB of the host's, and 2.0 GB and 16.0 GB were free; \
                   blender (process 7) has 5.0 GB";
    assert_eq!((error.code(), error.to_string()), (Code::OutOfMemory, format!("{ran_out}; {numbers}")));

    // Killed where the host has too little: nobody but the kernel did that.
    let killed = "llama-server was ended from outside (SIGKILL) while it loaded the model";
    let short = FitView { host_bytes: 9_000_000_000, host_free_bytes: 1, vram_bytes: 0, hopeless: false, ..too_big() };
    for (fit, code) in
        [(short.clone(), Code::OutOfMemory), (FitView { host_free_bytes: 1 << 40, ..short }, Code::ServerKilled)]
    {
        bench.fit.say("b", fit);
        bench.engine.fail(Verb::AwaitReady, "b", Error::new(Code::ServerKilled, killed));
        let error = bench.switch("b").await.expect_err("it was killed");
        assert_eq!(error.code(), code, "{error}");
    }
}

#[tokio::test]
async fn each_load_and_each_end_is_learned_from() {
    let bench = Bench::new();
    bench.switch("a").await.expect("a loads");
    bench.switch("b").await.expect("b loads");
    bench.engine.fail(Verb::AwaitReady, "c", Error::new(Code::LoadFailed, "exit code 1"));
    bench.switch("c").await.expect_err("c does not load");
    eventually(Duration::from_secs(5), || async { bench.fit.learned().len() == 5 }).await;
    let mut learned = bench.fit.learned();
    learned.sort();
    assert_eq!(learned, ["+a", "+b", "+b", "-a", "-b"], "b came back after c had failed");
}

#[tokio::test]
async fn verdicts_are_told_of_all_models_and_by_a_dry_run() {
    let bench = Bench::new();
    bench.fit.say("b", too_big());
    let fits = bench.controller.fits().await.expect("verdicts");
    assert_eq!((fits.len(), fits.get(&id("b"))), (1, Some(&too_big())));
    let plan = bench.controller.dry_run("b".into()).await.expect("a plan");
    assert_eq!(plan.fit, Some(too_big()));
    assert_eq!(plan.problem.expect("told").code, Code::InsufficientMemory);
    let plan = bench.controller.dry_run("a".into()).await.expect("a plan");
    assert_eq!((plan.fit, plan.problem), (None, None));
}
