use corral_core::usage::InferenceRoute;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const ALL: [Dialect; 3] = [Dialect::Anthropic, Dialect::OpenAi, Dialect::Responses];

fn value(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).expect("JSON")
}

/// The event's name and its data.
fn parts(event: &[u8]) -> (Option<String>, Value) {
    let text = std::str::from_utf8(event).expect("UTF-8").strip_suffix("\n\n").expect("a blank line at the end");
    let (name, data) = match text.strip_prefix("event: ").and_then(|text| text.split_once('\n')) {
        Some((name, data)) => (Some(name.to_owned()), data),
        None => (None, text),
    };
    assert!(!data.contains('\n'));
    (name, value(data.strip_prefix("data: ").expect("data").as_bytes()))
}

fn error() -> Error {
    Error::new(Code::QueueFull, "64 requests wait\nalready").hint("try again later")
}

#[test]
fn each_path_has_its_dialect() {
    let dialect = |path| Dialect::of_path(path);
    assert_eq!(dialect("/v1/messages"), Dialect::Anthropic);
    assert_eq!(dialect("/v1/messages?beta=true"), Dialect::Anthropic);
    assert_eq!(dialect(InferenceRoute::CountTokens.path()), Dialect::Anthropic);
    assert_eq!(dialect("/v1/responses"), Dialect::Responses);
    for path in ["/v1/messagesx", "/v1/chat/completions", "/v1/models", "/", ""] {
        assert_eq!(dialect(path), Dialect::OpenAi, "{path}");
    }
}

#[test]
fn bodies_have_the_shape_of_the_client_s_protocol() {
    let message = "64 requests wait\nalready (try again later)";
    assert_eq!(
        value(&body(Dialect::Anthropic, &error())),
        json!({"type": "error",
            "error": {"type": "overloaded_error", "message": message, "code": "queue_full"}})
    );
    let open_ai = json!({"error":
        {"message": message, "type": "unavailable_error", "param": null, "code": "queue_full"}});
    assert_eq!(value(&body(Dialect::OpenAi, &error())), open_ai);
    assert_eq!(value(&body(Dialect::Responses, &error())), open_ai);
    let bare = Error::new(Code::Internal, "no hint");
    assert_eq!(value(&body(Dialect::Anthropic, &bare))["error"]["message"], "no hint");
}

#[test]
fn events_have_the_shape_of_the_client_s_protocol() {
    let error = error();
    let anthropic = parts(&event(Dialect::Anthropic, &error));
    assert_eq!(anthropic, (Some("error".to_owned()), value(&body(Dialect::Anthropic, &error))));
    assert_eq!(parts(&event(Dialect::OpenAi, &error)), (None, value(&body(Dialect::OpenAi, &error))));
    let (name, data) = parts(&event(Dialect::Responses, &error));
    assert_eq!(name.as_deref(), Some("error"));
    let message = "64 requests wait\nalready (try again later)";
    let expected = json!({"type": "error", "code": "queue_full", "message": message, "param": null,
        "sequence_number": 0});
    assert_eq!(data, expected);
}

#[test]
fn codes_have_the_type_that_clients_act_upon() {
    for (code, anthropic, open_ai) in [
        (Code::InvalidRequest, "invalid_request_error", "invalid_request_error"),
        (Code::Unauthorized, "authentication_error", "authentication_error"),
        (Code::ForbiddenOrigin, "permission_error", "permission_error"),
        (Code::UnknownModel, "not_found_error", "not_found_error"),
        (Code::BodyTooLarge, "request_too_large", "invalid_request_error"),
        (Code::HeadTooLarge, "invalid_request_error", "invalid_request_error"),
        (Code::RequestTimeout, "timeout_error", "invalid_request_error"),
        (Code::HoldTimeout, "overloaded_error", "unavailable_error"),
        (Code::Cut, "overloaded_error", "unavailable_error"),
        (Code::LoadTimeout, "timeout_error", "server_error"),
        (Code::ServerExited, "api_error", "server_error"),
        (Code::ModelFileMissing, "invalid_request_error", "invalid_request_error"),
        (Code::Internal, "api_error", "server_error"),
    ] {
        assert_eq!(error_type(Dialect::Anthropic, code), anthropic, "{code:?}");
        assert_eq!(error_type(Dialect::OpenAi, code), open_ai, "{code:?}");
        assert_eq!(error_type(Dialect::Responses, code), open_ai, "{code:?}");
    }
}

// As llama-server 0.7.0 sends them on /v1/messages.
const TOO_LONG: &[u8] = br#"{"error":{"code":400,"message":"request (20020 tokens) exceeds the available context size (8192 tokens), try increasing it","type":"exceed_context_size_error","n_prompt_tokens":20020,"n_ctx":8192}}"#;
const LOADING: &[u8] = br#"{"error":{"message":"Loading model","type":"unavailable_error","code":503}}"#;

#[test]
fn llama_server_s_errors_become_anthropic_s() {
    let rewritten = |body| value(&rewrite_error(Dialect::Anthropic, body).expect("an error"));
    assert_eq!(
        rewritten(TOO_LONG),
        json!({"type": "error", "error": {"type": "invalid_request_error",
            "message": "prompt is too long: 20020 tokens > 8192 maximum", "code": "exceed_context_size_error"}})
    );
    assert_eq!(
        rewritten(LOADING),
        json!({"type": "error", "error": {"type": "overloaded_error", "message": "Loading model",
            "code": "unavailable_error"}})
    );
    let code = rewritten(br#"{"error":{"code":400,"message":"m","type":"invalid_request_error"}}"#);
    assert_eq!(code, json!({"type": "error", "error": {"type": "invalid_request_error", "message": "m"}}));
    for same in [&b"{}"[..], b"", b"<html>", br#"{"type":"error","error":{"type":"api_error","message":"m"}}"#] {
        assert_eq!(rewrite_error(Dialect::Anthropic, same), None);
    }
    assert_eq!(rewrite_error(Dialect::OpenAi, LOADING), None);
    assert_eq!(rewrite_error(Dialect::Responses, LOADING), None);
}

#[test]
fn llama_server_s_errors_become_events() {
    let (name, data) = parts(&error_from_upstream(Dialect::Anthropic, 400, TOO_LONG));
    assert_eq!(name.as_deref(), Some("error"));
    assert_eq!(data, value(&rewrite_error(Dialect::Anthropic, TOO_LONG).expect("an error")));
    let (_, data) = parts(&error_from_upstream(Dialect::OpenAi, 400, TOO_LONG));
    assert_eq!(data["error"]["type"], "exceed_context_size_error");
    assert!(data["error"]["message"].as_str().is_some_and(|text| text.starts_with("request (20020 tokens)")));
    let (_, data) = parts(&error_from_upstream(Dialect::Responses, 503, LOADING));
    assert_eq!((&data["type"], &data["code"]), (&json!("error"), &json!("unavailable_error")));
    let (_, data) = parts(&error_from_upstream(Dialect::Anthropic, 500, b" oops\n"));
    assert_eq!(data["error"], json!({"type": "api_error", "message": "llama-server answered with status 500: oops"}));
    let (_, data) = parts(&error_from_upstream(Dialect::OpenAi, 502, b""));
    assert_eq!(data["error"]["message"], "llama-server answered with status 502 and no reason");
}

proptest! {
    #[test]
    fn any_bytes_become_one_event(status: u16, body in prop::collection::vec(any::<u8>(), 0..5000)) {
        for dialect in ALL {
            parts(&error_from_upstream(dialect, status, &body));
            if let Some(body) = rewrite_error(dialect, &body) {
                value(&body);
            }
        }
    }
}
