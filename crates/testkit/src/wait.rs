//! Waiting for a condition, in place of sleeping and hoping.

use std::future::Future;
use std::panic::Location;
use std::time::{Duration, Instant};

/// How often the condition is looked at.
const INTERVAL: Duration = Duration::from_millis(5);

/// Waits until `condition` holds, and panics, naming the caller's line, when it does not within `timeout`.
///
/// It reads the real clock, so it needs a runtime whose time is not paused.
///
/// ```
/// # use std::time::Duration;
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let mut asked = 0;
/// corral_testkit::eventually(Duration::from_secs(1), || {
///     asked += 1;
///     let enough = asked > 2;
///     async move { enough }
/// })
/// .await;
/// # });
/// ```
#[track_caller]
pub fn eventually<F, C>(timeout: Duration, mut condition: F) -> impl Future<Output = ()>
where
    F: FnMut() -> C,
    C: Future<Output = bool>,
{
    let caller = Location::caller();
    async move {
        let deadline = Instant::now() + timeout;
        // The condition itself may hang as well: it gets what is left of the time.
        while !tokio::time::timeout_at(deadline.into(), condition()).await.unwrap_or(false) {
            assert!(Instant::now() < deadline, "{caller}: the condition did not hold within {timeout:?}");
            tokio::time::sleep(INTERVAL).await;
        }
    }
}
