//! The daemon's streams, on their way into the dashboard. Each has a thread, which reads while the other side is silent.

use std::collections::{HashMap, HashSet};
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
#[derive(Clone, Default)]
pub(crate) struct Streams(Arc<Mutex<Open>>);

#[derive(Default)]
struct Open {
    last: StreamId,
    ids: HashSet<StreamId>,
    /// Where those of them go that are events.
    events: HashMap<StreamId, Channel<Value>>,
}

impl Streams {
    /// Sends server-sent events, after a notice of our own.
    pub(crate) fn events(
        &self,
        stream: impl BufRead + Send + 'static,
        notice: Option<Notice>,
        channel: Channel<Value>,
    ) -> StreamId {
        let notice = notice.map(|notice| told(&notice));
        let events = corral_client::raw(stream).filter_map(|(event, data)| {
            let data: Value = serde_json::from_str(&data).ok()?;
            Some(json!({ "event": event, "data": data }))
        });
        self.send(notice.into_iter().chain(events), channel.clone(), Some(channel))
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
        self.send(std::iter::from_fn(move || together(&values)), channel, None)
    }

    /// Says something among the events; whether there are any that it could be said among.
    pub(crate) fn tell(&self, notice: &Notice) -> bool {
        self.open().events.values().any(|events| events.send(told(notice)).is_ok())
    }

    /// Ends a stream, with what comes next in it.
    pub(crate) fn stop(&self, id: StreamId) {
        let mut open = self.open();
        open.ids.remove(&id);
        open.events.remove(&id);
    }

    /// Ends all of them.
    pub(crate) fn stop_all(&self) {
        let mut open = self.open();
        open.ids.clear();
        open.events.clear();
    }

    fn send(
        &self,
        messages: impl Iterator<Item = Value> + Send + 'static,
        channel: Channel<Value>,
        events: Option<Channel<Value>>,
    ) -> StreamId {
        let id = {
            let mut open = self.open();
            open.last = open.last.wrapping_add(1);
            let id = open.last;
            open.ids.insert(id);
            open.events.extend(events.map(|events| (id, events)));
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

/// A notice as an event.
fn told(notice: &Notice) -> Value {
    json!({ "event": "notice", "data": notice })
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
    fn what_is_said_comes_among_the_events_that_are_open_and_not_among_lines() {
        let (sender, messages) = sync_channel(8);
        let channel = || {
            let sender = sender.clone();
            Channel::new(move |body| {
                let tauri::ipc::InvokeResponseBody::Json(text) = body else { panic!("it is no JSON") };
                sender.send(serde_json::from_str::<Value>(&text).unwrap()).unwrap();
                Ok(())
            })
        };
        let notice = crate::app::notice(corral_core::snapshot::NoticeLevel::Warning, "there is no panel".to_owned());
        let streams = Streams::default();
        let (silent, _open) = std::io::pipe().unwrap();
        streams.lines(std::io::BufReader::new(silent), channel());
        assert!(!streams.tell(&notice), "there are no events");
        let (silent, open) = std::io::pipe().unwrap();
        streams.events(std::io::BufReader::new(silent), None, channel());
        assert!(streams.tell(&notice));
        assert_eq!(messages.recv().unwrap()["data"]["message"], "there is no panel");
        drop(open);
        assert_eq!(messages.recv().unwrap(), json!({ "end": true }));
        assert!(!streams.tell(&notice), "they have ended");
    }

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
