//! What llama-server is asked about its slots.

use std::time::Duration;

use bytes::Bytes;
use corral_core::{Code, Error, Result, Secret};
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::timeout;

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// The largest answer that is read, in bytes: older servers tell the whole prompt of each slot.
const MAX_ANSWER: usize = 64 << 20;

/// One HTTP client for all servers.
#[derive(Debug)]
pub(super) struct Client(legacy::Client<HttpConnector, Full<Bytes>>);

impl Client {
    pub(super) fn new() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        // A server that was stopped must not be met again by way of a connection that is kept.
        Self(legacy::Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector))
    }
}

/// The slots of one server.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slots<'a> {
    pub(super) client: &'a Client,
    /// Where it answers.
    pub(super) url: &'a str,
    /// Its key.
    pub(super) key: &'a Secret,
}

/// Why a slot was not saved or restored.
#[derive(Debug)]
pub(super) enum Failure {
    /// This server cannot do that.
    Unsupported,
    /// It tried, and says why that did not work.
    Refused(String),
    /// It did not try.
    Untried(Error),
    /// It ended or hung over it.
    Broken(Error),
}

/// What a server says of a save.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(super) struct Saved {
    /// Tokens that the slot held.
    pub(super) n_saved: u64,
    /// Bytes that were written; none where a server does not tell.
    pub(super) n_written: Option<u64>,
}

#[derive(Deserialize)]
struct Restored {
    n_restored: u64,
}

impl Slots<'_> {
    /// The numbers of the slots; none where this server does not tell.
    pub(super) async fn ids(&self) -> Result<Option<Vec<u32>>> {
        let answer = self.ask(Method::GET, "/slots", Bytes::new()).await;
        let (status, body) = match answer {
            Ok(answer) => answer,
            Err(Failure::Untried(error) | Failure::Broken(error)) => return Err(error),
            Err(Failure::Unsupported | Failure::Refused(_)) => return Ok(None),
        };
        match status {
            StatusCode::OK => ids(&body).map(Some).ok_or_else(|| self.strange("answers /slots with no list of slots")),
            StatusCode::NOT_FOUND | StatusCode::NOT_IMPLEMENTED => Ok(None),
            other => Err(self.strange(&format!("answers /slots with {other}"))),
        }
    }

    /// Saves a slot into a file of the server's own folder.
    pub(super) async fn save(&self, slot: u32, file: &str) -> Result<Saved, Failure> {
        let body = self.act(slot, "save", file).await?;
        serde_json::from_slice(&body).map_err(|_| Failure::Refused("an answer that says nothing".to_owned()))
    }

    /// Reads a file of the server's own folder into a slot, and returns how many tokens the server says that it read.
    pub(super) async fn restore(&self, slot: u32, file: &str) -> Result<u64, Failure> {
        let body = self.act(slot, "restore", file).await?;
        let restored: Result<Restored, _> = serde_json::from_slice(&body);
        Ok(restored.map_or(0, |restored| restored.n_restored))
    }

    async fn act(&self, slot: u32, action: &str, file: &str) -> Result<Bytes, Failure> {
        let body = serde_json::json!({ "filename": file }).to_string();
        let path = format!("/slots/{slot}?action={action}");
        let (status, body) = self.ask(Method::POST, &path, Bytes::from(body)).await?;
        match status {
            StatusCode::OK => Ok(body),
            StatusCode::NOT_FOUND | StatusCode::NOT_IMPLEMENTED => Err(Failure::Unsupported),
            StatusCode::BAD_REQUEST | StatusCode::INTERNAL_SERVER_ERROR => Err(Failure::Refused(reason(&body))),
            other => Err(Failure::Untried(self.strange(&format!("answers `{action}` of a slot with {other}")))),
        }
    }

    async fn ask(&self, method: Method, path: &str, body: Bytes) -> Result<(StatusCode, Bytes), Failure> {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url))
            .header(header::AUTHORIZATION, format!("Bearer {}", self.key.expose()))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body));
        let request = request.map_err(|error| Failure::Untried(self.strange("cannot be asked").because(error)))?;
        let answer = async {
            let response = self.client.0.request(request).await.map_err(|error| {
                let unreached = error.is_connect();
                let error = self.strange("does not answer").because(error);
                if unreached { Failure::Untried(error) } else { Failure::Broken(error) }
            })?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
            let body =
                body.map_err(|error| Failure::Broken(self.strange("breaks off its answer").and(&error.to_string())))?;
            Ok((status, body.to_bytes()))
        };
        timeout(PATIENCE, answer).await.unwrap_or_else(|_| {
            let how = format!("does not answer {path} within {} s", PATIENCE.as_secs());
            Err(Failure::Broken(self.strange(&how)))
        })
    }

    fn strange(&self, how: &str) -> Error {
        Error::new(Code::EngineFailed, format!("llama-server at {} {how}", self.url))
            .hint("`corral logs` shows what it does; `keep_context = false` does without keeping conversations")
    }
}

/// The numbers of the slots. Where they have none, they count from 0.
fn ids(body: &[u8]) -> Option<Vec<u32>> {
    let slots: Vec<Value> = serde_json::from_slice(body).ok()?;
    let id = |(at, slot): (usize, &Value)| {
        let told = slot.get("id").and_then(Value::as_u64).map(u32::try_from);
        told.unwrap_or_else(|| u32::try_from(at)).ok()
    };
    slots.iter().enumerate().map(id).collect()
}

/// The server's own sentence, of one line and bounded length.
fn reason(body: &[u8]) -> String {
    let told: Option<String> = serde_json::from_slice::<Value>(body)
        .ok()
        .and_then(|body| Some(body.get("error")?.get("message")?.as_str()?.to_owned()));
    let told = told.unwrap_or_else(|| "it does not say why".to_owned());
    told.chars().filter(|letter| !letter.is_control()).take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_have_numbers_told_or_not() {
        assert_eq!(ids(br#"[{"id":0,"n_ctx":8192},{"id":3}]"#), Some(vec![0, 3]));
        assert_eq!(ids(br"[{},{}]"), Some(vec![0, 1]));
        assert_eq!(ids(b"[]"), Some(Vec::new()));
        assert_eq!(ids(br#"{"error":{}}"#), None);
    }

    #[test]
    fn a_servers_sentence_is_of_one_line() {
        let body = br#"{"error":{"code":500,"message":"Unable to\u001b[2J save slot","type":"server_error"}}"#;
        assert_eq!(reason(body), "Unable to[2J save slot");
        assert_eq!(reason(b"<html>"), "it does not say why");
    }

    #[test]
    fn a_save_says_how_much() {
        let newer = br#"{"id_slot":0,"filename":"a","n_saved":7,"n_written":9,"timings":{"save_ms":4.4}}"#;
        let read = |body: &[u8]| serde_json::from_slice::<Saved>(body).ok();
        assert_eq!(read(newer), Some(Saved { n_saved: 7, n_written: Some(9) }));
        assert_eq!(read(br#"{"n_saved":7}"#), Some(Saved { n_saved: 7, n_written: None }));
        assert_eq!(read(b"{}"), None);
    }
}
