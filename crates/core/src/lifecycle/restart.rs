//! When a server that ended by itself is started again, and when not.

use std::time::Duration;

use crate::error::Code;

/// How long an end counts.
pub const WINDOW: Duration = Duration::from_mins(10);

/// How long to wait after the first end within [`WINDOW`], the second, and so on; after one more, it stays ended.
const PAUSES: [Duration; 4] =
    [Duration::from_millis(100), Duration::from_secs(1), Duration::from_secs(4), Duration::from_secs(15)];

/// The pauses that are left after so many ends within [`WINDOW`] before the present one.
pub fn pauses(before: usize) -> Vec<Duration> {
    PAUSES.iter().skip(before).copied().collect()
}

/// Whether trying again may help.
pub(super) fn may_pass(code: Code) -> bool {
    matches!(
        code,
        Code::LoadFailed
            | Code::LoadTimeout
            | Code::OutOfMemory
            | Code::ServerExited
            | Code::ServerKilled
            | Code::EngineFailed
    )
}

/// What people are told when it stays ended.
pub(super) fn given_up() -> String {
    let (times, minutes) = (PAUSES.len() + 1, WINDOW.as_secs() / 60);
    format!("that was the {times}th time in {minutes} minutes, so it is not started again")
}
