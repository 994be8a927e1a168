//! `GET /logs`: `llama-server`'s log, one JSON record per line.

use std::convert::Infallible;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use corral_core::log::{LogLevel, LogRecord};
use futures_util::stream::unfold;
use http::Uri;
use http::header::CONTENT_TYPE;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio_util::sync::CancellationToken;

use crate::failure::Failure;
use crate::query::{flag, parameters};
use crate::quote::quoted;
use crate::router::Shared;

/// How many lines back to begin unless the caller says.
const TAIL: usize = 200;

/// At most so many records go into one piece of a stream.
const BATCH: usize = 256;

/// `GET /logs`
pub(crate) async fn logs(State(shared): State<Shared>, uri: Uri) -> Result<Response, Failure> {
    let asked = Asked::parse(uri.query().unwrap_or_default())?;
    let body = if asked.follow {
        let (tail, live) = shared.logs.tail_and_follow(asked.tail);
        let shutdown = shared.shutdown.clone();
        let first = Some(lines(&tail)).filter(|lines| !lines.is_empty());
        Body::from_stream(unfold(Feed { first, live, skipped: 0, shutdown }, Feed::next))
    } else {
        Body::from(lines(&shared.logs.tail(asked.tail)))
    };
    Ok(([(CONTENT_TYPE, "application/x-ndjson")], body).into_response())
}

/// What stands behind the question mark.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    tail: usize,
    follow: bool,
}

impl Asked {
    fn parse(query: &str) -> Result<Self, Failure> {
        let mut asked = Self { tail: TAIL, follow: false };
        for (name, value) in parameters("/logs", query, &["tail", "follow"])? {
            let value = value.as_str();
            match name.as_str() {
                "tail" => {
                    asked.tail = value.parse().map_err(|_| {
                        Failure::invalid(
                            format!("`tail` is {}, not a number of lines", quoted(value)),
                            "for instance tail=200",
                        )
                    })?;
                }
                _ => asked.follow = flag("follow", value)?,
            }
        }
        Ok(asked)
    }
}

fn lines<'a>(records: impl IntoIterator<Item = &'a LogRecord>) -> Bytes {
    let mut text = Vec::new();
    for record in records {
        // A record is plain data and always serialises.
        if serde_json::to_writer(&mut text, record).is_ok() {
            text.push(b'\n');
        }
    }
    text.into()
}

struct Feed {
    /// The tail, sent before anything else.
    first: Option<Bytes>,
    live: broadcast::Receiver<LogRecord>,
    /// Records that were dropped because the reader was too slow, and that it has not been told of.
    skipped: u64,
    shutdown: CancellationToken,
}

impl Feed {
    async fn next(mut self) -> Option<(Result<Bytes, Infallible>, Self)> {
        if let Some(tail) = self.first.take() {
            return Some((Ok(tail), self));
        }
        let mut batch = Vec::new();
        while batch.is_empty() {
            let received = tokio::select! {
                biased;
                () = self.shutdown.cancelled() => return None,
                received = self.live.recv() => received,
            };
            match received {
                Ok(record) => self.take(record, &mut batch),
                Err(RecvError::Lagged(missed)) => self.skipped += missed,
                Err(RecvError::Closed) => return None,
            }
        }
        while batch.len() < BATCH {
            match self.live.try_recv() {
                Ok(record) => self.take(record, &mut batch),
                Err(TryRecvError::Lagged(missed)) => self.skipped += missed,
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            }
        }
        Some((Ok(lines(&batch)), self))
    }

    /// Adds a record, and before it what is missing in front of it.
    fn take(&mut self, record: LogRecord, batch: &mut Vec<LogRecord>) {
        let skipped = std::mem::take(&mut self.skipped);
        if skipped > 0 {
            let msg = format!("{skipped} lines were skipped: the reader was too slow");
            batch.push(LogRecord { level: LogLevel::Warn, msg, ..record.clone() });
        }
        batch.push(record);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_query_is_read_strictly() {
        let parse = |query| Asked::parse(query).ok();
        assert_eq!(parse(""), Some(Asked { tail: 200, follow: false }));
        assert_eq!(parse("tail=5&follow=1"), Some(Asked { tail: 5, follow: true }));
        assert_eq!(parse("follow=true&tail=0"), Some(Asked { tail: 0, follow: true }));
        assert_eq!(parse("follow=0"), Some(Asked { tail: 200, follow: false }));
        for bad in ["tail", "tail=-1", "tail=x", "tail=99999999999999999999999", "follow=2", "lines=5", "tial=5"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
