//! `fixed-answer [--host HOST] [--port PORT] [--alias MODEL] [--tokens-per-second N] [--lines-per-second N]`: stands in
//! for `llama-server` where the cost of what is in front of it is measured. There is no model behind it. It takes `llama-server`'s command
//! line, of which it ignores the rest, needs no key, and gives the same answer to everything, in the form of
//! `llama-server` 0.7: at once, or as a stream of `max_tokens` tokens with `N` (100) of them in each second. It logs
//! nothing but what it is, or so many lines in each second.

#![allow(clippy::print_stderr, reason = "it says what it is, where Corral keeps the log")]

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{Error, Result, Write as _};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use corral_tests::http::{Wire, each_connection};
use corral_tests::load::TOKEN;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

/// Tokens of every prompt, of which so many came out of the cache.
const PROMPT: (u64, u64) = (22, 21);

/// How often it logs.
const TALK: Duration = Duration::from_millis(10);

/// Tokens of an answer to a request that does not say how many.
const USUAL: u64 = 16;

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.and_then(|runtime| runtime.block_on(serve(&Options::of(std::env::args().skip(1))?))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fixed-answer: {error}");
            ExitCode::FAILURE
        }
    }
}

#[derive(Debug)]
struct Options {
    host: String,
    port: u16,
    model: String,
    /// From one token to the next.
    pace: Duration,
    /// Lines of log in each second.
    lines: u32,
}

impl Options {
    fn of(mut args: impl Iterator<Item = String>) -> Result<Self> {
        let (host, model) = ("127.0.0.1".to_owned(), "fixed".to_owned());
        let mut options = Self { host, port: 8080, model, pace: Duration::from_millis(10), lines: 0 };
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or_else(|| Error::other(format!("{arg} has no value")));
            match arg.as_str() {
                "--host" => options.host = value()?,
                "--port" => options.port = value()?.parse().map_err(Error::other)?,
                "--alias" => options.model = value()?,
                "--tokens-per-second" => {
                    let rate: u32 = value()?.parse().map_err(Error::other)?;
                    let pace = Duration::from_secs(1).checked_div(rate);
                    options.pace = pace.ok_or_else(|| Error::other("0 tokens in a second never end"))?;
                }
                "--lines-per-second" => options.lines = value()?.parse().map_err(Error::other)?,
                _ => {}
            }
        }
        Ok(options)
    }
}

async fn serve(options: &Options) -> Result<()> {
    let listener = TcpListener::bind((options.host.as_str(), options.port)).await?;
    let address = listener.local_addr()?;
    eprintln!("fixed-answer: stands in for llama-server on {address}: no model, the same answer to everything");
    let server = Server { pace: options.pace, model: options.model.clone(), written: RefCell::default() };
    let server = Rc::new(server);
    let answering = each_connection(listener, |socket| {
        let server = server.clone();
        async move { server.answer(socket).await }
    });
    tokio::try_join!(answering, talk(options.lines)).map(|_| ())
}

/// Logs so many lines in each second, in the form and of the length of `llama-server`'s, some at a time.
async fn talk(lines: u32) -> Result<()> {
    if lines == 0 {
        return Ok(());
    }
    let mut due = tokio::time::interval(TALK);
    let begun = Instant::now();
    let mut said = 0;
    loop {
        due.tick().await;
        let until = begun.elapsed().as_millis() * u128::from(lines) / 1000;
        let mut text = String::new();
        for number in said..until {
            let (seconds, level) = (begun.elapsed(), if number % 50 == 0 { 'W' } else { 'I' });
            let (minutes, seconds, part) = (seconds.as_secs() / 60, seconds.as_secs() % 60, seconds.subsec_micros());
            let (task, tokens) = (number / 16, number % 16 * 512);
            let _ = writeln!(
                text,
                "{minutes}.{seconds:02}.{:03}.{:03} {level} slot update_slots: id  0 | task {task} | prompt processing \
                 progress, n_tokens = {tokens}, batch.n_tokens = 512, progress = 0.{number:06}",
                part / 1000,
                part % 1000,
            );
        }
        said = until;
        std::io::stderr().lock().write_all(text.as_bytes())?;
    }
}

/// What every connection needs.
#[derive(Debug)]
struct Server {
    pace: Duration,
    model: String,
    /// Answers that were given before.
    written: RefCell<HashMap<Asked, Rc<[u8]>>>,
}

/// What an answer depends on: the manner, and how many tokens.
type Asked = (Manner, u64);

/// In whose manner is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Manner {
    OpenAi,
    Anthropic,
}

impl Server {
    async fn answer(&self, socket: TcpStream) -> Result<()> {
        let mut wire = Wire::new(socket)?;
        while let Some(line) = wire.head().await? {
            let mut words = line.split(' ');
            let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            let path = path.split('?').next().unwrap_or_default();
            let (fixed, manner) = match (method, path) {
                ("GET", "/health") => (Some(sized("200 OK", JSON, r#"{"status":"ok"}"#)), None),
                ("GET", "/metrics") => (Some(sized("200 OK", "text/plain; version=0.0.4", METRICS)), None),
                ("GET", "/slots") => (Some(sized("200 OK", JSON, "[]")), None),
                ("GET", "/v1/models") => (Some(sized("200 OK", JSON, &self.models())), None),
                ("POST", "/v1/messages/count_tokens") => {
                    (Some(sized("200 OK", JSON, &json!({ "input_tokens": PROMPT.0 }).to_string())), None)
                }
                ("POST", "/v1/chat/completions") => (None, Some(Manner::OpenAi)),
                ("POST", "/v1/messages") => (None, Some(Manner::Anthropic)),
                _ => (Some(sized("404 Not Found", JSON, UNKNOWN)), None),
            };
            let body = wire.body().await?;
            if let Some(fixed) = fixed {
                wire.send(&fixed).await?;
            } else if let Some(manner) = manner {
                let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
                let tokens = asked["max_tokens"].as_u64().unwrap_or(USUAL);
                if asked["stream"] == true {
                    let usage = asked["stream_options"]["include_usage"] == true;
                    self.stream(&mut wire, manner, tokens, usage).await?;
                } else {
                    let answer = self
                        .written
                        .borrow_mut()
                        .entry((manner, tokens))
                        .or_insert_with(|| sized("200 OK", JSON, &self.whole(manner, tokens)).into())
                        .clone();
                    wire.send(&answer).await?;
                }
            }
        }
        Ok(())
    }

    /// A stream, each token of which comes at its time, however late the one before it was.
    async fn stream(&self, wire: &mut Wire, manner: Manner, tokens: u64, usage: bool) -> Result<()> {
        let [first, odd, even, last] = self.events(manner, tokens, usage).map(|text| chunk(&text));
        wire.send(format!("{STREAM}{first}").as_bytes()).await?;
        let mut due = Instant::now();
        for number in 1..=tokens {
            due += self.pace;
            tokio::time::sleep_until(due).await;
            wire.send(if number % 2 == 1 { &odd } else { &even }.as_bytes()).await?;
        }
        wire.send(format!("{last}0\r\n\r\n").as_bytes()).await
    }

    /// An answer that is not streamed.
    fn whole(&self, manner: Manner, tokens: u64) -> String {
        let text = TOKEN.repeat(usize::try_from(tokens).unwrap_or_default());
        let answer = match manner {
            Manner::OpenAi => json!({
                "choices": [{
                    "finish_reason": "length", "index": 0, "message": { "role": "assistant", "content": text },
                }],
                "created": 0, "model": self.model, "system_fingerprint": "fixed-answer", "object": "chat.completion",
                "usage": usage(tokens), "id": ID, "timings": timings(tokens),
            }),
            Manner::Anthropic => json!({
                "id": ID, "type": "message", "role": "assistant", "content": [{ "type": "text", "text": text }],
                "model": self.model, "stop_reason": "max_tokens", "stop_sequence": null, "usage": {
                    "cache_read_input_tokens": PROMPT.1, "input_tokens": PROMPT.0 - PROMPT.1, "output_tokens": tokens,
                },
            }),
        };
        answer.to_string()
    }

    /// What a stream begins with, its two tokens in turns, and what it ends with.
    fn events(&self, manner: Manner, tokens: u64, with_usage: bool) -> [String; 4] {
        // The same token again and again is what some proxies take for a model that has lost its way.
        let texts = [TOKEN.to_owned(), format!("{TOKEN}s")];
        let data = |value: &Value| format!("data: {value}\n\n");
        match manner {
            Manner::OpenAi => {
                let chunk = |choices: Value| {
                    json!({
                        "choices": choices, "created": 0, "id": ID, "model": self.model,
                        "system_fingerprint": "fixed-answer", "object": "chat.completion.chunk",
                    })
                };
                let choice =
                    |delta: Value, why: Value| chunk(json!([{ "finish_reason": why, "index": 0, "delta": delta }]));
                let mut last = choice(json!({}), json!("length"));
                let mut end = String::new();
                if with_usage {
                    end = data(&last);
                    last = chunk(json!([]));
                    last["usage"] = usage(tokens);
                }
                last["timings"] = timings(tokens);
                let [odd, even] = texts.map(|text| data(&choice(json!({ "content": text }), Value::Null)));
                [
                    data(&choice(json!({ "role": "assistant", "content": null }), Value::Null)),
                    odd,
                    even,
                    end + &data(&last) + "data: [DONE]\n\n",
                ]
            }
            Manner::Anthropic => {
                let event = |value: Value| format!("event: {}\n{}", value["type"].as_str().unwrap_or(""), data(&value));
                let message = json!({
                    "id": ID, "type": "message", "role": "assistant", "content": [], "model": self.model,
                    "stop_reason": null, "stop_sequence": null, "usage": {
                        "cache_read_input_tokens": PROMPT.1, "input_tokens": PROMPT.0 - PROMPT.1, "output_tokens": 0,
                    },
                });
                let block = json!({ "type": "text", "text": "" });
                let why = json!({ "stop_reason": "max_tokens", "stop_sequence": null });
                let [odd, even] = texts.map(|text| {
                    let delta = json!({ "type": "text_delta", "text": text });
                    event(json!({ "type": "content_block_delta", "index": 0, "delta": delta }))
                });
                [
                    event(json!({ "type": "message_start", "message": message }))
                        + &event(json!({ "type": "content_block_start", "index": 0, "content_block": block })),
                    odd,
                    even,
                    event(json!({ "type": "content_block_stop", "index": 0 }))
                        + &event(
                            json!({ "type": "message_delta", "delta": why, "usage": { "output_tokens": tokens } }),
                        )
                        + &event(json!({ "type": "message_stop" })),
                ]
            }
        }
    }

    fn models(&self) -> String {
        let model = json!({
            "id": self.model, "aliases": [self.model], "object": "model", "created": 0, "owned_by": "fixed-answer",
            "meta": { "n_ctx": 4096, "n_ctx_train": 4096 },
        });
        json!({ "object": "list", "data": [model] }).to_string()
    }
}

const ID: &str = "chatcmpl-00000000000000000000000000000000";

const JSON: &str = "application/json; charset=utf-8";

const STREAM: &str = "HTTP/1.1 200 OK\r\nServer: fixed-answer\r\nX-Accel-Buffering: no\r\n\
                      Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";

const METRICS: &str = "# TYPE llamacpp:requests_processing gauge\nllamacpp:requests_processing 0\n\
                       # TYPE llamacpp:requests_deferred gauge\nllamacpp:requests_deferred 0\n";

const UNKNOWN: &str = r#"{"error":{"code":404,"message":"File Not Found","type":"not_found_error"}}"#;

fn usage(tokens: u64) -> Value {
    json!({
        "completion_tokens": tokens, "prompt_tokens": PROMPT.0, "total_tokens": PROMPT.0 + tokens,
        "prompt_tokens_details": { "cached_tokens": PROMPT.1 },
    })
}

fn timings(tokens: u64) -> Value {
    json!({
        "cache_n": PROMPT.1, "prompt_n": PROMPT.0 - PROMPT.1, "prompt_ms": 1.0, "prompt_per_token_ms": 1.0,
        "prompt_per_second": 1000.0, "predicted_n": tokens, "predicted_ms": 1.0, "predicted_per_token_ms": 1.0,
        "predicted_per_second": 1000.0,
    })
}

fn sized(status: &str, kind: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nServer: fixed-answer\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}
