//! What is counted while requests are under way, for those who look at that moment.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use corral_core::ports::Clock;
use corral_core::{ModelId, SessionId};

use crate::pace::Pace;

/// Counters of the present. They cost a request two locks, and a piece of a stream one look at the clock.
pub struct Tally {
    clock: Arc<dyn Clock>,
    pace: Pace,
    /// The speed of the last answer, as the bits of a number; 0 where there was none.
    last: AtomicU64,
    ended: AtomicU64,
    sessions: Mutex<HashMap<SessionId, Busy>>,
}

/// The requests of a session that are under way or wait.
#[derive(Debug, Default)]
struct Busy {
    count: u64,
    /// The model that answers the one that came to it last.
    model: Option<ModelId>,
}

impl Tally {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        let (pace, last, ended, sessions) = Default::default();
        Self { clock, pace, last, ended, sessions }
    }

    /// The tokens generated per second, over the last two seconds. Those of an answer in one piece are known when it has
    /// ended, and count for the time in which they were generated.
    pub fn tokens_per_second(&self) -> f64 {
        self.pace.per_second(self.clock.uptime())
    }

    /// The tokens per second of the last answer of the server that was opened last, from its first token to its last.
    pub fn last_answer(&self) -> Option<f64> {
        let last = f64::from_bits(self.last.load(Ordering::Relaxed));
        (last > 0.0).then_some(last)
    }

    /// The answers of `llama-server` that have ended since the start.
    pub fn ended(&self) -> u64 {
        self.ended.load(Ordering::Relaxed)
    }

    /// How many requests of a session are under way or wait.
    pub fn running(&self, session: &SessionId) -> u64 {
        self.sessions().get(session).map_or(0, |busy| busy.count)
    }

    /// The model that answers a session; none where it asks for nothing, or still waits.
    pub fn model(&self, session: &SessionId) -> Option<ModelId> {
        self.sessions().get(session).and_then(|busy| busy.model.clone())
    }

    /// A stream has passed so many tokens on.
    pub(crate) fn stream(&self, tokens: u64) {
        self.pace.now(self.clock.uptime(), tokens);
    }

    /// An answer in one piece has so many tokens, which were generated in this time.
    pub(crate) fn whole(&self, tokens: u64, took: Duration) {
        self.pace.since(self.clock.uptime(), took, tokens);
    }

    /// An answer has ended. `speed` is how many tokens per second it had, where it had enough to say.
    pub(crate) fn end(&self, speed: Option<f64>) {
        self.ended.fetch_add(1, Ordering::Relaxed);
        if let Some(speed) = speed {
            self.last.store(speed.to_bits(), Ordering::Relaxed);
        }
    }

    /// Another server serves: the answers of the one before say nothing of it.
    pub(crate) fn forget(&self) {
        self.last.store(0, Ordering::Relaxed);
    }

    /// Counts a request of a session for as long as what is returned lives.
    pub(crate) fn begin(self: &Arc<Self>, session: SessionId) -> Running {
        self.sessions().entry(session.clone()).or_default().count += 1;
        Running { tally: self.clone(), session }
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<SessionId, Busy>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request of a session that is under way or waits.
pub(crate) struct Running {
    tally: Arc<Tally>,
    session: SessionId,
}

impl Running {
    /// This model answers it.
    pub(crate) fn answered_by(&self, model: &ModelId) {
        if let Some(busy) = self.tally.sessions().get_mut(&self.session)
            && busy.model.as_ref() != Some(model)
        {
            busy.model = Some(model.clone());
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut sessions = self.tally.sessions();
        if let Some(busy) = sessions.get_mut(&self.session) {
            busy.count = busy.count.saturating_sub(1);
            if busy.count == 0 {
                sessions.remove(&self.session);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use corral_testkit::fakes::CountingClock;

    use super::*;

    #[tokio::test]
    async fn requests_of_a_session_are_counted_until_they_end() {
        let tally = Arc::new(Tally::new(Arc::new(CountingClock::default())));
        let (a, b) = (SessionId::new("a").expect("an id"), SessionId::new("b").expect("an id"));
        let (one, two) = (tally.begin(a.clone()), tally.begin(a.clone()));
        assert_eq!((tally.running(&a), tally.running(&b), tally.model(&a)), (2, 0, None));
        let model = ModelId::new("m").expect("an id");
        one.answered_by(&model);
        drop(one);
        assert_eq!((tally.running(&a), tally.model(&a)), (1, Some(model)));
        drop(two);
        assert!(tally.sessions().is_empty(), "nothing is kept of sessions that ask for nothing");
    }

    #[tokio::test]
    async fn the_speed_of_the_last_answer_that_tells_one_is_kept_until_another_server_serves() {
        let tally = Tally::new(Arc::new(CountingClock::default()));
        assert_eq!((tally.last_answer(), tally.ended()), (None, 0));
        tally.end(Some(41.5));
        tally.end(None);
        assert_eq!((tally.last_answer(), tally.ended()), (Some(41.5), 2));
        tally.forget();
        assert_eq!((tally.last_answer(), tally.ended()), (None, 2));
    }
}
