//! A conversation outlives a switch: back on its model, the next answer comes without reading it all again.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "test code: a panic is how it fails")]
#![allow(clippy::print_stdout, reason = "test code: what was measured is shown where it is asked for")]

use std::time::Duration;

use corral_core::snapshot::ContextOutcome;
use corral_tests::gateway::Seen;
use corral_tests::{Client, Daemon, Manner, Models, PATIENCE, Question, prompt};

/// Tokens of the conversation.
const LONG: usize = 14_000;

/// What the next answer after a switch may take at most, of what reading the same prompt again takes.
const BOUND: f64 = 0.15;

fn first_token(seen: &Seen) -> Duration {
    seen.first_token.expect("a first token")
}

fn comes_back(models: &Models, manner: Manner) {
    let models =
        models.clone().gateway("min_stay = \"0s\"").with("ctx = 4096", "ctx = 32768\nargs = [\"--ignore-eos\"]");
    let daemon = Daemon::start(models.tiny(&["a", "b"]).home());
    let api = daemon.api();
    let client = Client::of(&api.switched("a"));

    let said = prompt(1, LONG);
    let ask = |turns: &[&str]| client.ask_now(&Question::turns(manner, turns).model("a").tokens(32)).complete();
    let first = ask(&[&said]);
    assert!(first.tokens.input > LONG as u64 && first.tokens.cached < 100, "read in full: {:?}", first.tokens);

    api.switched("b");
    client.ask_now(&Question::new(manner, "something else").model("b")).complete();
    let back = api.switched("a");
    let context = back.engine.as_ref().and_then(|engine| engine.context).expect("something was brought back");
    assert_eq!(context.outcome, ContextOutcome::Pending, "no answer has told yet");
    assert!(context.restored_tokens > LONG as u64, "{context:?}");

    let next = ask(&[&said, &first.text, "and then?"]);
    let share = next.tokens.cached * 100 / next.tokens.input;
    assert!(share > 95, "{share} % of the prompt came out of the cache: {:?}", next.tokens);
    let told = api.until(PATIENCE, "the first answer is told", |status| {
        let context = status.engine.as_ref().and_then(|engine| engine.context);
        context.is_some_and(|context| context.outcome == ContextOutcome::Kept)
    });
    let context = told.engine.and_then(|engine| engine.context).expect("a context");
    assert_eq!((context.prompt_tokens, context.cached_tokens), (Some(next.tokens.input), Some(next.tokens.cached)));
    let shown = daemon.corral(&["status"]);
    assert!(String::from_utf8_lossy(&shown.stdout).contains("kept"), "{shown:?}");

    // Of the last two switches, the older one saved the conversation and the newer one brought it back.
    let [to_a, to_b] = &api.history(2)[..] else { panic!("two operations") };
    let tokens = first.tokens.input + first.tokens.output;
    let about = |said: Option<u64>| said.is_some_and(|said| said.abs_diff(tokens) <= 4);
    assert!(about(to_b.saved_tokens) && about(to_a.restored_tokens), "{tokens} tokens: {to_b:#?} {to_a:#?}");
    assert_eq!((to_a.first_prompt_tokens, to_a.first_cached_tokens), (context.prompt_tokens, context.cached_tokens));
    assert!(to_b.save_ms.is_some() && to_a.restore_ms.is_some() && to_a.first_token_ms.is_some(), "{to_a:#?}");

    // The same length with other first letters, on the same server: nothing of it is in the cache.
    let again = ask(&[&prompt(2, LONG), &first.text, "and then?"]);
    assert!(again.tokens.cached < 100, "read in full: {:?}", again.tokens);
    let took = first_token(&next).as_secs_f64() / first_token(&again).as_secs_f64();
    println!("next answer: {:?}, read again: {:?}: {took:.3}", first_token(&next), first_token(&again));
    assert!(took <= BOUND, "the next answer took {took:.3} of reading it all again");
}

#[test]
fn in_docker_in_the_manner_of_anthropic() {
    comes_back(&Models::docker().one_thread(), Manner::Messages);
}

#[test]
fn in_docker_in_the_manner_of_openai() {
    comes_back(&Models::docker().one_thread(), Manner::Chat);
}

#[test]
fn in_a_child_process() {
    comes_back(&Models::process().one_thread(), Manner::Messages);
}

#[test]
fn each_slot_has_a_conversation_of_its_own() {
    let models = Models::docker()
        .one_thread()
        .gateway("min_stay = \"0s\"")
        .with("ctx = 4096", "ctx = 32768\nparallel = 2\nargs = [\"--ignore-eos\"]");
    let daemon = Daemon::start(models.tiny(&["a", "b"]).home());
    let api = daemon.api();
    let client = Client::of(&api.switched("a"));
    let question = |seed| Question::new(Manner::Messages, &prompt(seed, 5000)).model("a").tokens(600);
    let together: Vec<_> = (1..=2).map(|seed| client.follow(&question(seed))).collect();
    for follow in together {
        follow.end().complete();
    }

    api.switched("b");
    api.switched("a");
    for seed in 1..=2 {
        let tokens = client.ask_now(&question(seed)).complete().tokens;
        assert!(tokens.cached * 100 / tokens.input > 95, "conversation {seed}: {tokens:?}");
    }
}

#[test]
fn a_model_that_keeps_nothing_brings_nothing_back() {
    let models = Models::docker().one_thread().with("ctx = 4096", "ctx = 32768\nkeep_context = false");
    let daemon = Daemon::start(models.tiny(&["a", "b"]).home());
    let api = daemon.api();
    let client = Client::of(&api.switched("a"));
    let question = Question::new(Manner::Messages, &prompt(1, 5000)).model("a");
    client.ask_now(&question).complete();
    api.switched("b");
    let back = api.switched("a");
    assert_eq!(back.engine.and_then(|engine| engine.context), None);
    let tokens = client.ask_now(&question).complete().tokens;
    assert!(tokens.cached < 100, "{tokens:?}");
    assert_eq!(api.history(2)[1].saved_tokens, None, "nothing was saved");
}
