//! What goes wrong, and what is said then.

use std::io::Write;
use std::net::TcpListener;
use std::path::PathBuf;
use std::time::Duration;

use corral_core::Code;
use corral_core::ports::{Endpoint, Engine, Job};
use corral_testkit::eventually;
use corral_testkit::gguf::{not_a_gguf, truncated};
use rustix::process::{Pid, Signal};

use crate::bed::{Bed, LONG, exited, group_ended, llama_server, spec};

#[tokio::test]
async fn a_broken_file_is_the_cause() {
    let bed = Bed::new();
    let mut events = bed.engine.events();
    for (name, write) in [("page.gguf", not_a_gguf as fn(PathBuf) -> _), ("cut.gguf", truncated)] {
        let file = bed.home.models().join(name);
        write(file.clone()).unwrap();
        let (instance, endpoint) = bed.started(&spec(llama_server(), file)).await;
        let error = bed.engine.await_ready(&instance, &endpoint, LONG, &Job::unwatched()).await.unwrap_err();
        assert_eq!(error.code(), Code::LoadFailed, "{error}");
        assert!(error.to_string().contains("the model file is damaged"), "{error}");
        assert!(!error.body().log.is_empty());
        assert_eq!(exited(&mut events).await.1.body(), error.body());
    }
}

#[tokio::test]
async fn an_unknown_argument_is_named() {
    let bed = Bed::new();
    let mut spec = bed.tiny();
    spec.args = vec!["--no-such-thing".to_owned()];
    let (instance, endpoint) = bed.started(&spec).await;
    let error = bed.engine.await_ready(&instance, &endpoint, LONG, &Job::unwatched()).await.unwrap_err();
    assert_eq!(error.code(), Code::LoadFailed);
    assert!(error.to_string().contains("`--no-such-thing`"), "{error}");
}

#[tokio::test]
async fn a_program_that_is_not_there_or_no_program() {
    let bed = Bed::new();
    let file = bed.home.models().join("none.gguf");
    let error = bed.engine.prepare(&spec("no-such-server".into(), file.clone()), &Job::unwatched()).await.unwrap_err();
    assert_eq!(error.code(), Code::BinaryMissing);
    assert!(error.body().hint.is_some());

    for text in ["#!/no/such/interpreter\n", "\u{7f}ELF, but not really"] {
        let instance = bed.engine.prepare(&bed.script(text), &Job::unwatched()).await.unwrap();
        let error = bed.engine.start(&instance).await.unwrap_err();
        assert_eq!(error.code(), Code::BinaryMissing, "{error}");
        assert!(!bed.record_path(&instance).exists());
        bed.engine.discard(&instance).await.unwrap();
        assert!(!bed.log_path(&instance).exists());
    }
}

#[tokio::test]
async fn patience_and_interest_end() {
    let bed = Bed::new();
    let (instance, endpoint) = bed.started(&bed.script("#!/bin/sh\necho W still thinking\nexec sleep 1000\n")).await;
    eventually(LONG, || async { !bed.logs.tail(1).is_empty() }).await;
    let short = Duration::from_millis(50);
    let error = bed.engine.await_ready(&instance, &endpoint, short, &Job::unwatched()).await.unwrap_err();
    assert_eq!(error.code(), Code::LoadTimeout);
    assert_eq!(error.body().log, ["still thinking"]);
    let job = Job::unwatched();
    job.cancelled.cancel();
    let error = bed.engine.await_ready(&instance, &endpoint, LONG, &job).await.unwrap_err();
    assert_eq!(error.code(), Code::Superseded);
    assert_eq!(bed.engine.prepare(&bed.tiny(), &job).await.unwrap_err().code(), Code::Superseded);
}

#[tokio::test]
async fn a_server_that_ended_is_not_ready_whoever_answers_in_its_place() {
    let bed = Bed::new();
    let (instance, endpoint) = bed.started(&bed.script("#!/bin/sh\necho I here\nexec sleep 1000\n")).await;
    let pid = bed.pid(&instance);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = Endpoint { url: format!("http://{}", listener.local_addr().unwrap()), ..endpoint };
    // In a thread: the answer must not wait until the engine has noticed the end.
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let _ = rustix::process::kill_process(pid, Signal::KILL);
            let stat = format!("/proc/{}/stat", pid.as_raw_nonzero());
            while std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
                std::thread::yield_now();
            }
            let _ = stream.unwrap().write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}");
        }
    });
    let error = bed.engine.await_ready(&instance, &endpoint, LONG, &Job::unwatched()).await.unwrap_err();
    assert_eq!(error.code(), Code::ServerKilled, "{error}");
}

#[tokio::test]
async fn a_deaf_server_is_killed() {
    let bed = Bed::new();
    let (instance, _) =
        bed.started(&bed.script("#!/bin/sh\ntrap '' TERM\necho I deaf\nwhile :; do sleep 1; done\n")).await;
    eventually(LONG, || async { !bed.logs.tail(1).is_empty() }).await;
    let pid = bed.pid(&instance);
    bed.engine.stop(&instance).await.unwrap();
    // What the script had started is dead as well, but init may take a moment to notice.
    eventually(LONG, || async { group_ended(pid) }).await;
}

#[tokio::test]
async fn a_wrapper_takes_its_child_along() {
    let bed = Bed::new();
    let mut events = bed.engine.events();
    let (instance, _) = bed.started(&bed.script("#!/bin/sh\nsleep 1000 &\necho \"I child $!\"\nwait\n")).await;
    eventually(LONG, || async { !bed.logs.tail(1).is_empty() }).await;
    let child: i32 = bed.logs.tail(1)[0].msg.strip_prefix("child ").unwrap().parse().unwrap();
    let child = Pid::from_raw(child).unwrap();
    rustix::process::test_kill_process(child).unwrap();
    // The wrapper alone ends; what it had started would hold the GPU's memory.
    rustix::process::kill_process(bed.pid(&instance), Signal::KILL).unwrap();
    let (_, cause) = exited(&mut events).await;
    assert_eq!(cause.code(), Code::ServerKilled);
    assert!(cause.to_string().contains("while it loaded"), "{cause}");
    let gone = |pid: Pid| {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
        stat.is_empty() || stat.contains(") Z ")
    };
    eventually(LONG, || async { gone(child) }).await;
}
