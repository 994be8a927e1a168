//! Without a daemon.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use corral_api::dto::{ErrorAnswer, ModelList, ModelState};
use corral_core::Code;
use corral_testkit::SandboxHome;
use serde_json::Value;

use crate::support::{Run, THREE, announce, corral, run, three_models};

const COMMANDS: [&str; 14] = [
    "serve",
    "list",
    "status",
    "start",
    "stop",
    "switch",
    "logs",
    "usage",
    "dashboard",
    "autostart",
    "check",
    "schema",
    "doctor",
    "completions",
];

const ANY_PORTS: &str = "schema = 1\n[server]\ngateway = \"127.0.0.1:0\"\nmanagement = \"127.0.0.1:0\"\n[engine]\n\
                         runtime = \"process\"\n";

#[test]
fn help_names_every_command_and_the_first_steps() {
    let home = SandboxHome::new();
    let help = run(&home, &["--help"]);
    assert_eq!(help.code, Some(0));
    for command in COMMANDS {
        assert!(help.stdout.lines().any(|line| line.starts_with(&format!("  {command} "))), "{command}");
        let own = run(&home, &[command, "--help"]);
        assert!(own.code == Some(0) && own.stdout.contains(&format!("Usage: corral {command}")), "{own:?}");
    }
    for step in ["corral doctor", "corral serve", "corral list", "corral switch"] {
        assert!(help.stdout.contains(step), "{step}");
    }
    let nothing = run(&home, &[]);
    assert_eq!((nothing.code, nothing.stderr), (Some(2), help.stdout));
}

#[test]
fn wrong_usage_ends_with_2_and_says_what_was_meant() {
    let home = SandboxHome::new();
    let slip = run(&home, &["swich", "a"]);
    assert!(slip.code == Some(2) && slip.stderr.contains("'switch'"), "{slip:?}");
    for wrong in [
        ["switch"].as_slice(),
        &["switch", "a", "--dry-run", "--no-wait"],
        &["logs", "-n", "x"],
        &["stop", "a"],
        &["list", "--colour"],
        &["completions", "tcsh"],
    ] {
        let run = run(&home, wrong);
        assert!(run.code == Some(2) && run.stdout.is_empty() && run.stderr.starts_with("error: "), "{run:?}");
    }
}

#[test]
fn without_a_daemon_commands_end_with_69_and_say_how_to_start_one() {
    let home = SandboxHome::new();
    for args in [["status"].as_slice(), &["start"], &["stop"], &["switch", "a"], &["logs"], &["logs", "-f"]] {
        let run = run(&home, args);
        assert_eq!((run.code, run.stdout.as_str()), (Some(69), ""), "{args:?}");
        let daemon_file = home.run().join("daemon.json");
        let told = format!(
            "error: no Corral daemon runs (there is no {})\nhint: start it with `corral serve`\n",
            daemon_file.display()
        );
        assert_eq!(run.stderr, told);
    }
    let json = run(&home, &["status", "--json"]);
    assert_eq!((json.code, json.stderr.as_str()), (Some(69), ""));
    let answer: ErrorAnswer = serde_json::from_str(&json.stdout).expect("the API's error body");
    assert_eq!(answer.error.code, Code::DaemonUnavailable);
}

#[test]
fn a_daemon_that_is_gone_is_told_from_one_that_answers() {
    let home = three_models();
    // Nothing listens on a port that was free a moment ago.
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    announce(&home, address);
    let status = run(&home, &["status"]);
    assert_eq!(status.code, Some(69));
    let told = format!("error: no Corral daemon answers at http://{address}: Connection refused");
    assert!(status.stderr.starts_with(&told), "{}", status.stderr);
    assert!(status.stderr.ends_with("hint: start it with `corral serve`\n"));
    assert_eq!(run(&home, &["list"]).code, Some(0), "the list needs none");
}

#[test]
fn another_program_on_the_port_is_not_taken_for_corral() {
    use std::io::{Read, Write};
    for answer in
        ["HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "HTTP/1.1 302 Found\r\nLocation: http://a/\r\n\r\n"]
    {
        let home = SandboxHome::new();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        announce(&home, listener.local_addr().unwrap());
        let stranger = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 4096];
            assert!(stream.read(&mut request).unwrap() > 0);
            stream.write_all(answer.as_bytes()).unwrap();
        });
        let status = run(&home, &["status"]);
        stranger.join().unwrap();
        assert!(status.code == Some(69) && status.stderr.starts_with("error: "), "{status:?}");
    }
}

#[test]
fn a_list_shows_the_catalog_as_it_is() {
    let home = three_models();
    let size = std::fs::metadata(home.models().join("a.gguf")).unwrap().len();
    let tenths = (size + 50) / 100;
    let shown = format!("{}.{} kB", tenths / 10, tenths % 10);
    let list = run(&home, &["list"]);
    assert_eq!((list.code, list.stderr.as_str()), (Some(0), ""));
    let expected = format!(
        "  ID   NAME         SIZE  CONTEXT  FIT  STATE    ALIASES\n  \
           a    a        {shown}    65536  -    -\n  \
           b    Model B  {shown}    65536  -    -        bee-*\n  \
           c.1  c.1             -    65536  -    missing\n"
    );
    assert_eq!(list.stdout, expected);
    let json: ModelList = serde_json::from_value(run(&home, &["list", "--json"]).json()).unwrap();
    let states: Vec<_> = json.models.iter().map(|model| (model.id.as_str(), model.size_bytes, model.state)).collect();
    let available = |id| (id, Some(size), ModelState::Available);
    assert_eq!(states, [available("a"), available("b"), ("c.1", None, ModelState::Missing)]);
}

#[test]
fn a_list_of_an_empty_or_broken_catalog_says_so() {
    let home = SandboxHome::new();
    let path = home.write_catalog("schema = 1\n");
    let list = run(&home, &["list"]);
    assert_eq!(list.stdout, format!("no models yet: add one to {}\n", path.display()));
    assert_eq!(run(&home, &["list", "--json"]).stdout, "{\"models\":[]}\n");

    home.write_catalog("schema = 1\nfoo = 1\nbar = 2\n");
    let broken = run(&home, &["list"]);
    assert_eq!(broken.code, Some(78));
    assert!(broken.stderr.contains(":2: foo: unknown key; there are 1 more"), "{}", broken.stderr);

    home.write_catalog("schema = 1\n[models.a]\nfile = \"a.gguf\"\n[models.b]\nctx = 1\n");
    let half = run(&home, &["list"]);
    assert_eq!((half.code, half.stdout.lines().count()), (Some(0), 2));
    assert!(half.stderr.contains("`corral check`"), "{}", half.stderr);
}

#[test]
fn a_first_list_shows_the_examples_and_makes_nothing() {
    let home = SandboxHome::new();
    let list = run(&home, &["list"]);
    assert!(list.code == Some(0) && list.stdout.lines().count() > 1, "{list:?}");
    let told =
        format!("these are examples, for there is no {} yet: `corral serve` makes it\n", home.catalog().display());
    assert_eq!(list.stderr, told);
    let json = run(&home, &["list", "--json"]);
    assert_eq!((json.code, json.stderr.as_str()), (Some(0), ""));
    assert!(!home.catalog().exists());
}

#[test]
fn check_is_content_with_a_right_catalog() {
    let home = SandboxHome::new();
    let path = home.write_catalog("schema = 1\n[models.a]\nfile = \"a.gguf\"\n");
    home.write_model("a.gguf", &corral_testkit::TinyModel::new(1));
    let check = run(&home, &["check"]);
    assert_eq!((check.code, check.stderr.as_str()), (Some(0), ""));
    assert_eq!(check.stdout, format!("ok: {} is right, with 1 model\n", path.display()));
    let json = run(&home, &["check", "--json"]).json();
    assert_eq!((&json["models"], &json["problems"]), (&1.into(), &Value::Array(Vec::new())));
}

#[test]
fn check_names_the_line_of_every_mistake() {
    let home = SandboxHome::new();
    let other = home.path().join("other.toml");
    let file = other.to_str().unwrap();
    std::fs::write(&other, "schema = 1\n\n[models.a]\nfile = \"a.gguf\"\nctxx = 4096\n").unwrap();
    let check = run(&home, &["check", file]);
    assert_eq!(check.code, Some(78));
    assert!(check.stdout.contains(&format!("error: {file}:5: models.a.ctxx: unknown key")), "{}", check.stdout);
    assert!(check.stdout.ends_with(&format!("{file}: 1 mistake; 0 models can be used\n")), "{}", check.stdout);

    let absent = run(&home, &["check", "/no/such.toml"]);
    assert!(absent.code == Some(78) && absent.stderr.starts_with("error: cannot read /no/such.toml: "), "{absent:?}");
}

#[test]
fn check_looks_at_the_model_files() {
    let home = three_models();
    corral_testkit::gguf::truncated(home.models().join("b.gguf")).unwrap();
    let check = run(&home, &["check"]);
    assert_eq!(check.code, Some(78));
    let (catalog, models) = (home.catalog().display().to_string(), home.models().display().to_string());
    let cut = format!("error: {catalog}:8: models.b.file: `{models}/b.gguf` is ");
    assert!(check.stdout.starts_with(&cut), "{}", check.stdout);
    let missing = format!("error: {catalog}:12: models.\"c.1\".file: `{models}/c.gguf` is not there\n");
    assert!(check.stdout.contains(&missing), "{}", check.stdout);
    let json = run(&home, &["check", "--json"]);
    assert_eq!(json.code, Some(78));
    assert_eq!((&json.json()["models"], json.json()["problems"].as_array().unwrap().len()), (&1.into(), 2));
    assert!(THREE.contains("c.gguf"));
}

#[test]
fn descriptions_are_json_and_the_committed_ones_are_current() {
    let home = SandboxHome::new();
    for (args, file) in [(["schema"].as_slice(), "models.schema.json"), (&["schema", "--openapi"], "openapi.json")] {
        let printed = run(&home, args);
        assert_eq!(printed.code, Some(0));
        assert!(printed.json().is_object());
        assert_eq!(printed.stdout, run(&home, args).stdout, "the same each time");
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(file);
        let committed = std::fs::read_to_string(&path).expect("the description is committed");
        assert!(printed.stdout == committed, "docs/{file} is not what `corral {}` prints", args.join(" "));
    }
}

#[test]
fn completions_are_scripts() {
    let home = SandboxHome::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = run(&home, &["completions", shell]);
        assert!(script.code == Some(0) && script.stdout.contains("switch"), "{shell}");
    }
    let file = home.path().join("corral.bash");
    std::fs::write(&file, run(&home, &["completions", "bash"]).stdout).unwrap();
    // A machine without bash has nothing to say about it.
    if let Ok(bash) = Command::new("bash").arg("-n").arg(&file).status() {
        assert!(bash.success());
    }
}

#[test]
fn a_reader_that_has_had_enough_is_no_error() {
    let home = SandboxHome::new();
    let mut child =
        corral(&home, ["schema", "--openapi"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let ended = child.wait_with_output().unwrap();
    assert_eq!((ended.status.code(), ended.stderr.as_slice()), (Some(0), b"".as_slice()));
}

#[test]
fn a_pipe_sees_no_colours() {
    let home = SandboxHome::new();
    home.write_catalog("schema = 1\nfoo = 1\n");
    for args in [["--help"].as_slice(), &["list"], &["check"], &["doctor"]] {
        let run = run(&home, args);
        assert!(!run.stdout.contains('\u{1b}') && !run.stderr.contains('\u{1b}'), "{args:?}");
    }
}

#[test]
fn serve_says_where_and_ends_in_order() {
    let home = SandboxHome::new();
    home.write_catalog(ANY_PORTS);
    let mut serving = corral(&home, ["serve"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(serving.stdout.take().unwrap()).lines().map_while(Result::ok);
    let first = lines.next().expect("it says where it serves");
    assert!(
        first.starts_with("Corral serves models at http://127.0.0.1:") && first.ends_with("; ^C ends it"),
        "{first}"
    );
    let manage = lines.next().expect("and where it is managed");
    assert!(manage.starts_with("  manage   http://127.0.0.1:"), "{manage}");
    assert_eq!(lines.next(), Some(format!("  token    {}", home.run().join("token").display())));
    assert_eq!(lines.next(), Some(format!("  catalog  {}", home.catalog().display())));
    assert!(run(&home, &["status"]).stdout.starts_with("phase    stopped\n"));

    let second = run(&home, &["serve", "--json"]);
    assert_eq!((second.code, &second.json()["error"]["code"]), (Some(1), &"daemon_running".into()));

    assert!(Command::new("kill").arg(serving.id().to_string()).status().unwrap().success());
    assert_eq!(serving.wait().unwrap().code(), Some(0));
    assert_eq!(run(&home, &["status"]).code, Some(69));
}

#[test]
fn settings_with_a_mistake_leave_those_of_the_start_in_force() {
    let home = SandboxHome::new();
    home.write_catalog(ANY_PORTS);
    let settings = home.config().join("settings.toml");
    std::fs::write(&settings, "on_quit = \"keep\"\n").unwrap();
    let mut serving = corral(&home, ["serve"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let first = BufReader::new(serving.stdout.take().unwrap()).lines().next();
    assert!(first.is_some(), "it serves");
    std::fs::write(&settings, "on_quitt = \"keep\"\n").unwrap();
    assert!(Command::new("kill").arg(serving.id().to_string()).status().unwrap().success());
    let ended = Run::from(serving.wait_with_output().unwrap());
    assert_eq!(ended.code, Some(0));
    let warning = format!("WARN {}:1: unknown field `on_quitt`", settings.display());
    assert!(ended.stderr.contains(&warning), "{}", ended.stderr);
    assert!(ended.stderr.contains("; the settings of the start stay in force\n"), "{}", ended.stderr);
    assert!(ended.stderr.contains("the model is left running\n"), "{}", ended.stderr);
}
