//! What the time of day does to durations: nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use corral_core::ports::Clock;
use corral_core::{OperationId, Result, Secret};
use corral_testkit::fakes::{CountingClock, Verb};
use jiff::{SignedDuration, Timestamp};

use crate::bench::{Bench, end};

/// A clock whose time of day can be set.
#[derive(Debug, Default)]
pub(crate) struct SetClock {
    clock: CountingClock,
    ahead: AtomicI64,
}

#[async_trait]
impl Clock for SetClock {
    fn now(&self) -> Timestamp {
        self.clock.now() + SignedDuration::from_hours(self.ahead.load(Ordering::Relaxed))
    }

    async fn sleep(&self, duration: Duration) {
        self.clock.sleep(duration).await;
    }

    fn uptime(&self) -> Duration {
        self.clock.uptime()
    }

    fn operation_id(&self) -> OperationId {
        self.clock.operation_id()
    }

    fn secret(&self) -> Result<Secret> {
        self.clock.secret()
    }
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_changes_no_duration() {
    for hours in [-3, 5] {
        let clock = Arc::new(SetClock::default());
        let bench = Bench::at(clock.clone());
        bench.switch("a").await.expect("a loads");
        bench.engine.hold(Verb::AwaitReady);
        let switch = bench.controller.switch("b".to_owned(), false).await;
        tokio::time::sleep(Duration::from_millis(3_250)).await;
        clock.ahead.store(hours, Ordering::Relaxed);
        bench.engine.release(Verb::AwaitReady);
        let result = end(switch).await.expect("b loads");
        assert!((3_250..3_350).contains(&result.took_ms), "{result:?}");
        let notices = bench.memory.notices();
        assert!(notices.iter().any(|notice| notice.starts_with("switched from a to b in 3.")), "{notices:?}");
        let took = bench.memory.finished().pop().and_then(|ended| ended.took()).expect("it was measured");
        assert_eq!(u128::from(result.took_ms), took.as_millis());
    }
}
