//! Bodies, good and bad.

use crate::bench::Bench;

#[tokio::test]
async fn what_is_no_json_is_refused_with_its_place() {
    let bench = Bench::new().await;
    for path in ["/start", "/stop", "/switch"] {
        for body in
            ["{", "{\"wait\":}", "model=a", "{\"wait\":true,}", "\u{feff}{}", "{} {}", "{'wait':true}", "{\"a\"}"]
        {
            let (message, _) = bench.post(path, body).await.error(400, "invalid_request");
            assert!(message.contains("not JSON") && message.contains("line 1 column"), "{body}: {message}");
        }
        for body in ["[]", "null", "true", "1", "\"a\"", "[\"a\",true]"] {
            let (message, _) = bench.post(path, body).await.error(400, "invalid_request");
            assert!(message.contains("no object"), "{body}: {message}");
        }
        let answer = bench.ask("POST", path).body(b"{\"model\":\"\xff\"}".as_slice()).send().await;
        answer.error(400, "invalid_request");
    }
    bench.post("/start", r#"{"model":"a"}"#).await;
    assert!(bench.until(|snapshot| snapshot.engine.is_some()).await.model.is_some());
}

#[tokio::test]
async fn unknown_fields_are_named() {
    let bench = Bench::new().await;
    let cases = [
        ("/start", r#"{"modle":"a"}"#, "`modle`", "did you mean `model`?"),
        ("/start", r#"{"force":true}"#, "`force`", "the fields are `model`, `wait`"),
        ("/stop", r#"{"model":"a"}"#, "`model`", "the fields are `force`, `wait`"),
        ("/stop", r#"{"forced":true}"#, "`forced`", "did you mean `force`?"),
        ("/switch", r#"{"model":"a","dryrun":true}"#, "`dryrun`", "did you mean `dry_run`?"),
        ("/switch", r#"{"model":"a","":1}"#, "``", "the fields are `model`, `wait`, `force`, `dry_run`"),
    ];
    for (path, body, field, meant) in cases {
        let (message, hint) = bench.post(path, body).await.error(400, "invalid_request");
        assert!(message.contains(field), "{message}");
        assert_eq!(hint, meant);
    }
    assert_eq!(bench.post("/stop", r#"{"force":true,"wait":false}"#).await.status, 202);
}

#[tokio::test]
async fn wrong_types_are_named() {
    let bench = Bench::new().await;
    let cases = [
        ("/start", r#"{"model":1}"#, "`model`"),
        ("/start", r#"{"model":["a"]}"#, "`model`"),
        ("/start", r#"{"wait":"yes"}"#, "`wait`"),
        ("/start", r#"{"wait":1}"#, "`wait`"),
        ("/stop", r#"{"force":null}"#, "`force`"),
        ("/switch", r#"{"model":null}"#, "`model`"),
        ("/switch", r#"{"model":"a","dry_run":"true"}"#, "`dry_run`"),
        ("/switch", r#"{"wait":true}"#, "missing field `model`"),
        ("/switch", "", "missing field `model`"),
        ("/start", r#"{"wait":true,"wait":true}"#, "duplicate field `wait`"),
    ];
    for (path, body, field) in cases {
        let (message, _) = bench.post(path, body).await.error(400, "invalid_request");
        assert!(message.contains(field), "{body}: {message}");
    }
    assert_eq!(bench.post("/start", r#"{"model":null,"wait":false}"#).await.status, 202);
}

#[tokio::test]
async fn an_empty_body_asks_for_nothing_in_particular() {
    for (path, body) in
        [("/start", None), ("/start", Some("")), ("/start", Some(" \r\n")), ("/stop", None), ("/stop", Some(""))]
    {
        let bench = Bench::new().await;
        let ask = bench.ask("POST", path);
        let answer = body.map_or(ask.clone(), |body| ask.body(body)).send().await;
        assert_eq!(answer.status, 202, "{path} {body:?}: {}", answer.body);
    }
}

#[tokio::test]
async fn the_content_type_does_not_matter() {
    for content_type in ["application/x-www-form-urlencoded", "text/plain", "application/json; charset=utf-8", ""] {
        let bench = Bench::new().await;
        let ask = bench.ask("POST", "/switch").body(r#"{"model":"bee-1"}"#).with("Content-Type", content_type);
        let answer = ask.send().await;
        assert_eq!((answer.status, answer.json()["operation"]["to"].as_str()), (202, Some("b")), "{content_type}");
    }
}

#[tokio::test]
async fn long_bodies_are_refused_and_the_answer_arrives() {
    let bench = Bench::new().await;
    let padded = |bytes: usize| format!("{{\"wait\":false{}}}", " ".repeat(bytes - 14));
    assert_eq!(bench.post("/stop", &padded(64 * 1024)).await.status, 202);
    for bytes in [64 * 1024 + 1, 10 * 1024 * 1024] {
        let answer = bench.post("/stop", &padded(bytes)).await;
        let (message, _) = answer.error(413, "body_too_large");
        assert!(message.contains("64 KiB"), "{message}");
    }
    let chunk = "x".repeat(70_000);
    let chunked = bench.ask("POST", "/stop").body(format!("{:x}\r\n{chunk}\r\n0\r\n\r\n", chunk.len()));
    let answer = chunked.without("Content-Length").and("Transfer-Encoding", "chunked").send().await;
    answer.error(413, "body_too_large");
    // Who asks first is answered without having sent anything.
    let asking = bench.ask("POST", "/stop").and("Content-Length", "10000000").and("Expect", "100-continue");
    asking.send().await.error(413, "body_too_large");
}

#[tokio::test]
async fn deep_nesting_is_only_a_bad_request() {
    let bench = Bench::new().await;
    for deep in ["[".repeat(30_000), "{\"model\":".repeat(7_000), format!("{{\"x\":{}", "[".repeat(30_000))] {
        bench.post("/start", &deep).await.error(400, "invalid_request");
    }
    let closed = format!("{{\"x\":{}{}}}", "[".repeat(30_000), "]".repeat(30_000));
    bench.post("/start", &closed).await.error(400, "invalid_request");
    assert_eq!(bench.post("/start", "{}").await.status, 202);
}

#[tokio::test]
async fn large_heads_do_no_harm() {
    let bench = Bench::new().await;
    let answer = bench.ask("GET", "/status").and("X-Long", &"x".repeat(1 << 20)).open().await;
    assert_eq!(answer.status, 431);
    let mut ask = bench.ask("GET", "/status");
    for number in 0..200 {
        ask = ask.and(&format!("X-{number}"), "1");
    }
    assert_eq!(ask.open().await.status, 431);
    assert_eq!(bench.ask("GET", "/status").and("X-Long", &"x".repeat(4096)).open().await.status, 200);
}
