//! Models that cannot be loaded, each for a real reason: the error says which, the old model serves again, and the next
//! good switch works.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "test code: a panic is how it fails")]

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use corral_core::snapshot::Phase;
use corral_testkit::gguf::{not_a_gguf, truncated};
use corral_testkit::{SandboxHome, TinyModel};
use corral_tests::api::{assert_serves, expect_error, instance};
use corral_tests::docker::HOME_LABEL;
use corral_tests::{Answer, Daemon, Docker, Inference, Models, PATIENCE, parts, process, until};
use serde_json::{Value, json};

/// A model called `bad` beside the good `a` and `b`.
struct Fault {
    models: Models,
    /// Makes the home what the fault needs.
    prepare: fn(&SandboxHome),
    code: &'static str,
    said: &'static [&'static str],
}

impl Fault {
    fn docker(lines: &str, code: &'static str, said: &'static [&'static str]) -> Self {
        Self { models: Models::docker().tiny(&["a", "b"]).table("bad", lines), prepare: |_| {}, code, said }
    }

    /// Injects it where nothing serves, and where a model does. Returns the error.
    fn check(self) -> Value {
        let home = self.models.home();
        (self.prepare)(&home);
        let daemon = Daemon::start(home);
        let api = daemon.api();

        api.switch_wait("bad").expect_error(self.code, self.said);
        let status = api.status();
        assert_eq!((status.phase, &status.engine, &status.operation), (Phase::Failed, &None, &None), "{status:#?}");
        expect_error(&serde_json::to_value(&status.error).expect("JSON"), self.code, self.said);
        daemon.until_owns_only(&[]);

        let before = api.switched("a");
        assert_eq!(before.error, None, "what went well clears the error");
        let answer = api.switch_wait("bad");
        self.rolled_back(&daemon, &answer);
        answer.expect_error(self.code, self.said)
    }

    /// The old model serves, and all goes on.
    fn rolled_back(&self, daemon: &Daemon, answer: &Answer) {
        answer.expect_error(self.code, self.said);
        answer.expect_error(self.code, &["`a` serves"]);
        let api = daemon.api();
        let status = api.status();
        assert_serves(&status, "a");
        expect_error(&serde_json::to_value(&status.error).expect("JSON"), self.code, self.said);
        Inference::of(&status).assert_answers("a");
        if status.engine.as_ref().is_some_and(|engine| engine.image.is_some()) {
            daemon.until_owns_only(&[instance(&status)]);
        }

        let status = api.switched("b");
        assert_eq!(status.error, None, "what went well clears the error");
        Inference::of(&status).assert_answers("b");
    }
}

/// The lines of `llama-server` that an error carries.
fn log(error: &Value) -> String {
    error["log"]
        .as_array()
        .map(|lines| lines.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("\n"))
        .unwrap_or_default()
}

#[test]
fn the_model_file_is_missing() {
    let error = Fault::docker("file = \"aa.gguf\"", "model_file_missing", &["aa.gguf", "is not there"]).check();
    assert!(error["hint"].to_string().contains("a.gguf"), "it names what is there: {error:#}");
}

#[test]
fn the_model_file_was_cut_off() {
    let fault = Fault::docker("file = \"cut.gguf\"", "model_file_truncated", &["cut.gguf"]);
    Fault { prepare: |home| truncated(home.models().join("cut.gguf")).expect("a file"), ..fault }.check();
}

#[test]
fn the_model_file_is_something_else() {
    let fault = Fault::docker("file = \"page.gguf\"", "model_file_invalid", &["page.gguf"]);
    Fault { prepare: |home| not_a_gguf(home.models().join("page.gguf")).expect("a file"), ..fault }.check();
}

#[test]
fn the_image_is_nowhere() {
    let lines = "file = \"a.gguf\"\nimage = \"127.0.0.1:1/none:latest\"";
    Fault::docker(lines, "image_missing", &["127.0.0.1:1/none:latest", "connection refused"]).check();
}

#[test]
fn llama_server_does_not_know_an_argument() {
    let lines = "file = \"a.gguf\"\nargs = [\"--no-such-flag\"]";
    let error = Fault::docker(lines, "load_failed", &["--no-such-flag"]).check();
    assert!(log(&error).contains("--no-such-flag"), "{error:#}");
}

/// A whole GGUF file of a kind that no `llama-server` knows.
fn write_unknown_kind(home: &SandboxHome) {
    let mut bytes = Vec::new();
    TinyModel::new(7).write_to(&mut bytes).expect("a model");
    let key = b"general.architecture";
    let at = bytes.windows(key.len()).position(|window| window == key).expect("the key") + key.len();
    // The value's type, then its length: 4 and 8 bytes.
    bytes[at + 12..at + 17].copy_from_slice(b"camel");
    std::fs::write(home.models().join("camel.gguf"), bytes).expect("a file");
}

#[test]
fn llama_server_does_not_know_the_kind_of_model() {
    let fault = Fault::docker("file = \"camel.gguf\"", "load_failed", &["unknown model architecture: 'camel'"]);
    let error = Fault { prepare: write_unknown_kind, ..fault }.check();
    assert!(log(&error).contains("camel"), "{error:#}");
}

#[test]
fn loading_takes_too_long() {
    let slow = Docker::new().slow_image(parts::image(), 600);
    let lines = format!("file = \"a.gguf\"\nimage = \"{}\"\nload_timeout = \"1s\"", slow.tag);
    Fault::docker(&lines, "load_timeout", &["bad", "1 s"]).check();
}

#[test]
fn two_models_are_never_in_memory_at_once() {
    let docker = Docker::new();
    let slow = docker.slow_image(parts::image(), 600);
    let lines = format!("image = \"{}\"\nload_timeout = \"1s\"", slow.tag);
    let daemon = Daemon::start(Models::docker().tiny(&["a"]).tiny_with("bad", &lines).home());
    let since = jiff::Timestamp::now().to_string();
    daemon.api().switched("a");
    daemon.api().switch_wait("bad").expect_error("load_timeout", &["`a` serves again"]);
    daemon.until_owns_only(&[instance(&daemon.api().status())]);

    // What Docker says happened. A new server is started beside the old one, but waits before it loads.
    let (until, label) = (jiff::Timestamp::now().to_string(), format!("label={HOME_LABEL}={}", daemon.home_id()));
    let format = "{{.Action}} {{index .Actor.Attributes \"dev.corral.model\"}}";
    let told = docker.run(&["events", "--since", &since, "--until", &until, "--filter", &label, "--format", format]);
    let told: Vec<_> =
        told.lines().filter(|line| ["start", "die"].contains(&&line[..line.find(' ').unwrap()])).collect();
    assert_eq!(told, ["start a", "start bad", "die a", "die bad", "start a"], "the one ends before the other begins");
}

#[test]
fn llama_server_is_ended_from_outside_while_it_loads() {
    let docker = Docker::new();
    let slow = docker.slow_image(parts::image(), 600);
    let fault = Fault::docker(
        &format!("file = \"a.gguf\"\nimage = \"{}\"", slow.tag),
        "server_killed",
        &["while it loaded", "SIGKILL"],
    );
    let daemon = Daemon::start(fault.models.home());
    daemon.api().switched("a");
    let answer = std::thread::scope(|scope| {
        let switch = scope.spawn(|| daemon.api().switch_wait("bad"));
        let loading = daemon.api().until(PATIENCE, "bad is loading", |status| {
            status.phase == Phase::Loading && status.model.as_ref().is_some_and(|model| model.as_str() == "bad")
        });
        docker.run(&["kill", &instance(&loading)]);
        switch.join().expect("an answer")
    });
    fault.rolled_back(&daemon, &answer);
}

#[test]
fn memory_runs_out_while_it_loads() {
    let docker = Docker::new();
    let slow = docker.slow_image(parts::image(), 3);
    // The KV cache alone is beyond what the container is given below.
    let lines = format!("file = \"a.gguf\"\nimage = \"{}\"\nctx = 131072", slow.tag);
    let said = &["memory ran out", "while it loaded", "it needs about", "were free", "bounds this server"];
    let fault = Fault::docker(&lines, "out_of_memory", said);
    let daemon = Daemon::start(fault.models.home());
    daemon.api().switched("a");
    let answer = std::thread::scope(|scope| {
        let switch = scope.spawn(|| daemon.api().switch_wait("bad"));
        let home_id = daemon.home_id();
        let created = until(PATIENCE, "the container of bad is there", || {
            docker
                .owned(&home_id)
                .into_iter()
                .find(|one| docker.inspect(&one.id).is_some_and(|seen| seen["Config"]["Image"] == slow.tag.as_str()))
        });
        until(PATIENCE, "the container of bad has little memory", || {
            docker.try_run(&["update", "--memory", "24m", "--memory-swap", "24m", &created.id]).ok()
        });
        switch.join().expect("an answer")
    });
    fault.rolled_back(&daemon, &answer);
}

#[test]
fn the_program_is_missing() {
    let home = Models::program(&PathBuf::from("/nonexistent/llama-server")).tiny(&["a"]).home();
    let daemon = Daemon::start(home);
    daemon.api().switch_wait("a").expect_error("binary_missing", &["/nonexistent/llama-server"]);
    assert_eq!(daemon.api().status().phase, Phase::Failed);
    // Mended while it runs.
    Models::process().tiny(&["a"]).write(daemon.home());
    until(PATIENCE, "the mended catalog is in force", || (daemon.api().switch_wait("a").status == 200).then_some(()));
}

#[test]
fn another_program_takes_the_servers_port() {
    // A program that says what it was given, and waits until the port is taken before it becomes llama-server.
    let home = SandboxHome::new();
    let told = home.path().join("told");
    let program = home.path().join("llama-server.sh");
    let script = format!(
        "#!/bin/sh\necho \"$@\" >'{0}.part' && mv '{0}.part' '{0}'\nwhile [ ! -e '{0}.go' ]; do sleep 0.01; done\n\
         exec '{1}' \"$@\"\n",
        told.display(),
        parts::llama_server().display()
    );
    std::fs::write(&program, script).expect("a program");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("its mode");
    Models::program(&program).tiny(&["a"]).write(&home);
    let daemon = Daemon::start(home);

    let answer = std::thread::scope(|scope| {
        let switch = scope.spawn(|| daemon.api().switch_wait("a"));
        let args = until(PATIENCE, "the server is started", || std::fs::read_to_string(&told).ok());
        let mut words = args.split_whitespace().skip_while(|word| *word != "--port");
        let port: u16 = words.nth(1).and_then(|port| port.parse().ok()).expect("a port");
        let _taken = TcpListener::bind(("127.0.0.1", port)).expect("the port can still be taken");
        std::fs::write(told.with_extension("go"), "").expect("a file");
        switch.join().expect("an answer")
    });
    let error = answer.expect_error("port_taken", &["cannot listen"]);
    assert!(log(&error).contains("bind"), "{error:#}");
    assert_eq!(daemon.api().status().phase, Phase::Failed);
    assert_eq!(process::with_argument(&daemon.home().models()), <[u32; 0]>::default());
    Inference::of(&daemon.api().switched("a")).assert_answers("a");
}

#[test]
fn another_program_has_the_management_port() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let management = format!("management = \"{address}\"");
    let home = Models::process().with("management = \"127.0.0.1:0\"", &management).tiny(&["a"]).home();
    let (code, told) = corral_tests::daemon::serve_fails(&home);
    assert_eq!(code, Some(1), "{told}");
    for said in [address.as_str(), "in use", "management", "models.toml"] {
        assert!(told.contains(said), "it says {said:?}:\n{told}");
    }
    assert!(!home.run().join("daemon.json").exists(), "it left nothing behind");
    drop(taken);
    let daemon = Daemon::start(home);
    assert_eq!(daemon.api().base(), format!("http://{address}"));
}

#[test]
fn the_engine_is_not_there() {
    let home = Models::docker().tiny(&["a"]).home();
    let daemon = Daemon::start_with(home, &[("DOCKER_HOST", "unix:///nonexistent/docker.sock")]);
    let error = daemon.api().switch_wait("a").expect_error("engine_unavailable", &["/nonexistent/docker.sock"]);
    assert!(error["hint"].as_str().is_some_and(|hint| hint.contains("start")), "{error:#}");
    let status = daemon.api().status();
    assert_eq!(status.phase, Phase::Failed, "{status:#?}");
    assert_eq!(daemon.api().post("/stop", &json!({ "wait": true })).status, 200, "there is nothing to stop");
}
