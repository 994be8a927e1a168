//! `llama-server`'s log as records, bounded in memory.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

use crate::id::ModelId;

/// How grave a log record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// For developers of `llama-server`.
    Debug,
    /// Business as usual.
    Info,
    /// Worth a look.
    Warn,
    /// Something failed.
    Error,
}

/// One line of `llama-server`'s log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LogRecord {
    /// When it was written, or read where the server does not say.
    pub ts: Timestamp,
    /// How grave.
    pub level: LogLevel,
    /// The model that was loaded.
    pub model: ModelId,
    /// The text, one line.
    pub msg: String,
}

/// The last records, at most `max_records` of them and `max_bytes` of text, and a live stream of new ones.
#[derive(Debug)]
pub struct LogBuffer {
    inner: Mutex<Ring>,
    live: broadcast::Sender<LogRecord>,
}

#[derive(Debug)]
struct Ring {
    records: VecDeque<LogRecord>,
    bytes: usize,
    max_records: usize,
    max_bytes: usize,
}

impl LogBuffer {
    /// An empty buffer with its two bounds.
    pub fn new(max_records: usize, max_bytes: usize) -> Self {
        let ring = Ring { records: VecDeque::new(), bytes: 0, max_records, max_bytes };
        Self { inner: Mutex::new(ring), live: broadcast::channel(1024).0 }
    }

    /// Adds a record and drops the oldest beyond the bounds.
    pub fn push(&self, record: LogRecord) {
        let mut ring = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        ring.bytes += record.msg.len();
        ring.records.push_back(record.clone());
        while ring.records.len() > ring.max_records || ring.bytes > ring.max_bytes {
            let Some(oldest) = ring.records.pop_front() else { break };
            ring.bytes -= oldest.msg.len();
        }
        // Sent under the lock, so that `tail_and_follow` neither misses nor repeats a record.
        let _ = self.live.send(record);
    }

    /// The last `count` records, oldest first.
    pub fn tail(&self, count: usize) -> Vec<LogRecord> {
        self.tail_and_follow(count).0
    }

    /// The last `count` records, and a receiver of those that come after them.
    pub fn tail_and_follow(&self, count: usize) -> (Vec<LogRecord>, broadcast::Receiver<LogRecord>) {
        let ring = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let skip = ring.records.len().saturating_sub(count);
        (ring.records.iter().skip(skip).cloned().collect(), self.live.subscribe())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(msg: &str) -> LogRecord {
        let model = ModelId::new("m").expect("a valid id");
        LogRecord { ts: Timestamp::UNIX_EPOCH, level: LogLevel::Info, model, msg: msg.to_owned() }
    }

    fn texts(records: &[LogRecord]) -> Vec<&str> {
        records.iter().map(|record| record.msg.as_str()).collect()
    }

    #[test]
    fn both_bounds_drop_the_oldest() {
        let by_count = LogBuffer::new(2, 1000);
        let by_bytes = LogBuffer::new(1000, 5);
        for text in ["aa", "bb", "cc"] {
            by_count.push(record(text));
            by_bytes.push(record(text));
        }
        assert_eq!(texts(&by_count.tail(10)), ["bb", "cc"]);
        assert_eq!(texts(&by_bytes.tail(10)), ["bb", "cc"]);
        assert_eq!(texts(&by_count.tail(1)), ["cc"]);
    }

    #[test]
    fn following_begins_where_the_tail_ends() {
        let buffer = LogBuffer::new(10, 1000);
        buffer.push(record("old"));
        let (tail, mut live) = buffer.tail_and_follow(10);
        buffer.push(record("new"));
        assert_eq!(texts(&tail), ["old"]);
        assert_eq!(live.try_recv().expect("a record").msg, "new");
    }
}
