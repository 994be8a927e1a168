//! One client's connection, and when it is ended from here.

use std::convert::Infallible;
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use corral_core::listen::Via;
use hyper::body::{Body, Frame, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::body::{Answer, BrokenOff};
use crate::head::Watched;
use crate::service::Service;
use crate::traffic::{Fate, Pass};

/// What hyper reads of a head at most, in bytes; it refuses longer ones with an empty answer.
const MAX_BUFFER: usize = 2 << 20;

/// How long a client may take to read why its answer was cut. The controller waits a little longer for what was cut to
/// be gone, so that llama-server is free by then.
const AFTER_CUT: Duration = Duration::from_millis(1500);

/// What all connections of a thread are told. One thing to listen to costs each step of each request less than several.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Word {
    /// Answers under way are the last ones.
    pub(super) closing: bool,
    /// It is over.
    pub(super) ended: bool,
}

/// Serves a client until it goes, until the word that its answer is the last one, or that it is over. Each word makes it
/// look whether its answer was cut. What came `via` a session's listener is that session's.
pub(super) async fn connection(
    stream: TcpStream,
    via: Option<Arc<Via>>,
    service: Arc<Service>,
    mut words: watch::Receiver<Word>,
) {
    // Tokens are small and should not wait for each other.
    let _ = stream.set_nodelay(true);
    let newest = Arc::new(Newest::default());
    let (stream, framings) = Watched::new(stream);
    let stream = Outgoing { stream, newest: newest.clone() };
    let answers = newest.clone();
    let answer = service_fn(move |request| {
        let (service, framing, newest) = (service.clone(), framings.next(), answers.clone());
        let via = via.clone();
        newest.begin();
        async move {
            let response = service.answer(request, framing, via.as_deref()).await;
            Ok::<_, Infallible>(response.map(|answer| Tended::new(answer, newest)))
        }
    });
    // The head's own deadline is the stream's business: hyper's would also end connections that idle.
    let mut builder = http1::Builder::new();
    builder.header_read_timeout(None);
    // Heads that are too large are refused in the client's protocol: they have to be read for that.
    builder.max_buf_size(MAX_BUFFER);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), answer));
    let mut closing = false;
    // The number of an answer that was cut, and when its time is over.
    let mut cut: Option<(u64, Instant)> = None;
    // What was said before it came is news to it as well.
    words.mark_changed();
    loop {
        tokio::select! {
            biased;
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection to the inference port ended early");
                }
                return;
            }
            said = words.changed() => {
                let word = *words.borrow_and_update();
                if word.ended || said.is_err() {
                    return;
                }
                if word.closing && !std::mem::replace(&mut closing, true) {
                    connection.as_mut().graceful_shutdown();
                }
            }
            number = due(cut) => {
                if newest.is_stuck(number) {
                    tracing::debug!("a client did not read to the end of an answer that was cut: it is left");
                    return;
                }
                newest.settle(number);
            }
        }
        let known = cut;
        cut = newest.cut().map(|number| {
            let known = known.filter(|(known, _)| *known == number);
            known.unwrap_or_else(|| (number, Instant::now() + AFTER_CUT))
        });
    }
}

/// Returns the number of the answer whose time is over, then.
async fn due(cut: Option<(u64, Instant)>) -> u64 {
    match cut {
        Some((number, at)) => {
            sleep_until(at).await;
            number
        }
        None => std::future::pending().await,
    }
}

/// What is known of the newest answer on a connection.
#[derive(Default)]
struct Newest {
    known: Mutex<Known>,
    /// The client does not take what is written to it.
    is_blocked: AtomicBool,
}

#[derive(Default)]
struct Known {
    /// Counted from 1.
    number: u64,
    /// Whether it was cut; none where that does not matter.
    fate: Option<Fate>,
    /// Its body has not been written to its end.
    is_open: bool,
}

impl Newest {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self) {
        let mut known = self.known();
        *known = Known { number: known.number + 1, fate: None, is_open: true };
    }

    /// The number of the answer, where it was cut.
    fn cut(&self) -> Option<u64> {
        let known = self.known();
        known.fate.as_ref().is_some_and(Fate::is_cut).then_some(known.number)
    }

    /// Whether this answer is the newest and has not got to its client.
    fn is_stuck(&self, number: u64) -> bool {
        let known = self.known();
        known.number == number && (known.is_open || self.is_blocked.load(Ordering::Relaxed))
    }

    /// This answer has got to its client.
    fn settle(&self, number: u64) {
        let mut known = self.known();
        if known.number == number {
            known.fate = None;
        }
    }
}

/// The body of an answer whose connection knows what becomes of it.
struct Tended {
    answer: Answer,
    newest: Arc<Newest>,
    /// The connection knows what tells of a cut.
    is_known: bool,
}

impl Tended {
    fn new(answer: Answer, newest: Arc<Newest>) -> Self {
        let mut tended = Self { answer, newest, is_known: false };
        tended.learn();
        tended
    }

    fn learn(&mut self) {
        if self.is_known {
            return;
        }
        if let Some(pass) = pass(&self.answer) {
            self.newest.known().fate = Some(pass.fate());
            self.is_known = true;
        }
    }
}

/// The right by which an answer comes, once it does.
fn pass(answer: &Answer) -> Option<&Pass> {
    match answer {
        Answer::Counted(counted) => counted.pass.as_ref(),
        Answer::Relayed(relayed) => Some(&relayed.1),
        Answer::Whole(_) | Answer::Waiting(_) => None,
    }
}

impl Body for Tended {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let polled = Pin::new(&mut self.answer).poll_frame(cx);
        // What waited for its model has a pass from now on.
        self.learn();
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.answer.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.answer.size_hint()
    }
}

impl Drop for Tended {
    fn drop(&mut self) {
        self.newest.known().is_open = false;
    }
}

/// The stream of a connection that tells whether its client takes what is written.
struct Outgoing {
    stream: Watched,
    newest: Arc<Newest>,
}

impl Outgoing {
    fn noted<T>(&self, written: Poll<T>) -> Poll<T> {
        self.newest.is_blocked.store(written.is_pending(), Ordering::Relaxed);
        written
    }
}

impl AsyncRead for Outgoing {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Outgoing {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.noted(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.noted(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
