//! The ledger: records of requests are queued in memory and written by one thread.
//!
//! Nobody who serves ever waits for the disk. What the disk does not take is kept, up to [`CAPACITY`] records, and tried
//! again.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use corral_core::ports::Ledger;
use corral_core::usage::RequestRecord;
use corral_core::{Code, Error, Result};
use jiff::Timestamp;

use crate::batch::Writer;

/// So many records are kept in memory at most; what comes beyond that is lost, and counted.
pub const CAPACITY: usize = 65_536;

/// How long records are collected after the first one. A kill loses what was collected and not yet written.
const COLLECT: Duration = Duration::from_millis(500);

/// So many records are not collected any longer.
const ENOUGH: usize = 2_048;

/// So many records go into one transaction, so that the journal does not wait long for its turn.
const AT_ONCE: usize = 2_048;

/// How long a disk that does not take records is left in peace.
const RETRY: Duration = Duration::from_secs(3);

/// How often what is too old is looked for.
const PRUNE: Duration = Duration::from_hours(24);

/// Makes the ledger of a file that a [`Store`](crate::Store) has opened: the queue that takes records from now on, and
/// the writer that is yet to be started.
pub fn ledger(path: &Path) -> (Arc<Queue>, LedgerWriter) {
    let queue = Arc::new(Queue::default());
    (queue.clone(), LedgerWriter { queue, path: path.to_owned() })
}

/// Takes records; see [`ledger`].
#[derive(Debug, Default)]
pub struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    records: Vec<RequestRecord>,
    /// Records that the writer has taken and not yet written.
    kept: usize,
    /// Records that found no room, since people were last told.
    lost: u64,
    /// The writer sleeps until somebody wakes it.
    asleep: bool,
    closed: bool,
}

impl Ledger for Queue {
    fn record(&self, request: RequestRecord) {
        let mut state = self.state();
        if state.closed || state.kept + state.records.len() >= CAPACITY {
            state.lost += 1;
            return;
        }
        state.records.push(request);
        let wake = state.asleep || state.records.len() == ENOUGH;
        drop(state);
        if wake {
            self.changed.notify_one();
        }
    }
}

impl Queue {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self) {
        self.state().closed = true;
        self.changed.notify_one();
    }

    /// Sleeps until there is something to write, without waking up in between, and a little longer for more of it.
    /// Whether this was the last.
    fn collect(&self) -> bool {
        let mut state = self.state();
        state.asleep = true;
        let mut state = self
            .changed
            .wait_while(state, |state| state.records.is_empty() && !state.closed)
            .unwrap_or_else(PoisonError::into_inner);
        state.asleep = false;
        self.wait(state, COLLECT, |state| state.records.len() >= ENOUGH)
    }

    /// Sleeps for a while, or until `enough`. Whether this was the last.
    fn pause(&self) -> bool {
        self.wait(self.state(), RETRY, |_| false)
    }

    fn wait(&self, state: MutexGuard<'_, State>, time: Duration, enough: impl Fn(&State) -> bool) -> bool {
        let waited = self.changed.wait_timeout_while(state, time, |state| !state.closed && !enough(state));
        waited.unwrap_or_else(PoisonError::into_inner).0.closed
    }

    /// Takes what is there, and leaves room that is there already: new room for each batch would be made by those who
    /// serve, and given back by another thread, which leaves holes in their memory.
    fn take(&self, batch: &mut Vec<RequestRecord>) {
        let mut state = self.state();
        state.kept += state.records.len();
        std::mem::swap(&mut state.records, batch);
    }

    fn written(&self, records: usize) {
        self.state().kept -= records;
    }

    fn take_lost(&self) -> u64 {
        std::mem::take(&mut self.state().lost)
    }
}

/// What people should hear of the ledger.
#[derive(Debug, Clone)]
pub enum Trouble {
    /// Records cannot be written; they are kept in memory from now on. Said once.
    Failing(Error),
    /// They can be written again.
    Over {
        /// Records that were kept meanwhile, and are written now.
        kept: usize,
        /// Records that found no room.
        lost: u64,
    },
    /// Records came faster than they could be written.
    Lost(u64),
    /// The end came while nothing could be written.
    LostAtEnd(u64),
}

/// Sees records.
pub type OnBatch = Box<dyn Fn(&[RequestRecord]) + Send>;

/// What the writer needs of others.
pub struct Hooks {
    /// How long records are kept, as it is configured now.
    pub keep: Box<dyn Fn() -> Duration + Send>,
    /// The time of day.
    pub now: Box<dyn Fn() -> Timestamp + Send>,
    /// Tells people, on the writer's thread.
    pub tell: Box<dyn Fn(Trouble) + Send>,
    /// Sees each record once, on the writer's thread, soon after it came and whether or not it can be written.
    pub on_batch: OnBatch,
}

/// The writing side of the ledger, not yet started; see [`ledger`].
#[derive(Debug)]
pub struct LedgerWriter {
    queue: Arc<Queue>,
    path: PathBuf,
}

impl LedgerWriter {
    /// Starts the thread. It first removes what is too old.
    pub fn start(self, hooks: Hooks) -> Result<RunningWriter> {
        let Self { queue, path } = self;
        let (pending, batch) = (VecDeque::new(), Vec::new());
        let work = Work { queue: queue.clone(), writer: Writer::new(path), hooks, pending, batch, failing: None };
        let thread = std::thread::Builder::new()
            .name("ledger".to_owned())
            .spawn(move || work.run())
            .map_err(|error| Error::new(Code::Io, "cannot start the thread that writes usage").because(error))?;
        Ok(RunningWriter { queue, thread: Some(thread) })
    }
}

/// The thread that writes. Dropping it writes what is left, too.
#[derive(Debug)]
pub struct RunningWriter {
    queue: Arc<Queue>,
    thread: Option<JoinHandle<()>>,
}

impl RunningWriter {
    /// Writes everything that was recorded so far and ends the thread. Blocks until the disk has taken it, or refused.
    pub fn flush_and_close(self) {
        drop(self);
    }
}

impl Drop for RunningWriter {
    fn drop(&mut self) {
        self.queue.close();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that writes usage ended badly");
        }
    }
}

/// What the thread works with.
struct Work {
    queue: Arc<Queue>,
    writer: Writer,
    hooks: Hooks,
    /// Taken, and not yet written.
    pending: VecDeque<RequestRecord>,
    /// Room for those that are taken next; empty in between.
    batch: Vec<RequestRecord>,
    /// Since when nothing could be written: how many records have come since.
    failing: Option<usize>,
}

impl Work {
    fn run(mut self) {
        let mut pruned: Option<Instant> = None;
        loop {
            if pruned.is_none_or(|at| at.elapsed() >= PRUNE) {
                self.prune();
                pruned = Some(Instant::now());
            }
            let closed = if self.pending.is_empty() { self.queue.collect() } else { self.queue.pause() };
            self.take();
            self.write();
            if closed {
                // Whatever came between the two steps above.
                self.take();
                self.write();
                let lost = self.pending.len() as u64 + self.queue.take_lost();
                if lost > 0 {
                    (self.hooks.tell)(Trouble::LostAtEnd(lost));
                }
                return;
            }
        }
    }

    fn take(&mut self) {
        self.queue.take(&mut self.batch);
        if self.batch.is_empty() {
            return;
        }
        if let Some(kept) = &mut self.failing {
            *kept += self.batch.len();
        }
        (self.hooks.on_batch)(&self.batch);
        self.pending.extend(self.batch.drain(..));
        self.batch.shrink_to(2 * ENOUGH);
    }

    fn write(&mut self) {
        while !self.pending.is_empty() {
            let count = self.pending.len().min(AT_ONCE);
            let batch = &self.pending.make_contiguous()[..count];
            if let Err(error) = self.writer.write(batch) {
                self.failed(error);
                return;
            }
            self.pending.drain(..count);
            self.queue.written(count);
        }
        // What an outage took is given back.
        self.pending.shrink_to(AT_ONCE);
        let lost = self.queue.take_lost();
        match self.failing.take() {
            Some(kept) => (self.hooks.tell)(Trouble::Over { kept, lost }),
            None if lost > 0 => (self.hooks.tell)(Trouble::Lost(lost)),
            None => {}
        }
    }

    fn failed(&mut self, error: rusqlite::Error) {
        if self.failing.is_some() {
            tracing::debug!(%error, "usage still cannot be written");
            return;
        }
        self.failing = Some(self.pending.len());
        let error = Error::new(Code::Io, format!("usage cannot be written to {}", self.writer.path().display()))
            .because(error)
            .hint(format!("make room on the disk; Corral keeps the last {CAPACITY} requests until then"));
        (self.hooks.tell)(Trouble::Failing(error));
    }

    fn prune(&mut self) {
        let Ok(oldest) = (self.hooks.now)().checked_sub((self.hooks.keep)()) else { return };
        // A full disk is told of when something is to be written.
        if let Err(error) = self.writer.prune(oldest) {
            tracing::warn!(%error, "usage that is too old could not be removed");
        }
    }
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
pub(crate) mod tests;
