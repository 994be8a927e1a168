//! A home, an engine in it, and the program that it runs.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use corral_core::launch::{Gpu, LaunchSpec, Runtime};
use corral_core::log::LogBuffer;
use corral_core::ports::{Endpoint, Engine, EngineEvent, Instance, Job};
use corral_core::{Error, InstanceId, Secret};
use corral_engine::EngineConfig;
use corral_engine::process::ProcessEngine;
use corral_testkit::{SandboxHome, TinyModel};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use rustix::process::{Pid, Signal};
use serde_json::{Value, json};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_util::task::AbortOnDropHandle;

/// Generous: the machine that runs the tests does other things at the same time.
pub(crate) const LONG: Duration = Duration::from_secs(30);

/// A real `llama-server`.
pub(crate) fn llama_server() -> PathBuf {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let program = variable("CORRAL_TEST_LLAMA_SERVER").unwrap_or_else(|| {
        let cache = variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache")));
        cache.expect("HOME is set").join("corral/llama-server")
    });
    assert!(
        program.is_file(),
        "these tests need a real llama-server: scripts/llama-binary.sh makes {}, or set CORRAL_TEST_LLAMA_SERVER",
        program.display()
    );
    program
}

/// A home of its own. What still runs when it is dropped is killed.
pub(crate) struct Bed {
    pub(crate) home: SandboxHome,
    pub(crate) logs: Arc<LogBuffer>,
    pub(crate) engine: ProcessEngine,
}

impl Bed {
    pub(crate) fn new() -> Self {
        let home = SandboxHome::new();
        let logs = Arc::new(LogBuffer::new(10_000, 1 << 20));
        let engine = ProcessEngine::new(config(home.path(), logs.clone()));
        Self { home, logs, engine }
    }

    /// The engine of another Corral in the same home.
    pub(crate) fn another_engine(&self) -> (ProcessEngine, Arc<LogBuffer>) {
        let logs = Arc::new(LogBuffer::new(10_000, 1 << 20));
        (ProcessEngine::new(config(self.home.path(), logs.clone())), logs)
    }

    /// A model that a real server loads.
    pub(crate) fn tiny(&self) -> LaunchSpec {
        let file = self.home.write_model("tiny.gguf", &TinyModel::new(1));
        spec(llama_server(), file)
    }

    /// A script in the server's place.
    pub(crate) fn script(&self, text: &str) -> LaunchSpec {
        let program = self.home.path().join("script");
        fs::write(&program, text).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        spec(program, self.home.models().join("none.gguf"))
    }

    pub(crate) async fn started(&self, spec: &LaunchSpec) -> (Instance, Endpoint) {
        let instance = self.engine.prepare(spec, &Job::unwatched()).await.unwrap();
        let endpoint = self.engine.start(&instance).await.unwrap();
        (instance, endpoint)
    }

    pub(crate) async fn ready(&self, spec: &LaunchSpec) -> (Instance, Endpoint) {
        let (instance, endpoint) = self.started(spec).await;
        self.engine.await_ready(&instance, &endpoint, LONG, &Job::unwatched()).await.unwrap();
        (instance, endpoint)
    }

    pub(crate) fn record_path(&self, instance: &Instance) -> PathBuf {
        self.home.state().join(format!("instances/{}.json", instance.id))
    }

    pub(crate) fn record(&self, instance: &Instance) -> Value {
        serde_json::from_slice(&fs::read(self.record_path(instance)).unwrap()).unwrap()
    }

    pub(crate) fn pid(&self, instance: &Instance) -> Pid {
        pid_in(&self.record(instance)).unwrap()
    }

    pub(crate) fn log_path(&self, instance: &Instance) -> PathBuf {
        self.home.state().join(format!("llama-server-{}.log", instance.id))
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        for entry in fs::read_dir(self.home.state().join("instances")).into_iter().flatten().flatten() {
            let record = fs::read(entry.path()).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
            if let Some(pid) = record.as_ref().and_then(pid_in) {
                let _ = rustix::process::kill_process_group(pid, Signal::KILL);
            }
        }
    }
}

fn pid_in(record: &Value) -> Option<Pid> {
    Pid::from_raw(i32::try_from(record["run"]["process"]["pid"].as_i64()?).ok()?)
}

pub(crate) fn config(home: &Path, logs: Arc<LogBuffer>) -> EngineConfig {
    EngineConfig {
        home_id: "test".to_owned(),
        slots_dir: home.join("cache/slots"),
        state_dir: home.join("state"),
        run_dir: home.join("run"),
        env: [("PATH", std::env::var("PATH").unwrap()), ("CORRAL_TOKEN", "not for servers".to_owned())]
            .into_iter()
            .collect(),
        logs,
        version: "0.0.0".to_owned(),
    }
}

pub(crate) fn spec(binary: PathBuf, file: PathBuf) -> LaunchSpec {
    let models_dir = file.parent().unwrap().to_owned();
    LaunchSpec {
        runtime: Runtime::Process,
        binary,
        models_dir,
        file,
        gpu: Gpu::None,
        load_timeout: LONG,
        ..corral_testkit::launch_spec("tiny")
    }
}

/// The next end of a server.
pub(crate) async fn exited(events: &mut UnboundedReceiver<EngineEvent>) -> (InstanceId, Error) {
    let event = tokio::time::timeout(LONG, events.recv()).await.expect("an event in time");
    match event.expect("the engine is there") {
        EngineEvent::Exited { instance, cause, .. } => (instance, cause),
        other => panic!("{other:?}"),
    }
}

/// `POST /v1/chat/completions` of a few tokens.
pub(crate) async fn chat(endpoint: &Endpoint, key: Option<&Secret>) -> (StatusCode, Value) {
    let body = json!({"messages": [{"role": "user", "content": "hello"}], "max_tokens": 4});
    post(endpoint, key, "/v1/chat/completions", &body).await
}

/// A request with a body in JSON.
pub(crate) async fn post(endpoint: &Endpoint, key: Option<&Secret>, path: &str, body: &Value) -> (StatusCode, Value) {
    let mut request = Request::post(format!("{}{path}", endpoint.url));
    if let Some(key) = key {
        request = request.header("Authorization", format!("Bearer {}", key.expose()));
    }
    let client = Client::builder(TokioExecutor::new()).build_http();
    let request = request.body(Full::new(Bytes::from(body.to_string()))).unwrap();
    let response = client.request(request).await.unwrap();
    let status = response.status();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&bytes).unwrap())
}

/// A request whose answer is streamed and would not end for a long time. It is sent, or waits in the queue; whoever
/// drops it has disconnected.
pub(crate) fn endless(endpoint: &Endpoint, key: &Secret) -> AbortOnDropHandle<()> {
    let body =
        r#"{"messages":[{"role":"user","content":"hello"}],"max_tokens":100000,"stream":true,"ignore_eos":true}"#;
    let request = Request::post(format!("{}/v1/chat/completions", endpoint.url))
        .header("Authorization", format!("Bearer {}", key.expose()))
        .body(Full::new(Bytes::from(body)))
        .unwrap();
    AbortOnDropHandle::new(tokio::spawn(async move {
        let client = Client::builder(TokioExecutor::new()).build_http();
        let mut response = client.request(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        while let Some(Ok(_)) = response.frame().await {}
    }))
}

/// What `Access-Control-Allow-Origin` says to a page of this origin.
pub(crate) async fn allowed_origin(endpoint: &Endpoint, method: Method, origin: &str) -> Option<String> {
    let request = Request::builder().method(method).uri(format!("{}/v1/chat/completions", endpoint.url));
    let request = request.header("Origin", origin).header("Access-Control-Request-Method", "POST");
    let client = Client::builder(TokioExecutor::new()).build_http();
    let response = client.request(request.body(Full::<Bytes>::default()).unwrap()).await.unwrap();
    response.headers().get("access-control-allow-origin").map(|value| value.to_str().unwrap().to_owned())
}

/// Nothing of the group is left.
pub(crate) fn group_ended(leader: Pid) -> bool {
    rustix::process::test_kill_process_group(leader).is_err()
}
