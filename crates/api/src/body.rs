//! Request bodies: JSON, read strictly and with a bound.

use std::time::Duration;

use axum::body::HttpBody;
use axum::extract::Request;
use bytes::{Bytes, BytesMut};
use corral_core::{Code, Error};
use futures_util::{Stream, StreamExt};
use http::header::EXPECT;
use schemars::JsonSchema;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::error::Category;

use crate::failure::Failure;
use crate::quote::quoted;
use corral_core::catalog::nearest;

/// The longest body that is read.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Limit {
    /// Enough for every call that has no text to bring.
    Usual,
    /// Enough for a catalog of many thousand models.
    Catalog,
}

impl Limit {
    /// In bytes.
    fn bytes(self) -> usize {
        match self {
            Self::Usual => 64 << 10,
            Self::Catalog => 4 << 20,
        }
    }
}

/// How much of a body that is too long is read and thrown away, in bytes, so that its sender gets to see the answer.
const THROWN_AWAY: usize = 16 * 1024 * 1024;

/// How long a body may take to arrive.
const PATIENCE: Duration = Duration::from_secs(10);

/// Reads a body as JSON, whatever its content type says; an empty one is `{}`.
pub(crate) async fn json<T: DeserializeOwned + JsonSchema>(request: Request) -> Result<T, Failure> {
    let bytes = arrived(request, Limit::Usual).await?;
    let text = bytes.trim_ascii();
    parse(if text.is_empty() { b"{}" } else { text }).map_err(Failure::from)
}

/// Reads a body as JSON, whatever its content type says; an empty one does not do.
pub(crate) async fn whole<T: DeserializeOwned + JsonSchema>(request: Request, limit: Limit) -> Result<T, Failure> {
    parse(arrived(request, limit).await?.trim_ascii()).map_err(Failure::from)
}

async fn arrived(request: Request, limit: Limit) -> Result<Bytes, Failure> {
    tokio::time::timeout(PATIENCE, read(request, limit.bytes())).await.map_err(|_| {
        Failure::invalid(
            format!("the body did not arrive within {} seconds", PATIENCE.as_secs()),
            "send as many bytes as `Content-Length` says",
        )
    })?
}

async fn read(request: Request, limit: usize) -> Result<Bytes, Failure> {
    let asks_first = request.headers().contains_key(EXPECT);
    let body = request.into_body();
    // Who asks before sending is told no before sending.
    if asks_first && body.size_hint().lower() > limit as u64 {
        return Err(too_large(limit));
    }
    let mut parts = body.into_data_stream();
    let mut bytes = BytesMut::new();
    while let Some(part) = parts.next().await {
        let part = part.map_err(|error| {
            Failure::invalid(format!("the body ended early: {error}"), "send as many bytes as `Content-Length` says")
        })?;
        if bytes.len() + part.len() > limit {
            throw_away(parts).await;
            return Err(too_large(limit));
        }
        bytes.extend_from_slice(&part);
    }
    Ok(bytes.freeze())
}

async fn throw_away<E>(mut parts: impl Stream<Item = Result<Bytes, E>> + Unpin) {
    let mut left = THROWN_AWAY;
    while let Some(Ok(part)) = parts.next().await {
        let Some(rest) = left.checked_sub(part.len()) else { return };
        left = rest;
    }
}

fn too_large(limit: usize) -> Failure {
    let message = format!("the body is longer than {} KiB", limit / 1024);
    Error::new(Code::BodyTooLarge, message).hint("no call needs that much").into()
}

fn parse<T: DeserializeOwned + JsonSchema>(text: &[u8]) -> Result<T, Error> {
    // Mistakes of form come before mistakes of content, whichever stands first.
    serde_json::from_slice::<IgnoredAny>(text).map_err(|error| malformed(&error))?;
    // A struct would take an array of its fields' values too.
    if text.first() != Some(&b'{') {
        return Err(invalid("the body is JSON, but no object".to_owned(), fields_of::<T>()));
    }
    let mut reader = serde_json::Deserializer::from_slice(text);
    let error = match serde_path_to_error::deserialize(&mut reader) {
        Ok(value) => return reader.end().map(|()| value).map_err(|error| malformed(&error)),
        Err(error) => error,
    };
    if error.inner().classify() != Category::Data {
        return Err(malformed(error.inner()));
    }
    let known = fields::<T>();
    if let Some(stranger) = keys(text).into_iter().find(|key| !known.contains(key)) {
        let hint = nearest(&stranger, known.iter().map(String::as_str))
            .map_or_else(fields_of::<T>, |meant| format!("did you mean `{meant}`?"));
        return Err(invalid(format!("this call knows no field {}", quoted(&stranger)), hint));
    }
    let field = error.path().to_string();
    let message = match field.as_str() {
        "." => format!("the body does not fit: {}", error.inner()),
        field => format!("the field `{field}` does not fit: {}", error.inner()),
    };
    Err(invalid(message, fields_of::<T>()))
}

fn malformed(error: &serde_json::Error) -> Error {
    invalid(format!("the body is not JSON: {error}"), r#"send an object, for instance {"model":"ID"}"#.to_owned())
}

fn invalid(message: String, hint: String) -> Error {
    Error::new(Code::InvalidRequest, message).hint(hint)
}

/// The names of the fields of `T`, as its schema has them.
fn fields<T: JsonSchema>() -> Vec<String> {
    let schema = schemars::schema_for!(T);
    let properties = schema.get("properties").and_then(serde_json::Value::as_object);
    properties.map(|properties| properties.keys().cloned().collect()).unwrap_or_default()
}

fn fields_of<T: JsonSchema>() -> String {
    let names: Vec<String> = fields::<T>().iter().map(|name| format!("`{name}`")).collect();
    format!("the fields are {}", names.join(", "))
}

fn keys(text: &[u8]) -> Vec<String> {
    let object = serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(text);
    object.map(|object| object.into_iter().map(|(key, _)| key).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dto::{StartRequest, SwitchRequest};

    fn message<T: DeserializeOwned + JsonSchema + std::fmt::Debug>(text: &str) -> (String, String) {
        let body = parse::<T>(text.as_bytes()).expect_err("an error").body();
        (body.message, body.hint.expect("a hint"))
    }

    #[test]
    fn what_fits_is_read() {
        let asked: StartRequest = parse(br#"{"model":"m","wait":true}"#).expect("a request");
        assert_eq!(asked, StartRequest { model: Some("m".to_owned()), wait: true });
        assert_eq!(parse::<StartRequest>(b"{}").expect("a request"), StartRequest::default());
    }

    #[test]
    fn mistakes_are_named() {
        let (said, hint) = message::<StartRequest>(r#"{"modle":"m"}"#);
        assert_eq!((said.as_str(), hint.as_str()), ("this call knows no field `modle`", "did you mean `model`?"));
        let (said, hint) = message::<StartRequest>(r#"{"colour":"red"}"#);
        assert!(said.contains("`colour`") && hint == "the fields are `model`, `wait`", "{said} {hint}");
        let (said, _) = message::<StartRequest>(r#"{"model":1}"#);
        assert!(said.contains("the field `model`") && said.contains("line 1 column 10"), "{said}");
        let (said, _) = message::<SwitchRequest>("{}");
        assert!(said.contains("missing field `model`"), "{said}");
        let (said, _) = message::<SwitchRequest>("{\n  \"model\": \"m\",\n}");
        assert!(said.contains("not JSON") && said.contains("line 3 column 1"), "{said}");
        let (said, _) = message::<StartRequest>(r#"{"wait":true,"wait":false}"#);
        assert!(said.contains("duplicate field `wait`"), "{said}");
        for text in ["[]", "null", "\"m\"", "[\"m\", true]"] {
            assert!(message::<StartRequest>(text).0.contains("no object"), "{text}");
        }
        for text in ["{} {}", "model=m", "{\"model\":", "{\"model\":\"\\ud800\"}"] {
            assert!(message::<StartRequest>(text).0.contains("not JSON"), "{text}");
        }
    }
}
