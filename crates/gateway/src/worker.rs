//! Threads that serve connections, each with a runtime and a pool of its own.
//!
//! A request passes through several tasks: the client's connection, llama-server's, and back. In a runtime whose threads
//! share their work, each step may wake another thread, which costs more than all the rest; here all steps of a request
//! are taken on one thread.

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::thread::available_parallelism;

use corral_core::ports::Traffic;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::head::Watched;
use crate::server::{GRACE, LAST_WORDS};
use crate::service::{Service, Shared};
use crate::traffic::shutting_down;

/// What hyper reads of a head at most, in bytes; it refuses longer ones with an empty answer.
const MAX_BUFFER: usize = 2 << 20;

/// More threads than these would only wait for llama-server.
const MOST: usize = 4;

/// A connection on its way to a thread, and its place among the connections there may be.
type Accepted = (std::net::TcpStream, OwnedSemaphorePermit);

/// The threads.
pub(crate) struct Workers {
    threads: Vec<(mpsc::UnboundedSender<Accepted>, oneshot::Receiver<()>)>,
    next: usize,
}

impl Workers {
    /// Starts the threads. They end after `shutdown`, once their connections have.
    pub(crate) fn start(shared: &Arc<Shared>, shutdown: &CancellationToken) -> io::Result<Self> {
        let count = available_parallelism().map_or(1, |cores| cores.get().min(MOST));
        let threads = (0..count).map(|_| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let (sender, connections) = mpsc::unbounded_channel();
            let (end, ended) = oneshot::channel();
            let (service, shutdown) = (Arc::new(Service::new(shared.clone())), shutdown.clone());
            std::thread::Builder::new().name("gateway".to_owned()).spawn(move || {
                runtime.block_on(work(service, connections, shutdown));
                let _ = end.send(());
            })?;
            Ok((sender, ended))
        });
        Ok(Self { threads: threads.collect::<io::Result<_>>()?, next: 0 })
    }

    /// Hands a connection to the next thread.
    pub(crate) fn serve(&mut self, stream: TcpStream, slot: OwnedSemaphorePermit) {
        self.next = (self.next + 1) % self.threads.len().max(1);
        if let (Ok(stream), Some((thread, _))) = (stream.into_std(), self.threads.get(self.next)) {
            // A thread that has ended serves nobody: the connection is closed.
            let _ = thread.send((stream, slot));
        }
    }

    /// Returns once all threads have ended.
    pub(crate) async fn end(self) {
        for (connections, ended) in self.threads {
            drop(connections);
            if ended.await.is_err() {
                tracing::error!("a thread of the gateway has broken down");
            }
        }
    }
}

async fn work(service: Arc<Service>, mut connections: mpsc::UnboundedReceiver<Accepted>, shutdown: CancellationToken) {
    let tasks = TaskTracker::new();
    let cut = CancellationToken::new();
    while let Some((stream, slot)) = connections.recv().await {
        let Ok(stream) = TcpStream::from_std(stream) else { continue };
        let connection = connection(stream, service.clone(), shutdown.clone(), cut.clone());
        tasks.spawn(async move {
            connection.await;
            drop(slot);
        });
    }
    tasks.close();
    if timeout(GRACE, tasks.wait()).await.is_err() {
        // Those of a model that goes on running are told why they end.
        service.shared.gate.cut(&shutting_down());
        let _ = timeout(LAST_WORDS, tasks.wait()).await;
        cut.cancel();
        tasks.wait().await;
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
    // Heads that are too large are refused in the client's protocol: they have to be read for that.
    builder.max_buf_size(MAX_BUFFER);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), answer));
    let mut closing = false;
    loop {
        tokio::select! {
            biased;
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
