//! A client of `llama-server`, at the address and with the key that `/status` tells.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};

use corral_core::snapshot::Snapshot;
use corral_core::usage::Tokens;
use serde_json::{Value, json};

use crate::PATIENCE;
use crate::api::{Answer, agent, key_file};

/// Speaks to the loaded model.
#[derive(Debug, Clone)]
pub struct Inference {
    agent: ureq::Agent,
    /// The server's address, without a path.
    pub url: String,
    key: Option<String>,
}

impl Inference {
    /// For the model that a snapshot says is loaded.
    #[track_caller]
    pub fn of(status: &Snapshot) -> Self {
        let url = status.engine.as_ref().and_then(|engine| engine.url.clone()).expect("an address");
        let key = std::fs::read_to_string(key_file(status)).expect("the key can be read").trim().to_owned();
        Self { agent: agent(Some(PATIENCE)), url, key: Some(key) }
    }

    /// The same without the key, or with another.
    #[must_use]
    pub fn with_key(&self, key: Option<&str>) -> Self {
        Self { key: key.map(str::to_owned), ..self.clone() }
    }

    /// The key.
    pub fn key(&self) -> &str {
        self.key.as_deref().unwrap_or_default()
    }

    fn send(&self, path: &str, body: &Value) -> Result<ureq::http::Response<ureq::Body>, ureq::Error> {
        let mut request = self.agent.post(format!("{}{path}", self.url));
        if let Some(key) = &self.key {
            request = request.header("Authorization", format!("Bearer {key}"));
        }
        request.send_json(body)
    }

    /// `POST`; the transport may fail.
    pub fn try_post(&self, path: &str, body: &Value) -> Result<Answer, ureq::Error> {
        let mut answer = self.send(path, body)?;
        let text = answer.body_mut().read_to_string()?;
        Ok(Answer { status: answer.status().as_u16(), body: serde_json::from_str(&text).unwrap_or_default() })
    }

    #[track_caller]
    fn get(&self, path: &str) -> ureq::http::Response<ureq::Body> {
        let request = self.agent.get(format!("{}{path}", self.url));
        let answer = request.header("Authorization", format!("Bearer {}", self.key())).call();
        answer.unwrap_or_else(|error| panic!("GET {path}: {error}"))
    }

    /// What the only slot was last asked to go on with, as the template made it; the server must have been started with
    /// `LLAMA_SERVER_SLOTS_DEBUG`.
    #[track_caller]
    pub fn prompt(&self) -> String {
        let slots: Value = self.get("/slots").body_mut().read_json().expect("JSON");
        let prompt = slots[0]["prompt"].as_str().unwrap_or_else(|| panic!("a prompt in {slots:#}"));
        prompt.to_owned()
    }

    /// `llama-server`'s own counters by their names, without the prefix that all have.
    #[track_caller]
    pub fn counters(&self) -> BTreeMap<String, u64> {
        let text = self.get("/metrics").body_mut().read_to_string().expect("a text");
        let lines = text.lines().filter_map(|line| line.strip_prefix("llamacpp:")?.split_once(' '));
        lines.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?))).collect()
    }

    /// What it says to have read and generated since it was started.
    #[track_caller]
    pub fn tokens(&self) -> Tokens {
        let counters = self.counters();
        let count = |name: &str| *counters.get(name).unwrap_or_else(|| panic!("{name} in {counters:?}"));
        let cached = count("prompt_tokens_cached_total");
        Tokens { input: cached + count("prompt_tokens_total"), cached, output: count("tokens_predicted_total") }
    }

    /// `POST`
    #[track_caller]
    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.try_post(path, body).unwrap_or_else(|error| panic!("POST {path}: {error}"))
    }

    /// The data of a streamed answer, event by event.
    #[track_caller]
    pub fn stream(&self, path: &str, body: &Value) -> Vec<Value> {
        let answer = self.send(path, body).unwrap_or_else(|error| panic!("POST {path}: {error}"));
        assert_eq!(answer.status(), 200);
        let lines = BufReader::new(answer.into_body().into_reader()).lines();
        let data = lines.map(|line| line.expect("the stream goes on to its end"));
        let data = data.filter_map(|line| line.strip_prefix("data: ").map(str::to_owned));
        data.filter(|data| data != "[DONE]").map(|data| serde_json::from_str(&data).expect("JSON")).collect()
    }

    /// Asks in the manner of `OpenAI` and of Anthropic, at once and streamed; each must be answered by `model`.
    #[track_caller]
    pub fn assert_answers(&self, model: &str) {
        let body = self.post("/v1/chat/completions", &question(false)).expect(200);
        assert_eq!(body["model"], model, "{body:#}");
        assert!(body["usage"]["completion_tokens"].as_u64() > Some(0), "{body:#}");

        let chunks = self.stream("/v1/chat/completions", &question(true));
        assert!(chunks.iter().any(|chunk| chunk["choices"][0]["finish_reason"].is_string()), "{chunks:#?}");

        let body = self.post("/v1/messages", &question(false)).expect(200);
        assert_eq!((&body["type"], &body["model"]), (&json!("message"), &json!(model)), "{body:#}");
        assert!(body["usage"]["output_tokens"].as_u64() > Some(0), "{body:#}");

        let events = self.stream("/v1/messages", &question(true));
        let kinds: Vec<_> = events.iter().filter_map(|event| event["type"].as_str()).collect();
        assert_eq!((kinds.first(), kinds.last()), (Some(&"message_start"), Some(&"message_stop")), "{kinds:?}");
    }
}

/// A question that both manners understand.
fn question(stream: bool) -> Value {
    json!({ "messages": [{ "role": "user", "content": "Who are you?" }], "max_tokens": 8, "stream": stream })
}
