//! A served API, and a client that can send what no decent client would.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use corral_api::{ApiState, Metrics, serve};
use corral_core::catalog::{Catalog, Surroundings};
use corral_core::command::ControllerHandle;
use corral_core::controller::{Controller, ControllerConfig};
use corral_core::listen::{Handover, handover};
use corral_core::log::LogBuffer;
use corral_core::ports::Ports;
use corral_core::snapshot::Snapshot;
use corral_core::{Error, Secret};
use corral_testkit::fakes::{FakeEngine, Memory, ports};
use corral_testkit::{FakeConfiguration, FakeGpu, FakeLive, FakeMachine, FakeUsage};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) const TOKEN: &str = "correct-horse";
pub(crate) const MODELS: &str = r#"schema = 1
[models.a]
name = "Model A"
file = "a.gguf"
[models.b]
file = "b.gguf"
ctx = 4096
parallel = 2
aliases = ["bee-*"]
description = "The second"
[models.gone]
file = "gone.gguf"
"#;

/// How long anything may take that does not hang.
const PATIENCE: Duration = Duration::from_secs(20);

/// A served API and everything behind it.
pub(crate) struct Bench {
    pub(crate) address: SocketAddr,
    pub(crate) engine: Arc<FakeEngine>,
    pub(crate) controller: ControllerHandle,
    pub(crate) logs: Arc<LogBuffer>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) usage: Arc<FakeUsage>,
    pub(crate) live: Arc<FakeLive>,
    pub(crate) gpu: Arc<FakeGpu>,
    pub(crate) handover: Handover,
    pub(crate) shutdown: CancellationToken,
    pub(crate) serving: JoinHandle<Result<(), Error>>,
    pub(crate) models_dir: TempDir,
}

impl Bench {
    /// On the real controller, with the models `a` and `b`, and `gone`, whose file is not there.
    pub(crate) async fn new() -> Self {
        Self::with_ports(|ports| ports).await
    }

    /// The same with some ports changed.
    pub(crate) async fn with_ports(change: impl FnOnce(Ports) -> Ports) -> Self {
        let models_dir = tempfile::tempdir().expect("a folder");
        std::fs::write(models_dir.path().join("a.gguf"), [0; 100]).expect("a file");
        std::fs::write(models_dir.path().join("b.gguf"), [0; 50]).expect("a file");
        Self::on(MODELS, models_dir, change).await
    }

    /// On the real controller, with this catalog.
    pub(crate) async fn with_catalog(text: &str, models_dir: TempDir) -> Self {
        Self::on(text, models_dir, |ports| ports).await
    }

    async fn on(text: &str, models_dir: TempDir, change: impl FnOnce(Ports) -> Ports) -> Self {
        let engine = Arc::new(FakeEngine::default());
        let surroundings = Surroundings {
            path: "models.toml".into(),
            home: PathBuf::from("/home/u"),
            models_dir: models_dir.path().to_owned(),
        };
        let config = ControllerConfig { version: "1.2.3".into(), catalog_path: "models.toml".into(), gateway: None };
        let reading = Catalog::read(text, &surroundings);
        let ports = change(ports(&engine, &Arc::new(Memory::default())));
        let (handle, controller) = Controller::new(config, ports, reading, Catalog::default());
        tokio::spawn(controller.run());
        Self::over(handle, engine, models_dir).await
    }

    /// On any controller.
    pub(crate) async fn over(controller: ControllerHandle, engine: Arc<FakeEngine>, models_dir: TempDir) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (usage, shutdown) = (Arc::<FakeUsage>::default(), CancellationToken::new());
        let (live, gpu) = (Arc::<FakeLive>::default(), Arc::<FakeGpu>::default());
        let state = ApiState { usage: usage.clone(), live: live.clone(), gpu: gpu.clone(), ..api_state(controller) };
        let (controller, logs, metrics) = (state.controller.clone(), state.logs.clone(), state.metrics.clone());
        let (handover, handed) = handover();
        let serving = tokio::spawn(serve(listener, handed, state, shutdown.clone()));
        Self { address, engine, controller, logs, metrics, usage, live, gpu, handover, shutdown, serving, models_dir }
    }

    /// A request that is right in every way; tests spoil one thing at a time.
    pub(crate) fn ask(&self, method: &str, target: &str) -> Ask {
        let headers = [
            ("Host".to_owned(), self.address.to_string()),
            ("Authorization".to_owned(), format!("Bearer {TOKEN}")),
            ("Connection".to_owned(), "close".to_owned()),
        ];
        Ask {
            address: self.address,
            method: method.to_owned(),
            target: target.to_owned(),
            headers: headers.into(),
            body: Vec::new(),
        }
    }

    pub(crate) async fn get(&self, target: &str) -> Answer {
        self.ask("GET", target).send().await
    }

    pub(crate) async fn post(&self, target: &str, body: &str) -> Answer {
        self.ask("POST", target).body(body).send().await
    }

    pub(crate) async fn until(&self, what: impl FnMut(&Arc<Snapshot>) -> bool) -> Arc<Snapshot> {
        let mut watch = self.controller.watch_snapshot();
        in_time(watch.wait_for(what)).await.expect("the controller runs").clone()
    }
}

pub(crate) fn api_state(controller: ControllerHandle) -> ApiState {
    ApiState {
        controller,
        logs: Arc::new(LogBuffer::new(10_000, 1 << 20)),
        token: Secret::new(TOKEN),
        metrics: Arc::new(Metrics::new()),
        usage: Arc::<FakeUsage>::default(),
        configuration: Arc::<FakeConfiguration>::default(),
        machine: Arc::<FakeMachine>::default(),
        live: Arc::<FakeLive>::default(),
        gpu: Arc::<FakeGpu>::default(),
        version: "1.2.3".to_owned(),
    }
}

pub(crate) async fn in_time<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("it does not hang")
}

/// A request, byte for byte.
#[derive(Clone)]
pub(crate) struct Ask {
    address: SocketAddr,
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Ask {
    /// For another listener.
    pub(crate) fn at(mut self, address: SocketAddr) -> Self {
        self.address = address;
        self
    }

    /// Adds a header, even one that is there already.
    pub(crate) fn and(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(there, _)| there != name);
        self
    }

    pub(crate) fn with(self, name: &str, value: &str) -> Self {
        self.without(name).and(name, value)
    }

    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        let length = self.body.len().to_string();
        self.with("Content-Length", &length)
    }

    /// Sends it and reads no more than the head of the answer.
    pub(crate) async fn open(self) -> Opened {
        let (reading, mut writing) = TcpStream::connect(self.address).await.expect("a connection").into_split();
        let mut bytes = format!("{} {} HTTP/1.1\r\n", self.method, self.target).into_bytes();
        for (name, value) in &self.headers {
            bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(&self.body);
        // The server may answer and close before it has read everything. It must not see the end of what is sent.
        let writing = tokio::spawn(async move {
            let _ = writing.write_all(&bytes).await;
            writing
        });
        let mut opened = Opened { status: 0, head: String::new(), reader: BufReader::new(reading), writing };
        loop {
            let line = opened.line().await.unwrap_or_else(|| panic!("no answer to {} {}", self.method, self.target));
            if line.is_empty() {
                break;
            }
            opened.head.push_str(&line);
            opened.head.push('\n');
        }
        let status = opened.head.split(' ').nth(1).and_then(|status| status.parse().ok());
        opened.status = status.expect("a status line");
        opened
    }

    pub(crate) async fn send(self) -> Answer {
        let mut opened = self.open().await;
        let mut body = Vec::new();
        in_time(opened.reader.read_to_end(&mut body)).await.expect("the whole answer");
        if opened.header("transfer-encoding").is_some() {
            body = unchunked(&body);
        }
        Answer { status: opened.status, head: opened.head, body: String::from_utf8(body).expect("UTF-8") }
    }
}

fn unchunked(mut bytes: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
        let size = std::str::from_utf8(&bytes[..end]).expect("a size").trim();
        let size = usize::from_str_radix(size, 16).expect("a size");
        whole.extend_from_slice(&bytes[end + 1..end + 1 + size]);
        bytes = &bytes[end + 1 + size + 2..];
    }
    whole
}

/// An answer whose body is still on its way.
pub(crate) struct Opened {
    pub(crate) status: u16,
    head: String,
    reader: BufReader<OwnedReadHalf>,
    #[expect(dead_code, reason = "keeps the connection open")]
    writing: JoinHandle<tokio::net::tcp::OwnedWriteHalf>,
}

impl Opened {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }

    /// The next line, whatever chunk it came in; none at the end.
    async fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = in_time(self.reader.read_line(&mut line)).await.unwrap_or(0);
        (read > 0).then(|| line.trim_end().to_owned())
    }

    /// The rest of the next line that begins so.
    pub(crate) async fn after(&mut self, prefix: &str) -> String {
        loop {
            let line = self.line().await.unwrap_or_else(|| panic!("the stream ended before {prefix:?}"));
            if let Some(rest) = line.strip_prefix(prefix) {
                return rest.to_owned();
            }
        }
    }

    /// The next server-sent event: its name and its data.
    pub(crate) async fn event(&mut self) -> (String, Value) {
        let name = self.after("event: ").await;
        (name, serde_json::from_str(&self.after("data: ").await).expect("JSON"))
    }

    /// The next line of NDJSON.
    pub(crate) async fn record(&mut self) -> Value {
        serde_json::from_str(&format!("{{{}", self.after("{").await)).expect("JSON")
    }

    /// Reads to the end, and fails when there is none.
    pub(crate) async fn end(mut self) {
        while self.line().await.is_some() {}
    }
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// Checks that this is an error in the one form that errors have, and gives its message and hint.
    #[track_caller]
    pub(crate) fn error(&self, status: u16, code: &str) -> (String, String) {
        let json = self.json();
        let error = &json["error"];
        assert_eq!((self.status, error["code"].as_str()), (status, Some(code)), "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/json"));
        let message = error["message"].as_str().expect("a message");
        assert!(error["hint"].is_string() || error["hint"].is_null(), "{json}");
        (message.to_owned(), error["hint"].as_str().unwrap_or_default().to_owned())
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut fields = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    fields.find(|(there, _)| there.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}
