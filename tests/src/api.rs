//! A client of the management API.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use corral_core::history::PastOperation;
use corral_core::snapshot::{Phase, Snapshot};
use corral_core::usage::UsageRow;
use serde_json::{Value, json};

use crate::{PATIENCE, until};

/// Answers of every status are answers. Each request has a connection of its own: one that is used again may just be
/// closed by the other side.
pub(crate) fn agent(timeout: Option<Duration>) -> ureq::Agent {
    let config = ureq::Agent::config_builder().http_status_as_error(false).max_idle_connections(0);
    config.timeout_global(timeout).proxy(None).build().into()
}

/// What the API answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body; null where it is no JSON.
    pub body: Value,
}

impl Answer {
    /// The answer, which must have this status.
    #[track_caller]
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{:#}", self.body);
        self.body
    }

    /// The error, which must have this code, a message with each of `said` in it, and a hint.
    #[track_caller]
    pub fn expect_error(&self, code: &str, said: &[&str]) -> Value {
        let error = &self.body["error"];
        assert!(self.status >= 400, "it went well: {:#}", self.body);
        expect_error(error, code, said);
        error.clone()
    }
}

/// Checks an error as the API and the snapshot carry it.
#[track_caller]
pub fn expect_error(error: &Value, code: &str, said: &[&str]) {
    let text = |key: &str| error[key].as_str().unwrap_or_default();
    assert_eq!(text("code"), code, "{error:#}");
    for part in said {
        assert!(text("message").contains(part), "the message says {part:?}: {error:#}");
    }
    assert!(!text("hint").is_empty(), "it has a hint: {error:#}");
}

/// Speaks to one daemon, with its token.
#[derive(Debug, Clone)]
pub struct Api {
    agent: ureq::Agent,
    base: String,
    token: String,
}

impl Api {
    /// For the daemon that wrote these runtime files; none where there are none yet.
    pub(crate) fn of(run: &Path) -> Option<Self> {
        let daemon: Value = serde_json::from_slice(&std::fs::read(run.join("daemon.json")).ok()?).ok()?;
        let base = format!("http://{}", daemon["management"].as_str()?);
        let token = std::fs::read_to_string(run.join("token")).ok()?.trim().to_owned();
        Some(Self { agent: agent(Some(2 * PATIENCE)), base, token })
    }

    /// The address without a path.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// The bearer's token.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// `GET` with the token; the transport may fail.
    pub fn try_get(&self, path: &str) -> Result<Answer, ureq::Error> {
        let request = self.agent.get(format!("{}{path}", self.base));
        read(request.header("Authorization", format!("Bearer {}", self.token)).call()?)
    }

    /// `GET` with the token.
    #[track_caller]
    pub fn get(&self, path: &str) -> Answer {
        self.try_get(path).unwrap_or_else(|error| panic!("GET {path}: {error}"))
    }

    /// `GET` without any token.
    pub fn get_openly(&self, path: &str) -> Answer {
        read(self.agent.get(format!("{}{path}", self.base)).call().expect("an answer")).expect("an answer")
    }

    /// `POST` with the token; the transport may fail.
    pub fn try_post(&self, path: &str, body: &Value) -> Result<Answer, ureq::Error> {
        let request = self.agent.post(format!("{}{path}", self.base));
        read(request.header("Authorization", format!("Bearer {}", self.token)).send_json(body)?)
    }

    /// `POST` with the token.
    #[track_caller]
    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.try_post(path, body).unwrap_or_else(|error| panic!("POST {path}: {error}"))
    }

    /// `PUT` with the token.
    #[track_caller]
    pub fn put(&self, path: &str, body: &Value) -> Answer {
        let request = self.agent.put(format!("{}{path}", self.base));
        let answer = request.header("Authorization", format!("Bearer {}", self.token)).send_json(body);
        answer.and_then(read).unwrap_or_else(|error| panic!("PUT {path}: {error}"))
    }

    /// `PATCH` with the token.
    #[track_caller]
    pub fn patch(&self, path: &str, body: &Value) -> Answer {
        let request = self.agent.patch(format!("{}{path}", self.base));
        let answer = request.header("Authorization", format!("Bearer {}", self.token)).send_json(body);
        answer.and_then(read).unwrap_or_else(|error| panic!("PATCH {path}: {error}"))
    }

    /// `DELETE` with the token.
    #[track_caller]
    pub fn delete(&self, path: &str) -> Answer {
        let request = self.agent.delete(format!("{}{path}", self.base));
        let answer = request.header("Authorization", format!("Bearer {}", self.token)).call();
        answer.and_then(read).unwrap_or_else(|error| panic!("DELETE {path}: {error}"))
    }

    /// Switches and waits for the end.
    #[track_caller]
    pub fn switch_wait(&self, model: &str) -> Answer {
        self.post("/switch", &json!({ "model": model, "wait": true }))
    }

    /// Switches, which must go well, and returns the snapshot after it.
    #[track_caller]
    pub fn switched(&self, model: &str) -> Snapshot {
        let body = self.switch_wait(model).expect(200);
        assert_eq!(body["result"]["to"], model, "{body:#}");
        let status = self.status();
        assert_serves(&status, model);
        status
    }

    /// Stops and waits for the end, which must go well.
    #[track_caller]
    pub fn stopped(&self) -> Snapshot {
        self.post("/stop", &json!({ "wait": true })).expect(200);
        let status = self.status();
        assert_eq!((status.phase, &status.model, &status.engine), (Phase::Stopped, &None, &None), "{status:#?}");
        status
    }

    /// `/status`
    #[track_caller]
    pub fn status(&self) -> Snapshot {
        let body = self.get("/status").expect(200);
        serde_json::from_value(body.clone()).unwrap_or_else(|error| panic!("{error}: {body:#}"))
    }

    /// Waits for a snapshot that is as wanted.
    #[track_caller]
    pub fn until(&self, bound: Duration, what: &str, wanted: impl Fn(&Snapshot) -> bool) -> Snapshot {
        let mut last = None;
        let began = Instant::now();
        let found = until(bound.saturating_mul(2), what, || {
            let status = self.status();
            if wanted(&status) {
                return Some(Some(status));
            }
            last = Some(status);
            (began.elapsed() > bound).then_some(None)
        });
        found.unwrap_or_else(|| panic!("{what}: not within {bound:?}; it is {last:#?}"))
    }

    /// Waits until a model serves and nothing is in progress.
    #[track_caller]
    pub fn until_serves(&self, model: &str) -> Snapshot {
        self.until(PATIENCE, &format!("{model} serves"), |status| serves(status, model))
    }

    /// A number of the daemon's `/metrics` that has no labels.
    #[track_caller]
    pub fn metric(&self, name: &str) -> u64 {
        let request = self.agent.get(format!("{}/metrics", self.base));
        let mut answer = request.header("Authorization", format!("Bearer {}", self.token)).call().expect("an answer");
        let text = answer.body_mut().read_to_string().expect("a text");
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
        value.unwrap_or_else(|| panic!("{name} in {text}"))
    }

    /// Waits until so many requests wait for a model.
    #[track_caller]
    pub fn until_wait(&self, count: u64) {
        let what = format!("{count} requests wait");
        until(PATIENCE, &what, || (self.metric("corral_requests_waiting") == count).then_some(()));
    }

    /// The last lines of the log.
    pub fn logs(&self, tail: usize) -> Vec<Value> {
        let request = self.agent.get(format!("{}/logs?tail={tail}", self.base));
        let mut answer = request.header("Authorization", format!("Bearer {}", self.token)).call().expect("an answer");
        let text = answer.body_mut().read_to_string().expect("a text");
        text.lines().map(|line| serde_json::from_str(line).expect("one JSON value per line")).collect()
    }

    /// The sums of the ledger, by their keys.
    #[track_caller]
    pub fn usage(&self, by: &str) -> BTreeMap<String, UsageRow> {
        let body = self.get(&format!("/usage?by={by}")).expect(200);
        let rows: Vec<UsageRow> =
            serde_json::from_value(body["rows"].clone()).unwrap_or_else(|error| panic!("{error}: {body:#}"));
        rows.into_iter().map(|row| (row.key.clone(), row)).collect()
    }

    /// The latest operations, newest first.
    #[track_caller]
    pub fn history(&self, count: u32) -> Vec<PastOperation> {
        let body = self.get(&format!("/history?count={count}")).expect(200);
        serde_json::from_value(body["operations"].clone()).unwrap_or_else(|error| panic!("{error}: {body:#}"))
    }

    /// Attaches a session, and returns its id and its token.
    #[track_caller]
    pub fn open_session(&self, label: &str) -> (String, String) {
        let answer = self.post("/sessions", &json!({ "label": label }));
        assert!((200..300).contains(&answer.status), "{answer:?}");
        let text = |value: &Value| value.as_str().unwrap_or_else(|| panic!("a text in {:#}", answer.body)).to_owned();
        let session = answer.body.get("session").unwrap_or(&answer.body);
        (text(&session["id"]), text(&answer.body["token"]))
    }

    /// Follows `/events` from now on.
    pub fn events(&self) -> Events {
        let request = agent(None).get(format!("{}/events", self.base));
        let answer = request.header("Authorization", format!("Bearer {}", self.token)).call().expect("an answer");
        assert_eq!(answer.status(), 200);
        let (sender, events) = channel();
        std::thread::spawn(move || {
            let mut name = String::new();
            // The stream ends with the daemon, cleanly or not.
            for line in BufReader::new(answer.into_body().into_reader()).lines().map_while(Result::ok) {
                if let Some(event) = line.strip_prefix("event: ") {
                    event.clone_into(&mut name);
                } else if let Some(data) = line.strip_prefix("data: ") {
                    let data = serde_json::from_str(data).expect("events carry JSON");
                    if sender.send((name.clone(), data)).is_err() {
                        return;
                    }
                }
            }
        });
        Events { events }
    }
}

fn read(mut answer: ureq::http::Response<ureq::Body>) -> Result<Answer, ureq::Error> {
    let text = answer.body_mut().read_to_string()?;
    Ok(Answer { status: answer.status().as_u16(), body: serde_json::from_str(&text).unwrap_or_default() })
}

/// Whether a model serves and nothing is in progress.
pub fn serves(status: &Snapshot, model: &str) -> bool {
    let is_it = status.model.as_ref().is_some_and(|id| id.as_str() == model);
    is_it && status.phase == Phase::Ready && status.operation.is_none()
}

/// Checks that a model serves, that nothing is in progress, and that its address and key are told.
#[track_caller]
pub fn assert_serves(status: &Snapshot, model: &str) {
    assert!(serves(status, model), "{model} serves: {status:#?}");
    let engine = status.engine.as_ref().expect("an engine");
    assert!(engine.url.is_some() && engine.key_file.is_some(), "{status:#?}");
}

/// The container's or child's id in a snapshot.
#[track_caller]
pub fn instance(status: &Snapshot) -> String {
    status.engine.as_ref().unwrap_or_else(|| panic!("an engine in {status:#?}")).container_id.0.clone()
}

/// The file with the key of the loaded model.
pub(crate) fn key_file(status: &Snapshot) -> PathBuf {
    PathBuf::from(status.engine.as_ref().and_then(|engine| engine.key_file.clone()).expect("a key file"))
}

/// A stream of server-sent events.
#[derive(Debug)]
pub struct Events {
    events: Receiver<(String, Value)>,
}

impl Events {
    /// The next event's name and data.
    #[track_caller]
    pub fn next(&self) -> (String, Value) {
        self.events.recv_timeout(PATIENCE).expect("an event")
    }

    /// Waits for a notice whose message has each of these parts.
    #[track_caller]
    pub fn until_notice(&self, said: &[&str]) -> Value {
        self.notices_until(said).pop().expect("that notice")
    }

    /// All notices up to the first whose message has each of these parts, that one last.
    #[track_caller]
    pub fn notices_until(&self, said: &[&str]) -> Vec<Value> {
        let deadline = Instant::now() + PATIENCE;
        let mut notices = Vec::new();
        while let Ok((name, data)) = self.events.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            if name != "notice" {
                continue;
            }
            let message = data["message"].as_str().unwrap_or_default();
            let is_it = said.iter().all(|part| message.contains(part));
            notices.push(data);
            if is_it {
                return notices;
            }
        }
        panic!("no notice says {said:?}, only {notices:#?}");
    }

    /// Waits for a snapshot that is as wanted.
    #[track_caller]
    pub fn until(&self, bound: Duration, what: &str, mut wanted: impl FnMut(&Snapshot) -> bool) -> Snapshot {
        let deadline = Instant::now() + bound;
        let mut last = None;
        loop {
            match self.events.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok((name, data)) if name == "snapshot" => {
                    let status: Snapshot = serde_json::from_value(data).expect("a snapshot");
                    if wanted(&status) {
                        return status;
                    }
                    last = Some(status);
                }
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => panic!("{what}: not within {bound:?}; it is {last:#?}"),
                Err(RecvTimeoutError::Disconnected) => panic!("{what}: the events ended; it was {last:#?}"),
            }
        }
    }
}
