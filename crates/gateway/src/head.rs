//! A second pair of eyes on the heads of requests.
//!
//! hyper drops what the standard lets it drop: of a request with both a length and a transfer coding it shows the
//! coding only. Such a request is an attempt to make two programs disagree on where it ends, so it is refused. The
//! bytes pass through here on their way to hyper; each head is parsed once more and leaves a [`Framing`].

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

/// How long a client may take to send the head of a request, from its first byte.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);

/// The number of headers that are looked at; hyper refuses more than 100.
const HEADERS: usize = 128;

/// What is to be thought of a request's head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// Its end is clear.
    Sound,
    /// It has a transfer coding: the connection ends with it, for what follows is not looked at any more.
    Last,
    /// It says in two ways where it ends.
    Ambiguous,
}

/// The framings on the heads that have come, in their order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Framings(Arc<Mutex<VecDeque<Framing>>>);

impl Framings {
    /// The framing on the request that is served next.
    pub(crate) fn next(&self) -> Framing {
        // hyper never serves a head that has not come through here.
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front().unwrap_or(Framing::Ambiguous)
    }

    fn push(&self, framing: Framing) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push_back(framing);
    }
}

/// Where in a request the next byte is.
#[derive(Debug)]
enum Place {
    /// In a head, or before one.
    Head,
    /// In a body of which so many bytes are to come.
    Body(u64),
    /// Nowhere that matters any more.
    Past,
}

/// Follows the bytes of one connection.
#[derive(Debug)]
struct Scanner {
    place: Place,
    /// The part of a head that has come.
    partial: Vec<u8>,
    framings: Framings,
}

impl Scanner {
    fn scan(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match &mut self.place {
                Place::Past => return,
                Place::Body(left) => {
                    let here = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
                    *left -= here as u64;
                    bytes = bytes.get(here..).unwrap_or_default();
                    if *left == 0 {
                        self.place = Place::Head;
                    }
                }
                Place::Head => bytes = self.scan_head(bytes),
            }
        }
    }

    /// Looks at bytes that belong to a head, and gives back those after its end.
    fn scan_head<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let mut head = std::mem::take(&mut self.partial);
        let before = head.len();
        let length = if before == 0 {
            self.head(bytes)
        } else {
            head.extend_from_slice(bytes);
            // A head ends with the end of a line.
            bytes.contains(&b'\n').then(|| self.head(&head)).flatten()
        };
        if let Some(length) = length {
            return bytes.get(length.saturating_sub(before)..).unwrap_or_default();
        }
        if before == 0 {
            head.extend_from_slice(bytes);
        }
        self.partial = head;
        &[]
    }

    /// Judges the head that these bytes begin with and returns its length; none where it is not complete.
    fn head(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS];
        let mut request = httparse::Request::new(&mut headers);
        let length = match request.parse(bytes) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => return None,
            Err(_) => {
                // hyper refuses it too, and closes the connection.
                self.place = Place::Past;
                return Some(bytes.len());
            }
        };
        let mut lengths = 0_u32;
        let (mut body, mut coded) = (0_u64, false);
        for header in request.headers.iter() {
            if header.name.eq_ignore_ascii_case("content-length") {
                lengths += 1;
                body = std::str::from_utf8(header.value).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0);
            }
            coded |= header.name.eq_ignore_ascii_case("transfer-encoding");
        }
        let framing = match (lengths, coded) {
            (0 | 1, false) => Framing::Sound,
            (0, true) => Framing::Last,
            _ => Framing::Ambiguous,
        };
        self.framings.push(framing);
        self.place = match framing {
            Framing::Sound if body == 0 => Place::Head,
            Framing::Sound => Place::Body(body),
            Framing::Last | Framing::Ambiguous => Place::Past,
        };
        Some(length)
    }

    /// A head has begun and not ended.
    fn is_within_head(&self) -> bool {
        !self.partial.is_empty()
    }
}

/// A connection whose heads are looked at, and whose client may not take for ever to send one.
#[derive(Debug)]
pub(crate) struct Watched {
    stream: TcpStream,
    scanner: Scanner,
    deadline: Option<Pin<Box<Sleep>>>,
}

impl Watched {
    pub(crate) fn new(stream: TcpStream) -> (Self, Framings) {
        let framings = Framings::default();
        let scanner = Scanner { place: Place::Head, partial: Vec::new(), framings: framings.clone() };
        (Self { stream, scanner, deadline: None }, framings)
    }
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        if Pin::new(&mut this.stream).poll_read(cx, buf)?.is_ready() {
            this.scanner.scan(buf.filled().get(before..).unwrap_or_default());
            if !this.scanner.is_within_head() {
                this.deadline = None;
            }
            return Poll::Ready(Ok(()));
        }
        if this.scanner.is_within_head() {
            let deadline = this.deadline.get_or_insert_with(|| Box::pin(sleep(HEAD_TIMEOUT)));
            if deadline.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the request's head did not end")));
            }
        }
        Poll::Pending
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn framings(pieces: &[&[u8]]) -> Vec<Framing> {
        let framings = Framings::default();
        let mut scanner = Scanner { place: Place::Head, partial: Vec::new(), framings: framings.clone() };
        for piece in pieces {
            scanner.scan(piece);
        }
        framings.0.lock().expect("not poisoned").drain(..).collect()
    }

    const PLAIN: &str = "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nabcde";
    const GET: &str = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    const CHUNKED: &str = "POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    const BOTH: &str = "POST /a HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    const BOTH_AGAIN: &str = "POST /a HTTP/1.1\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n";
    const TWO: &str = "POST /a HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nabcde";
    const HIDDEN: &str = "POST /a HTTP/1.1\r\nContent-Length: 31\r\n\r\nGET / HTTP/1.1\r\nHost: evil\r\n\r\n ";

    #[test]
    fn each_head_has_its_verdict() {
        use Framing::{Ambiguous, Last, Sound};
        let table: [(&[&str], &[Framing]); 7] = [
            (&[PLAIN, GET, PLAIN], &[Sound, Sound, Sound]),
            (&[CHUNKED], &[Last]),
            (&[BOTH], &[Ambiguous]),
            (&[BOTH_AGAIN], &[Ambiguous]),
            (&[TWO], &[Ambiguous]),
            (&[HIDDEN, GET], &[Sound, Sound]),
            (&[GET, CHUNKED, GET], &[Sound, Last]),
        ];
        for (requests, expected) in table {
            assert_eq!(framings(&[requests.concat().as_bytes()]), expected, "{requests:?}");
        }
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(
            picks in prop::collection::vec(0..7_usize, 1..5),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        ) {
            let all = [PLAIN, GET, CHUNKED, BOTH, BOTH_AGAIN, TWO, HIDDEN];
            let bytes = picks.iter().map(|pick| all[*pick]).collect::<String>().into_bytes();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            prop_assert_eq!(framings(&pieces), framings(&[&bytes]));
        }

        #[test]
        fn any_bytes_are_survived(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..64), 0..8)) {
            let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
            framings(&pieces);
        }
    }
}
