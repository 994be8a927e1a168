//! The end of the gateway, wanted or not.

use std::sync::Arc;
use std::time::{Duration, Instant};

use corral_core::catalog::Catalog;
use corral_core::{Code, command};
use corral_testkit::fakes::CountingClock;
use tokio::time::timeout;

use crate::bed::{Bed, Server};
use crate::stalled::stalled;

#[tokio::test]
async fn without_its_scheduler_it_ends_with_an_error() {
    let clock = Arc::new(CountingClock::default());
    clock.break_down();
    let bed = Bed::with_clock(clock).await;
    let mut client = bed.post("/v1/chat/completions", r#"{"model":"a","messages":[]}"#).await;
    corral_testkit::eventually(Duration::from_secs(10), || async { bed.gate.counts() == (0, 1) }).await;
    // The scheduler waits for the controller before it looks at the clock.
    drop(bed.ends);
    let ended = timeout(Duration::from_secs(1), bed.serving).await.expect("at once").expect("it does not panic");
    let error = ended.expect_err("it is an error");
    assert_eq!((error.code(), error.to_string().contains("scheduler")), (Code::Internal, true), "{error}");
    client.until("scheduler").await;
}

#[tokio::test]
async fn without_its_controller_it_serves_what_is_loaded() {
    let mut bed = Bed::new().await;
    let mut server = Server::new().await;
    bed.open(&server);
    let snapshot = bed.ends.snapshot.borrow().as_ref().clone();
    let (_, spare) = command::channel(snapshot, Catalog::default());
    drop(std::mem::replace(&mut bed.ends, spare));
    let mut client = bed.post("/v1/chat/completions", r#"{"model":"b","messages":[]}"#).await;
    client.until("shutting_down").await;
    let mut client = bed.post("/v1/chat/completions", r#"{"model":"a","messages":[]}"#).await;
    server.request().await.answer("{}").await;
    client.until("{}").await;
    assert!(!bed.serving.is_finished());
}

#[tokio::test]
async fn the_threads_end_together() {
    let bed = Bed::new().await;
    let mut server = Server::new().await;
    bed.open(&server);
    let mut requests = Vec::new();
    for _ in 0..4 {
        requests.push(stalled(&bed, &mut server).await);
    }
    let began = Instant::now();
    bed.shut_down().await.expect("it ends well");
    assert!(began.elapsed() < Duration::from_millis(3500), "{:?}", began.elapsed());
}
