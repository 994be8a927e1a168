//! GPUs, as a test says.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use corral_core::gpu::{GpuHistory, GpuReading, GpuSource, GpuWatch, Look, RecentReadings};
use jiff::Timestamp;
use tokio::sync::watch;

/// Tells what it is told, and counts how often it is asked. Whoever listens is told once. It remembers what it told.
#[derive(Debug)]
pub struct FakeGpu {
    reading: Mutex<Arc<GpuReading>>,
    readings: watch::Sender<Option<Arc<GpuReading>>>,
    recent: Mutex<RecentReadings>,
    asked: AtomicU64,
}

impl Default for FakeGpu {
    fn default() -> Self {
        let reason = Some("there is no GPU in a test".to_owned());
        let none = GpuReading { at: Timestamp::UNIX_EPOCH, source: GpuSource::None, reason, devices: Vec::new() };
        Self {
            reading: Mutex::new(Arc::new(none)),
            readings: watch::Sender::new(None),
            recent: Mutex::default(),
            asked: AtomicU64::default(),
        }
    }
}

impl FakeGpu {
    /// What is read from now on; whoever listens hears of it.
    pub fn tell(&self, reading: GpuReading) {
        self.recent.lock().unwrap().take(&reading);
        let reading = Arc::new(reading);
        *self.reading.lock().unwrap() = reading.clone();
        self.readings.send_replace(Some(reading));
    }

    /// How often it was asked for a reading.
    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::SeqCst)
    }

    /// How many listen.
    pub fn listeners(&self) -> usize {
        self.readings.receiver_count()
    }
}

#[async_trait]
impl GpuWatch for FakeGpu {
    async fn read(&self, _: Look) -> Arc<GpuReading> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.reading.lock().unwrap().clone()
    }

    fn listen(&self) -> watch::Receiver<Option<Arc<GpuReading>>> {
        let mut receiver = self.readings.subscribe();
        receiver.mark_changed();
        receiver
    }

    async fn history(&self) -> GpuHistory {
        let now = self.reading.lock().unwrap().at;
        self.recent.lock().unwrap().history(now)
    }
}
