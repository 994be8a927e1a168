//! GPU readings where there is no GPU: a stand-in in front of the real management API, to whose events it adds one each
//! second. Everything else goes to the real one and comes from it.

use std::io::Result;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{MissedTickBehavior, interval};

use crate::http::{Wire, each_connection};

/// From one reading to the next.
const EACH: Duration = Duration::from_secs(1);

/// It serves as long as the program runs.
#[derive(Debug)]
pub struct GpuReadings {
    /// Where it listens, in the real API's place.
    pub address: SocketAddr,
    sent: Arc<Sent>,
}

#[derive(Debug, Default)]
struct Sent {
    readings: AtomicU64,
    lines: AtomicU64,
}

impl GpuReadings {
    /// Stands in front of this management API.
    #[track_caller]
    pub fn before(management: SocketAddr) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("a listener for tokio");
        let address = listener.local_addr().expect("its address");
        let sent = Arc::new(Sent::default());
        let counted = Arc::clone(&sent);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener)?;
                each_connection(listener, |client| between(client, management, Arc::clone(&counted))).await
            })
        });
        Self { address, sent }
    }

    /// How many readings it has sent.
    pub fn readings(&self) -> u64 {
        self.sent.readings.load(Ordering::Relaxed)
    }

    /// How many lines of log have gone through it.
    pub fn lines(&self) -> u64 {
        self.sent.lines.load(Ordering::Relaxed)
    }
}

/// Passes the requests of one connection on.
async fn between(client: TcpStream, management: SocketAddr, sent: Arc<Sent>) -> Result<()> {
    let mut client = Wire::new(client)?;
    while let Some(head) = client.whole_head().await?.map(str::to_owned) {
        let body = client.body().await?;
        let path = head.split(' ').nth(1).and_then(|path| path.split('?').next()).unwrap_or_default().to_owned();
        if path == "/gpu" {
            let text = reading(sent.readings.load(Ordering::Relaxed)).to_string();
            let length = text.len();
            let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";
            client.send(format!("{head}Content-Length: {length}\r\n\r\n{text}").as_bytes()).await?;
            continue;
        }
        let mut api = Wire::connect(management).await?;
        api.send(&[head.as_bytes(), &body].concat()).await?;
        let Some(head) = api.whole_head().await?.map(str::to_owned) else { return Ok(()) };
        client.send(head.as_bytes()).await?;
        if head.to_ascii_lowercase().contains("\r\ntransfer-encoding: chunked") {
            stream(&mut api, &mut client, &path, &sent).await?;
        } else {
            client.send(&api.body().await?).await?;
        }
    }
    Ok(())
}

/// Passes a stream on.
async fn stream(api: &mut Wire, client: &mut Wire, path: &str, sent: &Sent) -> Result<()> {
    let mut due = interval(EACH);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first is due at once, and nothing may come before the first event's head.
    let mut between_events = false;
    loop {
        // What a piece has begun with stays with the wire where the reading comes first.
        let piece = tokio::select! {
            piece = api.piece() => piece?,
            _ = due.tick(), if path == "/events" && between_events => {
                let number = sent.readings.fetch_add(1, Ordering::Relaxed);
                client.send(chunk(format!("event: gpu\ndata: {}\n\n", reading(number)).as_bytes()).as_slice()).await?;
                continue;
            }
        };
        let Some(piece) = piece else { return client.send(b"0\r\n\r\n").await };
        between_events = piece.ends_with(b"\n\n");
        if path == "/logs" {
            let lines = piece.split(|byte| *byte == b'\n').count() - 1;
            sent.lines.fetch_add(lines.try_into().unwrap_or_default(), Ordering::Relaxed);
        }
        client.send(&chunk(piece)).await?;
    }
}

fn chunk(bytes: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

/// A GPU at work, in the form that the dashboard takes.
fn reading(number: u64) -> Value {
    const GIB: u64 = 1 << 30;
    let process = json!({ "pid": 4321, "name": "llama-server", "mem_bytes": 9 * GIB, "container": null, "model": "a" });
    json!({ "at": jiff::Timestamp::now(), "source": "nvml", "devices": [{
        "index": 0, "uuid": "GPU-0", "name": "Stand-in", "util_percent": number % 100, "mem_used_bytes": 9 * GIB + number,
        "mem_total_bytes": 24 * GIB, "temperature_c": 40 + number % 40, "power_w": 100 + number % 200,
        "state": "ok", "clocks": {}, "pcie": {}, "throttle": [], "parts": [], "processes": [process],
    }] })
}
