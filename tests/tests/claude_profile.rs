//! The real Claude Code with a profile, an environment and settings as Corral makes them; without a jail.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "test code: a panic is how it fails")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use corral_claude::environment::{Live, environment};
use corral_claude::managed::managed_settings;
use corral_claude::preflight::{self, NEWEST_TESTED};
use corral_claude::profile::Profile;
use corral_claude::program::{Kind, Program, Search};
use corral_tests::{PATIENCE, parts, until};
use jiff::Timestamp;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A server that answers every question with one word, and keeps what it was asked.
struct Server {
    port: u16,
    asked: Arc<Mutex<Vec<Asked>>>,
}

/// A request: its first line and head in lower case, and its body.
#[derive(Clone)]
struct Asked {
    head: String,
    body: Value,
}

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::<Mutex<Vec<_>>>::default();
        let kept = Arc::clone(&asked);
        // It ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let kept = Arc::clone(&kept);
                std::thread::spawn(move || answer(stream, &kept));
            }
        });
        Self { port, asked }
    }

    fn messages(&self) -> Vec<Asked> {
        let asked = self.asked.lock().unwrap().clone();
        asked.into_iter().filter(|asked| asked.head.starts_with("post /v1/messages?")).collect()
    }
}

fn answer(mut stream: TcpStream, asked: &Mutex<Vec<Asked>>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            return Ok(());
        }
    }
    let head = head.to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body)?;
    let is_question = head.starts_with("post /v1/messages?");
    let body = serde_json::from_slice(&body).unwrap_or_default();
    asked.lock().unwrap().push(Asked { head, body });
    let answer = if is_question { stream_of("hello") } else { String::new() };
    let status = if is_question { "200 OK" } else { "404 Not Found" };
    let length = answer.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: text/event-stream\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{answer}"
    )
}

fn stream_of(word: &str) -> String {
    let message = json!({
        "id": "msg_1", "type": "message", "role": "assistant", "content": [], "model": "glm-flash",
        "stop_reason": null, "stop_sequence": null, "usage": { "input_tokens": 7, "output_tokens": 1 },
    });
    let events = [
        json!({ "type": "message_start", "message": message }),
        json!({ "type": "content_block_start", "index": 0, "content_block": { "type": "text", "text": "" } }),
        json!({ "type": "content_block_delta", "index": 0, "delta": { "type": "text_delta", "text": word } }),
        json!({ "type": "content_block_stop", "index": 0 }),
        json!({
            "type": "message_delta", "delta": { "stop_reason": "end_turn", "stop_sequence": null },
            "usage": { "output_tokens": 2 },
        }),
        json!({ "type": "message_stop" }),
    ];
    let event = |event: &Value| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap());
    events.iter().map(event).collect()
}

/// A profile and a workspace in a folder of their own.
struct Bed {
    root: TempDir,
    profile: Profile,
    server: Server,
}

impl Bed {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("work")).unwrap();
        Self { profile: Profile::new(root.path().join("claude-local")), server: Server::start(), root }
    }

    fn workspace(&self) -> PathBuf {
        // The real path: Claude Code resolves the one that it is started in.
        self.root.path().join("work").canonicalize().unwrap()
    }

    fn prepare(&self) -> Vec<String> {
        self.profile.prepare(&self.workspace(), Timestamp::UNIX_EPOCH).unwrap().notices
    }

    fn program(&self) -> Program {
        let search = Search { named: Some(parts::claude()), ..Search::default() };
        search.program(self.root.path()).unwrap()
    }

    #[track_caller]
    fn run(&self, args: &[&str]) -> Output {
        let command_line = self.program().argv();
        let mut command = Command::new(&command_line[0]);
        let live = Live { gateway: self.server.port, ..Live::new("glm-flash", 65_536, "s3cret") };
        command.args(&command_line[1..]).args(args).current_dir(self.workspace());
        command.env_clear().envs(environment(&live, &|_| None)).env("HOME", self.profile.folder());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("Claude Code can be started");
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            until(2 * PATIENCE, "Claude Code ends", || child.try_wait().unwrap());
        }));
        let _ = child.kill();
        let output = child.wait_with_output().unwrap();
        assert!(ended.is_ok(), "Claude Code does not end: {output:?}");
        output
    }

    fn json(&self, name: &str) -> Value {
        serde_json::from_slice(&std::fs::read(self.profile.folder().join(name)).unwrap()).unwrap()
    }
}

#[track_caller]
fn result(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

#[test]
fn the_real_one_is_found_says_its_version_and_passes() {
    let bed = Bed::new();
    let program = bed.program();
    assert_eq!((&program.kind, program.version), (&Kind::Native, NEWEST_TESTED));
    assert_eq!(program.read_only, [parts::claude().canonicalize().unwrap()]);
    assert_eq!(preflight::check(&program, Some(65_536)).unwrap(), [""; 0]);
    // It was asked in a home of its own, of which nothing is left.
    let left: Vec<_> = std::fs::read_dir(bed.root.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["work"]);

    bed.prepare();
    let output = bed.run(&["--version"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), format!("{NEWEST_TESTED} (Claude Code)"));
}

#[test]
fn it_answers_with_a_new_profile_and_preparing_again_adds_nothing() {
    let bed = Bed::new();
    assert_eq!(bed.prepare(), [""; 0]);
    let settings = bed.json(".claude/settings.json");
    let said = bed.run(&["-p", "hello", "--output-format", "json"]);
    let said = result(&said);
    assert_eq!((&said["is_error"], &said["result"]), (&json!(false), &json!("hello")), "{said:#}");

    let asked = bed.server.messages();
    assert!(asked.len() == 1 && asked[0].head.contains("authorization: bearer s3cret\r\n"), "{}", asked[0].head);
    let question = &asked[0].body;
    assert_eq!((&question["model"], &question["max_tokens"]), (&json!("glm-flash"), &json!(8192)));
    let tools: Vec<_> = question["tools"].as_array().unwrap().iter().map(|tool| tool["name"].clone()).collect();
    assert!(tools.contains(&json!("Bash")) && !tools.contains(&json!("WebFetch")), "{tools:?}");
    assert!(question.to_string().contains("Plan mode is active"), "plan mode is the default");

    let said = bed.run(&["-p", "hello"]);
    let told = String::from_utf8_lossy(&said.stderr);
    assert!(!told.contains("did not load") && !told.contains("not been trusted"), "{told}");

    // Claude Code has written its own things meanwhile, and kept ours.
    let state = std::fs::read(bed.profile.folder().join(".claude.json")).unwrap();
    assert!(bed.json(".claude.json")["userID"].is_string());
    assert_eq!(bed.prepare(), [""; 0]);
    assert_eq!(std::fs::read(bed.profile.folder().join(".claude.json")).unwrap(), state);
    assert_eq!(bed.json(".claude/settings.json"), settings);
}

#[test]
fn its_command_switch_is_known() {
    let bed = Bed::new();
    bed.prepare();
    let said = result(&bed.run(&["-p", "/switch glm-air", "--output-format", "json"]));
    assert_eq!(said["is_error"], json!(false), "{said:#}");
    let asked = bed.server.messages();
    let question = asked[0].body.to_string();
    let parts = ["asked for: \\\"glm-air\\\"", "127.0.0.1:8081/switch", "$CORRAL_TOKEN"];
    assert!(parts.iter().all(|part| question.contains(part)), "{question}");
}

#[test]
fn the_managed_settings_have_no_value_that_it_does_not_take() {
    let bed = Bed::new();
    bed.prepare();
    let load = |name: &str, settings: &[u8]| {
        let path = bed.root.path().join(name);
        std::fs::write(&path, settings).unwrap();
        // As text: with JSON it keeps to itself what it thinks of settings.
        let said = bed.run(&["--settings", path_text(&path), "-p", "hello"]);
        assert_eq!(String::from_utf8_lossy(&said.stdout), "hello\n");
        String::from_utf8_lossy(&said.stderr).into_owned()
    };
    let settings = managed_settings(bed.server.port);
    let told = load("managed.json", &settings);
    assert!(!told.contains("managed.json"), "{told}");
    // It would have said so.
    let wrong =
        String::from_utf8(settings).unwrap().replace("\"disableAutoMode\": \"disable\"", "\"disableAutoMode\": 1");
    let told = load("wrong.json", wrong.as_bytes());
    assert!(told.contains("did not load") && told.contains("wrong.json"), "{told}");
}

#[test]
fn a_workspace_that_names_another_server_is_outranked() {
    let bed = Bed::new();
    bed.prepare();
    let settings = bed.workspace().join(".claude/settings.json");
    std::fs::create_dir(settings.parent().unwrap()).unwrap();
    let other = Server::start();
    let env = json!({ "env": { "ANTHROPIC_BASE_URL": format!("http://127.0.0.1:{}", other.port) } });
    std::fs::write(&settings, env.to_string()).unwrap();
    let managed = bed.root.path().join("managed.json");
    std::fs::write(&managed, managed_settings(bed.server.port)).unwrap();
    let said = bed.run(&["--settings", path_text(&managed), "-p", "hello", "--output-format", "json"]);
    assert_eq!(result(&said)["is_error"], json!(false));
    assert_eq!((bed.server.messages().len(), other.messages().len()), (1, 0));
}

fn path_text(path: &Path) -> &str {
    path.to_str().unwrap()
}
