//! Accepting connections and serving requests on them.

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use corral_core::command::ControllerHandle;
use corral_core::ports::{Clock, Ledger, Traffic};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::conversation::Conversations;
use crate::head::Watched;
use crate::intake::Intake;
use crate::schedule::schedule;
use crate::service::Service;
use crate::traffic::{Gate, shutting_down};
use crate::upstream;

/// So many connections at once; more wait to be accepted.
const CONNECTIONS: usize = 8192;

/// How long requests in progress may take to end at shutdown; those of a model that is stopped were cut before.
const GRACE: Duration = Duration::from_secs(2);

/// How long clients may take to read why their answer ends.
const LAST_WORDS: Duration = Duration::from_millis(500);

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
pub async fn serve(listener: TcpListener, gate: Gate, ports: GatewayPorts, shutdown: CancellationToken) {
    let GatewayPorts { controller, ledger, clock } = ports;
    let scheduler = tokio::spawn(schedule(gate.clone(), controller.clone(), clock.clone(), shutdown.clone()));
    let service = Arc::new(Service {
        gate: gate.clone(),
        controller,
        ledger,
        clock,
        client: upstream::client(),
        intake: Intake::new(),
        conversations: Mutex::new(Conversations::default()),
        takes_system: Mutex::new(None),
    });
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let connections = TaskTracker::new();
    let cut = CancellationToken::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            accepted = accept(&listener, &slots) => accepted,
        };
        let Some((stream, slot)) = accepted else { continue };
        let connection = connection(stream, service.clone(), shutdown.clone(), cut.clone());
        connections.spawn(async move {
            connection.await;
            drop(slot);
        });
    }
    // The port is free for the next daemon from here on.
    drop(listener);
    connections.close();
    if tokio::time::timeout(GRACE, connections.wait()).await.is_err() {
        // Those of a model that goes on running are told why they end.
        gate.cut(&shutting_down());
        let _ = tokio::time::timeout(LAST_WORDS, connections.wait()).await;
        cut.cancel();
        connections.wait().await;
    }
    if scheduler.await.is_err() {
        tracing::error!("the gateway's scheduler has broken down");
    }
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

async fn connection(stream: TcpStream, service: Arc<Service>, shutdown: CancellationToken, cut: CancellationToken) {
    // Tokens are small and should not wait for each other.
    let _ = stream.set_nodelay(true);
    let (stream, framings) = Watched::new(stream);
    let answer = service_fn(move |request| {
        let (service, framing) = (service.clone(), framings.next());
        async move { Ok::<_, Infallible>(service.answer(request, framing).await) }
    });
    // The head's own deadline is the stream's business: hyper's would also end connections that idle.
    let mut builder = http1::Builder::new();
    builder.header_read_timeout(None);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), answer));
    let mut closing = false;
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection to the inference port ended early");
                }
                return;
            }
            () = shutdown.cancelled(), if !closing => {
                closing = true;
                connection.as_mut().graceful_shutdown();
            }
            () = cut.cancelled() => return,
        }
    }
}
