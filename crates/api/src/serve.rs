//! Serving the router on a listener.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use corral_core::listen::{Accepted, Entrance, Handed, Via};
use corral_core::{Code, Error};
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::entrance::Ends;
use crate::router::{ApiState, router};

/// So many connections at once; more wait. Any user of this machine may connect, and file descriptors run out.
const CONNECTIONS: usize = 256;

/// How long requests in progress may take to end at shutdown.
const GRACE: Duration = Duration::from_secs(3);

/// Serves until `shutdown`, and a little longer for requests in progress. Streams and waiting callers end at once. What
/// was `handed` over by sessions is served with the rights of these.
///
/// hyper closes a connection that does not send a request's head within 30 seconds.
pub async fn serve(
    listener: TcpListener,
    handed: Handed,
    state: ApiState,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let address = listener
        .local_addr()
        .map_err(|error| Error::new(Code::Io, "the management port has no address").because(error))?;
    let app = router(state, address.port(), shutdown.clone());
    let mut entrance = Entrance::new("the management port", listener, CONNECTIONS, handed);
    let connections = TaskTracker::new();
    let cut = CancellationToken::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            accepted = entrance.accept() => accepted,
        };
        let Accepted { stream, place, via } = accepted;
        let connection = serve_connection(stream, via.clone(), app.clone(), shutdown.clone(), cut.clone());
        connections.spawn(async move {
            match via {
                None => connection.await,
                // Its session may end before it does.
                Some(via) => drop(via.end.run_until_cancelled(connection).await),
            }
            drop(place);
        });
    }
    // The port is free for the next daemon from here on.
    drop(entrance);
    connections.close();
    if tokio::time::timeout(GRACE, connections.wait()).await.is_err() {
        cut.cancel();
        connections.wait().await;
    }
    Ok(())
}

async fn serve_connection(
    stream: TcpStream,
    via: Option<Arc<Via>>,
    app: Router,
    shutdown: CancellationToken,
    cut: CancellationToken,
) {
    // Events are small and should not wait for each other.
    let _ = stream.set_nodelay(true);
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new());
    let app = TowerToHyperService::new(app);
    let ends = stream.peer_addr().and_then(|peer| Ok(Ends { peer, own: stream.local_addr()? })).ok();
    let app = service_fn(move |mut request: Request<Incoming>| {
        if let Some(ends) = ends {
            request.extensions_mut().insert(ends);
        }
        // The guard looks for it there.
        if let Some(via) = &via {
            request.extensions_mut().insert(via.clone());
        }
        app.call(request)
    });
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), app));
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
