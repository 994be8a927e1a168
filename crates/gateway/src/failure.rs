//! Errors in the protocol of the client that gets them.

use std::borrow::Cow;

use bytes::Bytes;
use corral_core::{Code, Error};
use serde::{Deserialize, Serialize};

/// The longest text that is taken over from an answer that is no JSON.
const MOST_TEXT: usize = 2048;

/// How a client expects its errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// <https://platform.claude.com/docs/en/api/errors>
    Anthropic,
    /// <https://platform.openai.com/docs/guides/error-codes>
    OpenAi,
    /// As `OpenAi`, but for errors in the stream.
    Responses,
}

impl Dialect {
    /// The dialect of a path; [`Dialect::OpenAi`] where no other is known.
    pub(crate) fn of_path(path: &str) -> Self {
        let under = |root| path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?']));
        if under("/v1/messages") {
            Self::Anthropic
        } else if under("/v1/responses") {
            Self::Responses
        } else {
            Self::OpenAi
        }
    }

    /// The `type` of an error with this status.
    fn status_type(self, status: u16) -> &'static str {
        match (self, status) {
            (_, 401) => "authentication_error",
            (_, 403) => "permission_error",
            (_, 404) => "not_found_error",
            (Self::Anthropic, 408 | 504) => "timeout_error",
            (Self::Anthropic, 413) => "request_too_large",
            (_, 429) => "rate_limit_error",
            (_, 400..=499) => "invalid_request_error",
            // Claude Code tries again after these.
            (Self::Anthropic, 503 | 529) => "overloaded_error",
            (Self::Anthropic, _) => "api_error",
            (_, 503) => "unavailable_error",
            _ => "server_error",
        }
    }
}

/// The `type` of an error with this code.
pub(crate) fn error_type(dialect: Dialect, code: Code) -> &'static str {
    dialect.status_type(code.http_status())
}

/// The body of an answer that is an error.
pub(crate) fn body(dialect: Dialect, error: &Error) -> Bytes {
    said(dialect, error, |told| told.body(dialect))
}

/// The event that ends a stream with an error.
pub(crate) fn event(dialect: Dialect, error: &Error) -> Bytes {
    said(dialect, error, |told| told.event(dialect))
}

/// llama-server's error as the event that ends a stream whose head the client has already got.
pub(crate) fn error_from_upstream(dialect: Dialect, status: u16, body: &[u8]) -> Bytes {
    if let Some(upstream) = Upstream::read(body) {
        return upstream.told(dialect, status).event(dialect);
    }
    let cut = &body[..body.len().min(MOST_TEXT)];
    let text = String::from_utf8_lossy(cut);
    let message = match text.trim() {
        "" => format!("llama-server answered with status {status} and no reason"),
        text => format!("llama-server answered with status {status}: {text}"),
    };
    let kind = dialect.status_type(status);
    Told { kind: kind.into(), message: message.into(), code: None }.event(dialect)
}

/// llama-server's error in the client's protocol; none where it is in it already, or no error of llama-server's.
pub(crate) fn rewrite_error(dialect: Dialect, body: &[u8]) -> Option<Bytes> {
    if dialect != Dialect::Anthropic {
        return None;
    }
    let upstream = Upstream::read(body)?;
    Some(upstream.told(dialect, upstream.error.code.unwrap_or(500)).body(dialect))
}

fn said(dialect: Dialect, error: &Error, write: impl FnOnce(&Told<'_>) -> Bytes) -> Bytes {
    let said = error.body();
    let message = match said.hint {
        Some(hint) => format!("{} ({hint})", said.message),
        None => said.message,
    };
    let kind = error_type(dialect, error.code());
    write(&Told { kind: kind.into(), message: message.into(), code: Some(error.code().as_str().into()) })
}

/// What a client is told.
struct Told<'a> {
    kind: Cow<'a, str>,
    message: Cow<'a, str>,
    /// A stable code, Corral's or llama-server's own.
    code: Option<Cow<'a, str>>,
}

impl Told<'_> {
    fn body(&self, dialect: Dialect) -> Bytes {
        let (kind, message, code) = (&*self.kind, &*self.message, self.code.as_deref());
        match dialect {
            Dialect::Anthropic => {
                json(&AnthropicError { kind: "error", error: AnthropicDetail { kind, message, code } })
            }
            Dialect::OpenAi | Dialect::Responses => {
                json(&OpenAiError { error: OpenAiDetail { message, kind, param: (), code } })
            }
        }
        .into()
    }

    fn event(&self, dialect: Dialect) -> Bytes {
        let (name, data) = match dialect {
            Dialect::Anthropic => (&b"event: error\n"[..], self.body(dialect)),
            Dialect::OpenAi => (&b""[..], self.body(dialect)),
            Dialect::Responses => {
                let (code, message) = (self.code.as_deref().unwrap_or(&self.kind), &*self.message);
                let event = ResponsesError { kind: "error", code, message, param: (), sequence_number: 0 };
                (&b"event: error\n"[..], json(&event).into())
            }
        };
        [name, b"data: ", &data, b"\n\n"].concat().into()
    }
}

fn json(value: &impl Serialize) -> Vec<u8> {
    // Structs of strings always serialise.
    serde_json::to_vec(value).unwrap_or_default()
}

#[derive(Serialize)]
struct AnthropicError<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    error: AnthropicDetail<'a>,
}

#[derive(Serialize)]
struct AnthropicDetail<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'a str>,
}

#[derive(Serialize)]
struct OpenAiError<'a> {
    error: OpenAiDetail<'a>,
}

#[derive(Serialize)]
struct OpenAiDetail<'a> {
    message: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    param: (),
    code: Option<&'a str>,
}

#[derive(Serialize)]
struct ResponsesError<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    code: &'a str,
    message: &'a str,
    param: (),
    sequence_number: u32,
}

/// An error as llama-server sends it, on every route.
#[derive(Deserialize)]
struct Upstream<'a> {
    #[serde(borrow)]
    error: UpstreamDetail<'a>,
    /// Only in Anthropic's own shape.
    #[serde(rename = "type", borrow)]
    kind: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct UpstreamDetail<'a> {
    code: Option<u16>,
    #[serde(borrow)]
    message: Cow<'a, str>,
    #[serde(rename = "type", borrow)]
    kind: Option<Cow<'a, str>>,
    n_prompt_tokens: Option<u64>,
    n_ctx: Option<u64>,
}

impl<'a> Upstream<'a> {
    fn read(body: &'a [u8]) -> Option<Self> {
        serde_json::from_slice::<Self>(body).ok().filter(|upstream| upstream.kind.is_none())
    }

    fn told(&self, dialect: Dialect, status: u16) -> Told<'_> {
        let Self { error, .. } = self;
        let own = error.kind.as_deref();
        let message = match (dialect, error.n_prompt_tokens, error.n_ctx) {
            // Claude Code reads both numbers out of exactly this sentence, and compacts the conversation to fit.
            (Dialect::Anthropic, Some(tokens), Some(limit)) if own == Some("exceed_context_size_error") => {
                format!("prompt is too long: {tokens} tokens > {limit} maximum").into()
            }
            _ => Cow::Borrowed(&*error.message),
        };
        let by_status = dialect.status_type(status);
        let kind = if dialect == Dialect::Anthropic { by_status } else { own.unwrap_or(by_status) };
        // What the type does not say already.
        let code = own.filter(|own| *own != kind).map(Cow::Borrowed);
        Told { kind: kind.into(), message, code }
    }
}

#[cfg(test)]
mod tests;
