//! A gateway before a server that does what a test tells it, byte by byte.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use corral_core::catalog::{Catalog, Surroundings};
use corral_core::command::{self, ControllerEnds};
use corral_core::launch::Runtime;
use corral_core::listen::{Handover, handover};
use corral_core::ports::{Clock, Endpoint, Instance, Ledger, Route, Traffic};
use corral_core::snapshot::{CatalogView, Phase, Snapshot};
use corral_core::usage::{RequestRecord, Ticket};
use corral_core::{ConfigHash, InstanceId, ModelId, Result, Secret};
use corral_gateway::{Gate, GatewayPorts, serve};
use corral_testkit::fakes::CountingClock;
use jiff::Timestamp;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(10);

/// Keeps the records, and which requests were with the model.
#[derive(Default)]
pub(crate) struct Records(pub(crate) Mutex<Vec<RequestRecord>>, pub(crate) Mutex<Vec<With>>);

/// That a request went to the model, or ended after it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum With {
    Sent(Ticket),
    Ended(Ticket),
}

impl Ledger for Records {
    fn record(&self, request: RequestRecord) {
        self.0.lock().expect("not poisoned").push(request);
    }

    fn sent(&self) -> Option<Ticket> {
        let mut with = self.1.lock().expect("not poisoned");
        let ticket = Ticket(with.len() as u64);
        with.push(With::Sent(ticket));
        Some(ticket)
    }

    fn record_sent(&self, ticket: Ticket, request: RequestRecord) {
        self.1.lock().expect("not poisoned").push(With::Ended(ticket));
        self.record(request);
    }
}

pub(crate) struct Bed {
    pub(crate) gate: Gate,
    pub(crate) records: Arc<Records>,
    pub(crate) ends: ControllerEnds,
    pub(crate) handover: Handover,
    address: std::net::SocketAddr,
    pub(crate) serving: JoinHandle<Result<()>>,
    shutdown: tokio_util::sync::DropGuard,
}

impl Bed {
    pub(crate) async fn new() -> Self {
        Self::with_clock(Arc::new(CountingClock::default())).await
    }

    /// A gateway whose scheduler goes by this clock.
    pub(crate) async fn with_clock(clock: Arc<dyn Clock>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let gate = Gate::new(Arc::new(CountingClock::default()));
        let text = "schema = 1\n[models.a]\nfile = \"a.gguf\"\naliases = [\"al-*\"]\n[models.b]\nfile = \"b.gguf\"\n";
        let surroundings =
            Surroundings { path: "models.toml".into(), home: "/home/u".into(), models_dir: "/models".into() };
        let catalog = Catalog::read(text, &surroundings).catalog.expect("a good catalog");
        let snapshot = Snapshot {
            version: "1.2.3".into(),
            phase: Phase::Ready,
            model: ModelId::new("a").ok(),
            operation: None,
            engine: None,
            error: None,
            gateway: None,
            sessions: Vec::new(),
            catalog: CatalogView::default(),
        };
        let (controller, ends) = command::channel(snapshot, catalog);
        let records = Arc::new(Records::default());
        let shutdown = CancellationToken::new();
        let ports = GatewayPorts { controller, ledger: records.clone(), clock };
        let (handover, handed) = handover();
        let serving = tokio::spawn(serve(listener, handed, gate.clone(), ports, shutdown.clone()));
        Self { gate, records, ends, handover, address, serving, shutdown: shutdown.drop_guard() }
    }

    /// A gateway before a server, and a request on its way: the client's end of it and the server's.
    pub(crate) async fn asked(path: &str, body: &str) -> (Self, Server, Client, Asked) {
        let bed = Self::new().await;
        let mut server = Server::new().await;
        bed.open(&server);
        let client = bed.post(path, body).await;
        let asked = server.request().await;
        (bed, server, client, asked)
    }

    /// Ends the gateway.
    pub(crate) async fn shut_down(self) -> Result<()> {
        drop(self.shutdown);
        self.serving.await.expect("it does not panic")
    }

    /// Opens the way to a server of the model `a`.
    pub(crate) fn open(&self, server: &Server) {
        let instance = Instance {
            id: InstanceId(server.url.clone()),
            runtime: Runtime::Process,
            model: ModelId::new("a").expect("an id"),
            config_hash: ConfigHash("0".to_owned()),
            image: None,
            api_key: Secret::new("the-key"),
        };
        let endpoint = Endpoint { url: server.url.clone(), started_at: Timestamp::now() };
        self.gate.open(Route { instance, endpoint, restored: false });
    }

    /// Sends these bytes on a new connection.
    pub(crate) async fn send(&self, bytes: impl AsRef<[u8]>) -> Client {
        Client::send(self.address, bytes).await
    }

    /// Posts a body.
    pub(crate) async fn post(&self, path: &str, body: &str) -> Client {
        self.send(post(path, body)).await
    }

    /// The records, once there are so many.
    pub(crate) async fn records(&self, count: usize) -> Vec<RequestRecord> {
        let there = || async { self.records.0.lock().expect("not poisoned").len() >= count };
        corral_testkit::eventually(PATIENCE, there).await;
        self.records.0.lock().expect("not poisoned").clone()
    }
}

pub(crate) fn post(path: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nX-Mine: kept\r\n\
         Authorization: Bearer anything\r\nAccept-Encoding: gzip\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

/// A client's connection.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    read: Vec<u8>,
}

impl Client {
    /// Sends these bytes on a new connection.
    pub(crate) async fn send(address: std::net::SocketAddr, bytes: impl AsRef<[u8]>) -> Self {
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        stream.write_all(bytes.as_ref()).await.expect("sent");
        Self { stream, read: Vec::new() }
    }

    /// All that has come once this has; panics where the connection ends before.
    pub(crate) async fn until(&mut self, wanted: &str) -> String {
        loop {
            let text = String::from_utf8_lossy(&self.read).into_owned();
            if text.contains(wanted) {
                return text;
            }
            let read = timeout(PATIENCE, self.stream.read_buf(&mut self.read)).await;
            let read = read.unwrap_or_else(|_| panic!("waited for {wanted:?}, got {text:?}"));
            assert!(read.is_ok_and(|read| read > 0), "it ended before {wanted:?} came: {text:?}");
        }
    }

    /// All that comes until the connection ends.
    pub(crate) async fn rest(&mut self) -> String {
        let read = timeout(PATIENCE, self.stream.read_to_end(&mut self.read)).await.expect("it ends within 10 s");
        // What was sent after the end may have reset the connection.
        let _ = read;
        String::from_utf8_lossy(&self.read).into_owned()
    }
}

/// A server that a test speaks for.
pub(crate) struct Server {
    pub(crate) url: String,
    connections: mpsc::UnboundedReceiver<TcpStream>,
    accepting: tokio::task::JoinHandle<()>,
}

impl Server {
    pub(crate) async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let (sender, connections) = mpsc::unbounded_channel();
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _ = sender.send(stream);
            }
        });
        Self { url, connections, accepting }
    }

    /// The next request on a new connection, read to its end.
    pub(crate) async fn request(&mut self) -> Asked {
        let stream = timeout(PATIENCE, self.connections.recv()).await.expect("somebody asks").expect("it accepts");
        let mut asked = Asked { stream, text: String::new() };
        asked.next().await;
        asked
    }

    /// Takes no connections any more.
    pub(crate) async fn close(mut self) {
        self.accepting.abort();
        let _ = (&mut self.accepting).await;
    }

    /// Whether nobody has asked.
    pub(crate) fn is_untouched(&mut self) -> bool {
        self.connections.try_recv().is_err()
    }
}

/// A connection to the server, and the request that came on it.
pub(crate) struct Asked {
    stream: TcpStream,
    pub(crate) text: String,
}

impl Asked {
    /// Reads the next request on the same connection.
    pub(crate) async fn next(&mut self) {
        let mut read = Vec::new();
        loop {
            let text = String::from_utf8_lossy(&read).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length =
                    head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
                if body.len() >= length.unwrap_or(0) {
                    self.text = text;
                    return;
                }
            }
            let more = timeout(PATIENCE, self.stream.read_buf(&mut read)).await.expect("it comes within 10 s");
            assert!(more.is_ok_and(|more| more > 0), "the request broke off: {text:?}");
        }
    }

    pub(crate) fn body(&self) -> &str {
        self.text.split_once("\r\n\r\n").expect("a head").1
    }

    pub(crate) async fn say(&mut self, bytes: &str) {
        self.stream.write_all(bytes.as_bytes()).await.expect("sent");
    }

    /// One chunk of a chunked body.
    pub(crate) async fn chunk(&mut self, text: &str) {
        self.say(&format!("{:x}\r\n{text}\r\n", text.len())).await;
    }

    pub(crate) async fn answer(&mut self, body: &str) {
        let length = body.len();
        self.say(&format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        ))
        .await;
    }

    pub(crate) async fn begin_stream(&mut self) {
        self.say("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    }

    /// Returns once the other side has closed the connection.
    pub(crate) async fn closed(&mut self) {
        let mut rest = Vec::new();
        let ended = timeout(PATIENCE, self.stream.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "it was still open after 10 s");
    }
}
