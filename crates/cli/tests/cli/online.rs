//! With a daemon.

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

use corral_api::dto::{ErrorAnswer, ModelList, ModelState, OperationAnswer, PlanAnswer, UsageList};
use corral_core::gpu::{GpuDevice, GpuProcess, GpuReading, GpuSource};
use corral_core::log::{LogLevel, LogRecord};
use corral_core::snapshot::{Phase, Snapshot, Step};
use corral_core::usage::{UsageBy, UsageRow};
use corral_core::{Code, Error, ModelId};
use corral_testkit::fakes::Verb;

use crate::support::{Daemon, Run, THREE, corral, three_models};

/// A text with every number behind `after ` replaced, for times differ.
fn timeless(text: &str) -> String {
    let (before, behind) = text.split_once(" after ").expect("a time");
    format!("{before} after {}", behind.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.'))
}

#[test]
fn a_day_with_corral() {
    let daemon = Daemon::new();
    let status = daemon.run(&["status"]);
    let catalog = format!("catalog  3 models in {}\n", daemon.home.catalog().display());
    assert_eq!((status.code, status.stdout), (Some(0), format!("phase    stopped\n{catalog}")));

    let started = daemon.run(&["start"]);
    assert_eq!((started.code, started.stderr.as_str()), (Some(0), ""), "silent where nobody watches");
    assert_eq!(timeless(&started.stdout), "a is ready after  s\n");

    let switched = daemon.run(&["switch", "bee-large"]);
    assert_eq!(switched.code, Some(0));
    assert_eq!(timeless(&switched.stdout), "b is ready after  s (was a)\n");

    let status = daemon.run(&["status"]).stdout;
    for line in ["phase    ready\nmodel    b\nsince    ", "\nurl      http://127.0.0.1:41234\n", catalog.as_str()] {
        assert!(status.contains(line), "{status}");
    }
    let snapshot: Snapshot = serde_json::from_value(daemon.run(&["status", "--json"]).json()).unwrap();
    assert_eq!(snapshot, *daemon.controller.snapshot());

    let list = daemon.run(&["list"]).stdout;
    let marked: Vec<&str> = list.lines().filter(|line| line.starts_with('●')).collect();
    assert!(marked.len() == 1 && marked[0].starts_with("●  b ") && marked[0].contains(" ready "), "{list}");
    let models: ModelList = serde_json::from_value(daemon.run(&["list", "--json"]).json()).unwrap();
    let each: Vec<ModelState> = models.models.iter().map(|model| model.state).collect();
    assert_eq!(each, [ModelState::Available, ModelState::Ready, ModelState::Missing]);

    let stopped = daemon.run(&["stop"]);
    assert_eq!(timeless(&stopped.stdout), "b stopped after  s\n");
    assert_eq!(daemon.run(&["stop"]).stdout, "nothing was loaded\n");
}

#[test]
fn both_lists_have_one_shape() {
    let daemon = Daemon::new();
    let online = daemon.run(&["list", "--json"]).json();
    std::fs::remove_file(daemon.home.run().join("daemon.json")).unwrap();
    let mut offline = daemon.run(&["list", "--json"]).json();
    // The reason why a file is missing may be worded in another way.
    offline["models"][2]["problem"] = online["models"][2]["problem"].clone();
    assert_eq!(online, offline);
}

#[test]
fn programs_get_json() {
    let daemon = Daemon::new();
    let answer: OperationAnswer = serde_json::from_value(daemon.run(&["switch", "a", "--json"]).json()).unwrap();
    let result = answer.result.expect("it was awaited");
    assert_eq!((result.id, result.to), (answer.operation.id, ModelId::new("a").ok()));

    daemon.engine.hold(Verb::AwaitReady);
    let begun = daemon.run(&["switch", "b", "--json", "--no-wait"]);
    let answer: OperationAnswer = serde_json::from_value(begun.json()).unwrap();
    assert_eq!((begun.code, answer.result), (Some(0), None));
    let again = daemon.run(&["switch", "c.1", "--no-wait"]);
    assert!(again.stdout.starts_with("switch ") && again.stdout.contains("c.1 has begun; "), "{again:?}");
    daemon.engine.release(Verb::AwaitReady);
    daemon.until(|snapshot| snapshot.phase == Phase::Ready && snapshot.operation.is_none());
}

#[test]
fn an_unknown_model_is_told_with_the_one_that_was_meant() {
    let daemon = Daemon::serving(three_models(), &THREE.replace("models.a]", "models.glm-flash]"));
    let wrong = daemon.run(&["switch", "glm-flsh"]);
    assert_eq!((wrong.code, wrong.stdout.as_str()), (Some(1), ""));
    let told = "error: no model is called `glm-flsh`\n\
                hint: did you mean `glm-flash`? `corral list` shows all models\n";
    assert_eq!(wrong.stderr, told);
    let json = daemon.run(&["switch", "glm-flsh", "--json"]);
    let answer: ErrorAnswer = serde_json::from_value(json.json()).unwrap();
    assert_eq!((json.code, answer.error.code, json.stderr.as_str()), (Some(1), Code::UnknownModel, ""));
}

#[test]
fn a_model_that_does_not_load_is_told_with_its_log() {
    let daemon = Daemon::new();
    let cause = Error::new(Code::OutOfMemory, "a does not fit").log(["cudaMalloc failed".to_owned()]).hint("less ctx");
    daemon.engine.fail(Verb::AwaitReady, "a", cause);
    let failed = daemon.run(&["start", "a"]);
    assert_eq!((failed.code, failed.stdout.as_str()), (Some(1), ""));
    assert_eq!(failed.stderr, "error: a does not fit\n  log: cudaMalloc failed\nhint: less ctx\n");
    let status = daemon.run(&["status"]);
    assert_eq!(status.code, Some(0));
    for line in
        ["phase    failed\n", "error    a does not fit\n", "log      cudaMalloc failed\n", "hint     less ctx\n"]
    {
        assert!(status.stdout.contains(line), "{}", status.stdout);
    }
}

#[test]
fn exit_codes_say_what_is_missing() {
    let daemon = Daemon::new();
    daemon.engine.set_unavailable(Some(Error::new(Code::EngineUnavailable, "Docker does not answer")));
    assert_eq!(daemon.run(&["start", "a"]).code, Some(69));
    std::fs::write(daemon.home.run().join("token"), "another token\n").unwrap();
    let refused = daemon.run(&["status"]);
    assert!(refused.code == Some(1) && refused.stderr.starts_with("error: the token is wrong\n"), "{refused:?}");
}

#[test]
fn a_dry_run_does_nothing_and_tells_all() {
    let daemon = Daemon::new();
    daemon.run(&["start", "a"]);
    daemon.engine.set_busy(2);
    let plan = daemon.run(&["switch", "b", "--dry-run"]);
    let told = "would     switch a → b\nsessions  0\n\
                requests  2 run, and would be let end; --force would cut them\n";
    assert_eq!((plan.code, plan.stdout.as_str()), (Some(0), told));
    let json: PlanAnswer = serde_json::from_value(daemon.run(&["switch", "b", "--dry-run", "--json"]).json()).unwrap();
    assert_eq!(json.plan.requests_running, 2);
    assert_eq!(daemon.run(&["switch", "a", "--dry-run"]).stdout, "a is loaded already: nothing would change\n");
    let gone = Error::new(Code::ModelFileMissing, "there is no file b.gguf").hint("download it");
    daemon.engine.fail(Verb::Check, "b", gone);
    let plan = daemon.run(&["switch", "b", "--dry-run"]);
    assert_eq!(plan.code, Some(1), "what would fail ends as the failure would");
    assert!(plan.stdout.ends_with("problem   there is no file b.gguf (download it)\n"), "{}", plan.stdout);
    assert_eq!(daemon.controller.snapshot().model, ModelId::new("a").ok());
}

#[test]
fn verbose_names_each_step_while_the_end_is_awaited() {
    let daemon = Daemon::new();
    daemon.run(&["start", "a"]);
    daemon.engine.hold(Verb::AwaitReady);
    let mut command = corral(&daemon.home, ["switch", "b", "-v"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut steps = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    // Steps may pass unseen; the one that goes on cannot.
    assert!(steps.any(|step| step == "switch a → b  load"));
    let operation = daemon.controller.snapshot().operation.clone().expect("it goes on");
    assert_eq!(operation.step, Step::Load);
    assert!(daemon.run(&["status"]).stdout.contains("operation  switch a → b  load  "));
    daemon.engine.release(Verb::AwaitReady);
    let ended = Run::from(child.wait_with_output().unwrap());
    assert_eq!((ended.code, timeless(&ended.stdout).as_str()), (Some(0), "b is ready after  s (was a)\n"));
}

#[test]
fn a_daemon_that_ends_is_told_from_one_that_never_was() {
    let daemon = Daemon::new();
    daemon.engine.hold(Verb::AwaitReady);
    let mut command = corral(&daemon.home, ["switch", "b"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    daemon.until(|snapshot| snapshot.operation.is_some());
    daemon.shut_down();
    let ended = Run::from(child.wait_with_output().unwrap());
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.starts_with("error: Corral is shutting down"), "{}", ended.stderr);
}

fn record(msg: &str) -> LogRecord {
    let ts = "2026-05-04T12:03:04Z".parse().unwrap();
    LogRecord { ts, level: LogLevel::Warn, model: ModelId::new("a").unwrap(), msg: msg.to_owned() }
}

#[test]
fn logs_are_for_people_and_for_programs() {
    let daemon = Daemon::new();
    for msg in ["one", "two"] {
        daemon.logs.push(record(msg));
    }
    let all = daemon.run(&["logs"]);
    assert_eq!((all.code, all.stdout.as_str()), (Some(0), "12:03:04 WARN  a  one\n12:03:04 WARN  a  two\n"));
    assert_eq!(daemon.run(&["logs", "-n", "1"]).stdout, "12:03:04 WARN  a  two\n");
    assert_eq!(daemon.run(&["logs", "--tail", "0"]).stdout, "");
    let json = daemon.run(&["logs", "--json"]).stdout;
    let records: Vec<LogRecord> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(records, [record("one"), record("two")]);
}

#[test]
fn logs_are_followed_until_the_reader_or_the_daemon_is_gone() {
    let daemon = Daemon::new();
    daemon.logs.push(record("one"));
    for ends_first in ["reader", "daemon"] {
        let mut command = corral(&daemon.home, ["logs", "-f", "-n", "1"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        assert_eq!(line, "12:03:04 WARN  a  one\n");
        daemon.logs.push(record("two"));
        line.clear();
        lines.read_line(&mut line).unwrap();
        assert_eq!(line, "12:03:04 WARN  a  two\n");
        daemon.logs.push(record("one"));
        if ends_first == "reader" {
            drop(lines);
            daemon.logs.push(record("one"));
            // Whichever of the lines finds the reader gone.
            while child.try_wait().unwrap().is_none() {
                daemon.logs.push(record("one"));
                std::thread::yield_now();
            }
        } else {
            daemon.shut_down();
        }
        let mut complaints = String::new();
        child.stderr.take().unwrap().read_to_string(&mut complaints).unwrap();
        assert_eq!((child.wait().unwrap().code(), complaints.as_str()), (Some(0), ""), "{ends_first}");
    }
}

#[test]
fn the_environments_proxy_never_sees_the_token() {
    let daemon = Daemon::new();
    let mut command = corral(&daemon.home, ["status"]);
    for name in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
        command.env(name, "http://127.0.0.1:1");
    }
    assert_eq!(command.output().unwrap().status.code(), Some(0));
}

#[test]
fn mistakes_of_the_catalog_are_mentioned() {
    let broken = format!("{THREE}\n[models.d]\nctx = 1\n");
    let daemon = Daemon::serving(three_models(), &broken);
    let list = daemon.run(&["list"]);
    assert_eq!((list.code, list.stdout.lines().count()), (Some(0), 4));
    assert!(list.stderr.starts_with("the catalog has ") && list.stderr.contains("`corral check`"), "{}", list.stderr);
    assert!(daemon.run(&["status"]).stdout.contains("\nmistake  "));
}

#[test]
fn usage_is_for_people_and_for_programs() {
    let daemon = Daemon::new();
    let none = daemon.run(&["usage"]);
    assert_eq!((none.code, none.stderr.as_str()), (Some(0), ""));
    assert!(none.stdout.starts_with("no requests: ") && none.stdout.contains("`corral status`"), "{}", none.stdout);
    assert_eq!(daemon.run(&["usage", "--json"]).stdout, "{\"rows\":[]}\n");

    let row = |key: &str, tokens_in| UsageRow {
        key: key.to_owned(),
        label: None,
        requests: 2,
        tokens_in,
        tokens_out: 30,
        tokens_cached: tokens_in / 2,
        seconds: 4.5,
        energy_joules: None,
        energy_requests: Some(0),
    };
    *daemon.usage.rows.lock().unwrap() = vec![row("a", 2_000), row("b", 100)];
    let shown = daemon.run(&["usage", "--by", "session", "--since", "2026-11-01T08:00:00+02:00"]);
    let table = concat!(
        "SESSION  REQUESTS     IN  CACHED       OUT   TIME\n",
        "a               2  2,000   1,000  50%   30  4.5 s\n",
        "b               2    100      50  50%   30  4.5 s\n",
        "total           4  2,100   1,050  50%   60  9.0 s\n",
    );
    assert_eq!((shown.code, shown.stdout.as_str()), (Some(0), table));
    let asked = daemon.usage.asked.lock().unwrap().take();
    assert_eq!(asked, Some((UsageBy::Session, "2026-11-01T06:00:00Z".parse().ok(), None)));

    let list: UsageList = serde_json::from_value(daemon.run(&["usage", "--json"]).json()).unwrap();
    assert_eq!(list.rows, [row("a", 2_000), row("b", 100)]);

    let wrong = daemon.run(&["usage", "--since", "monday"]);
    assert_eq!((wrong.code, wrong.stdout.as_str()), (Some(1), ""));
    assert!(wrong.stderr.starts_with("error: `since` is `monday`") && wrong.stderr.contains("30d"), "{}", wrong.stderr);
    assert_eq!(daemon.run(&["usage", "--by", "week"]).code, Some(2));
}

/// A GPU that works for the model `a`.
fn at_work(percent: f64) -> GpuReading {
    let process = GpuProcess {
        pid: 4711,
        mem_bytes: Some(18_200_000_000),
        model: ModelId::new("a").ok(),
        ..GpuProcess::default()
    };
    let device = GpuDevice {
        name: "A card".to_owned(),
        util_percent: Some(percent),
        processes: vec![process],
        ..GpuDevice::default()
    };
    GpuReading { at: jiff::Timestamp::UNIX_EPOCH, source: GpuSource::Nvml, reason: None, devices: vec![device] }
}

#[test]
fn gpus_are_shown_with_the_names_of_models() {
    let daemon = Daemon::new();
    let none = daemon.run(&["gpu"]);
    assert_eq!((none.code, none.stdout.as_str()), (Some(0), "there is no GPU in a test\n"));
    daemon.gpu.tell(at_work(71.0));
    let name = daemon.controller.catalog().models[&ModelId::new("a").unwrap()].name.clone();
    let shown = daemon.run(&["gpu"]).stdout;
    assert_eq!(shown, format!("GPU 0  A card\n  use      71 %\n  held by  {name}, 18.2 GB\n"));
    let told: GpuReading = serde_json::from_value(daemon.run(&["gpu", "--json"]).json()).unwrap();
    assert_eq!(told, at_work(71.0));
}

#[test]
fn gpus_are_watched_until_the_daemon_ends() {
    let daemon = Daemon::new();
    daemon.gpu.tell(at_work(1.0));
    for (args, first, next) in [
        (&["gpu", "--watch"][..], "  use      1 %", "  use      2 %"),
        (&["gpu", "-w", "--json"], "\"util_percent\":1.0", "\"util_percent\":2.0"),
    ] {
        daemon.gpu.tell(at_work(1.0));
        let mut child = corral(&daemon.home, args).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut until = |wanted: &str| loop {
            let line = lines.next().expect("it goes on").unwrap();
            assert!(!line.contains('\u{1b}'), "no terminal: {line:?}");
            if line.contains(wanted) {
                return;
            }
        };
        until(first);
        daemon.gpu.tell(at_work(2.0));
        until(next);
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let child = corral(&daemon.home, ["gpu", "-w"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let gpu = daemon.gpu.clone();
    let begun = std::time::Instant::now();
    while gpu.listeners() == 0 {
        assert!(begun.elapsed().as_secs() < 10, "it listens");
        std::thread::yield_now();
    }
    drop(daemon);
    let ended = Run::from(child.wait_with_output().unwrap());
    assert_eq!(ended.code, Some(69), "{ended:?}");
}
