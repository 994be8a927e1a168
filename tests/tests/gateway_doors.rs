//! Who may come in through the gateway's port, and how far.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "test code: a panic is how it fails")]

use corral_tests::gateway::Raw;
use corral_tests::{Client, Daemon, Inference, Manner, Models, Question, prompt};
use serde_json::json;

fn daemon() -> Daemon {
    let daemon = Daemon::start(Models::docker().one_thread().tiny(&["a"]).home());
    daemon.api().switched("a");
    daemon
}

/// A request with these headers besides the usual ones, for a path.
fn request(first: &str, headers: &[&str], body: &str) -> Vec<u8> {
    let headers: String = headers.iter().flat_map(|header| [*header, "\r\n"]).collect();
    let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    format!("{first} HTTP/1.1\r\nConnection: close\r\n{headers}{length}\r\n{body}").into_bytes()
}

/// Whether it was let in. Not every `llama-server` has a web page, and one without says so itself.
fn is_passed_on(path: &str, came: &Raw) -> bool {
    let page = path.starts_with("/index") || path == "/";
    came.status() == 200 || page && came.status() == 404 && came.text.to_lowercase().contains("server: llama.cpp")
}

#[test]
fn only_this_machine_is_asked_for() {
    let daemon = daemon();
    let client = Client::of(&daemon.api().status());
    let port = client.address().port();
    for manner in Manner::ALL {
        let ask = |host: &str| {
            let question = Question::new(manner, "hello").once().body.to_string();
            client.raw(&request(&format!("POST {}", manner.path()), &[&format!("Host: {host}")], &question))
        };
        for good in [format!("127.0.0.1:{port}"), "localhost".to_owned(), "LOCALHOST:1".to_owned(), "[::1]".to_owned()]
        {
            assert_eq!(ask(&good).status(), 200, "{good}");
        }
        for bad in
            ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost.evil.example", "10.0.0.1", ""]
        {
            ask(bad).refused(manner, 403);
        }
    }
    for path in ["/v1/models", "/health", "/props", "/slots", "/"] {
        let ask = |host: &str| client.raw(&request(&format!("GET {path}"), &[host], ""));
        assert!(is_passed_on(path, &ask("Host: localhost")), "{path}");
        ask("Host: evil.example").refused(Manner::Chat, 403);
        assert!(matches!(ask("X-No: host").status(), 400 | 403), "{path} without a host");
        assert!(matches!(ask("Host: localhost\r\nHost: evil.example").status(), 400 | 403), "{path} with two");
    }
}

#[test]
fn pages_of_other_sites_are_refused() {
    let daemon = daemon();
    let client = Client::of(&daemon.api().status());
    let from = |manner: Manner, origin: &str| {
        let question = Question::new(manner, "hello").once().body.to_string();
        let headers = ["Host: localhost", "Content-Type: text/plain", origin];
        client.raw(&request(&format!("POST {}", manner.path()), &headers, &question))
    };
    for manner in Manner::ALL {
        for good in ["Origin: http://localhost:3000", "Origin: http://127.0.0.1", "X-Origin: none"] {
            assert_eq!(from(manner, good).status(), 200, "{good}");
        }
        let bad = [
            "http://evil.example",
            "null",
            "http://localhost.evil.example",
            "http://127.0.0.1.evil.example",
            "file://",
        ];
        for bad in bad {
            from(manner, &format!("Origin: {bad}")).refused(manner, 403);
        }
    }
    // What a browser asks first.
    let ask = |origin: &str| {
        let headers = ["Host: localhost", origin, "Access-Control-Request-Method: POST"];
        client.raw(&request("OPTIONS /v1/chat/completions", &headers, "")).text.to_ascii_lowercase()
    };
    assert!(ask("Origin: http://localhost:3000").contains("access-control-allow-origin: http://localhost:3000"));
    assert!(
        !ask("Origin: http://evil.example").contains("access-control-allow"),
        "{}",
        ask("Origin: http://evil.example")
    );
}

#[test]
fn it_is_no_proxy_for_other_hosts() {
    let daemon = daemon();
    let client = Client::of(&daemon.api().status());
    let url = client.url();
    let get = |first: &str| client.raw(&request(first, &["Host: localhost"], ""));
    assert_eq!(get("GET /v1/models").status(), 200);
    for first in
        [format!("GET {url}/v1/models"), "GET http://evil.example/".to_owned(), "CONNECT evil.example:443".to_owned()]
    {
        assert_eq!(get(&first).status() / 100, 4, "{first}: {}", get(&first).text);
    }
    assert_eq!(get("GET //evil.example/v1/models").status(), 404);
    assert_eq!(get("GET /v1/../props").status(), 404);
}

#[test]
fn a_request_has_one_end() {
    let daemon = daemon();
    let client = Client::of(&daemon.api().status());
    let hidden = "GET /props HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let chunked = format!("0\r\n\r\n{hidden}");
    let both = ["Host: localhost".to_owned(), format!("Content-Length: {}", chunked.len())];
    let mixed: [(&str, Vec<String>); 5] = [
        ("two lengths", vec!["Content-Length: 4".to_owned(), format!("Content-Length: {}", chunked.len())]),
        ("the same length twice", vec![both[1].clone(), both[1].clone()]),
        ("a length before a coding", vec![both[1].clone(), "Transfer-Encoding: chunked".to_owned()]),
        ("a coding before a length", vec!["Transfer-Encoding: chunked".to_owned(), both[1].clone()]),
        ("two codings", vec!["Transfer-Encoding: chunked, identity".to_owned(), both[1].clone()]),
    ];
    for path in ["/v1/messages", "/v1/chat/completions", "/health"] {
        for (what, headers) in &mixed {
            let head = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\n{}\r\n\r\n", headers.join("\r\n"));
            let came = client.raw(&[head.as_bytes(), chunked.as_bytes()].concat());
            assert_eq!((came.status(), came.answers()), (400, 1), "{what} on {path}: {}", came.text);
        }
    }
    // Two requests that are told apart are two.
    let one = "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let last = "GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    assert_eq!(client.raw(&[one, last].concat().into_bytes()).answers(), 2);
    let body = Question::new(Manner::Chat, "hello").once().body.to_string();
    let chunks = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    let head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
    let came = client.raw(&[head, &chunks].concat().into_bytes());
    assert_eq!((came.status(), came.answers()), (200, 1), "one that is sent in chunks: {}", came.text);
}

#[test]
fn what_changes_the_server_is_for_nobody() {
    let daemon = Daemon::start(
        Models::docker().one_thread().with("ctx = 4096", "ctx = 32768\nargs = [\"--props\"]").tiny(&["a"]).home(),
    );
    let status = daemon.api().switched("a");
    let client = Client::of(&status);
    let server = Inference::of(&status);
    let (_, token) = daemon.api().open_session("mine");
    let long = Question::new(Manner::Chat, &prompt(1, 3000));
    client.ask_now(&long).complete();

    let routes = [
        "POST /props",
        "POST /slots/0?action=erase",
        "POST /slots/0?action=save",
        "POST /slots/0?action=restore",
        "POST /models/load",
        "POST /models/unload",
        "POST /models",
        "DELETE /models/a",
        "POST /lora-adapters",
        "POST /completion",
        "POST /completions",
        "POST /infill",
        "POST /tokenize",
        "POST /apply-template",
        "POST /embedding",
        "POST /rerank",
        "PUT /props",
        "GET /metrics",
        "POST /slots/0",
        "POST /",
        "POST /v1/models",
        "POST /v1/slots/0",
        "POST /v1/audio/transcriptions",
        "GET /slots/0",
        "POST //slots/0?action=erase",
        "POST /slots/%30?action=erase",
        "POST /cors-proxy",
        "GET /cors-proxy?url=http://127.0.0.1/",
        "POST /tools",
        "GET /tools",
    ];
    let tokens = [None, Some(token.as_str()), Some(server.key()), Some(daemon.api().token())];
    for route in routes {
        for token in tokens {
            let authorization = token.map(|token| format!("Authorization: Bearer {token}"));
            let headers: Vec<_> = ["Host: localhost"].into_iter().chain(authorization.as_deref()).collect();
            let came = client.raw(&request(route, &headers, "{\"filename\":\"x\"}"));
            assert!(matches!(came.status(), 403..=405), "{route}: {}", came.text);
            Manner::Chat.error_message(&came.body());
        }
    }
    let tokens = client.ask_now(&long).complete().tokens;
    assert!(tokens.cached * 100 / tokens.input > 95, "nothing was erased: {tokens:?}");
    // The server itself would have done it.
    server.post("/props", &json!({})).expect(200);
    server.post("/slots/0?action=erase", &json!({})).expect(200);
    assert!(client.ask_now(&long).complete().tokens.cached < 100);
}

#[test]
fn what_shows_the_server_is_for_the_user_and_not_for_a_session() {
    let daemon = daemon();
    let client = Client::of(&daemon.api().status());
    let (id, token) = daemon.api().open_session("mine");
    let session = client.with_token(&token);
    for path in ["/slots", "/props", "/", "/index.html"] {
        let open = client.raw(&client.bytes("GET", path, b""));
        assert!(is_passed_on(path, &open), "{path}: {}", open.text);
        let refused = session.raw(&session.bytes("GET", path, b""));
        refused.refused(Manner::Chat, 403);
        let key = request(&format!("GET {path}"), &["Host: localhost", &format!("X-Api-Key: {token}")], "");
        client.raw(&key).refused(Manner::Chat, 403);
    }
    // What is for everybody is for a session as well.
    for path in ["/v1/models", "/health"] {
        assert_eq!(session.raw(&session.bytes("GET", path, b"")).status(), 200, "{path}");
    }
    session.ask_now(&Question::new(Manner::Messages, "hello")).complete();
    // The key of llama-server is nobody's business.
    let props = client.raw(&client.bytes("GET", "/props", b""));
    assert!(!props.text.contains(Inference::of(&daemon.api().status()).key()));
    let attached = |id: &str| daemon.api().status().sessions.iter().any(|session| session.id.as_str() == id);
    assert!(attached(&id));
}
