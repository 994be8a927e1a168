//! What a client sees of an answer, read as its protocol says.

use std::time::{Duration, Instant};

use corral_core::usage::Tokens;
use serde_json::Value;

use crate::question::Manner;

/// All that a client saw of an answer.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// The HTTP status; 0 where none came.
    pub status: u16,
    /// The model that says to have answered.
    pub model: String,
    /// What it generated.
    pub text: String,
    /// What the answer says that it cost.
    pub tokens: Tokens,
    /// Whether the protocol's own mark of the end came.
    pub ended: bool,
    /// Errors within the stream, or the one that was the answer.
    pub errors: Vec<Value>,
    /// Comments in the stream, which keep the connection alive.
    pub comments: usize,
    /// From the request to the first token.
    pub first_token: Option<Duration>,
    /// From the request to the end of the connection.
    pub took: Duration,
    /// The body of an answer that was not streamed.
    pub body: Value,
    /// What was wrong with the transport or the framing.
    pub broken: Option<String>,
}

impl Seen {
    /// What keeps this from being a whole answer.
    pub fn failure(&self) -> Option<String> {
        let fine = self.status == 200 && self.ended && self.errors.is_empty() && self.broken.is_none();
        let short = |seen: &Self| Self { text: format!("{} letters", seen.text.len()), ..seen.clone() };
        (!fine).then(|| format!("{:?}", short(self)))
    }

    /// The answer, which must be whole.
    #[track_caller]
    #[expect(clippy::return_self_not_must_use, reason = "that it is whole may be all that a test wants to know")]
    pub fn complete(self) -> Self {
        if let Some(failure) = self.failure() {
            panic!("not a whole answer: {failure}");
        }
        self
    }

    /// The message of the refusal, which must have this status and the protocol's shape.
    #[track_caller]
    pub fn refused(&self, manner: Manner, status: u16) -> String {
        assert_eq!((self.status, self.ended, &self.broken), (status, false, &None), "{self:?}");
        manner.error_message(&self.body)
    }

    /// The message of the error that ended a stream that had begun well, which must have the protocol's shape.
    #[track_caller]
    pub fn cut(&self, manner: Manner) -> String {
        assert_eq!((self.status, &self.broken), (200, &None), "the stream is framed to its end: {self:?}");
        assert_eq!(self.errors.len(), 1, "one error says why it ended: {self:?}");
        manner.error_message(&self.errors[0])
    }

    pub(super) fn line(&mut self, manner: Manner, line: &str, began: Instant) {
        let line = line.trim_end_matches('\r');
        if line.starts_with(':') {
            self.comments += 1;
        } else if line == "data: [DONE]" {
            self.end();
        } else if let Some(data) = line.strip_prefix("data: ") {
            match serde_json::from_str(data) {
                Ok(event) => self.event(manner, &event),
                Err(error) => self.broken = Some(format!("{error}: {data}")),
            }
            if self.first_token.is_none() && !self.text.is_empty() {
                self.first_token = Some(began.elapsed());
            }
        } else if !line.is_empty() && !line.starts_with("event: ") {
            self.broken = Some(format!("no line of an event stream: {line}"));
        }
    }

    fn end(&mut self) {
        if std::mem::replace(&mut self.ended, true) {
            self.broken = Some("it ended twice".to_owned());
        }
    }

    fn event(&mut self, manner: Manner, event: &Value) {
        if event["error"].is_object() || event["type"] == "error" || event["type"] == "response.failed" {
            self.errors.push(event.clone());
            return;
        }
        let models = [&event["model"], &event["message"]["model"], &event["response"]["model"]];
        if let Some(model) = models.into_iter().find_map(Value::as_str) {
            model.clone_into(&mut self.model);
        }
        match manner {
            Manner::Messages => match event["type"].as_str().unwrap_or_default() {
                "message_start" => self.tokens = anthropic(&event["message"]["usage"]),
                "content_block_delta" => self.said(&event["delta"]["text"]),
                "message_delta" => self.tokens.output = number(&event["usage"]["output_tokens"]),
                "message_stop" => self.end(),
                _ => {}
            },
            Manner::Chat | Manner::Completions => {
                let choice = &event["choices"][0];
                self.said(if manner == Manner::Chat { &choice["delta"]["content"] } else { &choice["text"] });
                self.cost(event);
            }
            Manner::Responses => match event["type"].as_str().unwrap_or_default() {
                "response.output_text.delta" => self.said(&event["delta"]),
                "response.completed" | "response.incomplete" => {
                    self.tokens = responses(&event["response"]["usage"]);
                    self.end();
                }
                _ => {}
            },
        }
    }

    fn said(&mut self, text: &Value) {
        self.text += text.as_str().unwrap_or_default();
    }

    /// What a part of an answer in the manner of `OpenAI` says of its cost.
    fn cost(&mut self, part: &Value) {
        let (usage, timings) = (&part["usage"], &part["timings"]);
        if usage.is_object() {
            let cached = number(&usage["prompt_tokens_details"]["cached_tokens"]);
            let (input, output) = (number(&usage["prompt_tokens"]), number(&usage["completion_tokens"]));
            self.tokens = Tokens { input, cached, output };
        } else if timings.is_object() {
            let cached = number(&timings["cache_n"]);
            let (input, output) = (cached + number(&timings["prompt_n"]), number(&timings["predicted_n"]));
            self.tokens = Tokens { input, cached, output };
        }
    }

    /// An answer that came at once.
    pub(super) fn whole(&mut self, manner: Manner, bytes: &[u8]) {
        match serde_json::from_slice(bytes) {
            Ok(body) => self.body = body,
            Err(error) => self.broken = Some(format!("{error}: {}", String::from_utf8_lossy(bytes))),
        }
        self.model = self.body["model"].as_str().unwrap_or_default().to_owned();
        if self.status != 200 {
            self.errors.push(self.body.clone());
            return;
        }
        self.ended = self.broken.is_none();
        let body = self.body.clone();
        match manner {
            Manner::Messages => {
                self.said(&body["content"][0]["text"]);
                self.tokens = anthropic(&body["usage"]);
            }
            Manner::Chat => self.said(&body["choices"][0]["message"]["content"]),
            Manner::Completions => self.said(&body["choices"][0]["text"]),
            Manner::Responses => {
                self.said(&body["output"][0]["content"][0]["text"]);
                self.tokens = responses(&body["usage"]);
            }
        }
        if matches!(manner, Manner::Chat | Manner::Completions) {
            self.cost(&body);
        }
    }
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}

/// Anthropic counts what came out of the cache apart.
fn anthropic(usage: &Value) -> Tokens {
    let cached = number(&usage["cache_read_input_tokens"]);
    Tokens { input: cached + number(&usage["input_tokens"]), cached, output: number(&usage["output_tokens"]) }
}

fn responses(usage: &Value) -> Tokens {
    let cached = number(&usage["input_tokens_details"]["cached_tokens"]);
    Tokens { input: number(&usage["input_tokens"]), cached, output: number(&usage["output_tokens"]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(manner: Manner, stream: &str) -> Seen {
        let mut seen = Seen { status: 200, ..Seen::default() };
        stream.lines().for_each(|line| seen.line(manner, line, Instant::now()));
        seen
    }

    #[test]
    fn a_stream_is_read_as_its_protocol_says() {
        let anthropic = r#": held
event: message_start
data: {"type":"message_start","message":{"model":"a","usage":{"cache_read_input_tokens":30,"input_tokens":2}}}

data: {"type":"content_block_delta","delta":{"type":"text_delta","text":"T"}}

data: {"type":"message_delta","delta":{},"usage":{"output_tokens":3}}
"#;
        let seen = read(Manner::Messages, anthropic);
        assert!(seen.failure().is_some(), "it has not ended");
        let seen = read(Manner::Messages, &format!("{anthropic}\ndata: {{\"type\":\"message_stop\"}}\n")).complete();
        assert_eq!((seen.model.as_str(), seen.text.as_str(), seen.comments), ("a", "T", 1));
        assert_eq!(seen.tokens, Tokens { input: 32, cached: 30, output: 3 });
        let openai = r#"data: {"choices":[{"delta":{"content":"s"}}],"model":"b"}
data: {"choices":[],"timings":{"cache_n":31,"prompt_n":1,"predicted_n":2}}
data: [DONE]
"#;
        let seen = read(Manner::Chat, openai).complete();
        assert_eq!((seen.text.as_str(), seen.tokens), ("s", Tokens { input: 32, cached: 31, output: 2 }));
        assert!(read(Manner::Chat, &openai.repeat(2)).failure().is_some(), "it ended twice");
        let cut = "data: {\"error\":{\"message\":\"m\",\"type\":\"t\"}}\n";
        assert_eq!(read(Manner::Chat, cut).cut(Manner::Chat), "m");
    }
}
