//! The daemon's streams, on their way into the dashboard. Each has a thread, which reads while the other side is silent.

use std::collections::HashSet;
use std::io::BufRead;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use corral_core::snapshot::Notice;
use serde_json::{Value, json};
use tauri::ipc::Channel;

/// A stream's number.
pub(crate) type StreamId = u32;

/// How long lines are collected. Each message is a script to the web view, which keeps what it has run for long.
const COLLECTED: Duration = Duration::from_millis(100);

/// Most lines of one message.
const MOST: usize = 512;

/// The streams that are open.
#[derive(Debug, Clone, Default)]
pub(crate) struct Streams(Arc<Mutex<Open>>);

#[derive(Debug, Default)]
struct Open {
    last: StreamId,
    ids: HashSet<StreamId>,
}

impl Streams {
    /// Sends server-sent events, after a notice of our own.
    pub(crate) fn events(
        &self,
        stream: impl BufRead + Send + 'static,
        notice: Option<Notice>,
        channel: Channel<Value>,
    ) -> StreamId {
        let notice = notice.map(|notice| json!({ "event": "notice", "data": notice }));
        let events = corral_client::raw(stream).filter_map(|(event, data)| {
            let data: Value = serde_json::from_str(&data).ok()?;
            Some(json!({ "event": event, "data": data }))
        });
        self.send(notice.into_iter().chain(events), channel)
    }

    /// Sends JSON values, one of each line, those of a moment together.
    pub(crate) fn lines(&self, stream: impl BufRead + Send + 'static, channel: Channel<Value>) -> StreamId {
        let (sender, values) = sync_channel(MOST);
        std::thread::spawn(move || {
            let lines = stream.lines().map_while(Result::ok);
            for value in lines.filter_map(|line| serde_json::from_str(&line).ok()) {
                if sender.send(value).is_err() {
                    break;
                }
            }
        });
        self.send(std::iter::from_fn(move || together(&values)), channel)
    }

    /// Ends a stream, with what comes next in it.
    pub(crate) fn stop(&self, id: StreamId) {
        self.open().ids.remove(&id);
    }

    /// Ends all of them.
    pub(crate) fn stop_all(&self) {
        self.open().ids.clear();
    }

    fn send(&self, messages: impl Iterator<Item = Value> + Send + 'static, channel: Channel<Value>) -> StreamId {
        let id = {
            let mut open = self.open();
            open.last = open.last.wrapping_add(1);
            let id = open.last;
            open.ids.insert(id);
            id
        };
        let streams = self.clone();
        std::thread::spawn(move || {
            for message in messages {
                if !streams.open().ids.contains(&id) || channel.send(message).is_err() {
                    break;
                }
            }
            streams.stop(id);
            // Where the window is gone, nobody has to be told.
            let _ = channel.send(json!({ "end": true }));
        });
        id
    }

    fn open(&self) -> std::sync::MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The values of one moment, once there is one; none where no more come.
fn together(values: &Receiver<Value>) -> Option<Value> {
    let mut all = vec![values.recv().ok()?];
    let end = Instant::now() + COLLECTED;
    while all.len() < MOST
        && let Ok(value) = values.recv_timeout(end.saturating_duration_since(Instant::now()))
    {
        all.push(value);
    }
    Some(Value::Array(all))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_at_once_is_sent_together_and_all_of_it() {
        let (sender, values) = sync_channel(2 * MOST);
        for number in 0..=MOST {
            sender.send(json!(number)).unwrap();
        }
        drop(sender);
        let first = together(&values).unwrap();
        assert_eq!((first[0].clone(), first.as_array().map(Vec::len)), (json!(0), Some(MOST)));
        assert_eq!(together(&values), Some(json!([MOST])));
        assert_eq!(together(&values), None);
    }
}
