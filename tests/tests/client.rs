//! The tests' own client reads what a real `llama-server` sends, in each protocol.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "test code: a panic is how it fails")]

use corral_core::usage::Tokens;
use corral_tests::{Client, Daemon, Inference, Manner, Models, Question, prompt};

#[test]
fn answers_of_each_protocol_are_read_to_their_ends() {
    let daemon = Daemon::start(
        Models::process().with("ctx = 4096", "ctx = 4096\nargs = [\"--ignore-eos\"]").tiny(&["a"]).home(),
    );
    let server = Inference::of(&daemon.api().switched("a"));
    let client = Client::at(&server.url, server.key());
    let mut all = Tokens::default();
    for (seed, manner) in (1..).zip(Manner::ALL) {
        for once in [false, true] {
            let question = Question::new(manner, &prompt(seed, 500)).tokens(12);
            let seen = client.ask_now(&if once { question.once() } else { question }).complete();
            assert_eq!((seen.model.as_str(), seen.text.is_empty(), seen.comments), ("a", false, 0), "{seen:?}");
            assert_eq!(seen.first_token.is_some(), !once);
            assert!((500..540).contains(&seen.tokens.input), "a letter is a token: {:?}", seen.tokens);
            assert!((1..=12).contains(&seen.tokens.output), "{:?}", seen.tokens);
            assert_eq!(seen.tokens.cached > 400, once, "the second time it is in the cache: {:?}", seen.tokens);
            all.input += seen.tokens.input;
            all.cached += seen.tokens.cached;
            all.output += seen.tokens.output;
        }
    }
    assert_eq!(all, server.tokens(), "what is read of the answers is what the server counts");
    let refused = client.ask_now(&Question::new(Manner::Chat, &prompt(9, 5000)));
    assert!(!refused.refused(Manner::Chat, 400).is_empty());
}
