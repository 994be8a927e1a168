//! The right to be with a server, and its end.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use corral_core::Error;
use tokio::sync::Notify;

use super::{Shared, Upstream};

/// The right to send one request to one server. Dropping it ends the request's stay there.
pub(crate) struct Pass {
    pub(super) shared: Arc<Shared>,
    pub(super) upstream: Arc<Upstream>,
    pub(super) cut: Arc<Cut>,
    pub(super) held: Duration,
}

/// Ends all requests that were let through between two cuts.
#[derive(Default)]
pub(super) struct Cut {
    why: OnceLock<Error>,
    told: Notify,
}

/// Whether a request was cut; outlives its pass.
#[derive(Clone)]
pub(crate) struct Fate(Arc<Cut>);

impl Cut {
    pub(super) fn tell(&self, why: &Error) {
        let _ = self.why.set(why.clone());
        self.told.notify_waiters();
    }
}

impl Fate {
    /// Whether it was.
    pub(crate) fn is_cut(&self) -> bool {
        self.0.why.get().is_some()
    }
}

impl Pass {
    /// Where the request goes.
    pub(crate) fn upstream(&self) -> &Arc<Upstream> {
        &self.upstream
    }

    /// How long the request waited.
    pub(crate) fn held(&self) -> Duration {
        self.held
    }

    /// Returns once the request is to be cut, and why. Can be dropped and called again; outlives the pass.
    pub(crate) fn cut(&self) -> impl Future<Output = Error> + Send + use<> {
        let cut = self.cut.clone();
        async move {
            loop {
                let told = cut.told.notified();
                if let Some(why) = cut.why.get() {
                    return why.clone();
                }
                told.await;
            }
        }
    }

    /// Why the request is to be cut, where it is.
    pub(crate) fn is_cut(&self) -> Option<Error> {
        self.cut.why.get().cloned()
    }

    /// What tells of a cut when the pass has been given back.
    pub(crate) fn fate(&self) -> Fate {
        Fate(self.cut.clone())
    }
}

impl fmt::Debug for Pass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pass").field("upstream", &self.upstream).field("held", &self.held).finish_non_exhaustive()
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        if state.load() != Some(self.upstream.load) {
            // Another server has been loaded since: nobody counts those of this one any more.
            return;
        }
        state.under_way -= 1;
        if state.under_way > 0 {
            return;
        }
        state.quiet_since = self.shared.clock.uptime();
        drop(state);
        self.shared.quiet.notify_waiters();
    }
}
