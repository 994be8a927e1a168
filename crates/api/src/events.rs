//! `GET /events`: what changes, as server-sent events.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use corral_core::snapshot::{Notice, Snapshot};
use futures_util::Stream;
use futures_util::stream::unfold;
use serde::Serialize;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;

use crate::router::Shared;

/// How long the stream may be silent: shorter than any proxy's patience, and often enough to notice who is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// `GET /events`
pub(crate) async fn events(
    State(shared): State<Shared>,
) -> Sse<impl Stream<Item = Result<Event, axum::Error>> + use<>> {
    let mut snapshots = shared.controller.watch_snapshot();
    // The first event is the present value, not the next change.
    snapshots.mark_changed();
    let feed = Feed { snapshots, notices: shared.controller.notices(), shutdown: shared.shutdown.clone() };
    Sse::new(unfold(feed, Feed::next)).keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
}

struct Feed {
    snapshots: watch::Receiver<Arc<Snapshot>>,
    notices: broadcast::Receiver<Notice>,
    shutdown: CancellationToken,
}

impl Feed {
    async fn next(mut self) -> Option<(Result<Event, axum::Error>, Self)> {
        loop {
            tokio::select! {
                biased;
                () = self.shutdown.cancelled() => return None,
                changed = self.snapshots.changed() => {
                    changed.ok()?;
                    let snapshot = self.snapshots.borrow_and_update().clone();
                    return Some((event("snapshot", &snapshot), self));
                }
                notice = self.notices.recv() => match notice {
                    Ok(notice) => return Some((event("notice", &notice), self)),
                    Err(RecvError::Lagged(missed)) => tracing::debug!(missed, "a slow reader of events missed notices"),
                    Err(RecvError::Closed) => return None,
                },
            }
        }
    }
}

fn event(name: &str, data: &impl Serialize) -> Result<Event, axum::Error> {
    Event::default().event(name).json_data(data)
}
