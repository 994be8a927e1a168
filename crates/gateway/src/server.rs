//! Accepting connections.

use std::sync::Arc;
use std::time::Duration;

use corral_core::command::ControllerHandle;
use corral_core::listen::{Entrance, Handed};
use corral_core::ports::{Clock, Ledger};
use corral_core::{Code, Error, Result};
use tokio::net::TcpListener;
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

/// Serves until `shutdown`, and a little longer for requests in progress. What was `handed` over by sessions is served
/// for these, with or without their tokens.
///
/// [`Code::Io`] where the threads that serve cannot be started; [`Code::Internal`], at once, where nobody switches for
/// requests any more though somebody should.
pub async fn serve(
    listener: TcpListener,
    handed: Handed,
    gate: Gate,
    ports: GatewayPorts,
    shutdown: CancellationToken,
) -> Result<()> {
    let GatewayPorts { controller, ledger, clock } = ports;
    // However this ends, the threads do too.
    let shutdown = shutdown.child_token();
    let _end = shutdown.clone().drop_guard();
    let shared = Arc::new(Shared::new(gate.clone(), controller.clone(), ledger, clock.clone()));
    let mut workers = Workers::start(&shared, &shutdown)
        .map_err(|error| Error::new(Code::Io, "cannot start the threads of the gateway").because(error))?;
    let mut scheduler = tokio::spawn(schedule(gate.clone(), controller, clock, shutdown.clone()));
    let mut has_scheduler = true;
    let mut entrance = Entrance::new("the inference port", listener, CONNECTIONS, handed);
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
            accepted = entrance.accept() => accepted,
        };
        workers.serve(accepted);
    }
    // The port is free for the next daemon from here on.
    drop(entrance);
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
