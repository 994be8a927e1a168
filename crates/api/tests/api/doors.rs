//! Who is let in, and what is said to those who are not. Each refusal has the same request, made right, beside it.

use std::collections::BTreeMap;

use corral_api::openapi;

use crate::bench::{Ask, Bench};

/// Every route of the document, as method and path.
fn routes() -> Vec<(String, String)> {
    let document = openapi();
    let paths = document["paths"].as_object().expect("paths");
    let of_path = |(path, item): (&String, &serde_json::Value)| {
        let methods = item.as_object().expect("methods");
        methods.keys().map(|method| (method.to_uppercase(), path.clone())).collect::<Vec<_>>()
    };
    paths.iter().flat_map(of_path).collect()
}

#[tokio::test]
async fn a_session_may_look_and_switch_and_nothing_else() {
    let document = openapi();
    for (method, path) in routes() {
        let bench = Bench::new().await;
        let token = bench.controller.open_session(None).await.expect("a session").token;
        let bearer = format!("Bearer {}", token.expose());
        let ask = right(&bench, &method, &path).await;
        let answer = ask.with("Authorization", &bearer).open().await;
        let may = ["/status", "/models", "/switch", "/healthz"].contains(&path.as_str());
        let expected = if may { 200..=202 } else { 403..=403 };
        assert!(expected.contains(&answer.status), "{method} {path}: {}", answer.status);
        let described = &document["paths"][&path][method.to_lowercase()];
        let said =
            described["security"].as_array().is_some_and(|all| all.iter().any(|one| one.get("session").is_some()));
        assert_eq!(said, may && path != "/healthz", "the document says so: {method} {path}");
    }
    let bench = Bench::new().await;
    let opened = bench.controller.open_session(None).await.expect("a session");
    let bearer = format!("Bearer {}", opened.token.expose());
    let ask = |path: &str| bench.ask("GET", path).with("Authorization", &bearer).send();
    let (message, hint) = ask("/usage").await.error(403, "forbidden");
    assert!(message.contains("which may call GET /status, GET /models and POST /switch only"), "{message}");
    assert!(!hint.is_empty());
    bench.controller.close_session(opened.session.id).await.expect("it is attached");
    ask("/status").await.error(401, "unauthorized");
}

/// A request for a route that is right in every way.
async fn right(bench: &Bench, method: &str, path: &str) -> Ask {
    let ask = match path {
        "/sessions/{id}" => {
            let id = bench.controller.open_session(None).await.expect("a session").session.id;
            bench.ask(method, &format!("/sessions/{id}"))
        }
        path => bench.ask(method, &path.replace("{file}", "index.html")),
    };
    match body(method, path) {
        "" => ask,
        body => ask.body(body),
    }
}

/// Whether browsers get it without a token.
pub(crate) fn is_page(path: &str) -> bool {
    ["/", "/ui", "/dashboard/token"].contains(&path) || path.starts_with("/ui/")
}

/// A body that is right for a route.
pub(crate) fn body(method: &str, path: &str) -> &'static str {
    match (method, path) {
        (_, "/switch") => r#"{"model":"a"}"#,
        ("PUT", "/settings") | ("PATCH", "/catalog") => "{}",
        ("PUT", "/catalog") => r#"{"text":"schema = 1","version":"0"}"#,
        ("PUT", "/autostart") => r#"{"enabled":true}"#,
        (_, "/catalog/check") => r#"{"text":""}"#,
        _ => "",
    }
}

#[tokio::test]
async fn every_route_but_healthz_asks_for_the_token() {
    // What lets browsers in is looked at by itself: what it takes is good once.
    for (method, path) in routes().into_iter().filter(|(_, path)| path != "/dashboard/token") {
        let bench = Bench::new().await;
        let ask = right(&bench, &method, &path).await;
        let ask = || ask.clone();
        let taken = ask().open().await;
        assert!(matches!(taken.status, 200..=204 | 307), "{method} {path}: {}", taken.status);
        let none = ask().without("Authorization").open().await;
        if path == "/healthz" || is_page(&path) {
            assert_eq!(none.status, taken.status);
            continue;
        }
        for authorization in ["Bearer wrong-horse", "Bearer correct-horse2", "Bearer", "Basic correct-horse", ""] {
            let refused = ask().with("Authorization", authorization).send().await;
            refused.error(401, "unauthorized");
            assert_eq!(refused.header("www-authenticate"), Some("Bearer"), "{method} {path}");
        }
        ask().without("Authorization").send().await.error(401, "unauthorized");
        if method == "GET" {
            assert_eq!(bench.ask("HEAD", &path).without("Authorization").send().await.status, 401, "HEAD {path}");
        }
        let twice = ask().and("Authorization", "Bearer correct-horse").send().await;
        twice.error(401, "unauthorized");
    }
}

#[tokio::test]
async fn a_token_in_the_url_is_none() {
    let bench = Bench::new().await;
    let ask = bench.ask("GET", "/status?token=correct-horse").without("Authorization");
    ask.send().await.error(401, "unauthorized");
}

#[tokio::test]
async fn only_the_loopback_is_a_host() {
    let bench = Bench::new().await;
    let port = bench.address.port();
    let ask = |host: &str| bench.ask("GET", "/status").with("Host", host).send();
    for host in ["127.0.0.1", "127.0.0.1:8081", "127.8.9.1", "[::1]", "[::1]:8081", "localhost", "LOCALHOST"] {
        assert_eq!(ask(host).await.status, 200, "{host}");
    }
    assert_eq!(ask(&format!("localhost:{port}")).await.status, 200);
    let foreign = [
        "evil.example",
        "127.0.0.1.evil.example",
        "127.0.0.1.evil.example:8081",
        "localhost.evil.example",
        "localhost.",
        "[::1].evil",
        "[::ffff:127.0.0.1]",
        "::1",
        "127.0.0.1:99999",
        "127.0.0.1:port",
        "user@127.0.0.1",
        "127.0.0.1@evil.example",
        "127.0.0.1, evil.example",
        "0.0.0.0",
        "192.168.0.1",
        "2130706433",
        "",
    ];
    for host in foreign {
        ask(host).await.error(403, "forbidden_host");
    }
    for path in ["/healthz", "/nowhere"] {
        let answer = bench.ask("GET", path).with("Host", "evil.example").send().await;
        answer.error(403, "forbidden_host");
    }
    bench.ask("GET", "/status").without("Host").send().await.error(403, "forbidden_host");
    let twice = bench.ask("GET", "/status").and("Host", "127.0.0.1").send().await;
    twice.error(403, "forbidden_host");
    let twice = bench.ask("GET", "/status").and("Host", "evil.example").send().await;
    twice.error(403, "forbidden_host");
}

#[tokio::test]
async fn an_absolute_target_is_held_to_the_same_rule() {
    let bench = Bench::new().await;
    let own = format!("http://127.0.0.1:{}/status", bench.address.port());
    assert_eq!(bench.get(&own).await.status, 200);
    for target in ["http://evil.example/status", "http://user@127.0.0.1/status", "http://127.0.0.1.evil/status"] {
        bench.get(target).await.error(403, "forbidden_host");
    }
    bench.ask("CONNECT", "evil.example:443").send().await.error(403, "forbidden_host");
}

#[tokio::test]
async fn only_pages_of_its_own_are_an_origin() {
    let bench = Bench::new().await;
    let port = bench.address.port();
    let ask = |origin: String| bench.ask("POST", "/stop").with("Origin", &origin).send();
    for origin in
        [format!("http://127.0.0.1:{port}"), format!("http://localhost:{port}"), format!("http://[::1]:{port}")]
    {
        let answer = ask(origin).await;
        assert_eq!(answer.status, 202);
        assert_eq!(answer.header("access-control-allow-origin"), None, "there is no CORS");
    }
    let foreign = [
        "null".to_owned(),
        String::new(),
        "http://evil.example".to_owned(),
        format!("http://evil.example:{port}"),
        format!("https://127.0.0.1:{port}"),
        format!("http://127.0.0.1:{}", port.wrapping_add(1)),
        "http://127.0.0.1".to_owned(),
        format!("http://127.0.0.1:{port}/"),
        format!("http://127.0.0.1.evil.example:{port}"),
        format!("http://user@127.0.0.1:{port}"),
        format!("127.0.0.1:{port}"),
        format!("http://127.0.0.1:{port} http://evil.example"),
    ];
    for origin in foreign {
        ask(origin).await.error(403, "forbidden_origin");
    }
    let own = format!("http://127.0.0.1:{port}");
    let twice = bench.ask("GET", "/healthz").and("Origin", &own).and("Origin", &own).send().await;
    twice.error(403, "forbidden_origin");
}

#[tokio::test]
async fn preflights_get_no_permission() {
    let bench = Bench::new().await;
    let ask = bench.ask("OPTIONS", "/start").and("Access-Control-Request-Method", "POST");
    let foreign = ask.clone().and("Origin", "http://evil.example").send().await;
    foreign.error(403, "forbidden_origin");
    let own = ask.send().await;
    own.error(405, "method_not_allowed");
    assert_eq!(own.header("access-control-allow-origin"), None);
}

#[tokio::test]
async fn host_comes_before_origin_before_route_before_token() {
    let bench = Bench::new().await;
    let worst = bench.ask("DELETE", "/nowhere").with("Origin", "null").with("Host", "evil").without("Authorization");
    worst.clone().send().await.error(403, "forbidden_host");
    let worst = worst.with("Host", "127.0.0.1");
    worst.clone().send().await.error(403, "forbidden_origin");
    worst.without("Origin").send().await.error(404, "not_found");
    bench.ask("DELETE", "/status").without("Authorization").send().await.error(405, "method_not_allowed");
    bench.ask("GET", "/status").without("Authorization").send().await.error(401, "unauthorized");
}

#[tokio::test]
async fn wrong_methods_are_told_the_right_ones() {
    let bench = Bench::new().await;
    let mut of_path = BTreeMap::<String, Vec<String>>::new();
    for (method, path) in routes() {
        of_path.entry(path.replace("{id}", "some").replace("{file}", "some")).or_default().push(method);
    }
    for (path, methods) in of_path {
        // The document has them in the order of the table, and so has the answer.
        let allowed = methods.join(", ").replace("GET", "GET, HEAD");
        let allowed = allowed.as_str();
        let taken = |wrong: &str| methods.iter().any(|method| method == wrong);
        for wrong in ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "BREW"].iter().filter(|wrong| !taken(wrong)) {
            let answer = bench.ask(wrong, &path).send().await;
            let (message, hint) = answer.error(405, "method_not_allowed");
            assert!(message.contains(&path) && hint.contains(allowed), "{message} {hint}");
            assert_eq!(answer.header("allow"), Some(allowed));
        }
    }
    let head = bench.ask("HEAD", "/status").send().await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
}

#[tokio::test]
async fn unknown_routes_are_told_the_nearest() {
    let bench = Bench::new().await;
    for (path, meant) in
        [("/statu", "/status"), ("/models/", "/models"), ("/Switch", "/switch"), ("/helthz", "/healthz")]
    {
        let (_, hint) = bench.get(path).await.error(404, "not_found");
        assert_eq!(hint, format!("did you mean {meant}?"));
    }
    for path in ["/nothing/like/it", "//status", "/status/../models", "/%73tatus", "/graphics", "*"] {
        let method = if path == "*" { "OPTIONS" } else { "GET" };
        let (_, hint) = bench.ask(method, path).send().await.error(404, "not_found");
        assert!(hint.contains("/status"), "{path}: {hint}");
    }
}

#[tokio::test]
async fn answers_are_neither_cached_nor_guessed_at() {
    let bench = Bench::new().await;
    for answer in [bench.get("/status").await, bench.get("/nowhere").await] {
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    }
}
