//! Clients that wait long for a stream hear that the connection lives, and get all of the stream then.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "test code: a panic is how it fails")]

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use corral_core::snapshot::Phase;
use corral_testkit::SandboxHome;
use corral_tests::gateway::{Follow, Seen};
use corral_tests::{Client, Daemon, Manner, Models, PATIENCE, Question, parts, process};
use rustix::fs::{CWD, Mode};
use rustix::process::Signal;

/// Models that say all that they may.
const SETTINGS: &str = "ctx = 4096\nargs = [\"--ignore-eos\"]";

/// How long the gateway is silent at most.
const SILENCE: Duration = Duration::from_secs(10);

/// Asks in each protocol for a stream, and once for a plain answer, which has no place for comments.
fn ask(client: &Client) -> (Vec<Follow>, Follow) {
    let question = |manner| Question::new(manner, "hello").model("a");
    let streams = Manner::ALL.map(|manner| client.follow(&question(manner)));
    (streams.into(), client.follow(&question(Manner::Messages).once()))
}

/// Waits until each stream has so many comments, and nothing else; the plain answer has not begun.
#[track_caller]
fn until_comments(count: usize, (streams, plain): &(Vec<Follow>, Follow)) {
    for stream in streams {
        stream.until("a comment comes", |progress| {
            assert_eq!(progress.letters, 0, "the model cannot have said anything: {progress:?}");
            progress.status == 200 && progress.comments >= count
        });
    }
    plain.until("it waits", |progress| progress.status == 0);
}

/// Waits for the ends, which must be those of whole answers.
#[track_caller]
fn whole((streams, plain): (Vec<Follow>, Follow)) -> Vec<Seen> {
    let plain = plain.end().complete();
    assert_eq!((plain.model.as_str(), plain.comments), ("a", 0), "{plain:?}");
    let streams: Vec<_> = streams.into_iter().map(|stream| stream.end().complete()).collect();
    for seen in &streams {
        assert_eq!((seen.model.as_str(), seen.tokens.output), ("a", 8), "{seen:?}");
    }
    streams
}

#[test]
fn a_stream_is_kept_alive_while_its_model_loads() {
    let home = SandboxHome::new();
    let (program, pipe) = (home.path().join("llama-server.sh"), home.path().join("pipe"));
    rustix::fs::mkfifoat(CWD, &pipe, Mode::RUSR | Mode::WUSR).expect("a pipe");
    // A program that becomes llama-server once the test says so.
    let script =
        format!("#!/bin/sh\nread go <'{}'\nexec '{}' \"$@\"\n", pipe.display(), parts::llama_server().display());
    std::fs::write(&program, script).expect("a program");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("its mode");
    Models::program(&program).one_thread().with("ctx = 4096", SETTINGS).tiny(&["a"]).write(&home);
    // For reading too: so it can be opened before the program has.
    let mut pipe = File::options().read(true).write(true).open(pipe).expect("the pipe");

    let daemon = Daemon::start(home);
    let api = daemon.api();
    let client = Client::of(&api.status());
    let (began, asked) = (Instant::now(), ask(&client));
    until_comments(1, &asked);
    assert!(began.elapsed() >= SILENCE, "nobody is told early, so that a quick refusal keeps its status");
    until_comments(2, &asked);
    assert!(began.elapsed() >= 2 * SILENCE, "once in {SILENCE:?}");
    let status = api.status();
    assert!(matches!(status.phase, Phase::Starting | Phase::Loading), "the model loads: {status:#?}");

    writeln!(pipe, "go").expect("it is told");
    for seen in whole(asked) {
        assert!(seen.comments >= 2 && seen.first_token > Some(2 * SILENCE), "{seen:?}");
    }
    // On a model that is there, there is nothing to say but the answer.
    for seen in whole(ask(&client)) {
        assert_eq!(seen.comments, 0, "{seen:?}");
    }
}

#[test]
fn a_stream_is_kept_alive_while_the_server_is_silent() {
    let daemon = Daemon::start(Models::process().one_thread().with("ctx = 4096", SETTINGS).tiny(&["a"]).home());
    let client = Client::of(&daemon.api().switched("a"));
    let [pid] = process::with_argument(&daemon.home().models())[..] else { panic!("one llama-server") };
    // As one that reads a long prompt, it takes requests and says nothing.
    process::signal(pid, Signal::STOP);
    let (began, asked) = (Instant::now(), ask(&client));
    until_comments(1, &asked);
    assert!(began.elapsed() >= SILENCE, "nobody is told early, so that a quick refusal keeps its status");
    process::signal(pid, Signal::CONT);
    for seen in whole(asked) {
        assert!(seen.comments > 0 && seen.first_token > Some(SILENCE), "{seen:?}");
    }
    daemon.api().until(PATIENCE, "it is the server that it was", |status| status.phase == Phase::Ready);
    assert_eq!(process::with_argument(&daemon.home().models()), [pid]);
}
