//! What the gateway has to know of a request before it sends it on, read in one pass and without copying the body.

use std::borrow::Cow;
use std::fmt;

use corral_core::usage::InferenceRoute;
use corral_core::{Code, Error, SessionId};
use memchr::{memchr_iter, memchr2, memrchr};
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, Unexpected, Visitor};
use serde_json::error::Category;
use serde_json::value::RawValue;

use crate::prompt::{Prompt, Turns};

/// Deeper than any real request, and far from what llama-server's recursive reader can take.
const DEEPEST: usize = 128;

/// What a request's body says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Peek {
    /// The model asked for; none where the key is missing, null or empty.
    pub(crate) model: Option<String>,
    /// Whether the answer is to be streamed.
    pub(crate) stream: bool,
    /// The limit of the answer, in tokens.
    pub(crate) max_tokens: Option<u64>,
    /// The session of Claude Code.
    pub(crate) session: Option<SessionId>,
    /// The prompt; empty where the route generates nothing.
    pub(crate) prompt: Prompt,
}

/// Reads a body, or says with [`Code::InvalidRequest`] what is wrong with it and where.
pub(crate) fn peek(route: InferenceRoute, body: &[u8]) -> Result<Peek, Error> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Err(invalid(route, "the request has no body".to_owned()));
    }
    let text = std::str::from_utf8(body)
        .map_err(|error| invalid(route, format!("the body is not UTF-8 {}", place(body, error.valid_up_to()))))?;
    if let Some(at) = too_deep(body) {
        return Err(invalid(route, format!("the body is nested more than {DEEPEST} deep {}", place(body, at))));
    }
    let mut json = serde_json::Deserializer::from_str(text);
    // The nesting has just been checked, and is refused one level earlier otherwise.
    json.disable_recursion_limit();
    let read = json.deserialize_any(Body(route)).and_then(|peek| json.end().map(|()| peek));
    let (peek, there) = read.map_err(|error| unreadable(route, &error))?;
    if there { Ok(peek) } else { Err(invalid(route, format!("the body has no `{}`", required(route)))) }
}

fn unreadable(route: InferenceRoute, error: &serde_json::Error) -> Error {
    let message = match error.classify() {
        Category::Data => format!("the body does not fit: {}", plain(&error.to_string())),
        Category::Eof => format!("the body ends too early: {error}"),
        Category::Io | Category::Syntax => format!("the body is not JSON: {error}"),
    };
    invalid(route, message)
}

/// What serde says, in JSON's words, and without the texts that people wrote: they do not belong into an error.
fn plain(text: &str) -> String {
    let text = text.strip_prefix("invalid type: ").or_else(|| text.strip_prefix("invalid value: ")).unwrap_or(text);
    match text.rsplit_once(", expected ") {
        Some((found, wanted)) if found.starts_with("string") => format!("a string, expected {wanted}"),
        Some(("sequence", wanted)) => format!("an array, expected {wanted}"),
        Some(("map", wanted)) => format!("an object, expected {wanted}"),
        _ => text.to_owned(),
    }
}

fn invalid(route: InferenceRoute, message: String) -> Error {
    let (path, key) = (route.path(), required(route));
    let kind = match route {
        InferenceRoute::Messages | InferenceRoute::CountTokens | InferenceRoute::ChatCompletions => "an array",
        _ => "a string or an array",
    };
    Error::new(Code::InvalidRequest, message)
        .hint(format!("`POST {path}` takes one JSON object with at least `{key}`, {kind}"))
}

fn required(route: InferenceRoute) -> &'static str {
    match route {
        InferenceRoute::Messages | InferenceRoute::CountTokens | InferenceRoute::ChatCompletions => "messages",
        InferenceRoute::Completions => "prompt",
        InferenceRoute::Responses | InferenceRoute::Embeddings => "input",
    }
}

/// Where the nesting exceeds [`DEEPEST`]. What stands in strings does not count.
fn too_deep(body: &[u8]) -> Option<usize> {
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(&byte) = body.get(at) {
        match byte {
            b'{' | b'[' => {
                depth += 1;
                if depth > DEEPEST {
                    return Some(at);
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => loop {
                // Behind the quote, then behind each escaped byte.
                at += 1;
                at += memchr2(b'"', b'\\', body.get(at..)?)?;
                if body[at] == b'"' {
                    break;
                }
                at += 1;
            },
            _ => {}
        }
        at += 1;
    }
    None
}

fn place(body: &[u8], at: usize) -> String {
    let before = &body[..at.min(body.len())];
    let line = memchr_iter(b'\n', before).count() + 1;
    let column = before.len() - memrchr(b'\n', before).map_or(0, |newline| newline + 1) + 1;
    format!("at line {line} column {column}")
}

/// Reads the body; tells besides whether what the route requires was there.
struct Body(InferenceRoute);

impl<'de> Visitor<'de> for Body {
    type Value = (Peek, bool);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("one JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let Self(route) = self;
        let anthropic = matches!(route, InferenceRoute::Messages | InferenceRoute::CountTokens);
        // No conversation goes on from a count or from embeddings.
        let generates = !matches!(route, InferenceRoute::CountTokens | InferenceRoute::Embeddings);
        let mut peek = Peek::default();
        let mut limits = [None; 3];
        let mut seen = 0_u16;
        while let Some(key) = map.next_key::<Key>()? {
            let read_here = match key {
                Key::Other => false,
                Key::Messages | Key::Prompt | Key::Input => key.name() == required(route),
                Key::Metadata => anthropic,
                Key::System => anthropic && generates,
                Key::Instructions => route == InferenceRoute::Responses,
                Key::Tools => generates,
                _ => true,
            };
            if !read_here {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let bit = 1 << key as u16;
            if seen & bit != 0 {
                return Err(A::Error::custom(format_args!("`{}` is there twice", key.name())));
            }
            seen |= bit;
            match key {
                Key::Model => {
                    peek.model = map.next_value_seed(Text)?.filter(|model: &String| !model.is_empty());
                }
                Key::Stream => peek.stream = map.next_value_seed(Flag)?,
                Key::MaxTokens | Key::MaxCompletionTokens | Key::MaxOutputTokens => {
                    let limit = map.next_value_seed(Limit { key: key.name(), endless: !anthropic })?;
                    limits[key as usize - Key::MaxTokens as usize] = limit;
                }
                Key::Metadata => peek.session = claude_session(map.next_value::<&RawValue>()?),
                Key::System | Key::Instructions => map.next_value_seed(peek.prompt.system_seed())?,
                Key::Tools => peek.prompt.set_tools(map.next_value::<&RawValue>()?),
                Key::Messages | Key::Prompt | Key::Input => map.next_value_seed(Turns {
                    prompt: generates.then_some(&mut peek.prompt),
                    key: key.name(),
                    array_only: matches!(key, Key::Messages),
                    system_leads: !anthropic,
                })?,
                Key::Other => {}
            }
        }
        peek.max_tokens = limits.into_iter().flatten().next();
        let turns = 1 << Key::Messages as u16 | 1 << Key::Prompt as u16 | 1 << Key::Input as u16;
        Ok((peek, seen & turns != 0))
    }
}

/// The session of `metadata.user_id`: `…_session_<uuid>`, of later versions `{"session_id":"<uuid>",…}` as a text.
fn claude_session(metadata: &RawValue) -> Option<SessionId> {
    #[derive(Deserialize)]
    struct Metadata<'a> {
        #[serde(borrow)]
        user_id: Option<Cow<'a, str>>,
    }
    #[derive(Deserialize)]
    struct User<'a> {
        #[serde(borrow)]
        session_id: Option<Cow<'a, str>>,
    }
    let user_id = serde_json::from_str::<Metadata<'_>>(metadata.get()).ok()?.user_id?;
    let uuid = if user_id.trim_start().starts_with('{') {
        serde_json::from_str::<User<'_>>(&user_id).ok()?.session_id?
    } else {
        Cow::Borrowed(user_id.rsplit_once("_session_")?.1)
    };
    let is_uuid = uuid.len() == 36
        && uuid.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        });
    if is_uuid { SessionId::new(format!("claude:{}", uuid.to_ascii_lowercase())).ok() } else { None }
}

/// The keys that are read.
#[derive(Clone, Copy, Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Key {
    Model,
    Stream,
    // In the order in which they count.
    MaxTokens,
    MaxCompletionTokens,
    MaxOutputTokens,
    Metadata,
    System,
    Instructions,
    Tools,
    Messages,
    Prompt,
    Input,
    #[serde(other)]
    Other,
}

impl Key {
    fn name(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Stream => "stream",
            Self::MaxTokens => "max_tokens",
            Self::MaxCompletionTokens => "max_completion_tokens",
            Self::MaxOutputTokens => "max_output_tokens",
            Self::Metadata => "metadata",
            Self::System => "system",
            Self::Instructions => "instructions",
            Self::Tools => "tools",
            Self::Messages => "messages",
            Self::Prompt => "prompt",
            Self::Input => "input",
            Self::Other => "",
        }
    }
}

macro_rules! any_seed {
    ($seed:ty, $value:ty) => {
        impl<'de> DeserializeSeed<'de> for $seed {
            type Value = $value;

            fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<$value, D::Error> {
                deserializer.deserialize_any(self)
            }
        }
    };
}

/// The model's name.
struct Text;
any_seed!(Text, Option<String>);

impl Visitor<'_> for Text {
    type Value = Option<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string for `model`")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Some(text.to_owned()))
    }
}

/// Whether to stream.
struct Flag;
any_seed!(Flag, bool);

impl Visitor<'_> for Flag {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("true or false for `stream`")
    }

    fn visit_unit<E>(self) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_bool<E>(self, value: bool) -> Result<bool, E> {
        Ok(value)
    }
}

/// A number of tokens.
struct Limit {
    key: &'static str,
    /// Whether -1 means that there is none, as it does to llama-server.
    endless: bool,
}
any_seed!(Limit, Option<u64>);

impl Visitor<'_> for Limit {
    type Value = Option<u64>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a whole number, not below 0, for `{}`", self.key)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(Some(value))
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Self::Value, E> {
        match u64::try_from(value) {
            Ok(value) => Ok(Some(value)),
            Err(_) if self.endless && value == -1 => Ok(None),
            Err(_) => Err(E::invalid_value(Unexpected::Signed(value), &self)),
        }
    }
}

#[cfg(test)]
mod tests;
