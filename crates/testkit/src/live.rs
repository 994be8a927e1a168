//! What goes on, as a test says: nothing.

use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use corral_core::live::{Live, LiveRequests, LiveSource, Speed};
use jiff::Timestamp;
use tokio::sync::watch;

/// Counts how often it is read.
#[derive(Debug, Default)]
pub struct FakeLive {
    reads: AtomicU64,
    speed: watch::Sender<Option<Speed>>,
}

impl FakeLive {
    /// How often it was read.
    pub fn reads(&self) -> u64 {
        self.reads.load(Ordering::SeqCst)
    }

    /// Tells that the model is so fast, while requests run.
    pub fn is_fast(&self, tokens_per_second: f64) {
        self.speed.send_replace(Some(Speed { tokens_per_second, running: true }));
    }
}

#[async_trait]
impl LiveSource for FakeLive {
    async fn read(&self) -> Live {
        let running = self.reads.fetch_add(1, Ordering::SeqCst) + 1;
        Live {
            at: Timestamp::UNIX_EPOCH,
            requests: LiveRequests { running, waiting: 0 },
            tokens_per_second: 1.5,
            prompt_tokens_per_second: None,
            context: None,
            cached_share: None,
            sessions: Vec::new(),
        }
    }

    fn speed(&self) -> watch::Receiver<Option<Speed>> {
        self.speed.subscribe()
    }
}
