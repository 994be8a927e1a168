//! Who comes in at a port: by the port's own listener, or by one that a session has handed over.
//!
//! A jail has a network of its own with nothing in it but listening sockets, and its launcher hands these over. What
//! comes by such a listener is that session's, whatever token it carries or lacks.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use crate::session::SessionId;

/// So many connections at once by one listener of a session. They take none of the port's own, so that no session can
/// keep its user out.
const PLACES_OF_A_SESSION: usize = 128;

/// The session's listener by which a connection has come.
#[derive(Debug)]
pub struct Via {
    /// Whose it is.
    pub session: SessionId,
    /// The port that its clients know it by, in their own network.
    pub port: u16,
    /// Ends its connections at once.
    pub end: CancellationToken,
}

/// A connection that came in.
#[derive(Debug)]
pub struct Accepted {
    /// The connection.
    pub stream: TcpStream,
    /// Its place among the connections there may be; given back when this is dropped.
    pub place: OwnedSemaphorePermit,
    /// The session's listener by which it came; none for the port's own.
    pub via: Option<Arc<Via>>,
}

/// The side of a port that takes listeners of sessions. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Handover(mpsc::Sender<Accepted>);

/// What comes by the listeners of sessions, for the [`Entrance`] of a port.
#[derive(Debug)]
pub struct Handed(mpsc::Receiver<Accepted>);

/// Both sides of it.
pub fn handover() -> (Handover, Handed) {
    let (sender, receiver) = mpsc::channel(16);
    (Handover(sender), Handed(receiver))
}

impl Handover {
    /// Lets connections in by a listener of a session until the port has ended. When this is dropped, the listener is
    /// closed; the connections that came by it go on until `via.end`.
    pub async fn serve(&self, listener: TcpListener, via: Arc<Via>) {
        let places = Arc::new(Semaphore::new(PLACES_OF_A_SESSION));
        loop {
            let (stream, place) = accept(&listener, &places, "a session's listener").await;
            if self.0.send(Accepted { stream, place, via: Some(via.clone()) }).await.is_err() {
                return;
            }
        }
    }
}

/// A port: its own listener, and all that comes by those of sessions.
#[derive(Debug)]
pub struct Entrance {
    name: &'static str,
    listener: TcpListener,
    places: Arc<Semaphore>,
    handed: Handed,
}

impl Entrance {
    /// For a port that the log calls by this name. `most` connections may come by its own listener at once; more wait.
    pub fn new(name: &'static str, listener: TcpListener, most: usize, handed: Handed) -> Self {
        Self { name, listener, places: Arc::new(Semaphore::new(most)), handed }
    }

    /// The next connection. Nothing is lost where this is given up.
    pub async fn accept(&mut self) -> Accepted {
        tokio::select! {
            (stream, place) = accept(&self.listener, &self.places, self.name) => Accepted { stream, place, via: None },
            Some(accepted) = self.handed.0.recv() => accepted,
        }
    }
}

async fn accept(listener: &TcpListener, places: &Arc<Semaphore>, name: &str) -> (TcpStream, OwnedSemaphorePermit) {
    loop {
        // Nobody closes the semaphore.
        let Ok(place) = places.clone().acquire_owned().await else { return std::future::pending().await };
        match listener.accept().await {
            Ok((stream, _)) => return (stream, place),
            Err(error) => {
                tracing::warn!(%error, "a connection to {name} was not accepted");
                let of_one_client = matches!(
                    error.kind(),
                    io::ErrorKind::ConnectionAborted
                        | io::ErrorKind::ConnectionReset
                        | io::ErrorKind::ConnectionRefused
                );
                if !of_one_client {
                    // No file descriptors are left: trying again at once would only keep a core busy.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}
