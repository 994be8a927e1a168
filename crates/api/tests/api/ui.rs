//! The dashboard's files, by the door that browsers take.

use crate::bench::Bench;

#[tokio::test]
async fn a_browser_gets_pages_without_a_token_and_under_a_strict_policy() {
    let bench = Bench::new().await;
    for path in ["/", "/ui"] {
        let answer = bench.ask("GET", path).without("Authorization").send().await;
        assert_eq!((answer.status, answer.header("location")), (307, Some("/ui/")));
    }
    for path in ["/ui/", "/ui/index.html", "/ui/?x=1"] {
        let answer = bench.ask("GET", path).without("Authorization").send().await;
        assert_eq!((answer.status, answer.header("content-type")), (200, Some("text/html; charset=utf-8")), "{path}");
        assert!(answer.body.contains("Corral"));
        assert_eq!(answer.header("cache-control"), Some("no-cache"));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.header("referrer-policy"), Some("no-referrer"));
        let policy = answer.header("content-security-policy").expect("a policy");
        assert!(
            policy.starts_with("default-src 'none'; script-src 'self'; ") && !policy.contains("unsafe"),
            "{policy}"
        );
        let tag = answer.header("etag").expect("a tag").to_owned();
        let again = bench.ask("GET", path).and("If-None-Match", &tag).send().await;
        assert_eq!((again.status, again.body.as_str()), (304, ""));
    }
    let head = bench.ask("HEAD", "/ui/").without("Authorization").send().await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
}

#[tokio::test]
async fn there_is_nothing_but_the_files() {
    let bench = Bench::new().await;
    for path in
        ["/ui/nothing", "/ui/../status", "/ui/%2e%2e/status", "/ui//index.html", "/ui/index.html/", "/ui/assets/"]
    {
        let (_, hint) = bench.ask("GET", path).without("Authorization").send().await.error(404, "not_found");
        assert!(hint.contains("/ui/"), "{path}: {hint}");
    }
    bench.ask("POST", "/ui/").send().await.error(405, "method_not_allowed");
    let foreign = bench.ask("GET", "/ui/").with("Host", "evil.example").send().await;
    foreign.error(403, "forbidden_host");
    bench.ask("GET", "/ui/").and("Origin", "http://evil.example").send().await.error(403, "forbidden_origin");
}

#[tokio::test]
async fn a_session_gets_no_page() {
    let bench = Bench::new().await;
    let opened = bench.controller.open_session(None).await.expect("a session");
    let bearer = format!("Bearer {}", opened.token.expose());
    let ask = || async {
        for (method, path) in
            [("GET", "/ui/"), ("GET", "/ui/enter.html"), ("POST", "/dashboard/token"), ("POST", "/dashboard")]
        {
            let answer =
                bench.ask(method, path).with("Authorization", &bearer).body("{\"code\":\"a code\"}").send().await;
            assert!(matches!(answer.status, 401 | 403), "{method} {path}: {}", answer.status);
        }
        bench.ask("GET", "/ui/").with("Authorization", &bearer).send().await.error(403, "forbidden");
    };
    ask().await;
    bench.controller.close_session(opened.session.id).await.expect("it is attached");
    ask().await;
}

#[tokio::test]
async fn a_browser_comes_in_once_by_the_way_that_it_is_shown() {
    let bench = Bench::new().await;
    let shown = bench.post("/dashboard", "").await.json();
    let way = format!("http://{}/ui/enter.html", bench.address);
    assert_eq!(shown["url"], format!("{way}#code=a code"));
    assert_eq!(shown["good_seconds"], 60);
    let page = bench.ask("GET", "/ui/enter.html").without("Authorization").send().await;
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    assert!(page.body.contains("src=\"enter.js\"") && page.header("content-security-policy").is_some());
    assert_eq!(bench.ask("GET", "/ui/enter.js").without("Authorization").send().await.status, 200);

    let enter = |code: &str| {
        let body = serde_json::json!({ "code": code }).to_string();
        bench.ask("POST", "/dashboard/token").without("Authorization").body(body)
    };
    enter("another code").send().await.error(401, "unauthorized");
    enter("").send().await.error(401, "unauthorized");
    enter("a code").with("Host", "evil.example").send().await.error(403, "forbidden_host");
    enter("a code").and("Origin", "http://evil.example").send().await.error(403, "forbidden_origin");
    let own = format!("http://{}", bench.address);
    let token = enter("a code").and("Origin", &own).send().await;
    assert_eq!((token.status, token.json()["token"].as_str()), (200, Some(crate::bench::TOKEN)));
    assert_eq!(token.header("cache-control"), Some("no-store"));
    let (message, hint) = enter("a code").send().await.error(401, "unauthorized");
    assert!(message.contains("was used already") && hint.contains("corral dashboard"), "{message} {hint}");
}
