//! Who may send a request to the model at this moment, and who waits for it.
//!
//! One lock, held for the time of a few assignments. What is admitted is counted under it, so that "no request is under
//! way" cannot come true beside a request that has just been let through.

mod pass;
mod upstream;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use corral_core::ports::{Clock, Route, Traffic};
use corral_core::{Code, Error, ModelId, Result, Secret};
use tokio::sync::{Notify, oneshot, watch};

use self::pass::Cut;
pub(crate) use self::pass::{Fate, Pass};
pub(crate) use self::upstream::Upstream;
use crate::tally::Tally;

/// The door between the requests of clients and the model. Cheap to clone; all clones are the same door.
#[derive(Clone)]
pub struct Gate {
    shared: Arc<Shared>,
}

/// What a request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ask {
    /// The model of the catalog that the name means; none means whatever is loaded.
    pub(crate) model: Option<ModelId>,
    /// The request carries the token of a session.
    pub(crate) session: bool,
}

/// How far one request may wait, all its waits together: where its server ends before it says anything, it waits again.
#[derive(Debug)]
pub(crate) struct Limits {
    /// How many wait at most.
    queue: usize,
    /// How long it waits at most.
    hold_timeout: Duration,
    /// How long it has waited, in nanoseconds.
    held: AtomicU64,
}

impl Limits {
    pub(crate) fn new(queue: usize, hold_timeout: Duration) -> Self {
        Self { queue, hold_timeout, held: AtomicU64::new(0) }
    }

    fn held(&self) -> Duration {
        Duration::from_nanos(self.held.load(Ordering::Relaxed))
    }

    fn note(&self, pass: &Pass) {
        let held = u64::try_from(pass.held().as_nanos()).unwrap_or(u64::MAX);
        self.held.fetch_add(held, Ordering::Relaxed);
    }
}

/// What the scheduler sees of the gate.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Look {
    /// The model that requests go to, and since when, by [`Clock::uptime`].
    pub(crate) open: Option<(ModelId, Duration)>,
    /// How many requests are under way at the server that was opened last.
    pub(crate) under_way: usize,
    /// Since when none is: the end of the last one or the opening.
    pub(crate) quiet_since: Duration,
    /// Who waits, the oldest first.
    pub(crate) waiting: Vec<Waiting>,
}

/// A request that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Waiting {
    /// Its number; a later request has a higher one.
    pub(crate) ticket: u64,
    /// What it asks for.
    pub(crate) ask: Ask,
}

/// The server that requests go to.
#[derive(Debug, Clone)]
pub struct OpenServer {
    /// Differs whenever a model was loaded anew.
    pub load: u64,
    /// Where it answers, for instance `http://127.0.0.1:41234`.
    pub url: String,
    /// Its key.
    pub key: Secret,
}

struct Shared {
    clock: Arc<dyn Clock>,
    tally: Arc<Tally>,
    state: Mutex<State>,
    /// The last request under way has ended, or those under way are not waited for any more.
    quiet: Notify,
    /// A request goes to the server while no other is there.
    began: Notify,
    /// Changes with each cut.
    cuts: watch::Sender<()>,
    /// Something has happened that the scheduler has to look at.
    wake: Notify,
}

#[derive(Default)]
struct State {
    open: Option<Arc<Upstream>>,
    /// The server that was open last, open or not.
    last: Option<Arc<Upstream>>,
    generation: u64,
    /// How many requests are under way at the server that was open last. What a client does not read of the answer of
    /// an earlier one is in nobody's way.
    under_way: usize,
    quiet_since: Duration,
    /// What cuts the requests that are let through from now on.
    cut: Arc<Cut>,
    tickets: u64,
    queue: BTreeMap<u64, Waiter>,
    /// Nobody switches for requests any more, for this reason.
    ended: Option<Error>,
}

struct Waiter {
    ask: Ask,
    since: Duration,
    answer: oneshot::Sender<Result<Pass>>,
}

/// A place in the queue; dropping it leaves the queue.
struct Place {
    shared: Arc<Shared>,
    ticket: u64,
}

impl Gate {
    /// A gate that is closed.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let (state, quiet, wake, cuts) = (Mutex::default(), Notify::new(), Notify::new(), watch::Sender::new(()));
        let (tally, began) = (Arc::new(Tally::new(clock.clone())), Notify::new());
        Self { shared: Arc::new(Shared { clock, tally, state, quiet, began, cuts, wake }) }
    }

    /// How many requests are under way at the server that was opened last, and how many wait.
    pub fn counts(&self) -> (usize, usize) {
        let state = self.shared.state();
        (state.under_way, state.queue.len())
    }

    /// What is counted while requests are under way.
    pub fn tally(&self) -> &Arc<Tally> {
        &self.shared.tally
    }

    /// Waits until a request goes to the server while no other is there; one that did so since the last call counts. For
    /// one who waits.
    pub async fn began(&self) {
        self.shared.began.notified().await;
    }

    /// The server that requests go to; none while they wait.
    pub fn server(&self) -> Option<OpenServer> {
        let state = self.shared.state();
        let open = state.open.as_ref()?;
        Some(OpenServer { load: open.load, url: format!("http://{}", open.authority), key: open.key.clone() })
    }

    /// Lets a request through that need not wait.
    pub(crate) fn try_admit(&self, ask: &Ask) -> Option<Pass> {
        let mut state = self.shared.state();
        let upstream = state.open.as_ref().filter(|upstream| upstream.serves(ask)).cloned()?;
        Some(self.shared.pass(&mut state, upstream, Duration::ZERO))
    }

    /// Lets a request through, or lets it wait until it may go. Whoever drops the future leaves the queue.
    ///
    /// [`Code::QueueFull`], [`Code::HoldTimeout`]; [`Code::SwitchNotAllowed`] where it may not switch to the model it
    /// asks for; what went wrong with loading the model it waits for; [`Code::ShuttingDown`].
    pub(crate) async fn admit(&self, ask: &Ask, limits: &Limits) -> Result<Pass> {
        if let Some(pass) = self.try_admit(ask) {
            return Ok(pass);
        }
        let since = self.shared.clock.uptime();
        let (place, mut answer) = {
            let mut state = self.shared.state();
            // It may have been opened since.
            if let Some(upstream) = state.open.as_ref().filter(|upstream| upstream.serves(ask)).cloned() {
                return Ok(self.shared.pass(&mut state, upstream, Duration::ZERO));
            }
            if let Some(ended) = &state.ended {
                return Err(ended.clone());
            }
            if state.queue.len() >= limits.queue {
                return Err(queue_full(state.queue.len()));
            }
            state.tickets += 1;
            let (sender, answer) = oneshot::channel();
            let ticket = state.tickets;
            state.queue.insert(ticket, Waiter { ask: ask.clone(), since, answer: sender });
            (Place { shared: self.shared.clone(), ticket }, answer)
        };
        self.shared.wake.notify_one();
        tokio::select! {
            biased;
            answer = &mut answer => return answered(answer, limits),
            () = self.shared.clock.sleep(limits.hold_timeout.saturating_sub(limits.held())) => {}
        }
        if place.leave() {
            let held = limits.held() + self.shared.clock.uptime().saturating_sub(since);
            return Err(self.held_too_long(ask, held));
        }
        // It was answered in the same moment.
        answered(answer.await, limits)
    }

    /// Changes with each cut, once all that it ends can be seen to be cut.
    pub(crate) fn cuts(&self) -> watch::Receiver<()> {
        self.shared.cuts.subscribe()
    }

    /// Waits until there may be something to decide.
    pub(crate) async fn stirred(&self) {
        self.shared.wake.notified().await;
    }

    /// What there is to decide about.
    pub(crate) fn look(&self) -> Look {
        let state = self.shared.state();
        let open = state.open.as_ref().map(|upstream| (upstream.model.clone(), upstream.opened_at));
        let opened_at = open.as_ref().map_or(Duration::ZERO, |(_, since)| *since);
        let waiting = state.queue.iter().map(|(ticket, waiter)| Waiting { ticket: *ticket, ask: waiter.ask.clone() });
        Look {
            under_way: state.under_way,
            quiet_since: state.quiet_since.max(opened_at),
            waiting: waiting.collect(),
            open,
        }
    }

    /// Answers requests that wait with errors.
    pub(crate) fn refuse(&self, refusals: Vec<(u64, Error)>) {
        let refused: Vec<_> = {
            let mut state = self.shared.state();
            refusals.into_iter().filter_map(|(ticket, why)| Some((state.queue.remove(&ticket)?, why))).collect()
        };
        for (waiter, why) in refused {
            let _ = waiter.answer.send(Err(why));
        }
    }

    /// Nobody switches for requests any more: those that wait, and those that would have to, get this error.
    pub(crate) fn end(&self, why: &Error) {
        let waiting = {
            let mut state = self.shared.state();
            state.ended = Some(why.clone());
            std::mem::take(&mut state.queue)
        };
        for waiter in waiting.into_values() {
            let _ = waiter.answer.send(Err(why.clone()));
        }
    }

    fn held_too_long(&self, ask: &Ask, held: Duration) -> Error {
        let seconds = held.as_secs_f64();
        let what = ask.model.as_ref().map_or_else(|| "a model".to_owned(), |model| format!("`{model}`"));
        let open = self.shared.state().open.as_ref().map(|upstream| upstream.model.clone());
        let meanwhile = open.map_or_else(String::new, |model| format!("; `{model}` is loaded"));
        Error::new(Code::HoldTimeout, format!("the request has waited {seconds:.0} s for {what}{meanwhile}"))
            .hint("`corral status` shows what goes on; `hold_timeout` in models.toml is how long requests wait")
    }
}

#[async_trait]
impl Traffic for Gate {
    fn open(&self, route: Route) {
        let now = self.shared.clock.uptime();
        let released: Vec<_> = {
            let mut state = self.shared.state();
            state.generation += 1;
            let upstream = Arc::new(Upstream::of(route, state.generation, now, state.last.as_deref()));
            state.open = Some(upstream.clone());
            let last = state.load();
            state.last = Some(upstream.clone());
            if last != Some(upstream.load) {
                state.under_way = 0;
                self.shared.tally.forget();
                self.shared.quiet.notify_waiters();
            }
            let released: Vec<_> = state.queue.extract_if(.., |_, waiter| upstream.serves(&waiter.ask)).collect();
            let passes = released.into_iter().map(|(_, waiter)| {
                let held = now.saturating_sub(waiter.since);
                (waiter.answer, self.shared.pass(&mut state, upstream.clone(), held))
            });
            passes.collect()
        };
        for (answer, pass) in released {
            // Whoever has gone meanwhile gives the pass back by this.
            let _ = answer.send(Ok(pass));
        }
        self.shared.wake.notify_one();
    }

    fn close(&self) {
        self.shared.state().open = None;
    }

    async fn drained(&self) {
        let load = self.shared.state().load();
        loop {
            // Listening begins before looking, so that no end is missed.
            let quiet = self.shared.quiet.notified();
            if self.shared.state().is_quiet(load) {
                return;
            }
            quiet.await;
        }
    }

    fn cut(&self, why: &Error) {
        let cut = std::mem::take(&mut self.shared.state().cut);
        cut.tell(why);
        self.shared.cuts.send_replace(());
    }
}

impl State {
    /// Which run of a server was open last.
    fn load(&self) -> Option<u64> {
        self.last.as_ref().map(|last| last.load)
    }

    /// Nothing is under way at this run of a server that anybody waits for.
    fn is_quiet(&self, load: Option<u64>) -> bool {
        self.under_way == 0 || self.load() != load
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pass(self: &Arc<Self>, state: &mut State, upstream: Arc<Upstream>, held: Duration) -> Pass {
        state.under_way += 1;
        if state.under_way == 1 {
            self.began.notify_one();
        }
        Pass { shared: self.clone(), upstream, cut: state.cut.clone(), held }
    }
}

impl Place {
    /// Leaves the queue; false where the request was answered already.
    fn leave(&self) -> bool {
        let left = self.shared.state().queue.remove(&self.ticket);
        left.is_some()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.leave();
    }
}

/// What a request that waited is told.
fn answered(answer: Result<Result<Pass>, oneshot::error::RecvError>, limits: &Limits) -> Result<Pass> {
    answer.unwrap_or_else(|_| Err(shutting_down())).inspect(|pass| limits.note(pass))
}

fn queue_full(waiting: usize) -> Error {
    Error::new(Code::QueueFull, format!("{waiting} requests wait for a model already, and no more may"))
        .hint("ask again in a moment; `queue` in models.toml is how many may wait")
}

pub(crate) fn shutting_down() -> Error {
    Error::new(Code::ShuttingDown, "Corral is shutting down").hint("ask again once it runs: `corral serve`")
}

#[cfg(test)]
mod tests;
