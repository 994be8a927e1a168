//! What is counted while requests are under way, for those who look at that moment.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use corral_core::SessionId;

/// Counters of the present. They cost a request two locks, and a piece of a stream one addition.
#[derive(Debug, Default)]
pub struct Tally {
    streamed: AtomicU64,
    ended: AtomicU64,
    sessions: Mutex<HashMap<SessionId, u64>>,
}

impl Tally {
    /// The tokens that streams have passed on since the start.
    pub fn streamed(&self) -> u64 {
        self.streamed.load(Ordering::Relaxed)
    }

    /// The answers of `llama-server` that have ended since the start.
    pub fn ended(&self) -> u64 {
        self.ended.load(Ordering::Relaxed)
    }

    /// How many requests of a session are under way or wait.
    pub fn running(&self, session: &SessionId) -> u64 {
        self.sessions().get(session).copied().unwrap_or_default()
    }

    pub(crate) fn stream(&self, tokens: u64) {
        self.streamed.fetch_add(tokens, Ordering::Relaxed);
    }

    pub(crate) fn end(&self) {
        self.ended.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a request of a session for as long as what is returned lives.
    pub(crate) fn begin(self: &Arc<Self>, session: SessionId) -> Running {
        *self.sessions().entry(session.clone()).or_default() += 1;
        Running { tally: self.clone(), session }
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<SessionId, u64>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request of a session that is under way or waits.
#[derive(Debug)]
pub(crate) struct Running {
    tally: Arc<Tally>,
    session: SessionId,
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut sessions = self.tally.sessions();
        if let Some(count) = sessions.get_mut(&self.session) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                sessions.remove(&self.session);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_of_a_session_are_counted_until_they_end() {
        let tally = Arc::new(Tally::default());
        let (a, b) = (SessionId::new("a").expect("an id"), SessionId::new("b").expect("an id"));
        let (one, two) = (tally.begin(a.clone()), tally.begin(a.clone()));
        assert_eq!((tally.running(&a), tally.running(&b)), (2, 0));
        drop(one);
        assert_eq!(tally.running(&a), 1);
        drop(two);
        assert!(tally.sessions().is_empty(), "nothing is kept of sessions that ask for nothing");
    }
}
