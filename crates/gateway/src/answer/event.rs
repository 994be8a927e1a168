//! The parts of answers that are read.

use std::borrow::Cow;

use memchr::memmem;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

/// An event of a stream, or an answer in one piece.
#[derive(Deserialize)]
pub(super) struct Event<'a> {
    #[serde(rename = "type", borrow)]
    pub(super) kind: Option<Cow<'a, str>>,
    pub(super) usage: Option<Usage>,
    /// Anthropic's first event holds the usage in here,
    pub(super) message: Option<Inner>,
    /// and the last one of `/v1/responses` in here.
    pub(super) response: Option<Inner>,
    pub(super) timings: Option<Timings>,
    pub(super) error: Option<IgnoredAny>,
}

impl<'a> Event<'a> {
    pub(super) fn read(json: &'a [u8]) -> Option<Self> {
        /// What is left where another part is not as expected.
        #[derive(Deserialize)]
        struct Bare<'a> {
            #[serde(rename = "type", borrow)]
            kind: Option<Cow<'a, str>>,
            error: Option<IgnoredAny>,
        }
        serde_json::from_slice(json).ok().or_else(|| {
            let Bare { kind, error } = serde_json::from_slice(json).ok()?;
            Some(Self { kind, error, usage: None, message: None, response: None, timings: None })
        })
    }
}

#[derive(Deserialize)]
pub(super) struct Inner {
    pub(super) usage: Option<Usage>,
}

/// The counts of all protocols.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
pub(super) struct Usage {
    input_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    input_tokens_details: Option<Details>,
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
    prompt_tokens_details: Option<Details>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
struct Details {
    cached_tokens: Option<u64>,
}

impl Usage {
    /// Takes over what a later event says.
    pub(super) fn update(&mut self, later: &Self) {
        let Self { output_tokens, completion_tokens, .. } = *self;
        // Of the input all numbers belong together.
        if later.input_tokens.is_some() || later.prompt_tokens.is_some() {
            *self = *later;
        }
        self.output_tokens = later.output_tokens.or(output_tokens);
        self.completion_tokens = later.completion_tokens.or(completion_tokens);
    }

    pub(super) fn forget_output(&mut self) {
        self.output_tokens = None;
    }

    pub(super) fn input(&self) -> Option<u64> {
        // Anthropic counts those out of the cache apart.
        let apart = [self.cache_read_input_tokens, self.cache_creation_input_tokens].into_iter().flatten();
        let anthropic = self.input_tokens.map(|input| apart.fold(input, u64::saturating_add));
        anthropic.or(self.prompt_tokens)
    }

    pub(super) fn cached(&self) -> Option<u64> {
        let details = self.prompt_tokens_details.or(self.input_tokens_details);
        self.cache_read_input_tokens.or(details.and_then(|details| details.cached_tokens))
    }

    pub(super) fn output(&self) -> Option<u64> {
        self.output_tokens.or(self.completion_tokens)
    }
}

/// llama-server's own counts.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
pub(super) struct Timings {
    #[serde(rename = "cache_n")]
    pub(super) cached: Option<u64>,
    #[serde(rename = "prompt_n")]
    pub(super) evaluated: Option<u64>,
    #[serde(rename = "predicted_n")]
    pub(super) generated: Option<u64>,
    #[serde(rename = "predicted_ms")]
    pub(super) generated_in: Option<f64>,
}

/// Whether a chunk of a chat or completion brings content. Within a string the quotes of a key would be escaped.
pub(super) fn has_content(chunk: &[u8]) -> bool {
    [&b"\"content\":"[..], b"\"text\":", b"\"reasoning_content\":", b"\"tool_calls\":"].into_iter().any(|key| {
        memmem::find(chunk, key).is_some_and(|at| {
            let value = chunk[at + key.len()..].trim_ascii_start();
            !value.is_empty() && ![&b"null"[..], b"\"\"", b"[]"].into_iter().any(|empty| value.starts_with(empty))
        })
    })
}

/// The value behind the last of these keys that has one of that type; a few of them are tried.
pub(super) fn last<T: DeserializeOwned>(json: &[u8], key: &[u8]) -> Option<T> {
    let mut before = json;
    for _ in 0..16 {
        let at = memmem::rfind(before, key)?;
        let value = json[at + key.len()..].trim_ascii_start().strip_prefix(b":");
        let read = value.and_then(|value| serde_json::Deserializer::from_slice(value).into_iter().next());
        if let Some(Ok(read)) = read {
            return Some(read);
        }
        before = &json[..at];
    }
    None
}
