use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const LINE: &str = "x-anthropic-billing-header: cc_version=2.1.329.e8c; cc_entrypoint=sdk-cli;";

/// The adapted body; the same where nothing was to be done.
fn adapted(body: &str, merge_system: bool) -> String {
    let body = Bytes::copy_from_slice(body.as_bytes());
    String::from_utf8(adapt(&body, merge_system).unwrap_or(body).into()).expect("UTF-8")
}

fn changed(body: &str, merge_system: bool) -> bool {
    adapt(&Bytes::copy_from_slice(body.as_bytes()), merge_system).is_some()
}

#[test]
fn the_attribution_is_left_out_and_nothing_else() {
    let rest = r#""model" : "m","n":1e3,"messages":[{"role":"user","content":"\u00e9"}],"x":{"b":1,"a":2.50}"#;
    for (system, expected) in [
        (
            format!(r#"[{{"type":"text","text":"{LINE}"}}, {{"type":"text","text":"a"}}]"#),
            r#"[{"type":"text","text":"a"}]"#,
        ),
        (format!(r#"[ {{"text":"{LINE}\n"}},"a"]"#), r#"[ "a"]"#),
        (format!(r#"[{{"text":"{LINE}\\n\n\nb\n","cache_control":1}}]"#), r#"[{"text":"\nb\n","cache_control":1}]"#),
        (format!(r#"[{{"text":"{LINE}"}}]"#), "[]"),
        (format!(r#""{LINE}\nbe \"brief\"""#), r#""be \"brief\"""#),
        (format!(r#""{LINE}""#), r#""""#),
    ] {
        let body = format!(r#"{{{rest},"system": {system} ,"z":0}}"#);
        assert_eq!(adapted(&body, false), format!(r#"{{{rest},"system": {expected} ,"z":0}}"#));
        assert_eq!(adapted(&body, true), adapted(&body, false));
    }
}

#[test]
fn the_attribution_is_text_anywhere_else() {
    for body in [
        format!(r#"{{"system":"a\n{LINE}","messages":[]}}"#),
        format!(r#"{{"system":["a","{LINE}"],"messages":[]}}"#),
        format!(r#"{{"system":[" {LINE}"],"messages":[]}}"#),
        format!(r#"{{"messages":[{{"role":"user","content":"{LINE}"}}]}}"#),
        format!(r#"{{"system":{{"text":"{LINE}"}},"messages":[]}}"#),
        format!(r#"["{LINE}",[]]"#),
        format!(r#"{{"system":"{LINE}"#),
        format!(r#"{{"system":"{LINE}","system":"{LINE}"}}"#),
    ] {
        assert!(!changed(&body, true), "{body}");
    }
}

#[test]
fn system_messages_are_moved_behind_the_system_prompt() {
    let user = r#"{"role":"user","content":"u"}"#;
    let system =
        r#"{"role":"system","content":[{"type":"text","text":"s\"1","cache_control":{}},{"type":"text","text":"s2"}]}"#;
    let plain = r#"{"content":"s3", "role" : "system"}"#;
    let moved = r#"{"type":"text","text":"\n\ns\"1"},{"type":"text","text":"\n\ns2"}"#;
    for (before, after) in [
        (
            format!(r#"{{"system":[{{"text":"a"}}],"messages":[{user}, {system}]}}"#),
            format!(r#"{{"system":[{{"text":"a"}},{moved}],"messages":[{user}]}}"#),
        ),
        (
            format!(r#"{{"messages":[{system},{user} ,{plain},{user}],"system":"a"}}"#),
            format!(
                r#"{{"messages":[{user},{user}],"system":[{{"type":"text","text":"a"}},{moved},{{"type":"text","text":"\n\ns3"}}]}}"#
            ),
        ),
        (
            format!(r#" {{ "messages":[{user},{plain},{plain}]}}"#),
            format!(
                r#" {{"system":[{{"type":"text","text":"s3"}},{{"type":"text","text":"\n\ns3"}}], "messages":[{user}]}}"#
            ),
        ),
        (
            format!(r#"{{"system":null,"messages":[{plain},{plain},{user}]}}"#),
            format!(
                r#"{{"system":[{{"type":"text","text":"s3"}},{{"type":"text","text":"\n\ns3"}}],"messages":[{user}]}}"#
            ),
        ),
        (
            format!(r#"{{"system":["{LINE}"],"messages":[{plain}]}}"#),
            r#"{"system":[{"type":"text","text":"s3"}],"messages":[]}"#.to_owned(),
        ),
        (
            format!(r#"{{"system":"{LINE}\na","messages":[{user},{{"role":"system"}},{plain}]}}"#),
            format!(
                r#"{{"system":[{{"type":"text","text":"a"}},{{"type":"text","text":"\n\ns3"}}],"messages":[{user}]}}"#
            ),
        ),
    ] {
        assert!(needs_merge(before.as_bytes()), "{before}");
        assert_eq!(adapted(&before, true), after);
        assert!(!needs_merge(after.as_bytes()), "{after}");
    }
}

#[test]
fn what_has_no_system_messages_is_left_alone() {
    for body in [
        r#"{"system":"system","messages":[{"role":"user","content":"system"}]}"#,
        r#"{"system" : "x","messages":[{"role":"user","content":"\"role\":\"system\""}]}"#,
        r#"{"messages":[["system","x"],"system",5,null,{"role":5}]}"#,
        r#"{"messages":{"role":"system"}}"#,
        r#"[null,[{"role":"system"}]]"#,
        r#"{"role":"system"}"#,
        "\"system\"",
        "",
    ] {
        assert!(!needs_merge(body.as_bytes()) && !changed(body, true), "{body}");
    }
    assert!(!changed(r#"{"messages":[{"role":"system","content":"s"}]}"#, false));
}

fn text() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["", "a", "system", "\"", "\\", "\n", "x\ny", "\u{e9}\u{1f600}", LINE])
        .prop_map(str::to_owned)
}

fn content() -> impl Strategy<Value = Value> {
    let block = prop_oneof![
        text().prop_map(|text| json!({"type": "text", "text": text, "cache_control": {"type": "ephemeral"}})),
        text().prop_map(Value::from),
        Just(json!({"type": "image", "source": {}})),
        Just(json!(5)),
    ];
    prop_oneof![text().prop_map(Value::from), prop::collection::vec(block, 0..4).prop_map(Value::from)]
}

fn requests() -> impl Strategy<Value = Value> {
    let role = prop::sample::select(vec!["user", "assistant", "system"]);
    let message = (role, content()).prop_map(|(role, content)| json!({"role": role, "content": content}));
    let system = prop_oneof![content().prop_map(Some), Just(None), Just(Some(Value::Null))];
    let attribution = prop::option::of(prop_oneof![Just(LINE.to_owned()), Just(format!("{LINE}\n{{rest}}"))]);
    (system, attribution, prop::collection::vec(message, 0..6)).prop_map(|(system, attribution, messages)| {
        let mut body = json!({"model": "m", "messages": messages, "temperature": 0.1, "tools": [{"enum": ["system"]}]});
        if let Some(mut system) = system {
            match (&mut system, attribution) {
                (Value::Array(blocks), Some(line)) => blocks.insert(0, json!({"type": "text", "text": line})),
                (Value::String(text), Some(line)) => *text = format!("{line}\n{text}"),
                _ => {}
            }
            body["system"] = system;
        }
        body
    })
}

fn texts(content: &Value) -> Vec<String> {
    let blocks = match content {
        Value::Array(blocks) => blocks.clone(),
        other => vec![other.clone()],
    };
    blocks.iter().filter_map(|block| block.as_str().or(block["text"].as_str()).map(str::to_owned)).collect()
}

fn without_attribution(system: &Value) -> String {
    let whole = texts(system).concat();
    let first = system.as_str().or(system[0].as_str()).or(system[0]["text"].as_str());
    let Some(first) = first.filter(|first| first.starts_with(LINE)) else { return whole };
    let line = first.find('\n').map_or(first.len(), |newline| newline + 1);
    whole[line..].to_owned()
}

proptest! {
    #[test]
    fn what_it_makes_says_the_same(body in requests(), pretty: bool, merge: bool) {
        let before = if pretty { serde_json::to_string_pretty(&body) } else { serde_json::to_string(&body) };
        let mut after: Value = serde_json::from_str(&adapted(&before.expect("JSON"), merge)).expect("JSON");
        let mut body = body;
        let system_messages: Vec<Value> = match body["messages"].as_array_mut() {
            Some(messages) if merge => messages.extract_if(.., |message| message["role"] == "system").collect(),
            _ => Vec::new(),
        };
        // The system prompt by its text, all else by its value.
        let (system, now) = (body["system"].take(), after["system"].take());
        let mut expected = without_attribution(&system).replace('\n', "");
        expected.extend(system_messages.iter().flat_map(|message| texts(&message["content"])));
        prop_assert_eq!(texts(&now).concat().replace('\n', ""), expected.replace('\n', ""));
        prop_assert_eq!(after, body);
    }

    #[test]
    fn any_bytes_are_left_alone_or_become_json(body in prop::collection::vec(any::<u8>(), 0..100), at: prop::sample::Index) {
        let mut whole = format!(r#"{{"system":["{LINE}"],"messages":[{{"role":"system","content":"s"}}]}}"#).into_bytes();
        let at = at.index(whole.len());
        whole.splice(at..at, body);
        if let Some(adapted) = adapt(&whole.into(), true) {
            prop_assert!(serde_json::from_slice::<serde::de::IgnoredAny>(&adapted).is_ok());
        }
    }
}
