//! Listeners of jails, handed over to the real daemon before a real llama-server.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "test code: a panic is how it fails")]

use corral_core::snapshot::Phase;
use corral_tests::jail::Jail;
use corral_tests::{Api, Client, Daemon, Manner, Models, PATIENCE, Question, until};

/// Two answers at a time, which go on until they are as long as was asked for.
const CTX: &str = "ctx = 65536\nparallel = 2\nargs = [\"--ignore-eos\"]";

fn daemon(gateway: &str) -> Daemon {
    Daemon::start(Models::process().one_thread().gateway(gateway).with("ctx = 4096", CTX).tiny(&["a", "b"]).home())
}

fn get(client: &Client, path: &str) -> u16 {
    client.raw(&client.bytes("GET", path, b"")).status()
}

/// Waits until the ledger has so many requests of a session; the empty one is nobody's.
#[track_caller]
fn until_requests(api: &Api, session: &str, count: u64) {
    let what = format!("{count} requests of {session:?}");
    until(PATIENCE, &what, || (api.usage("session").get(session).map_or(0, |row| row.requests) == count).then_some(()));
}

#[test]
fn what_comes_by_them_is_that_sessions_whatever_the_token() {
    let daemon = daemon("auto_switch = \"sessions\"\nmin_stay = \"0s\"");
    let api = daemon.api();
    let open = Client::of(&api.switched("a"));
    let (id, token) = api.open_session("mine");
    let (other, others) = api.open_session("another");
    let mut jail = Jail::new(&token);
    assert_eq!(jail.hand_over(&daemon), id);
    let inside = jail.client();

    // Whose it is.
    let question = Question::new(Manner::Messages, "hello").model("a");
    inside.ask_now(&question).complete();
    inside.with_token(&others).ask_now(&question).complete();
    inside.with_token(api.token()).ask_now(&question).complete();
    open.ask_now(&question).complete();
    open.with_token(&others).ask_now(&question).complete();
    until_requests(api, &id, 3);
    until_requests(api, &other, 1);
    until_requests(api, "", 1);

    // What it may: no look at the server, but a switch.
    for path in ["/slots", "/props"] {
        assert_eq!((get(&inside, path), get(&open, path)), (403, 200), "{path}");
    }
    open.ask_now(&question.clone().model("b")).refused(Manner::Messages, 404);
    assert_eq!(inside.ask_now(&question.model("b")).complete().model, "b");

    // The management API is for the session's own token.
    let inside = jail.management();
    let outside = Client::at(api.base(), api.token());
    for (path, with_own) in
        [("/status", 200), ("/models", 200), ("/usage", 403), ("/logs", 403), ("/openapi.json", 403)]
    {
        assert_eq!(get(&inside.with_token(&token), path), with_own, "{path}");
        assert_eq!(get(&outside, path), 200, "{path}");
        for client in [inside.clone(), inside.with_token(api.token()), inside.with_token(&others)] {
            assert_eq!(get(&client, path), 401, "{path}");
        }
    }
    assert_eq!(get(&inside, "/healthz"), 200);
}

#[test]
fn with_its_launcher_a_jail_is_gone() {
    let daemon = daemon("");
    let api = daemon.api();
    let open = Client::of(&api.switched("a"));
    let mut jail = Jail::new(&"0a".repeat(32));
    let id = jail.hand_over(&daemon);
    let sessions = api.status().sessions;
    assert_eq!((sessions.len(), sessions[0].id.as_str(), sessions[0].label.as_deref()), (1, &*id, Some("a jail")));

    let long = Question::new(Manner::Chat, "hello").tokens(30_000);
    let inside = jail.client().follow(&long);
    let outside = open.follow(&long);
    inside.until("it streams", |progress| progress.letters > 0);
    outside.until("it streams", |progress| progress.letters > 0);
    jail.end();
    let seen = inside.end();
    assert!(seen.broken.is_some() && !seen.ended, "it breaks off: {seen:?}");
    api.until(PATIENCE, "the session is gone", |status| status.sessions.is_empty());
    assert!(!outside.has_ended(), "others go on");
    until_requests(api, &id, 1);

    let ended = jail.try_hand_over(&daemon).expect_err("its token has ended");
    assert!(ended.to_string().contains("has ended"), "{ended}");
    // Others are taken as before.
    let mut next = Jail::new(&"0b".repeat(32));
    next.hand_over(&daemon);
    assert_eq!(get(&next.client(), "/health"), 200);
    // A session that is detached takes its jail along.
    let detached = daemon.api().status().sessions[0].id.clone();
    api.delete(&format!("/sessions/{detached}")).expect(204);
    next.until_over();
}

#[test]
fn a_jail_outlives_its_daemon() {
    let mut daemon = daemon("");
    daemon.api().switched("a");
    let token = daemon.api().open_session("mine").1;
    let mut jail = Jail::new(&token);
    let before = jail.hand_over(&daemon);
    let question = Question::new(Manner::Messages, "hello").model("a");
    jail.client().ask_now(&question).complete();
    until_requests(daemon.api(), &before, 1);

    // Killed: who asks meanwhile waits for the next one.
    daemon.kill9();
    jail.until_over();
    let waiting = jail.client().follow(&question);
    assert!(jail.try_hand_over(&daemon).is_err());
    daemon.restart();
    assert_eq!(jail.hand_over(&daemon), before, "the same session, with one row in the ledger");
    waiting.end().complete();
    until_requests(daemon.api(), &before, 2);
    assert_eq!(get(&jail.management().with_token(&token), "/status"), 200, "its token is taken again");
    assert_eq!(daemon.api().status().sessions.len(), 1);

    // Ended in order: the same.
    let socket = daemon.home().run().join("jails.sock");
    assert!(socket.exists());
    assert!(daemon.terminate().status.success());
    jail.until_over();
    assert!(!socket.exists());
    daemon.restart();
    assert_eq!(jail.hand_over(&daemon), before);
    daemon.api().until(PATIENCE, "it is at rest", |status| status.operation.is_none() && status.phase != Phase::Failed);
    jail.client().ask_now(&question).complete();
    until_requests(daemon.api(), &before, 3);
}
