//! What was written down about requests and operations, as a test says.

use std::sync::Mutex;

use corral_core::Result;
use corral_core::history::PastOperation;
use corral_core::ports::UsageSource;
use corral_core::usage::{UsageBy, UsageRow};
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// What was asked for: by what, since when and until when.
pub type Asked = (UsageBy, Option<Timestamp>, Option<Timestamp>);

/// Answers each question with the same rows, and notes what was asked.
#[derive(Debug, Default)]
pub struct FakeUsage {
    /// The sums.
    pub rows: Mutex<Vec<UsageRow>>,
    /// The operations, newest first.
    pub operations: Mutex<Vec<PastOperation>>,
    /// What was asked for last.
    pub asked: Mutex<Option<Asked>>,
}

impl UsageSource for FakeUsage {
    fn usage(
        &self,
        by: UsageBy,
        since: Option<Timestamp>,
        until: Option<Timestamp>,
        _: &TimeZone,
    ) -> Result<Vec<UsageRow>> {
        *self.asked.lock().expect("not poisoned") = Some((by, since, until));
        Ok(self.rows.lock().expect("not poisoned").clone())
    }

    fn history(&self, count: u32) -> Result<Vec<PastOperation>> {
        Ok(self.operations.lock().expect("not poisoned").iter().take(count as usize).cloned().collect())
    }
}
