//! The daemon's streams, on their way into the dashboard. Each has a thread, which reads while the other side is silent.

use std::collections::HashSet;
use std::io::BufRead;
use std::sync::{Arc, Mutex, PoisonError};

use corral_core::snapshot::Notice;
use serde_json::{Value, json};
use tauri::ipc::Channel;

/// A stream's number.
pub(crate) type StreamId = u32;

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

    /// Sends JSON values, one of each line.
    pub(crate) fn lines(&self, stream: impl BufRead + Send + 'static, channel: Channel<Value>) -> StreamId {
        let lines = stream.lines().map_while(Result::ok);
        self.send(lines.filter_map(|line| serde_json::from_str(&line).ok()), channel)
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
