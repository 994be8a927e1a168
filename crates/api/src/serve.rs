//! Serving the router on a listener.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use corral_core::{Code, Error};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::router::{ApiState, router};

/// So many connections at once; more wait. Any user of this machine may connect, and file descriptors run out.
const CONNECTIONS: usize = 256;

/// How long requests in progress may take to end at shutdown.
const GRACE: Duration = Duration::from_secs(3);

/// Serves until `shutdown`, and a little longer for requests in progress. Streams and waiting callers end at once.
///
/// hyper closes a connection that does not send a request's head within 30 seconds.
pub async fn serve(listener: TcpListener, state: ApiState, shutdown: CancellationToken) -> Result<(), Error> {
    let address = listener
        .local_addr()
        .map_err(|error| Error::new(Code::Io, "the management port has no address").because(error))?;
    let app = router(state, address.port(), shutdown.clone());
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
        let connection = serve_connection(stream, app.clone(), shutdown.clone(), cut.clone());
        connections.spawn(async move {
            connection.await;
            drop(slot);
        });
    }
    // The port is free for the next daemon from here on.
    drop(listener);
    connections.close();
    if tokio::time::timeout(GRACE, connections.wait()).await.is_err() {
        cut.cancel();
        connections.wait().await;
    }
    Ok(())
}

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> Option<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let slot = slots.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, slot)),
        Err(error) => {
            tracing::warn!(%error, "a connection to the management port was not accepted");
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

async fn serve_connection(stream: TcpStream, app: Router, shutdown: CancellationToken, cut: CancellationToken) {
    // Events are small and should not wait for each other.
    let _ = stream.set_nodelay(true);
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new());
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(app)));
    let mut closing = false;
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection to the management port ended early");
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
