//! Waits for a server to have loaded its model, in whatever runtime it is.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// How a wait ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Loaded<T> {
    /// It answers.
    Ready,
    /// It ended, or nobody can tell any more.
    Ended(T),
    /// Nobody wants it any more.
    Cancelled,
    /// It took too long.
    TooSlow,
}

/// Waits for the first of these. Where several are true, an end counts before anything else: a server that answered and
/// then ended is no server.
pub(crate) async fn wait<T>(
    ended: impl Future<Output = T>,
    ready: impl Future<Output = ()>,
    progress: impl Future<Output = ()>,
    timeout: Duration,
    cancelled: &CancellationToken,
) -> Loaded<T> {
    let reporting = async {
        progress.await;
        std::future::pending().await
    };
    tokio::select! {
        biased;
        end = ended => Loaded::Ended(end),
        () = cancelled.cancelled() => Loaded::Cancelled,
        () = ready => Loaded::Ready,
        () = tokio::time::sleep(timeout) => Loaded::TooSlow,
        never = reporting => never,
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    const LONG: Duration = Duration::from_hours(1);

    #[tokio::test]
    async fn of_an_end_and_an_answer_the_end_counts() {
        let wanted = CancellationToken::new();
        for _ in 0..100 {
            assert_eq!(wait(ready(7), ready(()), ready(()), Duration::ZERO, &wanted).await, Loaded::Ended(7));
            assert_eq!(wait(pending::<()>(), ready(()), pending(), Duration::ZERO, &wanted).await, Loaded::Ready);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn patience_and_interest_end() {
        let cancelled = CancellationToken::new();
        assert_eq!(wait(pending::<()>(), pending(), ready(()), LONG, &cancelled).await, Loaded::TooSlow);
        cancelled.cancel();
        assert_eq!(wait(pending::<()>(), ready(()), pending(), LONG, &cancelled).await, Loaded::Cancelled);
        assert_eq!(wait(ready(7), ready(()), pending(), LONG, &cancelled).await, Loaded::Ended(7));
    }
}
