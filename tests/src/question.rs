//! Questions to a model, in each protocol that the gateway speaks.

use serde_json::{Value, json};

use crate::random::Random;

/// A protocol of inference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Anthropic's `/v1/messages`.
    Messages,
    /// `OpenAI`'s `/v1/chat/completions`.
    Chat,
    /// `OpenAI`'s `/v1/completions`.
    Completions,
    /// `OpenAI`'s `/v1/responses`.
    Responses,
}

impl Manner {
    /// Every one of them.
    pub const ALL: [Self; 4] = [Self::Messages, Self::Chat, Self::Completions, Self::Responses];

    /// The path.
    pub fn path(self) -> &'static str {
        match self {
            Self::Messages => "/v1/messages",
            Self::Chat => "/v1/chat/completions",
            Self::Completions => "/v1/completions",
            Self::Responses => "/v1/responses",
        }
    }

    /// The message of an error, which must be of this protocol's shape.
    #[track_caller]
    pub fn error_message(self, error: &Value) -> String {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        if self == Self::Messages {
            assert_eq!(error["type"], "error", "an error as Anthropic writes it: {error:#}");
        }
        // In a stream, an error of the newest protocol is an event without a wrapping.
        let bare = self == Self::Responses && error["type"] == "error" && error["message"].is_string();
        let inner = match () {
            () if bare => error,
            () if error["type"] == "response.failed" => &error["response"]["error"],
            () => &error["error"],
        };
        let message = text(&inner["message"]);
        assert!(!message.is_empty(), "an error in the manner of {self:?} has a message: {error:#}");
        assert!(inner["type"].is_string() || inner["code"].is_string(), "an error has a kind: {error:#}");
        message
    }
}

/// What is asked, streamed unless told otherwise.
#[derive(Debug, Clone)]
pub struct Question {
    /// In which protocol.
    pub manner: Manner,
    /// The body.
    pub body: Value,
}

impl Question {
    /// Asks this, for 8 tokens, of whatever model is loaded.
    pub fn new(manner: Manner, prompt: &str) -> Self {
        Self::turns(manner, &[prompt])
    }

    /// Goes on with a conversation: what the user and the model have said in turns, the user last.
    pub fn turns(manner: Manner, turns: &[&str]) -> Self {
        let roles = ["user", "assistant"].into_iter().cycle();
        let messages: Vec<_> =
            turns.iter().zip(roles).map(|(text, role)| json!({ "role": role, "content": text })).collect();
        let body = match manner {
            Manner::Messages | Manner::Chat => json!({ "messages": messages, "stream": true }),
            Manner::Completions => json!({ "prompt": turns.concat(), "stream": true }),
            Manner::Responses => json!({ "input": messages, "stream": true }),
        };
        Self { manner, body }.with("model", json!("anything")).tokens(8)
    }

    /// Of this model.
    #[must_use]
    pub fn model(self, name: &str) -> Self {
        self.with("model", json!(name))
    }

    /// For so many tokens at most.
    #[must_use]
    pub fn tokens(self, count: u32) -> Self {
        let key = if self.manner == Manner::Responses { "max_output_tokens" } else { "max_tokens" };
        self.with(key, json!(count))
    }

    /// Not streamed.
    #[must_use]
    pub fn once(self) -> Self {
        self.with("stream", json!(false))
    }

    /// With this field.
    #[must_use]
    pub fn with(mut self, key: &str, value: Value) -> Self {
        self.body[key] = value;
        self
    }
}

/// A text of about so many tokens of a tiny model, to which each letter is one. Texts of different seeds differ from
/// their first letters on.
pub fn prompt(seed: u64, tokens: usize) -> String {
    let mut random = Random::new(seed);
    let letters = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    (0..tokens).map(|_| char::from(*random.one_of(letters))).collect()
}
