//! Streams: piece by piece, cut, broken off, given up.

use corral_core::ports::Traffic;
use corral_core::usage::{RequestEnd, Tokens};
use corral_core::{Code, Error};

use crate::bed::{Asked, Bed, Client};

const OPENAI: &str = r#"{"model":"a","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
const PIECE: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"x\"}}]}\n\n";
const LAST: &str = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":3}}\n\ndata: [DONE]\n\n";
const DELTA: &str = "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\
                     \"delta\":{\"type\":\"text_delta\",\"text\":\"x\"}}\n\n";

/// Begins a stream with this piece, and says nothing more until the client has it.
async fn begun(client: &mut Client, asked: &mut Asked, piece: &str) {
    asked.begin_stream().await;
    asked.chunk(piece).await;
    client.until("\"x\"").await;
}

#[tokio::test]
async fn pieces_pass_as_they_come() {
    let (bed, _server, mut client, mut asked) = Bed::asked("/v1/chat/completions", OPENAI).await;
    begun(&mut client, &mut asked, PIECE).await;
    asked.chunk(LAST).await;
    asked.chunk("").await;
    let text = client.until("[DONE]").await;
    assert!(text.contains("text/event-stream"), "{text}");
    let record = bed.records(1).await.remove(0);
    assert_eq!((record.end, record.tokens), (RequestEnd::Complete, Tokens { input: 7, cached: 0, output: 3 }));
    assert!(record.first_token.is_some_and(|first| first <= record.duration), "{record:?}");
}

#[tokio::test]
async fn a_client_that_leaves_is_cancelled_at_once() {
    for has_begun in [true, false] {
        let (bed, _server, mut client, mut asked) = Bed::asked("/v1/chat/completions", OPENAI).await;
        if has_begun {
            begun(&mut client, &mut asked, PIECE).await;
        }
        drop(client);
        asked.closed().await;
        let record = bed.records(1).await.remove(0);
        assert_eq!(record.end, RequestEnd::Abandoned, "{record:?}");
        assert_eq!(record.tokens.output, u64::from(has_begun), "what was seen counts");
        assert_eq!(bed.gate.counts(), (0, 0));
    }
}

#[tokio::test]
async fn a_stream_that_breaks_off_ends_with_an_error_of_its_protocol() {
    let told = [("/v1/chat/completions", PIECE, "data: {\"error\":"), ("/v1/messages", DELTA, "event: error\ndata: {")];
    for (path, piece, expected) in told {
        // It dies, or it ends the body as if it were whole.
        for politely in [false, true] {
            let (bed, _server, mut client, mut asked) = Bed::asked(path, OPENAI).await;
            begun(&mut client, &mut asked, piece).await;
            if politely {
                asked.chunk("").await;
            } else {
                drop(asked);
            }
            let text = client.until("server_exited").await;
            assert!(text.contains(expected), "{text}");
            client.until("0\r\n\r\n").await;
            assert_eq!(bed.records(1).await[0].end, RequestEnd::Broken);
        }
    }
}

#[tokio::test]
async fn an_event_that_has_not_ended_is_not_in_the_way_of_the_error() {
    for is_cut in [true, false] {
        let (bed, _server, mut client, mut asked) = Bed::asked("/v1/chat/completions", OPENAI).await;
        begun(&mut client, &mut asked, &format!("{PIECE}data: {{\"choices\":[{{\"del")).await;
        if is_cut {
            bed.gate.close();
            bed.gate.cut(&Error::new(Code::Cut, "the model was switched"));
        } else {
            drop(asked);
        }
        let text = client.until("0\r\n\r\n").await;
        let body = text.split_once("\r\n\r\n").expect("a head").1;
        let lines: Vec<&str> = body.lines().filter(|line| line.starts_with("data:")).collect();
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[1].starts_with("data: {\"error\":"), "{lines:?}");
    }
}

#[tokio::test]
async fn an_error_of_the_server_in_the_stream_is_the_last_word() {
    let (bed, _server, mut client, mut asked) = Bed::asked("/v1/chat/completions", OPENAI).await;
    asked.begin_stream().await;
    asked.chunk(PIECE).await;
    asked.chunk("data: {\"error\":{\"code\":500,\"message\":\"context is full\",\"type\":\"server_error\"}}\n\n").await;
    asked.chunk("").await;
    let text = client.until("0\r\n\r\n").await;
    assert!(text.contains("context is full") && !text.contains("server_exited"), "{text}");
    assert_eq!(bed.records(1).await[0].end, RequestEnd::Broken);
}

#[tokio::test]
async fn a_cut_ends_streams_and_waits_alike() {
    let why = Error::new(Code::Cut, "the model was switched");
    for has_begun in [true, false] {
        let (bed, _server, mut client, mut asked) = Bed::asked("/v1/messages", OPENAI).await;
        if has_begun {
            begun(&mut client, &mut asked, DELTA).await;
        }
        bed.gate.close();
        bed.gate.cut(&why);
        let text = client.until("the model was switched").await;
        assert_eq!(text.starts_with("HTTP/1.1 200"), has_begun, "{text}");
        bed.gate.drained().await;
        assert_eq!(bed.records(1).await[0].end, RequestEnd::Cut);
        asked.closed().await;
    }
}

#[tokio::test]
async fn the_gate_is_drained_when_the_last_byte_has_gone() {
    let (bed, _server, mut client, mut asked) = Bed::asked("/v1/chat/completions", OPENAI).await;
    begun(&mut client, &mut asked, PIECE).await;
    bed.gate.close();
    let mut drained = std::pin::pin!(bed.gate.drained());
    assert!(futures_util::poll!(drained.as_mut()).is_pending());
    asked.chunk(LAST).await;
    asked.chunk("").await;
    client.until("[DONE]").await;
    drained.await;
    assert_eq!(bed.records(1).await[0].end, RequestEnd::Complete);
}
