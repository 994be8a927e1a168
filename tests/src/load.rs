//! The load that the benchmark puts on a server of inference, the same on each that is compared.

use std::future::Future;
use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::http::Wire;

/// The text of each token that `fixed-answer` generates; it stands nowhere else in what it sends.
pub const TOKEN: &str = " horse";

/// Requests that open a connection and its like behind the server, before any is counted.
const WARM_UP: usize = 20;

/// Where requests go, and what is asked.
#[derive(Debug, Clone)]
pub struct Target {
    address: SocketAddr,
    once: Vec<u8>,
    streamed: Vec<u8>,
    tokens: usize,
}

impl Target {
    /// Asks `model` behind an address in the manner of `OpenAI`: at once for 16 tokens, streamed for so many.
    pub fn new(address: SocketAddr, model: &str, streamed_tokens: usize) -> Self {
        let request = |tokens: usize, stream: bool| {
            let messages = r#"[{"role":"user","content":"Who are you?"}]"#;
            let body =
                format!(r#"{{"model":"{model}","messages":{messages},"max_tokens":{tokens},"stream":{stream}}}"#);
            let head = "POST /v1/chat/completions HTTP/1.1";
            let kind = "Content-Type: application/json";
            format!("{head}\r\nHost: {address}\r\n{kind}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
        };
        let (once, streamed) = (request(16, false), request(streamed_tokens, true));
        Self { address, once, streamed, tokens: streamed_tokens }
    }

    async fn connect(&self) -> Result<Wire> {
        let mut wire = Wire::connect(self.address).await?;
        self.ask(&mut wire).await?;
        Ok(wire)
    }

    /// One request, answered in full.
    async fn ask(&self, wire: &mut Wire) -> Result<()> {
        wire.send(&self.once).await?;
        accepted(wire).await?;
        let mut length = 0;
        while let Some(piece) = wire.piece().await? {
            length += piece.len();
        }
        if length < 16 * TOKEN.len() { Err(Error::other("the answer is too short")) } else { Ok(()) }
    }

    /// One stream, to its end; the longest wait for a token in it.
    async fn follow(&self, wire: &mut Wire) -> Result<Duration> {
        let (mut longest, mut last) = (Duration::ZERO, Instant::now());
        wire.send(&self.streamed).await?;
        accepted(wire).await?;
        let (mut tokens, mut ends) = (Counter::of(TOKEN), Counter::of("data: [DONE]"));
        while let Some(piece) = wire.piece().await? {
            let now = Instant::now();
            if tokens.count(piece) > 0 {
                longest = longest.max(now - last);
                last = now;
            }
            ends.count(piece);
        }
        match (tokens.found, ends.found) {
            (found, 1) if found == self.tokens => Ok(longest),
            (found, ends) => Err(Error::other(format!("{found} of {} tokens, and {ends} ends", self.tokens))),
        }
    }
}

async fn accepted(wire: &mut Wire) -> Result<()> {
    let line = wire.head().await?.ok_or(ErrorKind::UnexpectedEof)?;
    if line.starts_with("HTTP/1.1 200 ") {
        return Ok(());
    }
    let line = line.to_owned();
    let body = wire.body().await?;
    Err(Error::other(format!("{line}: {}", String::from_utf8_lossy(&body))))
}

/// Counts a text in bytes that come in pieces.
#[derive(Debug)]
struct Counter {
    text: &'static [u8],
    matched: usize,
    found: usize,
}

impl Counter {
    fn of(text: &'static str) -> Self {
        Self { text: text.as_bytes(), matched: 0, found: 0 }
    }

    /// How many end in this piece. Right for a text whose first byte does not come again in it.
    fn count(&mut self, piece: &[u8]) -> usize {
        let before = self.found;
        for byte in piece {
            let fits = |matched: usize| self.text.get(matched) == Some(byte);
            self.matched = if fits(self.matched) { self.matched + 1 } else { usize::from(fits(0)) };
            if self.matched == self.text.len() {
                self.matched = 0;
                self.found += 1;
            }
        }
        self.found - before
    }
}

/// What a number of streams at once came to.
#[derive(Debug, Clone, Copy)]
pub struct Streamed {
    /// Tokens per second, of all streams together, from the first request to the last end.
    pub tokens_per_second: f64,
    /// The longest time that any of the streams waited for a token.
    pub longest_wait: Duration,
}

/// When requests come to an end.
#[derive(Debug, Clone, Copy)]
pub enum End {
    /// After so long.
    After(Duration),
    /// After so many of them.
    At(usize),
}

impl End {
    /// Counts one more request, where there is to be one.
    fn is_ahead(self, asked: &AtomicUsize, began: Instant) -> bool {
        let before = asked.load(Ordering::Relaxed);
        let ahead = match self {
            Self::After(window) => began.elapsed() < window,
            Self::At(count) => before < count,
        };
        // All requests are made by one thread.
        asked.store(before + usize::from(ahead), Ordering::Relaxed);
        ahead
    }
}

/// Connections that have made a request each and make no other; closed when dropped.
#[derive(Debug)]
pub struct Idle(#[expect(dead_code, reason = "held open")] Vec<Wire>);

/// Makes requests, all from one thread.
#[derive(Debug)]
pub struct Load {
    runtime: Runtime,
}

impl Default for Load {
    fn default() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        Self { runtime: runtime.expect("a runtime") }
    }
}

impl Load {
    /// How long each of `count` requests takes, one after the other on one connection; shortest first.
    #[track_caller]
    pub fn latencies(&self, target: &Target, count: usize) -> Vec<Duration> {
        let mut latencies = self.run(async {
            let mut wire = target.connect().await?;
            for _ in 0..WARM_UP {
                target.ask(&mut wire).await?;
            }
            let mut latencies = Vec::with_capacity(count);
            for _ in 0..count {
                let began = Instant::now();
                target.ask(&mut wire).await?;
                latencies.push(began.elapsed());
            }
            Ok(latencies)
        });
        latencies.sort_unstable();
        latencies
    }

    /// Requests per second on `connections` connections, each of which asks again when it is answered. What was asked
    /// before the end is answered and counted.
    #[track_caller]
    pub fn rate(&self, target: &Target, connections: usize, end: End) -> f64 {
        self.run(async {
            let wires = opened(target, connections).await?;
            let asked = Arc::new(AtomicUsize::new(0));
            let began = Instant::now();
            let mut asking = JoinSet::new();
            for mut wire in wires {
                let (target, asked) = (target.clone(), asked.clone());
                asking.spawn(async move {
                    while end.is_ahead(&asked, began) {
                        target.ask(&mut wire).await?;
                    }
                    Ok(())
                });
            }
            asking.join_all().await.into_iter().collect::<Result<()>>()?;
            Ok(per_second(asked.load(Ordering::Relaxed), began.elapsed()))
        })
    }

    /// So many streams at once, each on a connection of its own.
    #[track_caller]
    pub fn streams(&self, target: &Target, streams: usize) -> Streamed {
        self.run(async {
            let wires = opened(target, streams).await?;
            let began = Instant::now();
            let mut following = JoinSet::new();
            for mut wire in wires {
                let target = target.clone();
                following.spawn(async move { target.follow(&mut wire).await });
            }
            let waits = following.join_all().await.into_iter().collect::<Result<Vec<_>>>()?;
            let tokens_per_second = per_second(streams * target.tokens, began.elapsed());
            Ok(Streamed { tokens_per_second, longest_wait: waits.into_iter().max().unwrap_or_default() })
        })
    }

    /// Opens connections that stay idle after a request each, one after the other.
    #[track_caller]
    pub fn idle(&self, target: &Target, connections: usize) -> Idle {
        more_files();
        self.run(async { Ok(Idle(opened(target, connections).await?)) })
    }

    #[track_caller]
    fn run<T>(&self, load: impl Future<Output = Result<T>>) -> T {
        self.runtime.block_on(load).unwrap_or_else(|error| panic!("the load: {error}"))
    }
}

/// Connections that have made a request each, so that what is behind the server has been reached as well.
async fn opened(target: &Target, connections: usize) -> Result<Vec<Wire>> {
    let mut wires = Vec::with_capacity(connections);
    for _ in 0..connections {
        wires.push(target.connect().await?);
    }
    Ok(wires)
}

#[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
fn per_second(count: usize, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64()
}

/// Of sorted times, the one that `hundredths` of them are not longer than; zero where there are none.
pub fn percentile(sorted: &[Duration], hundredths: usize) -> Duration {
    let rank = (sorted.len() * hundredths).div_ceil(100).saturating_sub(1);
    sorted.get(rank).copied().unwrap_or_default()
}

/// Lets this process open as many files as it may: what is usual is not enough for a thousand connections.
fn more_files() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).expect("a limit within the allowed");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_counted_across_pieces() {
        let bytes = b"a horse,  horses, ho horse data: data: [DONE]";
        for size in 1..bytes.len() {
            let (mut tokens, mut ends) = (Counter::of(TOKEN), Counter::of("data: [DONE]"));
            for piece in bytes.chunks(size) {
                tokens.count(piece);
                ends.count(piece);
            }
            assert_eq!((tokens.found, ends.found), (3, 1), "in pieces of {size}");
        }
    }

    #[test]
    fn a_percentile_is_one_of_the_times() {
        let times: Vec<_> = (1..=200).map(Duration::from_millis).collect();
        let of = |hundredths| percentile(&times, hundredths).as_millis();
        assert_eq!([of(50), of(99), of(100)], [100, 198, 200]);
        assert_eq!(percentile(&times[..1], 50), times[0]);
        assert_eq!(percentile(&[], 99), Duration::ZERO);
    }
}
