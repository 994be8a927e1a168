//! The `corral` command as a user has it, against a real daemon.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "test code: a panic is how it fails")]

use std::process::Output;

use corral_testkit::SandboxHome;
use corral_tests::daemon::corral;
use corral_tests::{Daemon, Models};
use serde_json::Value;

/// What a command gave.
#[derive(Debug)]
struct Told {
    code: Option<i32>,
    out: String,
    err: String,
}

impl From<Output> for Told {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
}

impl Told {
    /// The exit code must be this one.
    #[track_caller]
    fn exit(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }

    #[track_caller]
    fn out_says(self, parts: &[&str]) -> Self {
        assert!(parts.iter().all(|part| self.out.contains(part)), "stdout says {parts:?}: {self:#?}");
        self
    }

    #[track_caller]
    fn err_says(self, parts: &[&str]) -> Self {
        assert!(parts.iter().all(|part| self.err.contains(part)), "stderr says {parts:?}: {self:#?}");
        self
    }

    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }
}

fn daemon(models: Models) -> Daemon {
    Daemon::start(models.tiny_with("glm-flash", "name = \"GLM Flash\"\naliases = [\"glm\"]").tiny(&["qwen"]).home())
}

#[test]
fn a_day_at_the_terminal() {
    let daemon = daemon(Models::docker());
    let run = |args: &[&str]| Told::from(daemon.corral(args));

    run(&["status"]).exit(0).out_says(&["stopped"]);
    run(&["list"]).exit(0).out_says(&["glm-flash", "GLM Flash", "qwen", "available"]);
    run(&["switch", "glm"]).exit(0).out_says(&["glm-flash is ready"]);
    run(&["status"]).exit(0).out_says(&["ready", "glm-flash", "http://127.0.0.1:"]);
    run(&["switch", "qwen"]).exit(0).out_says(&["qwen is ready", "glm-flash"]);

    let list = run(&["list", "--json"]).exit(0).json();
    let doing: Vec<_> = list["models"].as_array().expect("a list").iter().map(|one| &one["state"]).collect();
    assert_eq!(doing, ["available", "ready"], "{list:#}");
    let status = run(&["status", "--json"]).exit(0).json();
    assert_eq!((&status["phase"], &status["model"]), (&Value::from("ready"), &Value::from("qwen")), "{status:#}");

    let logs = run(&["logs", "--tail", "3"]).exit(0);
    assert_eq!(logs.out.lines().count(), 3, "{logs:#?}");
    run(&["logs", "--tail", "5000"]).exit(0).out_says(&["model loaded", "glm-flash", "qwen"]);
    let lines = run(&["logs", "--json", "-n", "2"]).exit(0);
    let records: Vec<Value> = lines.out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert!(records.len() == 2 && records.iter().all(|record| record["model"] == "qwen"), "{records:#?}");

    let plan = run(&["switch", "glm-flash", "--dry-run", "--json"]).exit(0).json();
    assert_eq!((&plan["plan"]["from"], &plan["plan"]["to"]), (&Value::from("qwen"), &Value::from("glm-flash")));
    run(&["status"]).exit(0).out_says(&["qwen"]);

    run(&["stop"]).exit(0).out_says(&["qwen stopped"]);
    run(&["stop"]).exit(0).out_says(&["nothing was loaded"]);
    run(&["start"]).exit(0).out_says(&["qwen is ready"]);
    run(&["start", "glm"]).exit(1).err_says(&["qwen", "hint:", "corral switch glm-flash"]);
    run(&["stop", "--force"]).exit(0);
}

#[test]
fn mistakes_are_told_with_what_was_meant() {
    let daemon = daemon(Models::process());
    let run = |args: &[&str]| Told::from(daemon.corral(args));
    run(&["switch", "glm-flsh"]).exit(1).err_says(&["glm-flsh", "hint:", "glm-flash"]);
    let error = run(&["switch", "glm-flsh", "--json"]).exit(1).json();
    assert_eq!(error["error"]["code"], "unknown_model", "{error:#}");
    run(&["switch"]).exit(2).err_says(&["Usage"]);
    run(&["swich", "glm"]).exit(2).err_says(&["switch"]);
    run(&["logs", "--tail", "many"]).exit(2).err_says(&["many"]);
    run(&["check"]).exit(0).out_says(&["2 models"]);
    std::fs::remove_file(daemon.home().models().join("qwen.gguf")).expect("the file was there");
    run(&["switch", "qwen"]).exit(1).err_says(&["qwen.gguf", "hint:"]);
    run(&["list"]).exit(0).out_says(&["missing"]);
    run(&["check"]).exit(78).out_says(&["qwen.gguf", "hint:"]);
    daemon.home().write_catalog("schema = 1\n[modles.a]\nfile = \"a.gguf\"\n");
    run(&["check"]).exit(78).out_says(&["models.toml:2", "modles", "models"]);
}

#[test]
fn without_a_daemon() {
    let home: SandboxHome = Models::process().tiny(&["a"]).home();
    let run = |args: &[&str]| Told::from(corral(&home, args).output().expect("corral can be started"));
    for args in [&["status"][..], &["switch", "a"], &["stop"], &["logs"]] {
        run(args).exit(69).err_says(&["hint:", "corral serve"]);
    }
    // What needs none works without.
    run(&["list"]).exit(0).out_says(&["a"]);
    run(&["check"]).exit(0).out_says(&["1 model"]);
    run(&["--help"]).exit(0).out_says(&["serve", "switch", "Exit codes"]);
    run(&["--version"]).exit(0);

    // A broken catalog does not keep the daemon from serving: it says what is wrong.
    home.write_catalog("schema = 1\n[models\n");
    run(&["check"]).exit(78).out_says(&["models.toml:2"]);
    run(&["list"]).exit(78).err_says(&["models.toml:2"]);
}

#[test]
fn a_daemon_that_was_killed_is_not_mistaken_for_one_that_runs() {
    let mut daemon = daemon(Models::process());
    daemon.kill9();
    Told::from(daemon.corral(&["status"])).exit(69).err_says(&["hint:", "corral serve"]);
}
