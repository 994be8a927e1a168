//! Requests that are no good are refused in the client's own protocol, and `llama-server` does not hear of them.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "test code: a panic is how it fails")]

use std::collections::BTreeMap;

use corral_tests::{Api, Client, Daemon, Inference, Manner, Models, Question};
use serde_json::json;

/// What shows that the server has been asked something: its own counters, and its complaints in the log.
fn heard(api: &Api) -> (BTreeMap<String, u64>, usize) {
    let complaints = api.logs(5000).iter().filter(|record| record["msg"].to_string().contains("got exception")).count();
    let mut counters = Inference::of(&api.status()).counters();
    counters.retain(|name, _| name.ends_with("_total"));
    (counters, complaints)
}

/// A field that each protocol wants to be of another type, and one that none wants.
fn bad_bodies(manner: Manner) -> Vec<(&'static str, Vec<u8>)> {
    let turns = match manner {
        Manner::Messages | Manner::Chat => "messages",
        Manner::Completions => "prompt",
        Manner::Responses => "input",
    };
    let good = Question::new(manner, "hello").body;
    let with = |key: &str, value: serde_json::Value| {
        let mut body = good.clone();
        body[key] = value;
        body.to_string().into_bytes()
    };
    let without = |key: &str| {
        let mut body = good.clone();
        body.as_object_mut().expect("an object").remove(key);
        body.to_string().into_bytes()
    };
    let deep = |open: &str, close: &str| [open.repeat(100_000), close.repeat(100_000)].concat().into_bytes();
    vec![
        ("nothing", b"".to_vec()),
        ("no JSON", b"hello".to_vec()),
        ("half of it", good.to_string().into_bytes().split_off(10)),
        ("JSON and more", [good.to_string().as_bytes(), b"}"].concat()),
        ("no UTF-8", [b"{\"model\":\"\xff\xfe\",", &good.to_string().as_bytes()[1..]].concat()),
        ("a list", b"[]".to_vec()),
        ("null", b"null".to_vec()),
        ("a text", b"\"hello\"".to_vec()),
        ("lists 100,000 deep", deep("[", "]")),
        ("lists 100,000 deep without an end", "[".repeat(100_000).into_bytes()),
        ("objects 100,000 deep", [deep("{\"a\":", ""), b"1".to_vec(), "}".repeat(100_000).into_bytes()].concat()),
        ("turns 100,000 deep", format!("{{\"{turns}\":{}}}", String::from_utf8(deep("[", "]")).unwrap()).into_bytes()),
        ("no question", without(turns)),
        ("a number as the question", with(turns, json!(3))),
        ("a number as the model", with("model", json!(3))),
        ("a list as the model", with("model", json!(["a"]))),
        ("a text as whether to stream", with("stream", json!("yes"))),
        ("a text as a number of tokens", with("max_tokens", json!("many"))),
    ]
}

#[test]
fn bad_bodies_are_refused_and_go_no_further() {
    let daemon = Daemon::start(Models::docker().one_thread().tiny(&["a"]).home());
    let api = daemon.api();
    let client = Client::of(&api.switched("a"));
    client.ask_now(&Question::new(Manner::Chat, "hello")).complete();
    let before = heard(api);
    let mut forwarded = Vec::new();
    for manner in Manner::ALL {
        for (what, body) in bad_bodies(manner) {
            let came = client.raw(&client.bytes("POST", manner.path(), &body));
            assert_eq!(
                (came.status() / 100, came.answers()),
                (4, 1),
                "{what} in the manner of {manner:?}: {}",
                came.text
            );
            manner.error_message(&came.body());
            if heard(api) != before && forwarded.is_empty() {
                forwarded.push(format!("{what} in the manner of {manner:?}"));
            }
        }
    }
    assert_eq!(heard(api), before, "what llama-server heard of, first of it: {forwarded:?}");

    // Both signs move when the server is asked something.
    client.ask_now(&Question::new(Manner::Messages, "hello")).complete();
    let asked = heard(api);
    assert!(asked.0 != before.0, "its counters show that it was asked: {asked:?}");
    Inference::of(&api.status()).post("/v1/chat/completions", &json!({ "messages": 3 })).expect(400);
    corral_tests::until(corral_tests::PATIENCE, "its log shows that it complained", || {
        (heard(api).1 > before.1).then_some(())
    });
}

#[test]
fn what_is_too_large_is_refused() {
    let daemon = Daemon::start(Models::docker().one_thread().tiny(&["a"]).home());
    let api = daemon.api();
    let client = Client::of(&api.switched("a"));
    let before = heard(api);
    for manner in Manner::ALL {
        let body = Question::new(manner, &"x".repeat(65 << 20)).body.to_string();
        client.raw(&client.bytes("POST", manner.path(), body.as_bytes())).refused(manner, 413);
        let body = Question::new(manner, "hello").body.to_string();
        let bytes = String::from_utf8(client.bytes("POST", manner.path(), body.as_bytes())).expect("a text");
        for (name, length) in [("X-Long: ", 100_000), ("Cookie: ", 100_000), ("X-Longer: ", 1_000_000)] {
            let long = format!("Connection: close\r\n{name}{}\r\n", "x".repeat(length));
            let came = client.raw(bytes.replacen("Connection: close\r\n", &long, 1).as_bytes());
            assert_eq!((came.status() / 100, came.answers()), (4, 1), "{name}{length}: {}", came.text);
            came.refused(manner, 431);
        }
        let many = "X-Many: x\r\n".repeat(500);
        let came =
            client.raw(bytes.replacen("Connection: close\r\n", &format!("Connection: close\r\n{many}"), 1).as_bytes());
        assert_eq!((came.status() / 100, came.answers()), (4, 1), "{}", came.text);
    }
    assert_eq!(heard(api), before);
    // One of nearly the size that is refused passes, where most of it is nothing that the model has to read.
    client.ask_now(&Question::new(Manner::Chat, "hello").with("unused", json!("x".repeat(60 << 20)))).complete();
    // One that is large and not too large for the gateway is the model's to refuse.
    let large = Question::new(Manner::Messages, &"x".repeat(200_000));
    client.ask_now(&large).refused(Manner::Messages, 400);
    client.ask_now(&Question::new(Manner::Messages, "hello")).complete();
}

#[test]
fn what_is_not_there_is_refused_in_the_manner_of_its_protocol() {
    let daemon = Daemon::start(Models::docker().one_thread().tiny(&["a"]).home());
    let client = Client::of(&daemon.api().switched("a"));
    for manner in Manner::ALL {
        client.raw(&client.bytes("GET", manner.path(), b"")).refused(manner, 405);
        client.raw(&client.bytes("DELETE", manner.path(), b"")).refused(manner, 405);
    }
    client.raw(&client.bytes("GET", "/v1/nothing", b"")).refused(Manner::Chat, 404);
    client.raw(&client.bytes("GET", "/v1/messages/nothing", b"")).refused(Manner::Messages, 404);
    // What llama-server refuses is told in the client's protocol as well.
    let too_long = Question::new(Manner::Messages, &"x".repeat(10_000));
    for manner in Manner::ALL {
        let question = Question { manner, body: Question::new(manner, &"x".repeat(10_000)).body };
        client.ask_now(&question).refused(manner, 400);
        client.ask_now(&question.once()).refused(manner, 400);
    }
    drop(too_long);
}
