//! Measures one request from its arrival to its end, and writes that down however it ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use corral_core::ports::Ledger;
use corral_core::usage::{InferenceRoute, RequestEnd, RequestRecord, Ticket, Tokens};
use corral_core::{Code, Error, ModelId};
use jiff::Timestamp;

use crate::tally::Running;

/// The status that stands for a client that went away before it got one; nginx's number for it.
const CLIENT_GONE: u16 = 499;

/// The measure of one request. Dropping it writes the record.
pub(crate) struct Meter {
    ledger: Arc<dyn Ledger>,
    began: Instant,
    record: Option<RequestRecord>,
    /// While its energy is measured.
    ticket: Option<Ticket>,
    /// Counted among those of its session meanwhile.
    running: Option<Running>,
    /// The client was told 200 before there was an answer.
    told_early: Arc<AtomicBool>,
}

impl Meter {
    pub(crate) fn new(ledger: Arc<dyn Ledger>, at: Timestamp, route: InferenceRoute) -> Self {
        let record = RequestRecord {
            at,
            session: None,
            model: None,
            route,
            status: CLIENT_GONE,
            end: RequestEnd::Abandoned,
            tokens: Tokens::default(),
            first_token: None,
            duration: Duration::ZERO,
            held: Duration::ZERO,
            overhead: Duration::ZERO,
            energy: None,
        };
        Self {
            ledger,
            began: Instant::now(),
            record: Some(record),
            ticket: None,
            running: None,
            told_early: Arc::default(),
        }
    }

    /// Counts it among those of its session until it ends.
    pub(crate) fn runs(&mut self, running: Running) {
        self.running = Some(running);
    }

    /// It goes to this model, for the first time or again.
    pub(crate) fn sent(&mut self, model: &ModelId) {
        self.ticket = self.ticket.or_else(|| self.ledger.sent());
        if let Some(running) = &self.running {
            running.answered_by(model);
        }
        self.note(|record| record.model = Some(model.clone()));
    }

    /// How long `llama-server` has had it.
    pub(crate) fn since_sent(&self) -> Duration {
        self.elapsed().saturating_sub(self.record.as_ref().map_or(Duration::ZERO, |record| record.held))
    }

    /// To be set where the client is told 200 before there is an answer.
    pub(crate) fn told_early(&self) -> Arc<AtomicBool> {
        self.told_early.clone()
    }

    /// Notes something.
    pub(crate) fn note(&mut self, note: impl FnOnce(&mut RequestRecord)) {
        if let Some(record) = &mut self.record {
            note(record);
        }
    }

    /// Notes that the request fails with this error.
    pub(crate) fn fail(&mut self, error: &Error) {
        self.note(|record| {
            record.status = error.code().http_status();
            record.end = match error.code() {
                Code::Cut | Code::ShuttingDown => RequestEnd::Cut,
                Code::ServerExited => RequestEnd::Broken,
                _ => RequestEnd::Refused,
            };
        });
    }

    /// Notes that content begins to come.
    pub(crate) fn first_token(&mut self) {
        let now = self.elapsed();
        self.note(|record| {
            record.first_token.get_or_insert(now);
        });
    }

    pub(crate) fn has_first_token(&self) -> bool {
        self.record.as_ref().is_some_and(|record| record.first_token.is_some())
    }

    /// What is known so far.
    pub(crate) fn record(&self) -> Option<&RequestRecord> {
        self.record.as_ref()
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        if let Some(mut record) = self.record.take() {
            record.duration = self.began.elapsed();
            if self.told_early.load(Ordering::Relaxed) {
                record.status = 200;
            }
            match self.ticket {
                Some(ticket) => self.ledger.record_sent(ticket, record),
                None => self.ledger.record(record),
            }
        }
    }
}
