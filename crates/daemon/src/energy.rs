//! Measures what requests take of the GPUs' energy, beside their way: they wait for nothing, and no driver is asked while
//! none of them runs.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use corral_core::ports::{EnergyCounter, Ledger};
use corral_core::usage::{EnergyShares, Millijoules, RequestRecord, Share, Ticket};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// How often the counter is read while requests run: some GPUs tell only what they draw at the moment.
const EVERY: Duration = Duration::from_secs(1);

/// How long the drivers are kept after the last request, for the next.
const LINGER: Duration = Duration::from_secs(5);

/// How long a driver is waited for; the requests that end meanwhile wait as long to be written down.
const PATIENCE: Duration = Duration::from_secs(3);

/// The same where Corral ends.
const LAST_PATIENCE: Duration = Duration::from_millis(500);

/// So many steps share a reading at most.
const AT_ONCE: usize = 1024;

/// A ledger whose records get their energy on their way to another ledger.
pub(crate) struct MeasuredLedger {
    ledger: Arc<dyn Ledger>,
    counter: Arc<dyn EnergyCounter>,
    next: AtomicU64,
    /// Energy has been measured since Corral runs.
    measures: AtomicBool,
    steps: mpsc::UnboundedSender<Step>,
}

/// What happens to a request.
enum Step {
    Sent(Ticket),
    Ended(Ticket, RequestRecord),
}

/// What measures, until it is closed.
pub(crate) struct Measuring {
    closing: CancellationToken,
    task: JoinHandle<()>,
}

impl MeasuredLedger {
    /// Begins; to be called in a runtime.
    pub(crate) fn start(ledger: Arc<dyn Ledger>, counter: Arc<dyn EnergyCounter>) -> (Self, Measuring) {
        // What waits in it is what comes within the patience with one reading.
        let (sender, steps) = mpsc::unbounded_channel();
        let closing = CancellationToken::new();
        let work = Work {
            steps,
            closing: closing.clone(),
            counter: counter.clone(),
            ledger: ledger.clone(),
            shares: EnergyShares::default(),
            open: HashMap::new(),
            holds: false,
            late: None,
            unsure: false,
        };
        let task = tokio::spawn(work.run());
        let (next, measures) = Default::default();
        (Self { ledger, counter, next, measures, steps: sender }, Measuring { closing, task })
    }
}

impl Measuring {
    /// Hands on what is on its way. What comes later is written down without its energy.
    pub(crate) async fn close(self) {
        self.closing.cancel();
        if let Err(error) = self.task.await {
            tracing::error!(%error, "what measures energy ended badly");
        }
    }
}

impl Ledger for MeasuredLedger {
    fn sent(&self) -> Option<Ticket> {
        if !self.counter.counts() {
            return None;
        }
        self.measures.store(true, Ordering::Relaxed);
        let ticket = Ticket(self.next.fetch_add(1, Ordering::Relaxed));
        self.steps.send(Step::Sent(ticket)).is_ok().then_some(ticket)
    }

    fn record(&self, mut request: RequestRecord) {
        // What came to no model took nothing; where nothing is measured, that is not known either.
        if request.model.is_none() && self.measures.load(Ordering::Relaxed) {
            request.energy = Some(Millijoules(0));
        }
        self.ledger.record(request);
    }

    fn record_sent(&self, ticket: Ticket, request: RequestRecord) {
        if let Err(mpsc::error::SendError(Step::Ended(_, request))) = self.steps.send(Step::Ended(ticket, request)) {
            self.ledger.record(request);
        }
    }
}

struct Work {
    steps: mpsc::UnboundedReceiver<Step>,
    closing: CancellationToken,
    counter: Arc<dyn EnergyCounter>,
    ledger: Arc<dyn Ledger>,
    shares: EnergyShares,
    open: HashMap<Ticket, Share>,
    /// Drivers may be held.
    holds: bool,
    /// A reading that was given up on and has not come back yet.
    late: Option<JoinHandle<Option<Millijoules>>>,
    /// What was taken since the reading before is not known, whatever the next one says.
    unsure: bool,
}

impl Work {
    async fn run(mut self) {
        let mut steps = Vec::new();
        loop {
            let pause = match (self.shares.running(), self.holds) {
                (0, true) => Some(LINGER),
                (0, false) => None,
                _ => Some(EVERY),
            };
            tokio::select! {
                biased;
                () = self.closing.cancelled(), if !self.steps.is_closed() => self.steps.close(),
                count = self.steps.recv_many(&mut steps, AT_ONCE) => match count {
                    0 => return,
                    _ => self.take(&mut steps).await,
                },
                () = after(pause) => self.pause().await,
            }
        }
    }

    /// One reading for all that has happened until now.
    async fn take(&mut self, steps: &mut Vec<Step>) {
        let taken = self.read().await;
        self.shares.take(taken);
        for step in steps.drain(..) {
            match step {
                Step::Sent(ticket) => {
                    self.open.insert(ticket, self.shares.begin());
                }
                Step::Ended(ticket, mut request) => {
                    request.energy = self.open.remove(&ticket).and_then(|share| self.shares.end(share));
                    self.ledger.record(request);
                }
            }
        }
    }

    async fn pause(&mut self) {
        if self.shares.running() > 0 {
            let taken = self.read().await;
            self.shares.take(taken);
            return;
        }
        self.holds = false;
        let counter = self.counter.clone();
        tokio::task::spawn_blocking(move || counter.rest());
    }

    async fn read(&mut self) -> Option<Millijoules> {
        if self.late.as_ref().is_some_and(|late| !late.is_finished()) {
            return None;
        }
        self.late = None;
        self.holds = true;
        let unsure = std::mem::take(&mut self.unsure);
        let counter = self.counter.clone();
        let mut reading = tokio::task::spawn_blocking(move || counter.read());
        let patience = if self.closing.is_cancelled() { LAST_PATIENCE } else { PATIENCE };
        match timeout(patience, &mut reading).await {
            Ok(Ok(taken)) => taken.filter(|_| !unsure),
            Ok(Err(error)) => {
                tracing::error!(%error, "the energy of requests could not be read");
                self.unsure = true;
                None
            }
            Err(_) => {
                tracing::warn!("energy: the driver has not answered for {patience:?}");
                (self.late, self.unsure) = (Some(reading), true);
                None
            }
        }
    }
}

/// After so long; never where there is no such time.
async fn after(pause: Option<Duration>) {
    match pause {
        Some(pause) => sleep(pause).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
