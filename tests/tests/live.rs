//! What goes on, as a real `llama-server` tells it; and sessions that a person ends.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "test code: a panic is how it fails")]

use std::fs;

use corral_tests::local::Ran;
use corral_tests::{Client, Daemon, Local, Manner, Models, PATIENCE, Question, process, until};

const SCRIPTED: &str = env!("CARGO_BIN_EXE_scripted-answer");

#[test]
fn a_stream_shows_while_it_runs() {
    let ctx = "ctx = 65536\nparallel = 2\nargs = [\"--ignore-eos\"]";
    let daemon = Daemon::start(Models::process().one_thread().with("ctx = 4096", ctx).tiny(&["a"]).home());
    let api = daemon.api();
    let live = || api.get("/live").expect(200);
    assert!(live()["context"].is_null(), "nothing is loaded");
    let open = Client::of(&api.switched("a"));
    let (id, token) = api.open_session("mine");
    let question = Question::new(Manner::Chat, "hello").tokens(4_000);
    let follow = open.with_token(&token).follow(&question);
    let now = until(PATIENCE, "tokens flow", || {
        let now = live();
        (now["tokens_per_second"].as_f64().is_some_and(|rate| rate > 0.0)
            && now["context"]["used_tokens"].as_u64().is_some_and(|used| used > 0))
        .then_some(now)
    });
    assert_eq!(now["requests"]["running"], 1, "{now:#}");
    assert_eq!((&now["sessions"][0]["id"], &now["sessions"][0]["running"]), (&id.into(), &1.into()), "{now:#}");
    assert_eq!(now["sessions"][0]["model"], "a", "{now:#}");
    let slots = now["context"]["slots"].as_array().unwrap();
    assert!(slots.len() == 2 && slots.iter().filter(|slot| slot["busy"] == true).count() == 1, "{now:#}");
    assert_eq!(now["context"]["total_tokens"], 65_536, "{now:#}");
    follow.end();
    let after = until(PATIENCE, "it has ended", || {
        let now = live();
        (now["requests"]["running"] == 0 && now["sessions"][0]["requests"] == 1).then_some(now)
    });
    assert!(after["sessions"][0]["tokens_out"].as_u64().unwrap() > 0, "{after:#}");
    assert_eq!(after["sessions"][0]["running"], 0, "{after:#}");
    assert_eq!(after["sessions"][0]["model"], "a", "it used that last");
}

#[test]
fn an_answer_in_one_piece_counts_as_fast_as_it_was() {
    let ctx = "ctx = 65536\nargs = [\"--ignore-eos\"]";
    let daemon = Daemon::start(Models::process().one_thread().with("ctx = 4096", ctx).tiny(&["a"]).home());
    let api = daemon.api();
    let open = Client::of(&api.switched("a"));
    assert_eq!(api.get("/live").expect(200)["tokens_per_second"], 0.0);
    for manner in [Manner::Chat, Manner::Messages] {
        until(PATIENCE, "it is quiet", || (api.get("/live").expect(200)["tokens_per_second"] == 0.0).then_some(()));
        open.ask_now(&Question::new(manner, "hello").tokens(400).once()).complete();
        until(PATIENCE, "it shows", || {
            api.get("/live").expect(200)["tokens_per_second"].as_f64().is_some_and(|rate| rate > 0.0).then_some(())
        });
    }
}

#[test]
fn a_session_that_is_ended_takes_what_runs_in_its_jail_along() {
    let local = Local::scripted(SCRIPTED, false);
    let api = local.daemon.api();
    // The second one does not end by SIGTERM, as an interactive shell does not.
    for script in ["echo $$ >pid; exec sleep 1000", "trap '' TERM; echo $$ >pid; while :; do sleep 0.2; done"] {
        let child = local.command("corral").args(["jail", "--", "sh", "-c", script]).spawn().unwrap();
        let launcher = child.id();
        let pid = local.workspace().join("pid");
        until(PATIENCE, "it runs", || pid.exists().then_some(()));
        let status = api.until(PATIENCE, "its session", |status| status.sessions.len() == 1);
        let session = &status.sessions[0];
        assert_eq!(session.workspace.as_deref(), local.workspace().canonicalize().unwrap().to_str());
        api.delete(&format!("/sessions/{}", session.id)).expect(204);
        let ran = Ran::end(child);
        assert_ne!(ran.code, Some(0), "{ran:?}");
        assert!(ran.stderr.contains("ended from the dashboard"), "{ran:?}");
        assert!(!process::runs(launcher));
        fs::remove_file(pid).unwrap();
        local.until_no_session();
    }
}
