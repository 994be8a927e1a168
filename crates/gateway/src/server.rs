//! Accepting connections.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use corral_core::command::ControllerHandle;
use corral_core::ports::{Clock, Ledger};
use corral_core::{Code, Error, Result};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;

use crate::schedule::schedule;
use crate::service::Shared;
use crate::traffic::Gate;
use crate::worker::Workers;

/// So many connections at once; more wait to be accepted.
const CONNECTIONS: usize = 8192;

/// How long requests in progress may take to end at shutdown; those of a model that is stopped were cut before.
pub(crate) const GRACE: Duration = Duration::from_secs(2);

/// How long clients may take to read why their answer ends.
pub(crate) const LAST_WORDS: Duration = Duration::from_millis(500);

/// What the gateway needs of the rest of Corral.
pub struct GatewayPorts {
    /// Where switches are asked for, and the truth is read.
    pub controller: ControllerHandle,
    /// Where the cost of each request goes.
    pub ledger: Arc<dyn Ledger>,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

/// Serves until `shutdown`, and a little longer for requests in progress.
///
/// [`Code::Io`] where the threads that serve cannot be started; [`Code::Internal`], at once, where nobody switches for
/// requests any more though somebody should.
pub async fn serve(listener: TcpListener, gate: Gate, ports: GatewayPorts, shutdown: CancellationToken) -> Result<()> {
    let GatewayPorts { controller, ledger, clock } = ports;
    // However this ends, the threads do too.
    let shutdown = shutdown.child_token();
    let _end = shutdown.clone().drop_guard();
    let shared = Arc::new(Shared::new(gate.clone(), controller.clone(), ledger, clock.clone()));
    let mut workers = Workers::start(&shared, &shutdown)
        .map_err(|error| Error::new(Code::Io, "cannot start the threads of the gateway").because(error))?;
    let mut scheduler = tokio::spawn(schedule(gate.clone(), controller, clock, shutdown.clone()));
    let mut has_scheduler = true;
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            ended = &mut scheduler, if has_scheduler => {
                // It ends well where the controller has: what is loaded goes on.
                ended.map_err(|error| broke_down(&gate, error))?;
                has_scheduler = false;
                continue;
            }
            accepted = accept(&listener, &slots) => accepted,
        };
        if let Some((stream, slot)) = accepted {
            workers.serve(stream, slot);
        }
    }
    // The port is free for the next daemon from here on.
    drop(listener);
    workers.end().await;
    if has_scheduler {
        scheduler.await.map_err(|error| broke_down(&gate, error))?;
    }
    Ok(())
}

/// Tells those that wait for a switch, too.
fn broke_down(gate: &Gate, cause: JoinError) -> Error {
    let error = Error::new(Code::Internal, "the gateway's scheduler broke down").because(cause);
    gate.end(&error);
    error
}

async fn accept(listener: &TcpListener, slots: &Arc<Semaphore>) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let slot = slots.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, slot)),
        Err(error) => {
            tracing::warn!(%error, "a connection to the inference port was not accepted");
            let of_one_client = matches!(
                error.kind(),
                io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
            );
            if !of_one_client {
                // No file descriptors are left: trying again at once would only keep a core busy.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            None
        }
    }
}
