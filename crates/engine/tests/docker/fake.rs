//! An engine that answers what the real one does only when something is wrong with it.

use std::path::Path;
use std::sync::{Arc, Mutex};

use corral_engine::Environment;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

/// Listens until it is dropped.
pub struct FakeDocker {
    env: Environment,
    asked: Arc<Mutex<Vec<String>>>,
    _task: AbortOnDropHandle<()>,
}

impl FakeDocker {
    /// `answers` gives the status and the body for a path without version and query; none: it never answers.
    pub fn open(
        folder: &Path,
        answers: impl Fn(&str) -> Option<(u16, &'static str)> + Send + Sync + Copy + 'static,
    ) -> Self {
        let path = folder.join("fake.sock");
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).expect("a socket");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&asked);
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let seen = Arc::clone(&seen);
                connections.spawn(async move {
                    let mut request = [0; 8192];
                    let size = stream.read(&mut request).await.unwrap_or_default();
                    let text = String::from_utf8_lossy(&request[..size]).into_owned();
                    let target = text.split(' ').nth(1).unwrap_or_default();
                    let path = target.split('?').next().unwrap_or_default();
                    // Without the version, as in `/v1.52/info`.
                    let path = path.strip_prefix("/v").and_then(|rest| Some(&rest[rest.find('/')?..])).unwrap_or(path);
                    seen.lock().expect("no panic").push(path.to_owned());
                    let Some((status, body)) = answers(path) else { return std::future::pending().await };
                    let answer = format!(
                        "HTTP/1.1 {status} x\r\nContent-Type: application/json\r\nConnection: close\r\n\
                         Content-Length: {}\r\n\r\n{body}",
                        body.len()
                    );
                    let _ = stream.write_all(answer.as_bytes()).await;
                });
            }
        });
        let env = [("DOCKER_HOST", format!("unix://{}", path.display()))].into_iter().collect();
        Self { env, asked, _task: AbortOnDropHandle::new(task) }
    }

    /// The environment in which this is the engine.
    pub fn env(&self) -> Environment {
        self.env.clone()
    }

    /// Whether something was asked for.
    pub fn was_asked(&self, path: &str) -> bool {
        self.asked.lock().expect("no panic").iter().any(|asked| asked == path)
    }
}
