//! What goes on, as a test says: nothing.

use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use corral_core::live::{Live, LiveRequests, LiveSource};
use jiff::Timestamp;

/// Counts how often it is read.
#[derive(Debug, Default)]
pub struct FakeLive {
    reads: AtomicU64,
}

impl FakeLive {
    /// How often it was read.
    pub fn reads(&self) -> u64 {
        self.reads.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl LiveSource for FakeLive {
    async fn read(&self) -> Live {
        let running = self.reads.fetch_add(1, Ordering::SeqCst) + 1;
        Live {
            at: Timestamp::UNIX_EPOCH,
            requests: LiveRequests { running, waiting: 0 },
            tokens_per_second: Some(1.5),
            prompt_tokens_per_second: None,
            context: None,
            cached_share: None,
            sessions: Vec::new(),
        }
    }
}
