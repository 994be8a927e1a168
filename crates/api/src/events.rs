//! `GET /events`: what changes, as server-sent events.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use corral_core::live::{Live, Speed};
use corral_core::snapshot::{Notice, Snapshot};
use futures_util::Stream;
use futures_util::stream::unfold;
use http::Uri;
use serde::Serialize;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;

use crate::failure::Failure;
use crate::live::Latest;
use crate::query::{flag, parameters};
use crate::router::Shared;

/// How long the stream may be silent: shorter than any proxy's patience, and often enough to notice who is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// `GET /events`
pub(crate) async fn events(
    State(shared): State<Shared>,
    uri: Uri,
) -> Result<Sse<impl Stream<Item = Result<Event, axum::Error>> + use<>>, Failure> {
    let mut wanted = false;
    for (_, value) in parameters("/events", uri.query().unwrap_or_default(), &["live"])? {
        wanted = flag("live", &value)?;
    }
    let live = wanted.then(|| shared.feed.listen());
    let mut snapshots = shared.controller.watch_snapshot();
    // The first event is the present value, not the next change.
    snapshots.mark_changed();
    let mut speeds = shared.live.speed();
    if speeds.borrow().is_some() {
        speeds.mark_changed();
    }
    let feed =
        Feed { snapshots, notices: shared.controller.notices(), live, speeds, shutdown: shared.shutdown.clone() };
    Ok(Sse::new(unfold(feed, Feed::next)).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

struct Feed {
    snapshots: watch::Receiver<Arc<Snapshot>>,
    notices: broadcast::Receiver<Notice>,
    /// Where it is wanted.
    live: Option<watch::Receiver<Latest>>,
    speeds: watch::Receiver<Option<Speed>>,
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
                Ok(()) = self.speeds.changed() => {
                    let speed = *self.speeds.borrow_and_update();
                    if let Some(speed) = speed {
                        return Some((event("speed", &speed), self));
                    }
                }
                live = latest(&mut self.live) => return Some((event("live", &live), self)),
            }
        }
    }
}

/// The next reading; never where none is wanted.
async fn latest(live: &mut Option<watch::Receiver<Latest>>) -> Arc<Live> {
    if let Some(live) = live {
        while live.changed().await.is_ok() {
            if let Some(live) = live.borrow_and_update().clone() {
                return live;
            }
        }
    }
    std::future::pending().await
}

fn event(name: &str, data: &impl Serialize) -> Result<Event, axum::Error> {
    Event::default().event(name).json_data(data)
}
