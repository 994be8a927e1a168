//! `scripted-answer [--host HOST] [--port PORT] [--alias MODEL] --script FILE [--seen FILE] [--ready FILE]`: stands in for
//! `llama-server` where what a model says has to be known. There is no model behind it. It takes `llama-server`'s command
//! line, of which it ignores the rest, and needs no key.
//!
//! The script is a list in JSON: the content blocks of the first answer of a conversation, of the second, and so on; the
//! last one goes on. Requests that offer no tools are answered with a word. `--seen` gets each request for an answer, a
//! line of JSON each. With `--ready` it loads until that file is there.

#![allow(clippy::print_stderr, reason = "it says what it is, where Corral keeps the log")]

use std::fs::{self, File};
use std::io::{Error, Result, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;

use corral_tests::http::{Wire, each_connection};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};

/// Tokens of context that it says to have.
const CONTEXT: u32 = 131_072;

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.and_then(|runtime| runtime.block_on(serve(Server::of(std::env::args().skip(1))?))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("scripted-answer: {error}");
            ExitCode::FAILURE
        }
    }
}

#[derive(Debug)]
struct Server {
    host: String,
    port: u16,
    model: String,
    answers: Vec<Value>,
    seen: Option<PathBuf>,
    ready: Option<PathBuf>,
}

async fn serve(server: Server) -> Result<()> {
    let listener = TcpListener::bind((server.host.as_str(), server.port)).await?;
    eprintln!("scripted-answer: stands in for llama-server on {}: no model", listener.local_addr()?);
    let server = Rc::new(server);
    each_connection(listener, |socket| {
        let server = server.clone();
        async move { server.answer(socket).await }
    })
    .await
}

impl Server {
    fn of(mut args: impl Iterator<Item = String>) -> Result<Self> {
        let (host, model) = ("127.0.0.1".to_owned(), "scripted".to_owned());
        let mut server = Self { host, port: 8080, model, answers: Vec::new(), seen: None, ready: None };
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or_else(|| Error::other(format!("{arg} has no value")));
            match arg.as_str() {
                "--host" => server.host = value()?,
                "--port" => server.port = value()?.parse().map_err(Error::other)?,
                "--alias" => server.model = value()?,
                "--script" => server.answers = serde_json::from_slice(&fs::read(value()?)?)?,
                "--seen" => server.seen = Some(value()?.into()),
                "--ready" => server.ready = Some(value()?.into()),
                _ => {}
            }
        }
        if server.answers.is_empty() { Err(Error::other("there is no --script")) } else { Ok(server) }
    }

    async fn answer(&self, socket: TcpStream) -> Result<()> {
        let mut wire = Wire::new(socket)?;
        while let Some(line) = wire.head().await? {
            let mut words = line.split(' ').map(str::to_owned);
            let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            let body = wire.body().await?;
            let path = target.split('?').next().unwrap_or_default();
            let answer = match (method.as_str(), path) {
                _ if self.ready.as_ref().is_some_and(|file| !file.exists()) => {
                    whole("503 Service Unavailable", &loading())
                }
                ("GET", "/health") => whole("200 OK", &json!({ "status": "ok" })),
                ("GET", "/slots") => whole("200 OK", &json!([])),
                ("GET", "/props") => {
                    whole("200 OK", &json!({ "default_generation_settings": { "n_ctx": CONTEXT }, "total_slots": 1 }))
                }
                ("GET", "/v1/models") => whole("200 OK", &json!({ "object": "list", "data": [{ "id": self.model }] })),
                // A template that takes everything as it comes.
                ("POST", "/apply-template") => whole("200 OK", &json!({ "prompt": String::from_utf8_lossy(&body) })),
                ("POST", "/v1/messages/count_tokens") => whole("200 OK", &json!({ "input_tokens": 7 })),
                ("POST", "/v1/messages") => self.message(&serde_json::from_slice(&body)?)?,
                _ => whole("404 Not Found", &json!({ "error": { "code": 404, "message": "File Not Found" } })),
            };
            wire.send(&answer).await?;
        }
        Ok(())
    }

    fn message(&self, asked: &Value) -> Result<Vec<u8>> {
        if let Some(seen) = &self.seen {
            let mut file = File::options().create(true).append(true).open(seen)?;
            file.write_all(format!("{asked}\n").as_bytes())?;
        }
        let has_tools = asked["tools"].as_array().is_some_and(|tools| !tools.is_empty());
        let so_far = asked["messages"].as_array().into_iter().flatten();
        let before = so_far.filter(|message| message["role"] == "assistant").count();
        let word = json!([{ "type": "text", "text": "hello" }]);
        let last = self.answers.len().saturating_sub(1);
        let content = self.answers.get(before.min(last)).filter(|_| has_tools).unwrap_or(&word);
        let calls = content.as_array().into_iter().flatten().any(|block| block["type"] == "tool_use");
        let stop = if calls { "tool_use" } else { "end_turn" };
        let usage = json!({ "input_tokens": 7, "cache_read_input_tokens": 0, "output_tokens": 2 });
        let message = |content: &Value, stop: Value| {
            json!({
                "id": format!("msg_{before}"), "type": "message", "role": "assistant", "content": content, "model": self.model,
                "stop_reason": stop, "stop_sequence": null, "usage": usage,
            })
        };
        if asked["stream"] != true {
            return Ok(whole("200 OK", &message(content, json!(stop))));
        }
        let mut events = vec![json!({ "type": "message_start", "message": message(&json!([]), Value::Null) })];
        for (index, block) in content.as_array().into_iter().flatten().enumerate() {
            events.extend(block_events(&format!("toolu_{before}_{index}"), index, block));
        }
        let why = json!({ "stop_reason": stop, "stop_sequence": null });
        events.push(json!({ "type": "message_delta", "delta": why, "usage": { "output_tokens": 2 } }));
        events.push(json!({ "type": "message_stop" }));
        let event = |event: &Value| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap_or_default());
        Ok(http("200 OK", "text/event-stream", &events.iter().map(event).collect::<String>()))
    }
}

/// A content block as a stream brings it.
fn block_events(id: &str, index: usize, block: &Value) -> [Value; 3] {
    let (start, delta) = if block["type"] == "tool_use" {
        let start = json!({ "type": "tool_use", "id": id, "name": block["name"], "input": {} });
        (start, json!({ "type": "input_json_delta", "partial_json": block["input"].to_string() }))
    } else {
        (json!({ "type": "text", "text": "" }), json!({ "type": "text_delta", "text": block["text"] }))
    };
    [
        json!({ "type": "content_block_start", "index": index, "content_block": start }),
        json!({ "type": "content_block_delta", "index": index, "delta": delta }),
        json!({ "type": "content_block_stop", "index": index }),
    ]
}

fn loading() -> Value {
    json!({ "error": { "code": 503, "message": "Loading model", "type": "unavailable_error" } })
}

fn whole(status: &str, body: &Value) -> Vec<u8> {
    http(status, "application/json", &body.to_string())
}

fn http(status: &str, kind: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n{body}").into_bytes()
}
