use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn see(route: InferenceRoute, body: &Value) -> Peek {
    peek(route, body.to_string().as_bytes()).expect("a good body")
}

fn refusal(route: InferenceRoute, body: &str) -> String {
    let error = peek(route, body.as_bytes()).expect_err(body);
    assert_eq!(error.code(), Code::InvalidRequest);
    let hint = error.body().hint.expect("a hint");
    assert!(hint.starts_with(&format!("`POST {}` takes one JSON object", route.path())), "{hint}");
    error.to_string()
}

#[test]
fn what_claude_code_sends_is_read() {
    let user = r#"{"device_id":"532c","account_uuid":"","session_id":"AAD75041-7ef4-4527-abcd-225856f8e805"}"#;
    let body = json!({"model": "local", "messages": [{"role": "user", "content": "hi"}], "system": [], "tools": [],
        "metadata": {"user_id": user}, "max_tokens": 32000, "thinking": {"type": "adaptive"}, "stream": true});
    let peek = see(InferenceRoute::Messages, &body);
    assert_eq!(peek.model.as_deref(), Some("local"));
    assert!(peek.stream);
    assert_eq!(peek.max_tokens, Some(32000));
    assert_eq!(peek.session, SessionId::new("claude:aad75041-7ef4-4527-abcd-225856f8e805").ok());
    assert_eq!(peek.prompt.turns.len(), 1);
}

#[test]
fn sessions_are_told_by_the_user_id_of_either_form_and_by_nothing_else() {
    let id = "aad75041-7ef4-4527-abcd-225856f8e805";
    let session =
        |route, metadata: Value| see(route, &json!({"messages": [], "metadata": metadata})).session.map(String::from);
    let expected = Some(format!("claude:{id}"));
    let old = json!({"user_id": format!("user_f00_account__session_{id}")});
    assert_eq!(session(InferenceRoute::Messages, old.clone()), expected);
    assert_eq!(session(InferenceRoute::CountTokens, old.clone()), expected);
    assert_eq!(session(InferenceRoute::ChatCompletions, old), None);
    for other in [
        json!({"user_id": "me"}),
        json!({"user_id": "a_session_b"}),
        json!({"user_id": id}),
        json!({"user_id": "{\"session_id\":5}"}),
        json!({"user_id": "{\"session_id\":\"../../../../etc/passwd-aaaaaaaaaaaaa\"}"}),
        json!({"user_id": {"session_id": id}}),
        json!({}),
        json!(null),
        json!("x"),
    ] {
        assert_eq!(session(InferenceRoute::Messages, other.clone()), None, "{other}");
    }
}

#[test]
fn no_model_is_the_loaded_one() {
    for body in [json!({"messages": []}), json!({"messages": [], "model": ""}), json!({"messages": [], "model": null})]
    {
        for route in [InferenceRoute::Messages, InferenceRoute::CountTokens, InferenceRoute::ChatCompletions] {
            assert_eq!(see(route, &body).model, None);
        }
    }
}

#[test]
fn each_route_has_its_own_keys() {
    for (route, body) in [
        (InferenceRoute::Completions, json!({"prompt": "x", "messages": 5, "max_tokens": 7})),
        (InferenceRoute::Responses, json!({"input": "x", "prompt": 5, "max_output_tokens": 7})),
        (InferenceRoute::Embeddings, json!({"input": ["x", [1, 2]], "max_completion_tokens": 7})),
        (InferenceRoute::ChatCompletions, json!({"messages": [], "input": 5, "metadata": 5, "max_tokens": 7})),
    ] {
        assert_eq!(see(route, &body).max_tokens, Some(7), "{route:?}");
    }
    let prompt = see(InferenceRoute::Embeddings, &json!({"input": "x".repeat(5000)})).prompt;
    assert_eq!(prompt, Prompt::default(), "embeddings are no conversation");
    let endless = json!({"prompt": "x", "max_tokens": -1});
    assert_eq!(see(InferenceRoute::Completions, &endless).max_tokens, None, "llama-server's word for no limit");
}

#[test]
fn mistakes_are_named_with_their_place() {
    let messages = |body: &str| refusal(InferenceRoute::Messages, body);
    assert_eq!(messages(""), "the request has no body");
    assert_eq!(messages(" \n"), "the request has no body");
    assert_eq!(messages("{}"), "the body has no `messages`");
    assert_eq!(messages("{bad"), "the body is not JSON: key must be a string at line 1 column 2");
    assert_eq!(messages("[]"), "the body does not fit: an array, expected one JSON object at line 1 column 2");
    assert_eq!(
        messages("{\"messages\":\n \"secret\"}"),
        "the body does not fit: a string, expected an array for `messages` at line 2 column 9"
    );
    assert_eq!(messages("\"secret\""), "the body does not fit: a string, expected one JSON object at line 1 column 8");
    assert_eq!(
        messages("{\"messages\":[],\"stream\":\"secret\"}"),
        "the body does not fit: a string, expected true or false for `stream` at line 1 column 32"
    );
    assert_eq!(
        messages("{\"model\":5}"),
        "the body does not fit: integer `5`, expected a string for `model` at line 1 column 10"
    );
    assert!(messages("{\"max_tokens\":-1}").contains("expected a whole number, not below 0, for `max_tokens`"));
    assert!(messages("{\"max_tokens\":1.5}").contains("floating point `1.5`"));
    assert!(messages("{\"messages\":[]").starts_with("the body ends too early: "));
    assert!(messages("{\"messages\":[]} x").starts_with("the body is not JSON: trailing characters"));
    assert!(messages("{\"messages\":null}").contains("expected an array for `messages`"));
    assert!(messages("{\"messages\":{}}").contains("expected an array for `messages`"));
    assert_eq!(
        messages("{\"model\":\"a\",\"mod\\u0065l\":\"b\"}"),
        "the body does not fit: `model` is there twice at line 1 column 25"
    );
    assert!(refusal(InferenceRoute::Completions, "{\"prompt\":5}").contains("a string or an array for `prompt`"));
    assert!(refusal(InferenceRoute::Responses, "{\"prompt\":\"\"}").contains("no `input`"));
    let error = peek(InferenceRoute::Messages, b"{\"messages\":[\n\"\xff\"]}").expect_err("not UTF-8");
    assert_eq!(error.to_string(), "the body is not UTF-8 at line 2 column 2");
}

#[test]
fn nesting_is_counted_outside_strings_and_bounded_everywhere() {
    let nested = |key: &str, depth: usize| {
        let (open, close) = ("[".repeat(depth), "]".repeat(depth));
        format!("{{\"messages\":[],\"{key}\":{open}\"\\\"{}\"{close}}}", "[".repeat(500))
            .replace("[],\"messages\":", "")
    };
    for key in ["messages", "system", "tools", "metadata", "x"] {
        assert!(peek(InferenceRoute::Messages, nested(key, DEEPEST - 1).as_bytes()).is_ok(), "{key}");
        let body = nested(key, DEEPEST);
        assert!(refusal(InferenceRoute::Messages, &body).starts_with("the body is nested more than 128 deep"), "{key}");
    }
    refusal(InferenceRoute::Messages, &"[".repeat(1_000_000));
}

#[test]
fn the_prompt_of_a_body_is_the_same_however_its_text_is_wrapped() {
    let plain = json!({"system": "be brief", "messages": [{"role": "user", "content": "abc"}]});
    let blocks = json!({
        "system": [{"type": "text", "text": "x-anthropic-billing-header: cc_version=2.1;"},
            {"type": "text", "text": "be brief", "cache_control": {"type": "ephemeral"}}],
        "messages": [{"role": "user", "content": [{"type": "text", "text": "abc", "cache_control": {"ttl": "1h"}}]}]
    });
    assert_eq!(see(InferenceRoute::Messages, &plain).prompt, see(InferenceRoute::Messages, &blocks).prompt);
}

fn bodies() -> impl Strategy<Value = Vec<u8>> {
    let whole = json!({"model": "a\u{e9}", "stream": true, "max_tokens": 5, "metadata": {"user_id": "x_session_y"},
        "messages": [{"role": "user", "content": [{"type": "text", "text": "\"[{\\"}]}], "system": ["b"],
        "tools": [{"cache_control": {}, "name": "n"}], "prompt": [1, "two"], "input": "i"})
    .to_string();
    let piece =
        prop::sample::select(vec!["{", "[", "]", "}", "\"", "\\", ",", ":", "null", "-1", "\"model\":", "\\ud800"]);
    (Just(whole.into_bytes()), any::<prop::sample::Index>(), any::<prop::sample::Index>(), piece).prop_map(
        |(mut body, from, to, piece)| {
            let (from, to) = (from.index(body.len()), to.index(body.len()));
            body.splice(from..from.max(to.min(from + 9)), piece.bytes());
            body
        },
    )
}

proptest! {
    #[test]
    fn nothing_makes_it_panic(body in prop_oneof![prop::collection::vec(any::<u8>(), 0..200), bodies()]) {
        for route in InferenceRoute::ALL {
            // What it takes is JSON.
            if peek(route, &body).is_ok() {
                prop_assert!(serde_json::from_slice::<IgnoredAny>(&body).is_ok());
            }
        }
    }
}
