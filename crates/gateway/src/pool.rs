//! Connections to llama-server, kept for the next request.
//!
//! A connection is driven by the request that uses it, not by a task of its own: that saves two changes of task for each
//! request and each piece of an answer. Whoever drops a request or its answer half-way closes the connection with it,
//! which is how llama-server learns that nobody waits any more.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::uri::Authority;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::http1::{self, Connection, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// llama-server closes a connection that has been idle for 5 seconds (cpp-httplib's `CPPHTTPLIB_KEEPALIVE_TIMEOUT`);
/// one that is older than this is not used again.
const IDLE: Duration = Duration::from_secs(3);

/// So many connections are kept.
const MOST: usize = 64;

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(5);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoAnswer {
    /// Nothing takes connections there: nothing was sent.
    #[error("nothing takes connections: {0}")]
    Unreachable(io::Error),
    /// A connection that was kept had ended meanwhile, or ended just then: another one may do.
    #[error("the connection had ended")]
    Stale,
    /// The connection ended before an answer began.
    #[error("the connection ended: {0}")]
    Broken(hyper::Error),
}

/// The connections that are kept.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pool {
    idle: Arc<Mutex<Vec<Link>>>,
}

/// A connection.
#[derive(Debug)]
struct Link {
    authority: Authority,
    sender: SendRequest<Full<Bytes>>,
    driver: Pin<Box<Connection<TokioIo<TcpStream>, Full<Bytes>>>>,
    used: Instant,
}

impl Link {
    async fn new(authority: &Authority) -> Result<Self, NoAnswer> {
        let connecting = timeout(CONNECT, TcpStream::connect(authority.as_str())).await;
        let stream = connecting.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let stream = stream.map_err(NoAnswer::Unreachable)?;
        // Requests are small and should not wait for each other; where that cannot be had, they do.
        let _ = stream.set_nodelay(true);
        let (sender, driver) = http1::handshake(TokioIo::new(stream)).await.map_err(NoAnswer::Broken)?;
        Ok(Self { authority: authority.clone(), sender, driver: Box::pin(driver), used: Instant::now() })
    }

    /// Gets on with what there is to be read and written. Whether the connection lives.
    fn drive(&mut self, cx: &mut Context<'_>) -> bool {
        self.driver.as_mut().poll(cx).is_pending()
    }

    /// Whether it can take a request now.
    fn is_fresh(&mut self) -> bool {
        // Nobody has driven it meanwhile: its end may be there to be read.
        self.used.elapsed() < IDLE && self.drive(&mut Context::from_waker(Waker::noop())) && self.sender.is_ready()
    }

    async fn send(mut self, request: Request<Full<Bytes>>, pool: Pool) -> hyper::Result<Response<Received>> {
        let mut answer = pin!(self.sender.send_request(request));
        let driver = &mut self.driver;
        let mut ended = false;
        let response = poll_fn(|cx| {
            // That it has ended shows in the answer.
            ended = ended || driver.as_mut().poll(cx).is_ready();
            answer.as_mut().poll(cx)
        })
        .await?;
        let link = (!ended).then_some(self);
        Ok(response.map(|incoming| Received { incoming, link, pool }))
    }
}

impl Pool {
    /// Sends a request, with the path alone as its URI, on a connection to `authority`.
    pub(crate) async fn request(
        &self,
        authority: &Authority,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Received>, NoAnswer> {
        if let Some(link) = self.take(authority) {
            return link.send(request, self.clone()).await.map_err(|_| NoAnswer::Stale);
        }
        Link::new(authority).await?.send(request, self.clone()).await.map_err(NoAnswer::Broken)
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Link>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection that was used last; those of other servers and those that have ended go.
    fn take(&self, authority: &Authority) -> Option<Link> {
        let mut idle = self.idle();
        while let Some(mut link) = idle.pop() {
            if link.authority == *authority && link.is_fresh() {
                return Some(link);
            }
        }
        None
    }

    fn keep(&self, mut link: Link) {
        link.used = Instant::now();
        let mut idle = self.idle();
        if idle.len() < MOST {
            idle.push(link);
        }
    }
}

/// The body of an answer of llama-server's.
#[derive(Debug)]
pub(crate) struct Received {
    incoming: Incoming,
    link: Option<Link>,
    pool: Pool,
}

impl Received {
    /// The answer has come to its end: the connection is kept for another.
    fn release(&mut self) {
        if let Some(link) = self.link.take() {
            self.pool.keep(link);
        }
    }
}

impl Body for Received {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        let this = &mut *self;
        let mut polled = Pin::new(&mut this.incoming).poll_frame(cx);
        if polled.is_pending()
            && let Some(link) = &mut this.link
        {
            if !link.drive(cx) {
                this.link = None;
            }
            polled = Pin::new(&mut this.incoming).poll_frame(cx);
        }
        if let Poll::Ready(None) = polled {
            this.release();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        // Whoever knows the length does not ask for the end.
        if self.incoming.is_end_stream() {
            self.release();
        }
    }
}
