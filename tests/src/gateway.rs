//! A client of the gateway, which notes all that a client can see of an answer.

mod seen;

use std::io::{ErrorKind, Read, Result, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use corral_core::snapshot::Snapshot;
use serde_json::Value;

pub use self::seen::Seen;
use crate::http::Wire;
use crate::question::{Manner, Question};
use crate::{PATIENCE, until};

/// Asks the gateway, each time on a connection of its own.
#[derive(Debug, Clone)]
pub struct Client {
    address: SocketAddr,
    token: Option<String>,
}

impl Client {
    /// For the daemon with this status, without a token.
    #[track_caller]
    pub fn of(status: &Snapshot) -> Self {
        let url = status.gateway.as_deref().expect("a gateway serves");
        Self { token: None, ..Self::at(url, "") }
    }

    /// For this address, without a token.
    pub fn open(address: SocketAddr) -> Self {
        Self { address, token: None }
    }

    /// For a server of inference itself, with its key.
    pub fn at(url: &str, key: &str) -> Self {
        let address = url.strip_prefix("http://").and_then(|address| address.parse().ok());
        Self { address: address.unwrap_or_else(|| panic!("an address: {url}")), token: Some(key.to_owned()) }
    }

    /// The same with a session's token.
    #[must_use]
    pub fn with_token(&self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self.clone() }
    }

    /// The gateway's address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The gateway's address as clients are told it.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Asks, and follows the answer to its end.
    pub async fn ask(&self, question: &Question) -> Seen {
        self.watched(question, |_| {}).await
    }

    /// The same from outside a runtime.
    pub fn ask_now(&self, question: &Question) -> Seen {
        runtime().block_on(self.ask(question))
    }

    /// Asks, and follows the answer in the background.
    pub fn follow(&self, question: &Question) -> Follow {
        let (client, question) = (self.clone(), question.clone());
        let progress = Arc::new(Mutex::new(Progress::default()));
        let shared = progress.clone();
        let thread = std::thread::spawn(move || {
            let note = |seen: &Seen| *shared.lock().unwrap_or_else(PoisonError::into_inner) = Progress::of(seen);
            runtime().block_on(client.watched(&question, note))
        });
        Follow { progress, thread }
    }

    /// The bytes of a request.
    pub fn bytes(&self, method: &str, path: &str, body: &[u8]) -> Vec<u8> {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", self.address);
        if let Some(token) = &self.token {
            head.extend(["Authorization: Bearer ", token, "\r\n"]);
        }
        if !body.is_empty() {
            head.extend(["Content-Type: application/json\r\nContent-Length: ", &body.len().to_string(), "\r\n"]);
        }
        [format!("{head}\r\n").as_bytes(), body].concat()
    }

    /// Sends bytes as they are, and reads all that comes back until the gateway closes the connection.
    pub fn raw(&self, bytes: &[u8]) -> Raw {
        let socket = TcpStream::connect(self.address).expect("a connection");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let mut came = Vec::new();
        std::thread::scope(|scope| {
            // It may have had enough before all is sent, and says so all the same.
            scope.spawn(|| drop((&socket).write_all(bytes)));
            // What was read before a reset counts.
            let _ = (&socket).read_to_end(&mut came);
        });
        Raw { text: String::from_utf8_lossy(&came).into_owned() }
    }

    async fn watched(&self, question: &Question, note: impl FnMut(&Seen)) -> Seen {
        let began = Instant::now();
        let mut seen = Seen::default();
        if let Err(error) = self.exchange(question, began, &mut seen, note).await {
            seen.broken = Some(error.to_string());
        }
        seen.took = began.elapsed();
        seen
    }

    async fn exchange(
        &self,
        question: &Question,
        began: Instant,
        seen: &mut Seen,
        mut note: impl FnMut(&Seen),
    ) -> Result<()> {
        let manner = question.manner;
        let mut wire = Wire::connect(self.address).await?;
        wire.send(&self.bytes("POST", manner.path(), question.body.to_string().as_bytes())).await?;
        let head = wire.whole_head().await?.ok_or(ErrorKind::UnexpectedEof)?.to_ascii_lowercase();
        seen.status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
        note(seen);
        if !head.contains("text/event-stream") {
            seen.whole(manner, &wire.body().await?);
            return Ok(());
        }
        let mut rest = Vec::new();
        while let Some(piece) = wire.piece().await? {
            for byte in piece {
                if *byte == b'\n' {
                    seen.line(manner, &String::from_utf8_lossy(&rest), began);
                    rest.clear();
                } else {
                    rest.push(*byte);
                }
            }
            note(seen);
        }
        if rest.is_empty() { Ok(()) } else { Err(ErrorKind::UnexpectedEof.into()) }
    }
}

/// What came back on a connection.
#[derive(Debug, Clone)]
pub struct Raw {
    /// All of it.
    pub text: String,
}

impl Raw {
    /// The first answer's status; 0 where none came.
    pub fn status(&self) -> u16 {
        self.text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default()
    }

    /// The first answer's body.
    pub fn body(&self) -> Value {
        let body = self.text.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default();
        serde_json::from_str(body).unwrap_or_default()
    }

    /// Number of answers.
    pub fn answers(&self) -> usize {
        self.text.matches("HTTP/1.1 ").count()
    }

    /// The message of a refusal with this status, in the manner of this protocol.
    #[track_caller]
    pub fn refused(&self, manner: Manner, status: u16) -> String {
        assert_eq!((self.status(), self.answers()), (status, 1), "{}", self.text);
        manner.error_message(&self.body())
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// How far an answer is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Progress {
    /// The status, once there is one.
    pub status: u16,
    /// Letters of its text.
    pub letters: usize,
    /// Comments.
    pub comments: usize,
}

impl Progress {
    fn of(seen: &Seen) -> Self {
        Self { status: seen.status, letters: seen.text.len(), comments: seen.comments }
    }
}

/// An answer that is followed in the background.
#[derive(Debug)]
pub struct Follow {
    progress: Arc<Mutex<Progress>>,
    thread: JoinHandle<Seen>,
}

impl Follow {
    /// Waits until the answer is as far as wanted, and is not at its end.
    #[track_caller]
    pub fn until(&self, what: &str, wanted: impl Fn(Progress) -> bool) {
        until(PATIENCE, what, || {
            let progress = *self.progress.lock().unwrap_or_else(PoisonError::into_inner);
            assert!(!self.thread.is_finished(), "{what}: the answer is at its end, at {progress:?}");
            wanted(progress).then_some(())
        });
    }

    /// Whether the answer is at its end.
    pub fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for the end, and returns what was seen.
    #[track_caller]
    pub fn end(self) -> Seen {
        until(2 * PATIENCE, "the answer ends", || self.thread.is_finished().then_some(()));
        self.thread.join().expect("the client does not panic")
    }
}
