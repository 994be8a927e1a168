//! What Claude Code writes is not what each template reads: a real `llama-server` shows what became of it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "test code: a panic is how it fails")]

use corral_tests::template::{DROPS_SYSTEM, REFUSES_SYSTEM, line};
use corral_tests::{Client, Daemon, Inference, Manner, Models, Question};
use serde_json::json;

/// As Claude Code puts it in front of its system prompt; the last part of the version differs.
const ATTRIBUTION: &str = "x-anthropic-billing-header: cc_version=2.1.329.e8c; cc_entrypoint=sdk-cli;";

const NOT_ADAPTED: &str = "adapt_requests = false";

/// A conversation with `system` entries in its middle and at its end, where Claude Code has them.
fn question(model: &str, said: &str) -> Question {
    let text = |text: &str| json!({ "type": "text", "text": text });
    let messages = json!([
        { "role": "user", "content": "First." },
        { "role": "system", "content": [text("Be kind.")] },
        { "role": "assistant", "content": "Second." },
        { "role": "user", "content": said },
        { "role": "system", "content": "Be quick." },
    ]);
    let system = json!([text(ATTRIBUTION), text("Be brief.")]);
    Question::new(Manner::Messages, "").model(model).with("system", system).with("messages", messages)
}

/// The prompt that the templates make of these messages.
fn rendered(messages: &[(&str, &str)]) -> String {
    let messages = messages.iter().map(|(role, text)| format!("<|im_start|>{role}\n{text}<|im_end|>\n"));
    format!("<s>{}<|im_start|>assistant\n", messages.collect::<String>())
}

fn in_place(said: &str) -> String {
    let before = [("system", "Be brief."), ("user", "First."), ("system", "Be kind."), ("assistant", "Second.")];
    rendered(&[&before[..], &[("user", said), ("system", "Be quick.")]].concat())
}

fn merged(said: &str) -> String {
    let system = "Be brief.\n\nBe kind.\n\nBe quick.";
    rendered(&[("system", system), ("user", "First."), ("assistant", "Second."), ("user", said)])
}

fn as_it_is_dropped(said: &str) -> String {
    let system = format!("{ATTRIBUTION}Be brief.");
    rendered(&[("system", &system), ("user", "First."), ("assistant", "Second."), ("user", said)])
}

#[test]
fn system_entries_reach_models_whatever_their_templates_make_of_them() {
    let models = Models::process().one_thread().gateway("min_stay = \"0s\"");
    let models = models.with("\"1\" }", "\"1\", LLAMA_SERVER_SLOTS_DEBUG = \"1\" }").tiny(&["takes"]);
    let (refuses, drops) = (line(REFUSES_SYSTEM), line(DROPS_SYSTEM));
    let models = models.tiny_with("refuses", &refuses).tiny_with("drops", &drops);
    let models = models.tiny_with("refuses-as-it-is", &format!("{refuses}{NOT_ADAPTED}"));
    let daemon = Daemon::start(models.tiny_with("drops-as-it-is", &format!("{drops}{NOT_ADAPTED}")).home());
    let api = daemon.api();
    let client = Client::of(&api.status());

    let reads = |model: &str, expected: fn(&str) -> String| {
        for (once, said) in [(false, "Third."), (true, "Something else.")] {
            let question = question(model, said);
            let question = if once { question.once() } else { question };
            let seen = client.ask_now(&question).complete();
            assert_eq!(seen.model, model);
            assert_eq!(Inference::of(&api.status()).prompt(), expected(said), "{model}");

            let counted = client.bytes("POST", "/v1/messages/count_tokens", question.body.to_string().as_bytes());
            let counted = client.raw(&counted);
            assert_eq!(counted.body()["input_tokens"], seen.tokens.input, "{model}: {}", counted.text);
        }
    };
    reads("takes", in_place);
    reads("refuses", merged);
    reads("drops", merged);
    reads("drops-as-it-is", as_it_is_dropped);
    for question in [question("refuses-as-it-is", "Third."), question("refuses-as-it-is", "Third.").once()] {
        let why = client.ask_now(&question).refused(Manner::Messages, 400);
        assert!(why.contains("System message must be at the beginning."), "{why}");
    }
}
