//! Waiting for a condition, without a runtime.

use std::time::{Duration, Instant};

/// How often a condition is looked at.
pub const INTERVAL: Duration = Duration::from_millis(10);

/// Waits until `look` finds something and returns it with the time that took; panics, naming the caller's line and
/// `what` was waited for, when it does not within `bound`.
#[track_caller]
pub fn until<T>(bound: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < bound, "{what}: not within {bound:?}");
        // Nobody unparks this thread: it is a pause between two looks at the condition.
        std::thread::park_timeout(INTERVAL);
    }
}
