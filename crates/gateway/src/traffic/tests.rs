use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use corral_core::ports::{Endpoint, Instance};
use corral_core::{InstanceId, Secret};
use corral_testkit::fakes::CountingClock;
use corral_testkit::launch_spec;
use jiff::Timestamp;
use tokio::task::JoinHandle;

use super::*;

fn limits() -> Limits {
    Limits::new(8, Duration::from_mins(15))
}

fn gate() -> Gate {
    Gate::new(Arc::new(CountingClock::default()))
}

fn ask(model: &str) -> Ask {
    Ask { model: (model != "*").then(|| ModelId::new(model).expect("a model id")), session: false }
}

/// The way to the server of this model that was started at this second.
fn route(model: &str, second: i64) -> Route {
    let spec = launch_spec(model);
    let instance = Instance {
        id: InstanceId(format!("{model}-1")),
        runtime: spec.runtime,
        config_hash: spec.hash(),
        image: None,
        api_key: Secret::new("key-1"),
        model: spec.model,
    };
    let started_at = Timestamp::from_second(second).expect("a time");
    Route { instance, endpoint: Endpoint { url: "http://127.0.0.1:41234".into(), started_at }, restored: false }
}

/// A request that is on its way in, or waits once this returns.
async fn wait(gate: &Gate, model: &str) -> JoinHandle<Result<Pass>> {
    let (gate, ask) = (gate.clone(), ask(model));
    let task = tokio::spawn(async move { gate.admit(&ask, &limits()).await });
    tokio::task::yield_now().await;
    task
}

async fn admitted(task: JoinHandle<Result<Pass>>) -> Pass {
    tokio::time::timeout(Duration::from_secs(1), task).await.expect("not held").expect("no panic").expect("admitted")
}

#[tokio::test(start_paused = true)]
async fn what_is_loaded_is_admitted_at_once() {
    let gate = gate();
    assert!(gate.try_admit(&ask("*")).is_none(), "nothing is open yet");
    gate.open(route("a", 1));
    let passes = [gate.try_admit(&ask("*")), gate.try_admit(&ask("a"))].map(|pass| pass.expect("admitted"));
    assert!(gate.try_admit(&ask("b")).is_none());
    assert_eq!(gate.counts(), (2, 0));
    let upstream = passes[0].upstream();
    assert_eq!((upstream.model.as_str(), upstream.authority.as_str()), ("a", "127.0.0.1:41234"));
    assert_eq!(
        (upstream.authorization.to_str().ok(), upstream.authorization.is_sensitive()),
        (Some("Bearer key-1"), true)
    );
    assert_eq!(passes[0].held(), Duration::ZERO);
    drop(passes);
    assert_eq!(gate.counts(), (0, 0));
    gate.close();
    assert!(gate.try_admit(&ask("a")).is_none());
}

#[tokio::test(start_paused = true)]
async fn those_that_wait_for_what_opens_go_in_the_order_they_came() {
    let gate = gate();
    let order = Arc::new(Mutex::new(Vec::new()));
    for (number, model) in ["a", "b", "*", "a", "b", "*"].into_iter().enumerate() {
        let (gate, order, ask) = (gate.clone(), order.clone(), ask(model));
        tokio::spawn(async move {
            let pass = gate.admit(&ask, &limits()).await.expect("admitted");
            order.lock().expect("not poisoned").push((
                number,
                pass.upstream().model.to_string(),
                pass.held().as_secs(),
            ));
        });
    }
    let came = || {
        let order = order.lock().expect("not poisoned").clone();
        order.into_iter().map(|(number, model, held)| format!("{number} {model} {held} s")).collect::<Vec<_>>()
    };
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!((gate.counts(), came().len()), ((0, 6), 0));
    gate.open(route("a", 1));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(came(), ["0 a 3 s", "2 a 3 s", "3 a 3 s", "5 a 3 s"]);
    assert_eq!(gate.counts(), (0, 2));
    gate.close();
    gate.open(route("b", 2));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(came()[4..], ["1 b 4 s", "4 b 4 s"]);
}

#[tokio::test(start_paused = true)]
async fn drained_is_true_once_the_last_pass_is_gone() {
    let gate = gate();
    gate.open(route("a", 1));
    let (first, waiting) = (gate.try_admit(&ask("a")), wait(&gate, "b").await);
    let second = gate.try_admit(&ask("*"));
    gate.close();
    let late = wait(&gate, "a").await;
    let drained = tokio::spawn({
        let gate = gate.clone();
        async move { gate.drained().await }
    });
    drop(first);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!drained.is_finished(), "one is under way");
    drop(second);
    drained.await.expect("it returns");
    assert_eq!(gate.counts(), (0, 2), "those that wait do not hold it up");
    gate.drained().await;
    gate.open(route("a", 1));
    drop(admitted(late).await);
    waiting.abort();
}

#[tokio::test(start_paused = true)]
async fn whoever_does_not_leave_one_server_is_not_in_the_way_of_the_next() {
    let gate = gate();
    let soon = |gate: &Gate| {
        let gate = gate.clone();
        async move { tokio::time::timeout(Duration::from_millis(1), gate.drained()).await.is_ok() }
    };
    gate.open(route("a", 1));
    let stuck = gate.try_admit(&ask("a")).expect("admitted");
    gate.close();
    gate.cut(&Error::new(Code::Cut, "switched"));
    assert!(!soon(&gate).await, "its own server still works for it");
    // Called off: it is the same server.
    gate.open(route("a", 1));
    gate.close();
    assert!(!soon(&gate).await);
    let waits = tokio::spawn({
        let gate = gate.clone();
        async move { gate.drained().await }
    });
    tokio::task::yield_now().await;
    for started in 2..5 {
        gate.open(route(["a", "b"][usize::from(started % 2 == 0)], started));
        assert_eq!((gate.look().under_way, gate.counts()), (0, (0, 0)));
        let pass = gate.try_admit(&ask("*")).expect("admitted");
        gate.close();
        assert!(!soon(&gate).await, "this server's own count");
        drop(pass);
        assert!(soon(&gate).await);
        gate.cut(&Error::new(Code::Cut, "switched"));
    }
    waits.await.expect("whoever waited for the first server is told that it is gone");
    tokio::time::sleep(Duration::from_secs(1)).await;
    let quiet_since = gate.look().quiet_since;
    drop(stuck);
    assert_eq!((gate.look().quiet_since, gate.counts()), (quiet_since, (0, 0)), "it was counted out before");
}

#[tokio::test(start_paused = true)]
async fn whoever_goes_leaves_the_queue_and_gives_back_what_it_was_given() {
    let gate = gate();
    let (stays, goes) = (wait(&gate, "a").await, wait(&gate, "a").await);
    assert_eq!(gate.counts(), (0, 2));
    goes.abort();
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(gate.counts(), (0, 1));
    // Admitted, and gone before it could notice.
    gate.open(route("a", 1));
    stays.abort();
    assert_eq!(gate.counts(), (1, 0));
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(gate.counts(), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_cut_hits_those_under_way_and_no_later_ones() {
    let gate = gate();
    gate.open(route("a", 1));
    let before = gate.try_admit(&ask("a")).expect("admitted");
    gate.close();
    // Called off: the same server serves on, and is closed again.
    gate.open(route("a", 1));
    let between = gate.try_admit(&ask("a")).expect("admitted");
    let told = tokio::spawn(between.cut());
    assert!(before.is_cut().is_none());
    gate.cut(&Error::new(Code::Cut, "switched"));
    let after = gate.try_admit(&ask("a")).expect("admitted");
    for pass in [&before, &between] {
        assert_eq!(pass.is_cut().map(|why| why.code()), Some(Code::Cut));
        assert_eq!(pass.cut().await.to_string(), "switched");
    }
    assert_eq!(told.await.expect("told").code(), Code::Cut);
    assert!(after.is_cut().is_none());
    let told = tokio::time::timeout(Duration::from_mins(1), after.cut()).await;
    assert!(told.is_err(), "it is told nothing");
    gate.cut(&Error::new(Code::Cut, "again"));
    assert_eq!((after.cut().await.to_string(), before.cut().await.to_string()), ("again".into(), "switched".into()));
}

#[tokio::test(start_paused = true)]
async fn a_request_waits_only_so_long() {
    let gate = gate();
    gate.open(route("a", 1));
    let limits = Limits::new(8, Duration::from_secs(90));
    let error = gate.admit(&ask("b"), &limits).await.expect_err("it is refused");
    assert_eq!(
        (error.code(), error.to_string().as_str()),
        (Code::HoldTimeout, "the request has waited 90 s for `b`; `a` is loaded")
    );
    gate.close();
    let error = gate.admit(&ask("*"), &limits).await.expect_err("it is refused").body();
    assert_eq!(error.message, "the request has waited 90 s for a model");
    assert!(error.hint.expect("a hint").contains("`hold_timeout`"));
    assert_eq!(gate.counts(), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_waits_again_waits_no_longer_in_all() {
    let (gate, limits) = (gate(), Arc::new(Limits::new(8, Duration::from_secs(90))));
    for started in [1, 2] {
        let again = tokio::spawn({
            let (gate, limits) = (gate.clone(), limits.clone());
            async move { gate.admit(&ask("a"), &limits).await }
        });
        tokio::time::sleep(Duration::from_secs(40)).await;
        gate.open(route("a", started));
        assert_eq!(admitted(again).await.held(), Duration::from_secs(40));
        gate.close();
    }
    let began = tokio::time::Instant::now();
    let error = gate.admit(&ask("a"), &limits).await.expect_err("it is refused");
    assert_eq!(began.elapsed().as_secs(), 10);
    assert_eq!(error.to_string(), "the request has waited 90 s for `a`");
}

#[tokio::test(start_paused = true)]
async fn only_so_many_wait() {
    let gate = gate();
    let limits = Limits::new(2, Duration::from_mins(15));
    let waiting = [wait(&gate, "a").await, wait(&gate, "b").await];
    let error = gate.admit(&ask("a"), &limits).await.expect_err("it is refused").body();
    assert_eq!(
        (error.code, error.message.as_str()),
        (Code::QueueFull, "2 requests wait for a model already, and no more may")
    );
    assert!(error.hint.expect("a hint").contains("`queue`"));
    gate.open(route("a", 1));
    let _going = gate.admit(&ask("a"), &Limits::new(0, Duration::from_mins(15))).await.expect("it does not wait");
    for task in waiting {
        task.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_once_nobody_switches_any_more() {
    let gate = gate();
    let waiting = wait(&gate, "b").await;
    gate.open(route("a", 1));
    gate.end(&shutting_down());
    assert_eq!(waiting.await.expect("no panic").expect_err("refused").code(), Code::ShuttingDown);
    assert_eq!(gate.admit(&ask("b"), &limits()).await.expect_err("refused").code(), Code::ShuttingDown);
    assert!(gate.admit(&ask("a"), &limits()).await.is_ok(), "what is loaded goes on");
}

#[tokio::test(start_paused = true)]
async fn each_opening_is_counted_and_a_first_answer_is_the_servers() {
    let gate = gate();
    let mut seen = Vec::new();
    for started in [1, 1, 2] {
        gate.open(route("a", started));
        let pass = gate.try_admit(&ask("a")).expect("admitted");
        seen.push((pass.upstream().generation, pass.upstream().first.swap(true, Ordering::Relaxed)));
        gate.close();
    }
    assert_eq!(seen, [(1, false), (2, true), (3, false)]);
}

#[tokio::test(start_paused = true)]
async fn requests_that_come_and_go_wake_nobody_and_are_seen_by_who_looks() {
    let gate = gate();
    let stirs = |millis| {
        let gate = gate.clone();
        async move { tokio::time::timeout(Duration::from_millis(millis), gate.stirred()).await.is_ok() }
    };
    gate.open(route("a", 1));
    assert!(stirs(1).await, "it was opened");
    let passes = [gate.try_admit(&ask("a")), gate.try_admit(&ask("a"))];
    assert_eq!(gate.look().under_way, 2);
    drop(passes);
    assert!(!stirs(1000).await);
    drop(gate.try_admit(&ask("a")));
    assert_eq!(gate.look().quiet_since, Duration::from_secs(1));
    assert_eq!(gate.look().open, Some((ModelId::new("a").expect("a model id"), Duration::ZERO)));
}

/// Clients come and go on many threads while the gate is opened, closed, drained and cut.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_pass_exists_between_drained_and_open() {
    const ROUNDS: i64 = 2000;
    let gate = gate();
    // True from the moment when `drained` has returned until just before the gate is opened.
    let sealed = Arc::new(AtomicBool::new(true));
    let (served, ended) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let client = |number: usize| {
        let (gate, sealed, served, ended) = (gate.clone(), sealed.clone(), served.clone(), ended.clone());
        async move {
            let ask = ask(["a", "b", "*"][number % 3]);
            for turn in number.. {
                let limits = limits();
                let admitted = tokio::select! {
                    biased;
                    admitted = gate.admit(&ask, &limits) => admitted,
                    // Some lose patience.
                    () = tokio::task::yield_now(), if turn % 5 == 0 => continue,
                };
                let pass = match admitted {
                    Ok(pass) => pass,
                    Err(error) => {
                        assert_eq!(error.code(), Code::ShuttingDown);
                        break;
                    }
                };
                assert!(!sealed.load(Ordering::SeqCst), "admitted behind a drained gate");
                tokio::select! {
                    why = pass.cut() => assert_eq!(why.code(), Code::Cut),
                    () = tokio::task::yield_now(), if turn % 7 > 0 => {}
                }
                assert!(!sealed.load(Ordering::SeqCst), "drained before this pass was gone");
                served.fetch_add(1, Ordering::SeqCst);
                drop(pass);
                if ended.load(Ordering::SeqCst) {
                    break;
                }
            }
        }
    };
    let clients: Vec<_> = (0..8).map(|number| tokio::spawn(client(number))).collect();
    for round in 0..ROUNDS {
        sealed.store(false, Ordering::SeqCst);
        gate.open(route(["a", "b"][usize::from(round % 2 == 0)], round));
        tokio::task::yield_now().await;
        gate.close();
        gate.cut(&Error::new(Code::Cut, "switched"));
        gate.drained().await;
        sealed.store(true, Ordering::SeqCst);
        assert_eq!(gate.counts().0, 0);
        tokio::task::yield_now().await;
    }
    ended.store(true, Ordering::SeqCst);
    gate.end(&shutting_down());
    for client in clients {
        client.await.expect("no client saw a sealed gate");
    }
    assert_eq!(gate.counts(), (0, 0));
    assert!(served.load(Ordering::SeqCst) > 100, "the clients were served");
}
