//! The ledger in this program: how long usage is kept, who counts it, and who hears when it cannot be written.

use std::sync::Arc;
use std::time::Duration;

use corral_api::Metrics;
use corral_api::dto::Requests;
use corral_core::Error;
use corral_core::command::ControllerHandle;
use corral_core::snapshot::NoticeLevel;
use corral_gateway::Gate;
use corral_store::{Hooks, RunningWriter, Trouble};
use jiff::Timestamp;
use tokio::runtime::Handle;

use crate::live::Recent;

/// How long the disk may take with the last requests when Corral ends.
const FLUSH_BOUND: Duration = Duration::from_secs(3);

/// Ties the writer of the ledger to the rest of the program.
pub(crate) fn hooks(controller: &ControllerHandle, metrics: Arc<Metrics>, recent: Arc<Recent>) -> Hooks {
    let (catalog, people, runtime) = (controller.clone(), controller.clone(), Handle::current());
    let sessions = controller.clone();
    Hooks {
        keep: Box::new(move || catalog.catalog().gateway.keep_usage),
        now: Box::new(Timestamp::now),
        tell: Box::new(move |trouble| {
            let (level, message, error) = notice(trouble);
            let people = people.clone();
            runtime.spawn(async move {
                if people.tell(level, message.clone(), error).await.is_err() {
                    tracing::warn!("{message}");
                }
            });
        }),
        on_batch: Box::new(move |records| {
            metrics.requests(records);
            recent.take(records, |session| sessions.snapshot().sessions.iter().any(|one| one.id == *session));
        }),
    }
}

/// The requests at the gateway, as they are counted.
pub(crate) fn waiting(gate: Gate) -> impl Fn() -> Requests + Send + Sync + 'static {
    move || {
        let (running, waiting) = gate.counts();
        Requests { running: running as u64, waiting: waiting as u64 }
    }
}

/// What people hear.
fn notice(trouble: Trouble) -> (NoticeLevel, String, Option<Error>) {
    match trouble {
        Trouble::Failing(error) => (NoticeLevel::Warning, error.to_string(), Some(error)),
        Trouble::Over { kept, lost: 0 } => {
            (NoticeLevel::Info, format!("usage is written again, with {kept} requests that were kept meanwhile"), None)
        }
        Trouble::Over { kept, lost } => {
            let message = format!(
                "usage is written again, with {kept} requests that were kept meanwhile; that of {lost} is lost"
            );
            (NoticeLevel::Warning, message, None)
        }
        Trouble::Lost(lost) => {
            let message = format!("the usage of {lost} requests is lost: they came faster than the disk takes them");
            (NoticeLevel::Warning, message, None)
        }
        Trouble::LostAtEnd(lost) => {
            (NoticeLevel::Warning, format!("the usage of {lost} requests is lost: it could not be written"), None)
        }
    }
}

/// Writes the last requests, and waits for the disk no longer than it deserves.
pub(crate) async fn flush(writer: RunningWriter) {
    let flushed = tokio::task::spawn_blocking(move || writer.flush_and_close());
    if tokio::time::timeout(FLUSH_BOUND, flushed).await.is_err() {
        tracing::warn!("the usage of the last requests may be lost: the disk did not take it in time");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_hear_how_much_was_kept_and_lost() {
        let said = |trouble| notice(trouble).1;
        assert_eq!(
            said(Trouble::Over { kept: 7, lost: 0 }),
            "usage is written again, with 7 requests that were kept meanwhile"
        );
        assert!(said(Trouble::Over { kept: 7, lost: 2 }).ends_with("; that of 2 is lost"));
    }
}
