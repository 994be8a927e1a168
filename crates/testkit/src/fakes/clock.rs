//! The time, with ids that count up.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use corral_core::ports::Clock;
use corral_core::{OperationId, Result, Secret};
use jiff::Timestamp;
use uuid::Uuid;

/// The machine's time, with ids that count up.
#[derive(Debug)]
pub struct CountingClock {
    next: AtomicU64,
    began: tokio::time::Instant,
}

impl Default for CountingClock {
    fn default() -> Self {
        Self { next: AtomicU64::default(), began: tokio::time::Instant::now() }
    }
}

#[async_trait]
impl Clock for CountingClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }

    fn uptime(&self) -> Duration {
        self.began.elapsed()
    }

    fn operation_id(&self) -> OperationId {
        OperationId(Uuid::from_u128(u128::from(self.next.fetch_add(1, Ordering::Relaxed)) + 1))
    }

    fn secret(&self) -> Result<Secret> {
        Ok(Secret::new(format!("secret-{}", self.next.fetch_add(1, Ordering::Relaxed))))
    }
}
