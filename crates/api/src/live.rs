//! `GET /live`, and the same for those who listen to events: read once a second for all of them together.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use corral_core::live::{Live, LiveSource};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use crate::router::Shared;

/// How often it is read while somebody listens.
const EVERY: Duration = Duration::from_secs(1);

/// `GET /live`
pub(crate) async fn live(State(shared): State<Shared>) -> Json<Live> {
    Json(shared.live.read().await)
}

/// The latest reading; none before the first.
pub(crate) type Latest = Option<Arc<Live>>;

/// What those who listen share. Nothing is read while there are none.
#[derive(Debug)]
pub(crate) struct Feed {
    source: Arc<dyn LiveSource>,
    running: Arc<Mutex<Weak<watch::Sender<Latest>>>>,
}

impl Feed {
    pub(crate) fn new(source: Arc<dyn LiveSource>) -> Self {
        Self { source, running: Arc::default() }
    }

    /// Readings from now on, until this is dropped.
    pub(crate) fn listen(&self) -> watch::Receiver<Latest> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = running.upgrade() {
            let mut receiver = sender.subscribe();
            // Whoever comes later begins with what is known.
            receiver.mark_changed();
            return receiver;
        }
        let sender = Arc::new(watch::Sender::new(None));
        *running = Arc::downgrade(&sender);
        let receiver = sender.subscribe();
        tokio::spawn(read_on(self.source.clone(), sender, self.running.clone()));
        receiver
    }
}

/// Reads until nobody listens any more.
async fn read_on(
    source: Arc<dyn LiveSource>,
    sender: Arc<watch::Sender<Latest>>,
    running: Arc<Mutex<Weak<watch::Sender<Latest>>>>,
) {
    let mut ticks = tokio::time::interval(EVERY);
    // Readings that are late are not made up for.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = sender.closed() => {
                let mut running = running.lock().unwrap_or_else(PoisonError::into_inner);
                // Somebody may have come in the same moment.
                if sender.is_closed() {
                    *running = Weak::new();
                    return;
                }
            }
            _ = ticks.tick() => {
                let live = source.read().await;
                sender.send_replace(Some(Arc::new(live)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use corral_testkit::FakeLive;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_is_read_once_a_second_for_all_who_listen_and_not_otherwise() {
        let source = Arc::new(FakeLive::default());
        let feed = Feed::new(source.clone());
        tokio::time::sleep(Duration::from_mins(1)).await;
        assert_eq!(source.reads(), 0);
        for _ in 0..2 {
            let before = source.reads();
            let mut all = [feed.listen(), feed.listen(), feed.listen()];
            for one in &mut all {
                one.wait_for(Option::is_some).await.expect("it runs");
            }
            tokio::time::sleep(Duration::from_millis(9_500)).await;
            assert_eq!(source.reads() - before, 10);
            drop(all);
            tokio::time::sleep(Duration::from_mins(1)).await;
            assert!(source.reads() - before <= 11, "it ends with the last who listens: {}", source.reads());
        }
    }
}
