//! Threads that serve connections, each with a runtime and a pool of its own.
//!
//! A request passes through several tasks: the client's connection, llama-server's, and back. In a runtime whose threads
//! share their work, each step may wake another thread, which costs more than all the rest; here all steps of a request
//! are taken on one thread.

mod connection;

use std::io;
use std::sync::Arc;
use std::thread::available_parallelism;

use corral_core::listen::{Accepted, Via};
use corral_core::ports::Traffic;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::connection::{Word, connection};
use crate::server::{GRACE, LAST_WORDS};
use crate::service::{Service, Shared};
use crate::traffic::shutting_down;

/// More threads than these would only wait for llama-server.
const MOST: usize = 4;

/// A connection on its way to a thread, out of the runtime that accepted it.
struct Moving {
    stream: std::net::TcpStream,
    place: OwnedSemaphorePermit,
    via: Option<Arc<Via>>,
}

/// The threads.
pub(crate) struct Workers {
    threads: Vec<(mpsc::UnboundedSender<Moving>, oneshot::Receiver<()>)>,
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
    pub(crate) fn serve(&mut self, Accepted { stream, place, via }: Accepted) {
        self.next = (self.next + 1) % self.threads.len().max(1);
        if let (Ok(stream), Some((thread, _))) = (stream.into_std(), self.threads.get(self.next)) {
            // A thread that has ended serves nobody: the connection is closed.
            let _ = thread.send(Moving { stream, place, via });
        }
    }

    /// Returns once all threads have ended.
    pub(crate) async fn end(self) {
        // All of them first: each takes its time, and all of them the same.
        let (connections, ends): (Vec<_>, Vec<_>) = self.threads.into_iter().unzip();
        drop(connections);
        for ended in ends {
            if ended.await.is_err() {
                tracing::error!("a thread of the gateway has broken down");
            }
        }
    }
}

async fn work(service: Arc<Service>, mut connections: mpsc::UnboundedReceiver<Moving>, shutdown: CancellationToken) {
    let tasks = TaskTracker::new();
    let words = watch::Sender::new(Word::default());
    let telling = tokio::spawn(tell(words.clone(), service.shared.gate.cuts(), shutdown));
    while let Some(Moving { stream, place, via }) = connections.recv().await {
        let Ok(stream) = TcpStream::from_std(stream) else { continue };
        let connection = connection(stream, via.clone(), service.clone(), words.subscribe());
        tasks.spawn(async move {
            match via {
                None => connection.await,
                // Its session may end before it does.
                Some(via) => drop(via.end.run_until_cancelled(connection).await),
            }
            drop(place);
        });
    }
    tasks.close();
    if timeout(GRACE, tasks.wait()).await.is_err() {
        // Those of a model that goes on running are told why they end.
        service.shared.gate.cut(&shutting_down());
        let _ = timeout(LAST_WORDS, tasks.wait()).await;
        words.send_modify(|word| word.ended = true);
        tasks.wait().await;
    }
    telling.abort();
}

/// Passes on to the connections of a thread what all of them have to hear.
async fn tell(words: watch::Sender<Word>, mut cuts: watch::Receiver<()>, shutdown: CancellationToken) {
    let mut closing = false;
    loop {
        tokio::select! {
            () = shutdown.cancelled(), if !closing => {
                closing = true;
                words.send_modify(|word| word.closing = true);
            }
            Ok(()) = cuts.changed() => words.send_modify(|_| {}),
            else => return,
        }
    }
}
