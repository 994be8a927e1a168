//! The model that a request names is the model that answers it, as far as the policy goes.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "test code: a panic is how it fails")]
#![allow(clippy::print_stdout, reason = "test code: what was measured is shown where it is asked for")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use corral_core::snapshot::{OperationKind, Phase};
use corral_tests::api::instance;
use corral_tests::{Api, Client, Daemon, Manner, Models, Question, until};
use serde_json::{Value, json};

/// Three models, of which `b` has aliases.
fn daemon(gateway: &str) -> Daemon {
    let models =
        Models::docker().one_thread().gateway(gateway).with("ctx = 4096", "ctx = 32768\nargs = [\"--ignore-eos\"]");
    let aliases = "aliases = [\"claude-haiku-*\", \"quick\"]";
    Daemon::start(models.tiny(&["a"]).tiny_with("b", aliases).tiny(&["c"]).home())
}

/// Asks for this model, and returns which one answered.
#[track_caller]
fn answers(client: &Client, manner: Manner, name: &str) -> String {
    client.ask_now(&Question::new(manner, "hello").model(name)).complete().model
}

#[test]
fn a_name_leads_to_its_model() {
    let daemon = daemon("min_stay = \"0s\"");
    let api = daemon.api();
    let client = Client::of(&api.switched("a"));
    for manner in Manner::ALL {
        for (name, model) in [("b", "b"), ("anything", "b"), ("a", "a"), ("claude-haiku-4-5", "b"), ("quick", "b")] {
            assert_eq!(answers(&client, manner, name), model, "{name} in the manner of {manner:?}");
            assert_eq!(api.status().model.expect("a model").as_str(), model);
        }
        assert_eq!(answers(&client, manner, "a"), "a");
        let before = instance(&api.status());
        // What is in no catalog is answered by what is loaded, which nothing happens to.
        for name in ["claude-opus-4-8", "gpt-5", "haiku", "B", "b ", ""] {
            assert_eq!(answers(&client, manner, name), "a", "{name:?} in the manner of {manner:?}");
        }
        assert_eq!(instance(&api.status()), before);
    }
    let mut nameless = Question::new(Manner::Chat, "hello");
    nameless.body.as_object_mut().expect("an object").remove("model");
    assert_eq!(client.ask_now(&nameless).complete().model, "a");
}

#[test]
fn a_probe_of_one_token_switches() {
    let daemon = daemon("min_stay = \"0s\"");
    let client = Client::of(&daemon.api().switched("a"));
    for once in [false, true] {
        for (name, model) in [("claude-haiku-4-5", "b"), ("c", "c")] {
            let question = Question::new(Manner::Messages, "quota").model(name).tokens(1);
            let seen = client.ask_now(&if once { question.once() } else { question }).complete();
            assert_eq!((seen.model.as_str(), seen.tokens.output), (model, 1));
            assert_eq!(daemon.api().status().model.expect("a model").as_str(), model);
        }
    }
}

#[test]
fn a_request_loads_a_model_where_none_is() {
    let daemon = daemon("min_stay = \"0s\"");
    assert_eq!(daemon.api().status().phase, Phase::Stopped);
    let client = Client::of(&daemon.api().status());
    assert_eq!(answers(&client, Manner::Messages, "b"), "b");
    daemon.api().stopped();
    // A name that is in no catalog means the one that last served.
    assert_eq!(answers(&client, Manner::Chat, "claude-opus-4-8"), "b");
}

#[test]
fn counting_tokens_is_answered_by_the_model_that_is_asked_about() {
    let daemon = daemon("min_stay = \"0s\"");
    let client = Client::of(&daemon.api().switched("a"));
    let agent = ureq::Agent::new_with_defaults();
    let count = |name: &str| {
        let body = json!({ "model": name, "messages": [{ "role": "user", "content": "hello" }] });
        let url = format!("{}/v1/messages/count_tokens?beta=true", client.url());
        agent.post(url).send_json(body).expect("an answer").body_mut().read_json::<Value>().expect("JSON")
    };
    let counted = count("b")["input_tokens"].as_u64().expect("a number");
    assert_eq!(daemon.api().status().model.expect("a model").as_str(), "b");
    let asked = client.ask_now(&Question::new(Manner::Messages, "hello")).complete();
    assert_eq!(counted, asked.tokens.input, "what is counted is what is read");
}

#[test]
fn where_nobody_may_switch_a_request_for_another_model_is_refused() {
    let daemon = daemon("auto_switch = \"never\"");
    let client = Client::of(&daemon.api().switched("a"));
    let (_, token) = daemon.api().open_session("mine");
    let before = instance(&daemon.api().status());
    for client in [client.clone(), client.with_token(&token)] {
        for manner in Manner::ALL {
            for question in [Question::new(manner, "hello"), Question::new(manner, "hello").once()] {
                let message = client.ask_now(&question.clone().model("b")).refused(manner, 404);
                assert!(message.contains('b') && message.contains('a'), "it says which: {message}");
                // The same of the model that is loaded is answered.
                client.ask_now(&question.model("a")).complete();
            }
        }
    }
    assert_eq!(instance(&daemon.api().status()), before, "nothing was switched");
}

#[test]
fn where_only_sessions_may_switch_others_are_refused() {
    let daemon = daemon("auto_switch = \"sessions\"\nmin_stay = \"0s\"");
    let client = Client::of(&daemon.api().switched("a"));
    let (_, token) = daemon.api().open_session("mine");
    for manner in Manner::ALL {
        let question = Question::new(manner, "hello");
        let asked = question.clone().model("b");
        for stranger in [client.clone(), client.with_token("wrong")] {
            stranger.ask_now(&asked).refused(manner, 404);
            stranger.ask_now(&question.clone().model("a")).complete();
        }
        assert_eq!(client.with_token(&token).ask_now(&asked).complete().model, "b");
        assert_eq!(client.with_token(&token).ask_now(&question.model("a")).complete().model, "a");
    }
}

/// Number of switches so far.
fn switches(api: &Api) -> usize {
    api.history(1000).iter().filter(|past| past.kind == OperationKind::Switch).count()
}

#[test]
fn two_clients_that_want_different_models_take_turns() {
    let daemon = daemon("min_stay = \"3s\"");
    let api = daemon.api();
    let client = Client::of(&api.switched("a"));
    let before = switches(api);
    let began = Instant::now();
    let window = Duration::from_secs(12);
    let counts: BTreeMap<&str, usize> = std::thread::scope(|scope| {
        let ask = |name: &'static str| {
            let client = &client;
            scope.spawn(move || {
                let mut answered = 0;
                while began.elapsed() < window {
                    assert_eq!(answers(client, Manner::Messages, name), name);
                    answered += 1;
                }
                (name, answered)
            })
        };
        let both = ["a", "b"].map(ask);
        both.into_iter().map(|one| one.join().expect("a client does not panic")).collect()
    });
    let count = switches(api) - before;
    println!("{counts:?} answers with {count} switches in {:?}", began.elapsed());
    assert!((2..=5).contains(&count), "each model stays for its 3 s: {count} switches in {:?}", began.elapsed());
    assert!(counts.values().all(|answered| *answered > 5), "both are served: {counts:?}");
}

#[test]
fn requests_that_wait_are_told_so_and_served_in_order() {
    let daemon = daemon("min_stay = \"12s\"");
    let api = daemon.api();
    let client = Client::of(&api.switched("a"));
    // b is asked for first, so it is loaded first, however many wait for c.
    let first = client.follow(&Question::new(Manner::Messages, "hello").model("b"));
    api.until_wait(1);
    let others: Vec<_> = (0..3).map(|_| client.follow(&Question::new(Manner::Chat, "hello").model("c"))).collect();
    api.until_wait(4);
    first.until("it is told that it waits", |progress| progress.status == 200 && progress.comments > 0);
    let first = first.end().complete();
    assert_eq!(first.model, "b");
    for other in others {
        let other = other.end().complete();
        assert_eq!(other.model, "c");
        assert!(other.took > first.took && other.comments > 0, "{:?} and then {:?}", first.took, other.took);
    }
    api.until_serves("c");
}

#[test]
fn a_request_that_runs_is_let_end_before_a_switch() {
    let daemon = daemon("min_stay = \"0s\"");
    let api = daemon.api();
    let client = Client::of(&api.switched("a"));
    let long = Question::new(Manner::Messages, "hello").model("a").tokens(4000);
    let running = client.follow(&long);
    running.until("it generates", |progress| progress.letters > 50);
    assert_eq!(answers(&client, Manner::Chat, "b"), "b");
    assert!(running.has_ended(), "the switch waited for it");
    running.end().complete();
}

#[test]
fn a_client_that_no_longer_waits_has_nothing_switched() {
    let daemon = daemon("min_stay = \"2s\"");
    let api = daemon.api();
    let client = Client::of(&api.switched("a"));
    let before = instance(&api.status());
    let question = Question::new(Manner::Chat, "hello").model("b");
    {
        let mut socket = std::net::TcpStream::connect(client.address()).expect("a connection");
        let bytes = client.bytes("POST", question.manner.path(), question.body.to_string().as_bytes());
        std::io::Write::write_all(&mut socket, &bytes).expect("it is sent");
        api.until_wait(1);
    }
    api.until_wait(0);
    // Longer than the stay: a request of its own sort shows that the time has come.
    let began = Instant::now();
    until(Duration::from_secs(10), "the stay is over", || {
        assert_eq!(answers(&client, Manner::Chat, "a"), "a");
        (began.elapsed() > Duration::from_secs(4)).then_some(())
    });
    assert_eq!(instance(&api.status()), before, "nothing was switched");
}

#[test]
fn the_models_are_listed() {
    let daemon = daemon("");
    let client = Client::of(&daemon.api().status());
    let get = |path: &str| {
        let mut answer = ureq::get(format!("{}{path}", client.url())).call().expect("an answer");
        answer.body_mut().read_json::<Value>().expect("JSON")
    };
    for loaded in [None, Some("b")] {
        loaded.map(|model| daemon.api().switched(model));
        let body = get("/v1/models");
        let ids: Vec<_> = body["data"].as_array().expect("a list").iter().map(|model| model["id"].clone()).collect();
        assert_eq!(ids, ["a", "b", "c"], "{body:#}");
        assert_eq!(body["object"], "list", "{body:#}");
    }
    assert!(get("/health")["status"].is_string(), "{:#}", get("/health"));
}
