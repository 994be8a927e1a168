//! The small ports: time, notices, and the journal that also counts.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use corral_api::Metrics;
use corral_core::ports::{Clock, Ended, Journal, Notifier};
use corral_core::snapshot::{Notice, NoticeLevel, OperationView};
use corral_core::{ModelId, OperationId};
use corral_store::Store;
use jiff::Timestamp;
use uuid::Uuid;

/// The machine's clock and randomness.
pub(crate) struct SystemClock;

#[async_trait]
impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }

    fn operation_id(&self) -> OperationId {
        OperationId(Uuid::now_v7())
    }
}

/// The store, with each ended operation counted.
pub(crate) struct CountedJournal {
    pub(crate) store: Store,
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
