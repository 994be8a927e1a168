//! The recorded answers are llama-server 0.7.0's, to `hello` with a limit of 5 tokens.

use proptest::prelude::*;

use super::*;

const RECORDED: [(InferenceRoute, bool, &[u8]); 10] = [
    (InferenceRoute::Messages, true, include_bytes!("recorded/messages.sse")),
    (InferenceRoute::ChatCompletions, true, include_bytes!("recorded/chat.sse")),
    (InferenceRoute::ChatCompletions, true, include_bytes!("recorded/chat-usage.sse")),
    (InferenceRoute::Completions, true, include_bytes!("recorded/completions.sse")),
    (InferenceRoute::Responses, true, include_bytes!("recorded/responses.sse")),
    (InferenceRoute::Messages, false, include_bytes!("recorded/messages.json")),
    (InferenceRoute::ChatCompletions, false, include_bytes!("recorded/chat.json")),
    (InferenceRoute::Completions, false, include_bytes!("recorded/completions.json")),
    (InferenceRoute::Responses, false, include_bytes!("recorded/responses.json")),
    (InferenceRoute::CountTokens, false, include_bytes!("recorded/count_tokens.json")),
];

fn see(route: InferenceRoute, streaming: bool, pieces: &[&[u8]]) -> Seen {
    let mut reader = AnswerReader::new(route, streaming);
    for piece in pieces {
        reader.read(piece);
    }
    reader.finish()
}

fn stream(route: InferenceRoute, text: &str) -> Seen {
    see(route, true, &[text.as_bytes()])
}

fn tokens(input: u64, cached: u64, output: u64) -> Tokens {
    Tokens { input, cached, output }
}

#[test]
fn recorded_answers_are_read() {
    let expected = [
        (tokens(25, 24, 5), 5),
        (tokens(25, 24, 5), 5),
        (tokens(25, 24, 5), 5),
        (tokens(6, 5, 4), 3),
        (tokens(25, 24, 5), 5),
        (tokens(25, 24, 5), 0),
        (tokens(25, 24, 5), 0),
        (tokens(6, 0, 5), 0),
        (tokens(25, 0, 5), 0),
        (Tokens::default(), 0),
    ];
    for ((route, streaming, bytes), (tokens, deltas)) in RECORDED.into_iter().zip(expected) {
        let seen = see(route, streaming, &[bytes]);
        let generated_in = seen.generated_in;
        let whole = Seen { tokens, complete: true, content_started: true, error: false, deltas, generated_in };
        assert_eq!(seen, whole, "{route:?} {streaming}");
        if matches!(route, InferenceRoute::ChatCompletions | InferenceRoute::Completions) {
            assert!(generated_in.is_some_and(|time| !time.is_zero()), "{route:?} {streaming}: {generated_in:?}");
        }
    }
}

#[test]
fn an_answer_that_broke_off_counts_what_was_seen_of_it() {
    for (route, streaming, bytes) in RECORDED.into_iter().filter(|(_, streaming, _)| *streaming) {
        let third_delta = if route == InferenceRoute::Messages { 3 } else { 2 };
        let mut reader = AnswerReader::new(route, streaming);
        let mut lines = bytes.split_inclusive(|byte| *byte == b'\n');
        while reader.seen.deltas < third_delta {
            reader.read(lines.next().expect("more lines"));
        }
        reader.read(b"data: {\"broken");
        assert!(!reader.is_complete() && reader.content_started());
        let seen = reader.finish();
        assert_eq!((seen.tokens.output, seen.complete, seen.error), (third_delta, false, false), "{route:?}");
        let input = if route == InferenceRoute::Messages { 25 } else { 0 };
        assert_eq!(seen.tokens.input, input, "Anthropic's protocol tells it in front");
    }
}

#[test]
fn content_starts_with_the_first_event_that_has_some() {
    for (route, line, started) in [
        (InferenceRoute::Messages, r#"data: {"type":"message_start","message":{"usage":{"input_tokens":1}}}"#, false),
        (InferenceRoute::Messages, r#"data: {"index":0,"type":"content_block_start"}"#, true),
        (InferenceRoute::Messages, r#"data: {"index":0,"delta":{},"type":"content_block_delta"}"#, true),
        (InferenceRoute::Messages, r#"data: {"type":"ping"}"#, false),
        (InferenceRoute::ChatCompletions, r#"data: {"choices":[{"delta":{"content":null}}]}"#, false),
        (InferenceRoute::ChatCompletions, r#"data: {"choices":[{"delta":{"content": ""}}]}"#, false),
        (InferenceRoute::ChatCompletions, r#"data: {"choices":[{"delta":{"content": "null"}}]}"#, true),
        (InferenceRoute::ChatCompletions, r#"data:{"choices":[{"delta":{"reasoning_content":"hm"}}]}"#, true),
        (InferenceRoute::ChatCompletions, r#"data: {"choices":[{"delta":{"tool_calls":[{"index":0}]}}]}"#, true),
        (InferenceRoute::ChatCompletions, r#"data: {"x":"\"content\":\"a\""}"#, false),
        (InferenceRoute::Completions, r#"data: {"choices":[{"text":"a"}]}"#, true),
        (InferenceRoute::Completions, r#": {"choices":[{"text":"a"}]}"#, false),
        (InferenceRoute::Responses, r#"data: {"type":"response.in_progress"}"#, false),
        (InferenceRoute::Responses, r#"data: {"type":"response.reasoning_text.delta","delta":"a"}"#, true),
        (InferenceRoute::Responses, r#"data: {"delta":"a","type":"response.output_text.delta"}"#, true),
    ] {
        let seen = stream(route, &format!("{line}\r\n\r\n"));
        assert_eq!((seen.content_started, seen.complete), (started, false), "{line}");
    }
}

#[test]
fn the_end_has_a_marker_in_each_protocol() {
    for (route, line, complete, error) in [
        (InferenceRoute::Messages, r#"data: {"type":"message_stop"}"#, true, false),
        (InferenceRoute::Messages, r#"data: {"type": "message_stop"}"#, true, false),
        (InferenceRoute::Messages, "data: [DONE]", false, false),
        (InferenceRoute::Messages, r#"data: {"type":"error","error":{"type":"api_error"}}"#, false, true),
        (InferenceRoute::ChatCompletions, "data: [DONE]", true, false),
        (InferenceRoute::ChatCompletions, r#"data: {"error":{"code":500,"message":"m"}}"#, false, true),
        (InferenceRoute::ChatCompletions, r#"data: {"error":null}"#, false, false),
        (InferenceRoute::ChatCompletions, r#"error: {"code":500}"#, false, true),
        (InferenceRoute::Completions, "data:[DONE]", true, false),
        (InferenceRoute::Responses, r#"data: {"type":"response.completed"}"#, true, false),
        (InferenceRoute::Responses, r#"data: {"type":"response.incomplete"}"#, true, false),
        (InferenceRoute::Responses, r#"data: {"type":"response.failed"}"#, true, true),
        (InferenceRoute::Responses, r#"data: {"type":"error","message":"m"}"#, false, true),
    ] {
        let seen = stream(route, &format!("{line}\n\n"));
        assert_eq!((seen.complete, seen.error), (complete, error), "{line}");
    }
}

#[test]
fn usage_goes_before_timings_and_each_fills_what_the_other_lacks() {
    let chat = |json: &str| see(InferenceRoute::ChatCompletions, false, &[json.as_bytes()]).tokens;
    let timings = r#""timings":{"cache_n":7,"prompt_n":3,"predicted_n":2,"prompt_ms":0.5}"#;
    assert_eq!(chat(&format!("{{{timings}}}")), tokens(10, 7, 2));
    let usage = r#""usage":{"prompt_tokens":11,"completion_tokens":4}"#;
    assert_eq!(chat(&format!("{{{timings},{usage}}}")), tokens(11, 7, 4));
    let detailed = r#""usage":{"prompt_tokens":11,"completion_tokens":4,"prompt_tokens_details":{"cached_tokens":5}}"#;
    assert_eq!(chat(&format!("{{{timings},{detailed}}}")), tokens(11, 5, 4));
    let anthropic = r#"{"usage":{"input_tokens":1,"cache_read_input_tokens":2,"cache_creation_input_tokens":4}}"#;
    assert_eq!(see(InferenceRoute::Messages, false, &[anthropic.as_bytes()]).tokens, tokens(7, 2, 0));
}

#[test]
fn answers_in_one_piece_are_whole_or_not() {
    let chat = |json: &[u8]| see(InferenceRoute::ChatCompletions, false, &[json]);
    assert_eq!((chat(b"").complete, chat(b"").content_started), (false, false));
    assert!(!chat(b"{\"usage\":{\"prompt_tokens\":1}").complete);
    assert!(chat(b"{\"usage\":5}").complete, "JSON, if not what is known");
    assert!(chat(b"{\"error\":{\"code\":400}}").error);
    assert!(chat(b"{\"type\":\"error\"}").error);
}

#[test]
fn of_a_huge_answer_the_ends_are_read() {
    let filler = vec![b'1'; LARGEST_KEPT];
    let usage = br#""usage":{"prompt_tokens":9,"completion_tokens":3}"#;
    let behind = see(InferenceRoute::ChatCompletions, false, &[b"{\"x\":\"", &filler, b"\",", usage, b"}\n"]);
    assert_eq!((behind.tokens, behind.complete), (tokens(9, 0, 3), true));
    let before = see(InferenceRoute::Embeddings, false, &[b"{", usage, b",\"data\":[", &filler, b"]}"]);
    assert_eq!((before.tokens, before.complete), (tokens(9, 0, 3), true));
    assert!(!see(InferenceRoute::Embeddings, false, &[b"{", usage, b",\"data\":[", &filler]).complete);

    let mut reader = AnswerReader::new(InferenceRoute::Embeddings, false);
    for _ in 0..3000 {
        reader.read(&filler[..10_000]);
    }
    let Shape::Plain { head, tail } = &reader.shape else { unreachable!() };
    assert!(head.len() + tail.capacity() < 2 * LARGEST_KEPT);
}

#[test]
fn a_line_that_is_too_long_is_passed_over() {
    let long = vec![b'x'; LONGEST_LINE];
    let done = b"\ndata: [DONE]\n";
    for pieces in [&[&b"data: "[..], &long, done][..], &[&[b"data: ", &long[..], done].concat()]] {
        let mut reader = AnswerReader::new(InferenceRoute::ChatCompletions, true);
        reader.read(b"data: {\"choices\":[{\"text\":\"a\"}]}\n");
        for piece in pieces {
            reader.read(piece);
        }
        let Shape::Stream { partial, .. } = &reader.shape else { unreachable!() };
        assert!(partial.capacity() <= LONGEST_LINE);
        let seen = reader.finish();
        assert_eq!((seen.deltas, seen.complete), (1, true));
    }
}

/// `bytes`, cut at these places.
fn cut<'a>(bytes: &'a [u8], cuts: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).chain([0, bytes.len()]).collect();
    at.sort_unstable();
    at.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
}

fn streams() -> impl Strategy<Value = Vec<u8>> {
    let lines = prop::sample::select(vec![
        "data: {\"type\":\"content_block_delta\"}\n",
        "data: {\"type\":\"message_delta\",\"usage\":{\"output_tokens\":5}}\r\n",
        "data: {\"choices\":[{\"delta\":{\"content\":\"\u{1f600}\"}}],\"usage\":null}\n",
        "data: {\"timings\":{\"cache_n\":1,\"prompt_n\":2}}",
        "data: [DONE]\n",
        "data: {\"type\":\"response.completed\",\"response\":{\"usage\":{\"input_tokens\":3}}}\n\n",
        "event: x\n",
        "\n",
        "{",
    ]);
    prop::collection::vec(lines, 0..12).prop_map(|lines| lines.concat().into_bytes())
}

proptest! {
    #[test]
    fn how_an_answer_is_cut_makes_no_difference(
        bytes in prop_oneof![prop::collection::vec(any::<u8>(), 0..300), streams(),
            prop::sample::select(RECORDED.map(|(_, _, bytes)| bytes.to_vec()).to_vec())],
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
    ) {
        for route in InferenceRoute::ALL {
            for streaming in [true, false] {
                let whole = see(route, streaming, &[&bytes]);
                prop_assert_eq!(see(route, streaming, &cut(&bytes, &cuts)), whole);
            }
        }
    }
}
