//! `GET /events`: what changes, as server-sent events.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use corral_core::gpu::GpuReading;
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
use crate::query::{flag, parameters};
use crate::router::Shared;

/// How long the stream may be silent: shorter than any proxy's patience, and often enough to notice who is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// `GET /events`
pub(crate) async fn events(
    State(shared): State<Shared>,
    uri: Uri,
) -> Result<Sse<impl Stream<Item = Result<Event, axum::Error>> + use<>>, Failure> {
    let (mut wants_live, mut wants_gpu) = (false, false);
    for (name, value) in parameters("/events", uri.query().unwrap_or_default(), &["live", "gpu"])? {
        let wants = if name == "live" { &mut wants_live } else { &mut wants_gpu };
        *wants = flag(&name, &value)?;
    }
    let live = wants_live.then(|| shared.feed.listen());
    let gpu = wants_gpu.then(|| shared.gpu.listen());
    let mut snapshots = shared.controller.watch_snapshot();
    // The first event is the present value, not the next change.
    snapshots.mark_changed();
    let mut speeds = shared.live.speed();
    if speeds.borrow().is_some() {
        speeds.mark_changed();
    }
    let notices = shared.controller.notices();
    let feed = Feed { snapshots, notices, speeds, live, gpu, shutdown: shared.shutdown.clone() };
    Ok(Sse::new(unfold(feed, Feed::next)).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

/// Readings as they come; none before the first.
type Readings<T> = watch::Receiver<Option<Arc<T>>>;

struct Feed {
    snapshots: watch::Receiver<Arc<Snapshot>>,
    notices: broadcast::Receiver<Notice>,
    /// Where it is wanted.
    live: Option<Readings<Live>>,
    /// Where it is wanted.
    gpu: Option<Readings<GpuReading>>,
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
                gpu = latest(&mut self.gpu) => return Some((event("gpu", &gpu), self)),
            }
        }
    }
}

/// The next reading; never where none is wanted.
async fn latest<T>(readings: &mut Option<Readings<T>>) -> Arc<T> {
    if let Some(readings) = readings {
        while readings.changed().await.is_ok() {
            if let Some(reading) = readings.borrow_and_update().clone() {
                return reading;
            }
        }
    }
    std::future::pending().await
}

fn event(name: &str, data: &impl Serialize) -> Result<Event, axum::Error> {
    Event::default().event(name).json_data(data)
}
