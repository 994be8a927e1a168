//! The small ports: time, notices, and the journal that also counts.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use corral_api::Metrics;
use corral_core::ports::{Clock, Ended, FirstAnswer, Journal, Notifier};
use corral_core::snapshot::{Notice, NoticeLevel, OperationKind, OperationView, SessionView};
use corral_core::{ModelId, OperationId, Result, Secret};
use corral_store::Store;
use jiff::Timestamp;
use uuid::Uuid;

use crate::runtime_files::random_secret;

/// The machine's clock and randomness.
pub(crate) struct SystemClock {
    began: Instant,
}

impl SystemClock {
    pub(crate) fn new() -> Self {
        Self { began: Instant::now() }
    }
}

#[async_trait]
impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }

    fn uptime(&self) -> Duration {
        self.began.elapsed()
    }

    fn operation_id(&self) -> OperationId {
        OperationId(Uuid::now_v7())
    }

    fn secret(&self) -> Result<Secret> {
        random_secret()
    }
}

/// The store, with each ended operation counted.
pub(crate) struct CountedJournal {
    pub(crate) store: Arc<Store>,
    pub(crate) metrics: Arc<Metrics>,
}

impl Journal for CountedJournal {
    fn began(&self, operation: &OperationView) {
        self.store.began(operation);
    }

    fn ended(&self, ended: &Ended) {
        self.store.ended(ended);
        self.metrics.operation_ended(ended);
    }

    fn want(&self, model: Option<&ModelId>) {
        self.store.want(model);
    }

    fn wanted(&self) -> Option<ModelId> {
        self.store.wanted()
    }

    fn last_served(&self) -> Option<ModelId> {
        self.store.last_served()
    }

    fn first_answer(&self, operation: OperationId, answer: &FirstAnswer) {
        self.store.first_answer(operation, answer);
    }

    fn expected(&self, kind: OperationKind, to: &ModelId) -> Option<Duration> {
        self.store.expected(kind, to)
    }

    fn session(&self, session: &SessionView, ended: Option<Timestamp>) {
        self.store.session(session, ended);
    }
}

/// Notices as lines of the program's own log.
pub(crate) struct LoggedNotices;

impl Notifier for LoggedNotices {
    fn notify(&self, notice: &Notice) {
        match notice.level {
            NoticeLevel::Info => tracing::info!("{}", notice.message),
            NoticeLevel::Warning => tracing::warn!("{}", notice.message),
            NoticeLevel::Error => tracing::error!("{}", notice.message),
        }
    }
}
