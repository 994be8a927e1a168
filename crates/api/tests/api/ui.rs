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
    let ask = || bench.ask("GET", "/ui/").with("Authorization", &bearer).send();
    ask().await.error(403, "forbidden");
    bench.controller.close_session(opened.session.id).await.expect("it is attached");
    ask().await.error(403, "forbidden");
}
