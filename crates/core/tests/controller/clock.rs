//! What the time of day does to durations: nothing.

use std::sync::Arc;
use std::time::Duration;

use corral_testkit::fakes::{CountingClock, Verb};

use crate::bench::{Bench, end};

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_changes_no_duration() {
    for hours in [-3, 5] {
        let clock = Arc::new(CountingClock::default());
        let bench = Bench::at(clock.clone());
        bench.switch("a").await.expect("a loads");
        bench.engine.hold(Verb::AwaitReady);
        let switch = bench.controller.switch("b".to_owned(), false).await;
        tokio::time::sleep(Duration::from_millis(3_250)).await;
        clock.set_ahead(hours);
        bench.engine.release(Verb::AwaitReady);
        let result = end(switch).await.expect("b loads");
        assert!((3_250..3_350).contains(&result.took_ms), "{result:?}");
        let notices = bench.memory.notices();
        assert!(notices.iter().any(|notice| notice.starts_with("switched from a to b in 3.")), "{notices:?}");
        let took = bench.memory.finished().pop().and_then(|ended| ended.took()).expect("it was measured");
        assert_eq!(u128::from(result.took_ms), took.as_millis());
    }
}
