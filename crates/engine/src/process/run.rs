//! One start of a server, attended from its process to its end.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::Child;
use std::sync::atomic::{AtomicBool, Ordering};

use corral_core::ports::Endpoint;
use corral_core::{Error, ModelId};
use rustix::process::Signal;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;

use super::follow::{Follower, LastLines};
use super::identity::Identity;
use crate::errors;
use crate::exit::{self, During, Exit};

/// A process that was seen running.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) identity: Identity,
    pub(super) endpoint: Endpoint,
    pub(super) last_lines: LastLines,
    pub(super) loading: AtomicBool,
    ended: watch::Sender<Option<Error>>,
}

impl Run {
    pub(super) fn new(identity: Identity, endpoint: Endpoint, last_lines: LastLines, loading: bool) -> Self {
        let loading = AtomicBool::new(loading);
        Self { identity, endpoint, last_lines, loading, ended: watch::Sender::new(None) }
    }

    /// Why it ended; none while it runs.
    pub(super) fn ended(&self) -> Option<Error> {
        self.ended.borrow().clone()
    }

    /// Waits for the end.
    pub(super) async fn until_ended(&self) -> Error {
        let mut ended = self.ended.subscribe();
        let cause = ended.wait_for(Option::is_some).await.ok().and_then(|cause| cause.clone());
        cause.unwrap_or_else(|| errors::defect("nobody attends llama-server any more"))
    }

    /// Says that it has ended. Whoever waits for that is woken.
    pub(super) fn end(&self, cause: Error) {
        self.ended.send_replace(Some(cause));
    }
}

/// A descriptor that tasks can wait for.
pub(super) fn waitable(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // `new` is deprecated because of types that may change their descriptor. An `OwnedFd` cannot.
    #[expect(deprecated, reason = "its successor is an unsafe function")]
    AsyncFd::new(descriptor)
}

/// Follows the log until the process ends, and returns how it did. `child` is the process where this is its parent.
pub(super) async fn attend(
    run: &Run,
    model: &ModelId,
    handle: AsyncFd<OwnedFd>,
    child: Option<Child>,
    mut follower: Follower,
) -> Error {
    follower.read().await;
    loop {
        tokio::select! {
            biased;
            // A handle on a process is readable once that has ended.
            _ = handle.readable() => break,
            () = follower.changed() => follower.read().await,
        }
    }
    let exit = match child {
        Some(child) => {
            // Before the process is reaped, its number cannot be that of another group.
            run.identity.signal(Signal::KILL);
            reap(child)
        }
        None => Exit::default(),
    };
    let last_lines = follower.last_lines();
    follower.finish().await;
    let during = if run.loading.load(Ordering::Relaxed) { During::Load } else { During::Service };
    exit::cause(exit, during, model, &last_lines.get())
}

/// Takes the exit status of a child that has ended.
fn reap(mut child: Child) -> Exit {
    match child.wait() {
        Ok(status) => {
            Exit { code: status.code().map(i64::from), signal: status.signal().map(i64::from), oom_killed: false }
        }
        Err(error) => {
            tracing::warn!(%error, "cannot take the exit status of llama-server");
            Exit::default()
        }
    }
}
