//! A home with model files, and a server that behaves as it is told.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use corral_core::launch::{LaunchSpec, Runtime};
use corral_core::log::LogBuffer;
use corral_core::ports::{Contexts, Endpoint, Instance, KeptContext};
use corral_core::{InstanceId, Result, Secret};
use corral_testkit::SandboxHome;
use jiff::Timestamp;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::environment::{EngineConfig, Environment};
use crate::slot_files::folder::{self, Writer};
use crate::slot_files::name::{Fingerprint, Stem};
use crate::slot_files::{SlotFiles, index};

pub(super) const LONG: Duration = Duration::from_secs(20);
pub(super) const PLENTY: u64 = 1 << 20;
/// Bytes of a saved slot.
pub(super) const SIZE: u64 = 1000;

/// What a server does when it is asked to save or restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    Works,
    /// Says that slots are empty.
    Empty,
    /// Writes, and never answers.
    Hangs,
    /// Closes the connection.
    Ends,
    /// Answers with this status.
    Says(u16),
    /// Puts a link in place of a file.
    Links,
}

pub(super) struct Bed {
    pub(super) home: SandboxHome,
    pub(super) slot_files: Arc<SlotFiles>,
}

impl Bed {
    pub(super) fn new() -> Self {
        let home = SandboxHome::new();
        let slot_files = Arc::new(SlotFiles::new(&config(&home)).with_reserve(0));
        Self { home, slot_files }
    }

    pub(super) fn spec(&self, model: &str) -> LaunchSpec {
        let file = self.home.models().join(format!("{model}.gguf"));
        if !file.exists() {
            fs::write(&file, model).expect("written");
        }
        let spec = LaunchSpec { file, ..corral_testkit::launch_spec(model) };
        folder::make(&self.home.slots(), &spec.model, Writer::Own).expect("a folder");
        spec
    }

    pub(super) fn dir(&self, spec: &LaunchSpec) -> PathBuf {
        folder::of(&self.home.slots(), &spec.model)
    }

    /// The files of a model, without what they all begin with.
    pub(super) fn files(&self, spec: &LaunchSpec) -> Vec<String> {
        let name = |entry: fs::DirEntry| entry.file_name().into_string().expect("UTF-8");
        let entries = fs::read_dir(self.dir(spec)).expect("a folder");
        let mut names: Vec<_> = entries.map(|entry| name(entry.expect("an entry"))).collect();
        names.sort();
        names.iter().map(|name| name.rsplit('-').next().unwrap_or_default().to_owned()).collect()
    }

    pub(super) fn path(&self, spec: &LaunchSpec, slot: u32) -> PathBuf {
        let model = Fingerprint::of(spec).expect("a model file");
        self.dir(spec).join(Stem::new(&spec.model, &model, &spec.hash()).file(slot))
    }

    pub(super) async fn server(&self, spec: &LaunchSpec, slots: u32, manner: Manner) -> Endpoint {
        serve(self.dir(spec), slots, manner).await
    }

    pub(super) async fn save(&self, spec: &LaunchSpec, endpoint: &Endpoint, budget: u64) -> Result<KeptContext> {
        self.slot_files.save(&instance(spec), endpoint, spec, budget).await
    }

    pub(super) async fn restore(&self, spec: &LaunchSpec, endpoint: &Endpoint) -> Result<KeptContext> {
        self.slot_files.restore(&instance(spec), endpoint, spec).await
    }

    pub(super) async fn saved(&self, spec: &LaunchSpec, slots: u32) {
        let endpoint = self.server(spec, slots, Manner::Works).await;
        let kept = self.save(spec, &endpoint, PLENTY).await.expect("saved");
        assert_eq!(kept, context(slots));
    }

    /// Changes what the index says of a file.
    pub(super) fn rewrite(&self, spec: &LaunchSpec, slot: u32, change: impl FnOnce(&mut index::Entry)) {
        let key = format!("{}/{}", spec.model, self.path(spec, slot).file_name().expect("a name").to_string_lossy());
        let changed = self.slot_files.store.change(|index| change(index.files.get_mut(&key).expect("an entry")));
        changed.expect("written");
    }
}

pub(super) fn config(home: &SandboxHome) -> EngineConfig {
    EngineConfig {
        home_id: "test".to_owned(),
        slots_dir: home.slots(),
        state_dir: home.state(),
        run_dir: home.run(),
        env: Environment::default(),
        logs: Arc::new(LogBuffer::new(10, 1000)),
        version: "0.0.0".to_owned(),
    }
}

pub(super) fn instance(spec: &LaunchSpec) -> Instance {
    Instance {
        id: InstanceId("i".to_owned()),
        runtime: Runtime::Process,
        model: spec.model.clone(),
        config_hash: spec.hash(),
        image: None,
        api_key: Secret::new("k"),
    }
}

pub(super) fn context(slots: u32) -> KeptContext {
    KeptContext { slots, tokens: u64::from(slots) * 100, bytes: u64::from(slots) * SIZE }
}

async fn serve(dir: PathBuf, slots: u32, manner: Manner) -> Endpoint {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream, dir.clone(), slots, manner));
        }
    });
    Endpoint { url, started_at: Timestamp::now() }
}

async fn answer(mut stream: TcpStream, dir: PathBuf, slots: u32, manner: Manner) {
    let mut request = Vec::new();
    let (head, body) = loop {
        let mut chunk = [0; 4096];
        let read = stream.read(&mut chunk).await.unwrap_or_default();
        request.extend_from_slice(&chunk[..read]);
        let text = String::from_utf8_lossy(&request).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        if head.starts_with("GET") || serde_json::from_str::<Value>(body).is_ok() {
            break (head.to_owned(), body.to_owned());
        }
    };
    assert!(head.to_lowercase().contains("authorization: bearer k"), "{head}");
    let (status, text) = if head.starts_with("GET") {
        let list: Vec<String> = (0..slots).map(|slot| format!("{{\"id\":{slot}}}")).collect();
        (if manner == Manner::Says(501) { 501 } else { 200 }, format!("[{}]", list.join(",")))
    } else {
        let file: Value = serde_json::from_str(&body).expect("JSON");
        let path = dir.join(file["filename"].as_str().expect("a name"));
        let saves = head.contains("action=save");
        if saves && manner == Manner::Links {
            std::os::unix::fs::symlink(dir.join("../../target"), &path).expect("a link");
        } else if saves {
            fs::write(&path, vec![b'x'; usize::try_from(SIZE).expect("small")]).expect("written");
        }
        match manner {
            Manner::Hangs => std::future::pending().await,
            Manner::Ends => return,
            Manner::Says(status) => (status, "{}".to_owned()),
            Manner::Empty => (200, "{\"n_saved\":0,\"n_written\":1000,\"n_restored\":0}".to_owned()),
            Manner::Works | Manner::Links => {
                assert!(saves || path.exists(), "{}", path.display());
                (200, "{\"n_saved\":100,\"n_written\":1000,\"n_restored\":100}".to_owned())
            }
        }
    };
    let answer = format!("HTTP/1.1 {status} Odd\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{text}", text.len());
    let _ = stream.write_all(answer.as_bytes()).await;
}
