//! The gateway on real sockets, before a server that is played byte by byte. The real llama-server's turn is in the
//! end-to-end tests.

#![allow(clippy::expect_used, clippy::panic, reason = "test code: a panic is how it fails")]

mod bed;
mod doors;
mod ending;
mod handed;
mod stalled;
mod streams;

use corral_core::ports::Traffic;
use corral_core::usage::{InferenceRoute, RequestEnd, Ticket, Tokens};

use self::bed::{Bed, Server, With};

const ANSWER: &str = r#"{"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3,"total_tokens":10,"prompt_tokens_details":{"cached_tokens":5}}}"#;
const ASK: &str = r#"{"model":"a","messages":[{"role":"user","content":"hi"}]}"#;

#[tokio::test]
async fn a_plain_answer_passes_as_it_is_and_is_counted() {
    let (bed, _server, mut client, mut asked) = Bed::asked("/v1/chat/completions?x=1", ASK).await;
    let head = asked.text.to_lowercase();
    assert!(head.starts_with("post /v1/chat/completions?x=1 http/1.1"), "{head}");
    assert!(head.contains("x-mine: kept") && head.contains("authorization: bearer the-key"), "{head}");
    assert!(!head.contains("anything") && !head.contains("accept-encoding"), "{head}");
    assert_eq!(asked.body(), ASK, "byte for byte");
    asked.answer(ANSWER).await;
    let text = client.until("\"cached_tokens\":5}}}").await;
    assert!(text.starts_with("HTTP/1.1 200 OK"), "{text}");
    let records = bed.records(1).await;
    let record = &records[0];
    assert_eq!((record.route, record.status, record.end), (InferenceRoute::ChatCompletions, 200, RequestEnd::Complete));
    assert_eq!(record.tokens, Tokens { input: 7, cached: 5, output: 3 });
    assert_eq!(record.model.as_ref().map(corral_core::ModelId::as_str), Some("a"));
    assert!(record.overhead <= record.duration && record.first_token.is_some(), "{record:?}");
}

#[tokio::test]
async fn connections_are_used_again_on_both_sides() {
    let (bed, mut server, mut client, mut asked) = Bed::asked("/v1/chat/completions", ASK).await;
    asked.answer(ANSWER).await;
    client.until("\"cached_tokens\":5}}}").await;
    bed.records(1).await;
    for count in 2..5 {
        use tokio::io::AsyncWriteExt;
        client.stream.write_all(bed::post("/v1/chat/completions", ASK).as_bytes()).await.expect("sent");
        asked.next().await;
        asked.answer(ANSWER).await;
        bed.records(count).await;
    }
    assert!(server.is_untouched(), "no second connection was made");
}

#[tokio::test]
async fn an_error_of_the_server_is_told_in_the_clients_protocol() {
    let error = r#"{"error":{"code":400,"message":"the request exceeds the context","type":"invalid_request_error"}}"#;
    let (bed, _server, mut client, mut asked) = Bed::asked("/v1/messages", ASK).await;
    let length = error.len();
    asked.say(&format!("HTTP/1.1 400 Bad Request\r\nContent-Length: {length}\r\n\r\n{error}")).await;
    let text = client.until("exceeds the context").await;
    assert!(text.starts_with("HTTP/1.1 400"), "{text}");
    assert!(text.contains(r#""type":"error""#), "{text}");
    assert_eq!(bed.records(1).await[0].end, RequestEnd::Refused);
}

#[tokio::test]
async fn a_request_waits_for_the_model_and_then_goes() {
    let bed = Bed::new().await;
    let mut server = Server::new().await;
    let mut client = bed.post("/v1/chat/completions", ASK).await;
    corral_testkit::eventually(std::time::Duration::from_secs(10), || async { bed.gate.counts() == (0, 1) }).await;
    let with = || bed.records.1.lock().expect("not poisoned").clone();
    assert_eq!(with(), [], "it takes no energy while it waits");
    bed.open(&server);
    let mut asked = server.request().await;
    assert_eq!(with(), [With::Sent(Ticket(0))]);
    asked.answer(ANSWER).await;
    client.until("\"cached_tokens\":5}}}").await;
    let record = bed.records(1).await.remove(0);
    assert_eq!(with(), [With::Sent(Ticket(0)), With::Ended(Ticket(0))]);
    assert!(record.held > std::time::Duration::ZERO && record.overhead < record.duration, "{record:?}");
}

#[tokio::test]
async fn a_server_that_died_unnoticed_costs_no_request() {
    let bed = Bed::new().await;
    let dead = Server::new().await;
    bed.open(&dead);
    dead.close().await;
    let mut client = bed.post("/v1/chat/completions", ASK).await;
    let mut server = Server::new().await;
    // The controller hears of the end while the request is already on its way.
    corral_testkit::eventually(std::time::Duration::from_secs(10), || async { bed.gate.counts().0 == 0 }).await;
    bed.gate.close();
    bed.open(&server);
    let mut asked = server.request().await;
    asked.answer(ANSWER).await;
    client.until("\"cached_tokens\":5}}}").await;
}

#[tokio::test]
async fn a_server_that_dies_before_it_says_anything_is_asked_once_more_and_only_once() {
    let bed = Bed::new().await;
    let mut server = Server::new().await;
    bed.open(&server);
    let mut client = bed.post("/v1/chat/completions", ASK).await;
    drop(server.request().await);
    drop(server.request().await);
    let with = || bed.records.1.lock().expect("not poisoned").clone();
    let text = client.until("server_exited").await;
    assert!(text.starts_with("HTTP/1.1 502") && text.to_lowercase().contains("retry-after: "), "{text}");
    assert_eq!(bed.records(1).await[0].end, RequestEnd::Broken);
    assert_eq!(with(), [With::Sent(Ticket(0)), With::Ended(Ticket(0))], "it is one request all the time");
    assert!(server.is_untouched());
}

#[tokio::test]
async fn bad_bodies_are_refused_in_the_clients_protocol_and_go_nowhere() {
    let bed = Bed::new().await;
    let mut server = Server::new().await;
    bed.open(&server);
    let deep = format!(r#"{{"model":"a","messages":[{}]}}"#, "[".repeat(5000) + &"]".repeat(5000));
    let bodies = ["", "{", "[]", "\"text\"", r#"{"model":1,"messages":[]}"#, r#"{"messages":"no"}"#, "\u{0}", &deep];
    for body in bodies {
        let text = bed.post("/v1/messages", body).await.until("invalid_request_error").await;
        assert!(text.starts_with("HTTP/1.1 400") && text.contains(r#"{"type":"error","error":{"#), "{text}");
    }
    assert!(server.is_untouched());
    assert_eq!(*bed.records.1.lock().expect("not poisoned"), [], "they were never with the model");
}

#[tokio::test]
async fn models_and_health_are_the_gateways_own() {
    let bed = Bed::new().await;
    let models = bed.send("GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n").await.until("}]}").await;
    assert!(models.contains("\"al-*\"") && models.contains("\"object\":\"list\""), "{models}");
    let one = bed.send("GET /v1/models/al-x HTTP/1.1\r\nHost: localhost\r\n\r\n").await.until("\"id\":\"a\"").await;
    assert!(one.starts_with("HTTP/1.1 200"), "{one}");
    let none = bed.send("GET /v1/models/zz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.until("unknown_model").await;
    assert!(none.starts_with("HTTP/1.1 404"), "{none}");
    let health = bed.send("GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").await.until("ok").await;
    assert!(health.starts_with("HTTP/1.1 200"), "{health}");
}
