//! Asks a `llama-server` how it is: whether it is ready, and how much it has to do.

use std::time::Duration;

use bytes::Bytes;
use corral_core::{Code, Error, Result, Secret};
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::time::{Instant, sleep, timeout};

/// The shortest wait between two questions.
const SHORTEST: Duration = Duration::from_millis(5);
/// The longest wait between two questions.
const LONGEST: Duration = Duration::from_millis(250);
/// How long one answer about the health may take at first: a packet that is lost while a network changes would be sent
/// again only after a second.
const IMPATIENT: Duration = Duration::from_millis(50);
/// How long one may take at most: a busy machine is slow, a hung server must not be waited for.
const PATIENT: Duration = Duration::from_secs(1);
/// How long one answer about the load may take.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);
/// The largest answer that is read, in bytes.
const MAX_ANSWER: usize = 1024 * 1024;

/// How a server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// It answers requests.
    Ready,
    /// It listens and loads its model.
    Loading,
    /// Nothing answers.
    Silent,
}

/// What a server says of one of its slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// Its number.
    pub id: u32,
    /// Tokens that it could hold.
    pub total: u64,
    /// Tokens that it holds.
    pub used: u64,
    /// Whether it works on a request.
    pub busy: bool,
    /// That request, or the last one.
    pub task: Option<i64>,
    /// Tokens of its prompt that were evaluated so far.
    pub evaluated: u64,
}

/// One HTTP client for all questions.
#[derive(Debug, Clone)]
pub struct Probe {
    client: Client<HttpConnector, Empty<Bytes>>,
}

impl Default for Probe {
    fn default() -> Self {
        Self::new()
    }
}

impl Probe {
    /// A client that keeps no connection longer than a moment.
    pub fn new() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new()).pool_idle_timeout(Duration::from_secs(1)).build(connector);
        Self { client }
    }

    /// Asks `/health` of the server at `url`, which needs no key.
    pub async fn health(&self, url: &str) -> Health {
        self.health_within(PATIENT, url).await
    }

    async fn health_within(&self, patience: Duration, url: &str) -> Health {
        match timeout(patience, self.get(url, "/health", None)).await {
            Ok(Ok((StatusCode::OK, _))) => Health::Ready,
            Ok(Ok(_)) => Health::Loading,
            Ok(Err(_)) | Err(_) => Health::Silent,
        }
    }

    /// Returns once `/health` answers 200, however long that takes: whoever calls races this against a timeout and
    /// against the server's end. Asks more often at first, so that the last wait adds about a hundredth of the time.
    pub async fn until_ready(&self, url: &str) {
        let began = Instant::now();
        let patience = || (began.elapsed() / 2).clamp(IMPATIENT, PATIENT);
        while self.health_within(patience(), url).await != Health::Ready {
            sleep((began.elapsed() / 50).clamp(SHORTEST, LONGEST)).await;
        }
    }

    /// Number of requests that the server at `url` works on or has queued. A server that listens but does not get to
    /// answer counts as busy with one: it answers between two batches, and a batch of a large model can take seconds.
    pub async fn busy(&self, url: &str, key: &Secret) -> Result<u32> {
        let Ok(count) = timeout(BUSY_TIMEOUT, self.count(url, key)).await else { return Ok(1) };
        count
    }

    async fn count(&self, url: &str, key: &Secret) -> Result<u32> {
        let (status, body) = self.get(url, "/metrics", Some(key)).await?;
        match status {
            StatusCode::OK => requests_in_metrics(&body).ok_or_else(|| strange(url, "/metrics", "without its counts")),
            // While it loads, every route answers 503, and nothing is worked on.
            StatusCode::SERVICE_UNAVAILABLE => Ok(0),
            // `--metrics` can have been undone by the catalog's own arguments.
            _ => match self.get(url, "/slots", Some(key)).await? {
                (StatusCode::OK, body) => requests_in_slots(&body).ok_or_else(|| strange(url, "/slots", "not in JSON")),
                (other, _) => Err(strange(url, "/slots", &format!("with {other}"))),
            },
        }
    }

    /// The slots of the server at `url`; none where it does not tell of them. A server that sleeps is woken by this.
    pub async fn slots(&self, url: &str, key: &Secret) -> Result<Option<Vec<Slot>>> {
        let silent = || strange(url, "/slots", "not in time");
        match timeout(PATIENT, self.get(url, "/slots", Some(key))).await.map_err(|_| silent())?? {
            (StatusCode::OK, body) => slots(&body).map(Some).ok_or_else(|| strange(url, "/slots", "not in JSON")),
            (StatusCode::NOT_FOUND | StatusCode::NOT_IMPLEMENTED, _) => Ok(None),
            (other, _) => Err(strange(url, "/slots", &format!("with {other}"))),
        }
    }

    async fn get(&self, url: &str, path: &str, key: Option<&Secret>) -> Result<(StatusCode, Bytes)> {
        let silent = || {
            Error::new(Code::EngineFailed, format!("llama-server at {url} does not answer"))
                .hint("`corral status` says whether it runs, and `corral logs` what it does")
        };
        let mut request = Request::get(format!("{url}{path}"));
        if let Some(key) = key {
            request = request.header(header::AUTHORIZATION, format!("Bearer {}", key.expose()));
        }
        let request = request.body(Empty::new()).map_err(|error| silent().because(error))?;
        let response = self.client.request(request).await.map_err(|error| silent().because(error))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
        Ok((status, body.map_err(|error| silent().and(&error.to_string()))?.to_bytes()))
    }
}

fn strange(url: &str, path: &str, how: &str) -> Error {
    Error::new(Code::EngineFailed, format!("llama-server at {url} answers {path} {how}"))
        .hint("look at `args` and `env` of the model in models.toml: they can turn `--metrics` and `--slots` off")
}

/// The sum of the requests in progress and in the queue, from Prometheus text.
fn requests_in_metrics(body: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(body).ok()?;
    let value = |name: &str| -> Option<u32> {
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
    };
    // Older servers have no count of the queue.
    let queued = value("llamacpp:requests_deferred").unwrap_or_default();
    Some(value("llamacpp:requests_processing")?.saturating_add(queued))
}

/// The number of slots at work.
fn requests_in_slots(body: &[u8]) -> Option<u32> {
    let slots: Vec<serde_json::Value> = serde_json::from_slice(body).ok()?;
    let busy = slots.iter().filter(|slot| slot.get("is_processing").and_then(serde_json::Value::as_bool) == Some(true));
    u32::try_from(busy.count()).ok()
}

fn slots(body: &[u8]) -> Option<Vec<Slot>> {
    let told: Vec<serde_json::Value> = serde_json::from_slice(body).ok()?;
    let slot = |(at, slot): (usize, &serde_json::Value)| {
        let count = |key: &str| slot.get(key).and_then(serde_json::Value::as_u64);
        let id = count("id").map_or_else(|| u32::try_from(at), u32::try_from).ok()?;
        Some(Slot {
            id,
            total: count("n_ctx").unwrap_or_default(),
            // What was generated is counted in; an empty slot has no such key.
            used: count("n_prompt_tokens").unwrap_or_default(),
            busy: slot.get("is_processing").and_then(serde_json::Value::as_bool) == Some(true),
            task: slot.get("id_task").and_then(serde_json::Value::as_i64),
            evaluated: count("n_prompt_tokens_processed").unwrap_or_default(),
        })
    };
    told.iter().enumerate().map(slot).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    /// Serves one answer per connection, in order, and then nothing any more.
    async fn server(answers: Vec<&'static str>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        tokio::spawn(async move {
            let mut hanging = Vec::new();
            for answer in answers {
                let (mut stream, _) = listener.accept().await.expect("a connection");
                if answer == HANG {
                    hanging.push(stream);
                    continue;
                }
                let mut request = [0; 4096];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        url
    }

    const HANG: &str = "never answered";
    const LOADING: &str = "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    const READY: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}";
    const METRICS: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n# HELP llamacpp:requests_processing x\n\
                           llamacpp:requests_processing 2\nllamacpp:requests_deferred 3\n";
    const NOT_IMPLEMENTED: &str = "HTTP/1.1 501 Not Implemented\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    const SLOTS: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n[{\"id\":0,\"is_processing\":true},{\"id\":1,\
                         \"is_processing\":false}]";

    #[tokio::test]
    async fn readiness_is_200_and_nothing_else() {
        // A connection that is closed without an answer is what Docker's proxy gives before the server listens.
        let url = server(vec!["", LOADING, "", LOADING, READY]).await;
        let probe = Probe::new();
        assert_eq!(probe.health(&url).await, Health::Silent);
        assert_eq!(probe.health(&url).await, Health::Loading);
        probe.until_ready(&url).await;
        assert_eq!(probe.health(&url).await, Health::Silent, "the server took just the five connections");
    }

    #[tokio::test]
    async fn a_question_that_hangs_is_asked_again_soon() {
        let url = server(vec![HANG, HANG, READY]).await;
        let soon = timeout(Duration::from_millis(900), Probe::new().until_ready(&url)).await;
        assert!(soon.is_ok(), "two hanging questions must not take a second each");
    }

    #[test]
    fn slots_are_read_as_llama_server_writes_them() {
        let body = br#"[{"id":0,"n_ctx":65536,"is_processing":true,"id_task":7,"n_prompt_tokens":374,
            "n_prompt_tokens_processed":41,"n_prompt_tokens_cache":0,"next_token":[{"n_decoded":333}]},
            {"id":1,"n_ctx":4096,"is_processing":false}]"#;
        let busy = Slot { id: 0, total: 65_536, used: 374, busy: true, task: Some(7), evaluated: 41 };
        let empty = Slot { id: 1, total: 4096, used: 0, busy: false, task: None, evaluated: 0 };
        assert_eq!(slots(body), Some(vec![busy, empty]));
        assert_eq!(
            (slots(b"[]"), slots(b"{}"), slots(b"[{\"id\":-1}]").map(|all| all.len())),
            (Some(vec![]), None, Some(1))
        );
    }

    #[tokio::test]
    async fn busy_counts_what_runs_and_what_waits() {
        let probe = Probe::new();
        let key = Secret::new("k");
        for (answers, expected) in [(vec![METRICS], 5), (vec![NOT_IMPLEMENTED, SLOTS], 1), (vec![LOADING], 0)] {
            let url = server(answers).await;
            assert_eq!(probe.busy(&url, &key).await.expect("an answer"), expected);
        }
        let gone = server(Vec::new()).await;
        let gone = probe.busy(&gone, &key).await.expect_err("nobody there");
        let odd = probe.busy(&server(vec![NOT_IMPLEMENTED, NOT_IMPLEMENTED]).await, &key).await.expect_err("odd");
        for error in [gone, odd] {
            assert!(error.code() == Code::EngineFailed && error.body().hint.is_some(), "{error:?}");
        }
    }
}
