//! A conversation that a real `llama-server` has to read again is told of, once and with its likely cause; one that
//! comes out of the cache is not.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "test code: a panic is how it fails")]

use corral_core::usage::Tokens;
use corral_tests::api::Events;
use corral_tests::{Api, Client, Daemon, Inference, Manner, Models, PATIENCE, Question, prompt, until};
use serde_json::{Value, json};

/// Tokens that a conversation begins with: more than are worth a word.
const LONG: usize = 3000;

const IN_SLOT: &str = "another conversation used the model's slot in between";
const OTHER_SYSTEM: &str = "its system prompt has changed since its last request";
const OTHER_TOOLS: &str = "its list of tools has changed since its last request";
const LOADED: &str = "the model was loaded again in between and its context was not brought back";
const DROPPED: &str = "llama-server dropped its cache";

/// Writes the tools in front of everything, as most models' own templates do.
const TOOLS_FIRST: &str = "{% if tools %}{{ tools | tojson }}{% endif %}{% for message in messages %}\
                           {{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}{% endfor %}\
                           {{ '<|im_start|>assistant\\n' }}";

/// A conversation in the manner of Claude Code, which says with each request which session it is of.
struct Talk {
    client: Client,
    model: &'static str,
    session: String,
    system: String,
    tools: Value,
    turns: Vec<String>,
}

impl Talk {
    /// About something that no other has talked about.
    fn new(client: &Client, model: &'static str, seed: u64) -> Self {
        let session = format!("{seed:08x}-aaaa-4bbb-8ccc-{seed:012x}");
        let (system, tools) = (format!("{seed} is your number."), json!([tool("read")]));
        Self { client: client.clone(), model, session, system, tools, turns: vec![prompt(seed, LONG)] }
    }

    /// Goes on with it, and returns what that cost.
    #[track_caller]
    fn goes_on(&mut self) -> Tokens {
        let turns: Vec<_> = self.turns.iter().map(String::as_str).collect();
        let user = json!({ "device_id": "d", "session_id": self.session }).to_string();
        let question = Question::turns(Manner::Messages, &turns).model(self.model).with("system", json!(self.system));
        let question = question.with("tools", self.tools.clone()).with("metadata", json!({ "user_id": user }));
        let seen = self.client.ask_now(&question).complete();
        assert_eq!(seen.model, self.model);
        self.turns.extend([seen.text, "And then?".to_owned()]);
        assert!(seen.tokens.input > LONG as u64, "it is worth a word: {:?}", seen.tokens);
        seen.tokens
    }

    /// Goes on, mostly out of the cache.
    #[track_caller]
    fn is_remembered(&mut self) {
        let tokens = self.goes_on();
        assert!(tokens.cached * 10 > tokens.input * 9, "it comes out of the cache: {tokens:?}");
    }

    /// Goes on, or begins, and is read from its beginning.
    #[track_caller]
    fn is_read(&mut self) {
        let tokens = self.goes_on();
        assert!(tokens.cached * 10 < tokens.input, "it is read again: {tokens:?}");
    }
}

fn tool(name: &str) -> Value {
    json!({ "name": name, "description": name, "input_schema": { "type": "object", "properties": {} } })
}

/// Models with one slot and no other memory: what is not in the slot has to be read.
fn models() -> Models {
    let args = format!("[\"--ignore-eos\", \"--cache-ram\", \"0\", \"--chat-template\", '''{TOOLS_FIRST}''']");
    let settings = format!("ctx = 32768\nparallel = 1\nargs = {args}");
    Models::docker().one_thread().gateway("min_stay = \"0s\"").with("ctx = 4096", &settings)
}

/// The alarms among the notices up to the one with this cause.
#[track_caller]
fn alarms_until(events: &Events, cause: &str) -> Vec<String> {
    let notices = events.notices_until(&["read a conversation of", cause]);
    let alarms = notices.iter().filter(|notice| notice["message"].to_string().contains("read a conversation of"));
    let alarms = alarms.inspect(|notice| assert_eq!(notice["level"], "warning", "{notice:#}"));
    alarms.map(|notice| notice["message"].as_str().expect("a message").to_owned()).collect()
}

/// Checks that these alarms, and no others, tell of `a` with these causes.
#[track_caller]
fn assert_alarms(alarms: &[String], causes: &[&str]) {
    let as_said =
        |(alarm, cause): (&String, &&str)| alarm.starts_with("a read a conversation of 3") && alarm.contains(cause);
    assert!(alarms.len() == causes.len() && alarms.iter().zip(causes).all(as_said), "{causes:?}: {alarms:#?}");
}

/// The ledger's count of a session's requests.
fn requests(api: &Api, talk: &Talk) -> Option<u64> {
    api.usage("session").get(&format!("claude:{}", talk.session)).map(|row| row.requests)
}

#[test]
fn a_conversation_that_lost_its_slot_is_told_of_once_until_the_cache_has_worked_again() {
    let daemon = Daemon::start(models().tiny(&["a"]).home());
    let api = daemon.api();
    let client = Client::of(&api.switched("a"));
    let events = api.events();
    let mut talks = (1..).map(|seed| Talk::new(&client, "a", seed));
    let mut another = || talks.next().expect("one more");

    let mut talk = another();
    talk.is_read();
    talk.is_remembered();
    talk.is_remembered();
    another().is_read();
    talk.is_read();
    // The same again, which is no news.
    another().is_read();
    talk.is_read();
    talk.is_remembered();
    // Now it is.
    another().is_read();
    talk.is_read();
    until(PATIENCE, "they are one session's", || (requests(api, &talk) == Some(7)).then_some(()));

    // An alarm of another kind shows that all of the above have come.
    let mut last = another();
    last.is_read();
    last.system += " Be brief.";
    last.is_read();
    assert_alarms(&alarms_until(&events, OTHER_SYSTEM), &[IN_SLOT, IN_SLOT, OTHER_SYSTEM]);
}

#[test]
fn the_likely_cause_is_told() {
    let models = models().tiny_with("a", "keep_context = false").tiny(&["b"]);
    let daemon = Daemon::start(models.home());
    let api = daemon.api();
    let client = Client::of(&api.switched("a"));
    let events = api.events();

    let tells = |seed, cause, change: &dyn Fn(&mut Talk)| {
        let mut talk = Talk::new(&client, "a", seed);
        talk.is_read();
        talk.is_remembered();
        change(&mut talk);
        talk.is_read();
        assert_alarms(&alarms_until(&events, cause), &[cause]);
    };
    tells(1, OTHER_SYSTEM, &|talk| talk.system = format!("Be brief. {}", talk.system));
    tells(2, OTHER_TOOLS, &|talk| talk.tools = json!([tool("write"), tool("read")]));
    tells(3, LOADED, &|_| drop((api.switched("b"), api.switched("a"))));
    tells(4, DROPPED, &|_| {
        Inference::of(&api.status()).post("/slots/0?action=erase", &json!({})).expect(200);
    });
}

#[test]
fn a_conversation_that_is_brought_back_after_a_switch_alarms_nobody() {
    let daemon = Daemon::start(models().tiny(&["a", "b"]).home());
    let api = daemon.api();
    let client = Client::of(&api.switched("a"));
    let events = api.events();
    let mut talk = Talk::new(&client, "a", 1);
    talk.is_read();
    api.switched("b");
    api.switched("a");
    talk.is_remembered();
    // That alarms are heard shows in one that there is cause for.
    talk.system += " Be brief.";
    talk.is_read();
    assert_alarms(&alarms_until(&events, OTHER_SYSTEM), &[OTHER_SYSTEM]);
}
