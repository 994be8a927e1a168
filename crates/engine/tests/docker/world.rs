//! A home, an engine and a model for one test on the real Docker.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bollard::Docker;
use bollard::query_parameters::{ListContainersOptionsBuilder, RemoveContainerOptionsBuilder};
use corral_core::launch::LaunchSpec;
use corral_core::log::LogBuffer;
use corral_core::ports::{Endpoint, Engine, EngineEvent, Instance, Job, Owned};
use corral_engine::docker::DockerEngine;
use corral_engine::{EngineConfig, Environment};
use corral_testkit::{SandboxHome, TinyModel, launch_spec};
use tokio::sync::mpsc;

/// A home whose containers are removed when it is dropped.
pub struct World {
    pub home: SandboxHome,
    pub id: String,
    pub logs: Arc<LogBuffer>,
    pub docker: Docker,
    pub image: String,
}

impl World {
    pub async fn new() -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let id = format!("test-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let docker = Docker::connect_with_defaults().expect("a Docker client");
        let image = std::env::var("CORRAL_TEST_IMAGE").unwrap_or_else(|_| "corral-test/llama-server:local".to_owned());
        docker.ping().await.expect("these tests need Docker: `scripts/docker.sh start`");
        docker.inspect_image(&image).await.expect("these tests need an image: `scripts/llama-image.sh`");
        let home = SandboxHome::new();
        home.write_model("m.gguf", &TinyModel::new(1));
        Self { home, id, logs: Arc::new(LogBuffer::new(10_000, 10_000_000)), docker, image }
    }

    pub fn engine(&self) -> DockerEngine {
        self.engine_at(Environment::from_process())
    }

    pub fn engine_at(&self, env: Environment) -> DockerEngine {
        DockerEngine::new(self.config_at(env))
    }

    pub fn config_at(&self, env: Environment) -> EngineConfig {
        EngineConfig {
            home_id: self.id.clone(),
            slots_dir: self.home.slots(),
            state_dir: self.home.state(),
            run_dir: self.home.run(),
            env,
            logs: Arc::clone(&self.logs),
            version: "0.0.0".to_owned(),
        }
    }

    pub fn spec(&self, model: &str) -> LaunchSpec {
        LaunchSpec {
            image: self.image.clone(),
            models_dir: self.home.models(),
            file: self.home.models().join("m.gguf"),
            load_timeout: Duration::from_secs(30),
            ..launch_spec(model)
        }
    }

    /// Names and states of all containers of this home, as Docker has them.
    pub async fn containers(&self) -> Vec<String> {
        let filters = HashMap::from([("label".to_owned(), vec![format!("dev.corral.home={}", self.id)])]);
        let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        let listed = self.docker.list_containers(Some(options)).await.expect("a list");
        listed.into_iter().filter_map(|container| container.id).collect()
    }

    pub async fn remove(&self, id: &str) {
        let force = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        self.docker.remove_container(id, Some(force)).await.expect("removed");
    }

    pub fn log_lines(&self, containing: &str) -> usize {
        self.logs.tail(10_000).iter().filter(|record| record.msg.contains(containing)).count()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // A destructor cannot wait for futures; the command can be waited for.
        let filter = format!("label=dev.corral.home={}", self.id);
        let listed = std::process::Command::new("docker").args(["ps", "-aq", "--filter", &filter]).output();
        let Ok(listed) = listed else { return };
        let ids = String::from_utf8_lossy(&listed.stdout).into_owned();
        if !ids.trim().is_empty() {
            let _ = std::process::Command::new("docker").args(["rm", "-fv"]).args(ids.split_whitespace()).output();
        }
    }
}

/// A started server that is ready.
pub async fn ready(engine: &DockerEngine, spec: &LaunchSpec) -> (Instance, Endpoint) {
    let instance = engine.prepare(spec, &Job::unwatched()).await.expect("prepared");
    let endpoint = engine.start(&instance).await.expect("started");
    engine.await_ready(&instance, &endpoint, spec.load_timeout, &Job::unwatched()).await.expect("ready");
    (instance, endpoint)
}

pub async fn only(engine: &DockerEngine) -> Owned {
    let mut owned = engine.owned().await.expect("an answer");
    assert_eq!(owned.len(), 1, "{owned:?}");
    owned.remove(0)
}

/// The next event. The wait is long for a machine that has more to do than to test.
pub async fn next(events: &mut mpsc::UnboundedReceiver<EngineEvent>) -> EngineEvent {
    tokio::time::timeout(Duration::from_secs(10), events.recv()).await.expect("an event in time").expect("an event")
}

/// The status and the body of a request to a server.
pub async fn get(url: &str, path: &str, key: Option<&str>) -> (u16, String) {
    ask(http::Request::get(format!("{url}{path}")), key, String::new()).await
}

/// The status and the body of a request with a body in JSON.
pub async fn post(url: &str, path: &str, key: &str, body: String) -> (u16, String) {
    ask(http::Request::post(format!("{url}{path}")), Some(key), body).await
}

async fn ask(mut request: http::request::Builder, key: Option<&str>, body: String) -> (u16, String) {
    use http_body_util::{BodyExt, Full};
    let client = hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new()).build_http();
    if let Some(key) = key {
        request = request.header("Authorization", format!("Bearer {key}"));
    }
    let request = request.body(Full::new(bytes::Bytes::from(body))).expect("a request");
    let response = client.request(request).await.expect("an answer");
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.expect("a body").to_bytes();
    (status, String::from_utf8_lossy(&body).into_owned())
}
