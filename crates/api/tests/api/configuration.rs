//! The files that a person configures Corral by, over a fake of them.

use serde_json::json;

use crate::bench::Bench;

#[tokio::test]
async fn settings_are_read_and_set() {
    let bench = Bench::new().await;
    let settings = bench.get("/settings").await.json();
    let usual = json!({ "on_quit": "stop", "notifications": "all", "restore_last": true });
    assert_eq!((&settings["settings"], &settings["problem"]), (&usual, &json!(null)));
    assert_eq!((&settings["writable"], &settings["path"]), (&json!(true), &json!("/c/settings.toml")));
    let put = async |body: &str| bench.ask("PUT", "/settings").body(body).send().await;
    let wanted = r#"{"on_quit":"keep","terminal":["xterm","-e"],"notifications":"problems","restore_last":false}"#;
    let answer = put(wanted).await;
    assert_eq!(
        (answer.status, answer.json()["settings"].to_string()),
        (200, {
            let wanted: serde_json::Value = serde_json::from_str(wanted).expect("JSON");
            wanted.to_string()
        })
    );
    assert_eq!(put(r#"{"terminal":null}"#).await.json()["settings"], usual, "what is missing gets its default");
    for (body, said) in [
        ("", "not JSON"),
        ("[]", "no object"),
        (r#"{"on_quit":"never"}"#, "`on_quit`"),
        (r#"{"on_qiut":"keep"}"#, "knows no field `on_qiut`"),
        (r#"{"terminal":1}"#, "a terminal is a name"),
        (r#"{"restore_last":"yes"}"#, "`restore_last`"),
    ] {
        let (message, _) = put(body).await.error(400, "invalid_request");
        assert!(message.contains(said), "{body}: {message}");
    }
    let long = format!(r#"{{"terminal":"{}"}}"#, "x".repeat(64 << 10));
    put(&long).await.error(413, "body_too_large");
}

#[tokio::test]
async fn the_catalog_is_checked_and_replaced() {
    let bench = Bench::new().await;
    let check = async |text: &str| {
        let body = json!({ "text": text }).to_string();
        bench.ask("POST", "/catalog/check").body(body).send().await.json()["problems"].clone()
    };
    assert_eq!(check("schema = 1\n").await, json!([]));
    let problems = check("schema = 1\n[models.\"é\"]\nfile = 1\n[models.a]\nfile = \"a.gguf\"\nctx =  \"é\"\n").await;
    let place = |at: usize| ["line", "column", "end_column", "key", "model"].map(|field| problems[at][field].clone());
    assert_eq!(place(0), [json!(2), json!(9), json!(12), json!("models.\"é\""), json!("é")]);
    assert_eq!(place(2), [json!(6), json!(8), json!(11), json!("models.a.ctx"), json!("a")]);
    assert_eq!(problems[2]["error"]["code"], "model_invalid");
    let broken = check("schema = 1\nx = = 1\n").await;
    assert_eq!((&broken[0]["line"], &broken[0]["key"], &broken[0]["model"]), (&json!(2), &json!(null), &json!(null)));

    let first = bench.get("/catalog").await.json();
    let put = async |text: &str, version: &serde_json::Value| {
        let body = json!({ "text": text, "version": version }).to_string();
        bench.ask("PUT", "/catalog").body(body).send().await
    };
    let saved = put("schema = 1\n", &first["version"]).await;
    assert_eq!((saved.status, &saved.json()["text"]), (200, &json!("schema = 1\n")));
    let (_, hint) = put("schema = 1\n\n", &first["version"]).await.error(409, "catalog_changed");
    assert!(!hint.is_empty());
    put("schema = 1\n", &json!(1)).await.error(400, "invalid_request");
    let many = format!("schema = 1\n{}", "# a comment\n".repeat(200_000));
    assert_eq!(put(&many, &saved.json()["version"]).await.status, 200, "2 MB are no more than a large catalog");
    let (message, _) = put(&"#".repeat(4 << 20), &json!("x")).await.error(413, "body_too_large");
    assert!(message.contains("4096 KiB"), "{message}");
    bench.ask("PUT", "/catalog").body(b"{\"text\":\"\xff\"}".as_slice()).send().await.error(400, "invalid_request");
}

#[tokio::test]
async fn keys_of_the_catalog_are_set() {
    let bench = Bench::new().await;
    let patch = async |body: &str| bench.ask("PATCH", "/catalog").body(body).send().await;
    let answer = patch(r#"{"engine":{"image":"other:1"},"server":{"auto_switch":"never"}}"#).await;
    assert_eq!((answer.status, &answer.json()["engine"]["image"]), (200, &json!("other:1")));
    for (body, said) in [
        (r#"{"engine":{"runtime":"podman"}}"#, "engine.runtime"),
        (r#"{"engine":{"image":1}}"#, "engine.image"),
        (r#"{"models":{}}"#, "`models`"),
        ("", "not JSON"),
    ] {
        let (message, _) = patch(body).await.error(400, "invalid_request");
        assert!(message.contains(said), "{body}: {message}");
    }
}

#[tokio::test]
async fn the_doctor_answers() {
    let bench = Bench::new().await;
    let finding = json!({ "check": "engine", "status": "ok", "message": "it answers", "remedy": null });
    assert_eq!(bench.get("/doctor").await.json(), json!({ "findings": [finding] }));
}

#[tokio::test]
async fn autostart_is_turned_on_and_off() {
    let bench = Bench::new().await;
    assert_eq!(bench.get("/autostart").await.json()["enabled"], false);
    for enabled in [true, false] {
        let answer = bench.ask("PUT", "/autostart").body(json!({ "enabled": enabled }).to_string()).send().await;
        assert_eq!((answer.status, &answer.json()["enabled"]), (200, &json!(enabled)));
    }
    for body in ["", "{}", r#"{"enabled":1}"#, r#"{"enabled":true,"x":1}"#] {
        bench.ask("PUT", "/autostart").body(body).send().await.error(400, "invalid_request");
    }
}
