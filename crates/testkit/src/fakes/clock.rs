//! The time, with ids that count up. The time of day can be set, and it is counted who sleeps.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use corral_core::ports::Clock;
use corral_core::{OperationId, Result, Secret};
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

/// The machine's time, with ids that count up.
#[derive(Debug)]
pub struct CountingClock {
    next: AtomicU64,
    began: tokio::time::Instant,
    hours_ahead: AtomicI64,
    asleep: AtomicUsize,
    fell_asleep: AtomicUsize,
    broken: AtomicBool,
}

impl Default for CountingClock {
    fn default() -> Self {
        Self {
            next: AtomicU64::default(),
            began: tokio::time::Instant::now(),
            hours_ahead: AtomicI64::default(),
            asleep: AtomicUsize::default(),
            fell_asleep: AtomicUsize::default(),
            broken: AtomicBool::default(),
        }
    }
}

impl CountingClock {
    /// Sets the time of day to so many hours ahead of the machine's.
    pub fn set_ahead(&self, hours: i64) {
        self.hours_ahead.store(hours, Ordering::SeqCst);
    }

    /// Lets whoever asks it from now on how long the program runs panic.
    pub fn break_down(&self) {
        self.broken.store(true, Ordering::SeqCst);
    }

    /// How many sleep, and how many have begun to since this was last asked.
    pub fn sleepers(&self) -> (usize, usize) {
        (self.asleep.load(Ordering::SeqCst), self.fell_asleep.swap(0, Ordering::SeqCst))
    }
}

/// Counts a sleeper for as long as it sleeps; it may be given up at any time.
struct Asleep<'a>(&'a AtomicUsize);

impl Drop for Asleep<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl Clock for CountingClock {
    fn now(&self) -> Timestamp {
        Timestamp::now() + SignedDuration::from_hours(self.hours_ahead.load(Ordering::SeqCst))
    }

    async fn sleep(&self, duration: Duration) {
        self.fell_asleep.fetch_add(1, Ordering::SeqCst);
        self.asleep.fetch_add(1, Ordering::SeqCst);
        let _asleep = Asleep(&self.asleep);
        tokio::time::sleep(duration).await;
    }

    fn uptime(&self) -> Duration {
        assert!(!self.broken.load(Ordering::SeqCst), "this clock is broken");
        self.began.elapsed()
    }

    fn operation_id(&self) -> OperationId {
        OperationId(Uuid::from_u128(u128::from(self.next.fetch_add(1, Ordering::Relaxed)) + 1))
    }

    fn secret(&self) -> Result<Secret> {
        Ok(Secret::new(format!("secret-{}", self.next.fetch_add(1, Ordering::Relaxed))))
    }
}
