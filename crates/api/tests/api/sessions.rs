//! Sessions come and go.

use corral_api::dto::SessionAnswer;
use corral_core::Secret;
use corral_core::session::About;
use serde_json::json;

use crate::bench::Bench;

#[tokio::test]
async fn a_session_does_not_hear_where_others_work() {
    let bench = Bench::new().await;
    let open = async |digit: &str, folder: &str| {
        let about = About { workspace: Some(folder.to_owned()), ..About::default() };
        bench.controller.resume_session(about, Secret::new(digit.repeat(64))).await.expect("a session")
    };
    let (own, _other) = (open("0", "/home/u/a").await, open("1", "/home/u/b").await);
    let folders = async |token: &str| {
        let status = bench.ask("GET", "/status").with("Authorization", &format!("Bearer {token}")).send().await.json();
        [0, 1].map(|at| status["sessions"][at]["workspace"].clone())
    };
    assert_eq!(folders(own.token.expose()).await, [json!("/home/u/a"), json!(null)]);
    assert_eq!(folders(crate::bench::TOKEN).await, [json!("/home/u/a"), json!("/home/u/b")]);
}

#[tokio::test]
async fn a_session_is_attached_until_it_is_detached() {
    let bench = Bench::new().await;
    let answer = bench.post("/sessions", r#"{"label":"~/project"}"#).await;
    assert_eq!(answer.status, 201);
    let SessionAnswer { session, token } = serde_json::from_str(&answer.body).expect("a session");
    assert_eq!(session.label.as_deref(), Some("~/project"));
    assert_eq!(bench.controller.session_of(&token), Some(session.id.clone()));
    let nameless = bench.post("/sessions", "").await.json();
    assert_eq!((nameless["session"]["label"].is_null(), nameless["token"] == token), (true, false));

    let attached = bench.get("/status").await.json();
    assert_eq!(attached["sessions"].as_array().expect("sessions").len(), 2);
    assert_eq!(attached["sessions"][0]["id"], session.id.to_string());
    assert!(!attached.to_string().contains(&token), "a token is told once");

    let path = format!("/sessions/{}", session.id);
    let gone = bench.ask("DELETE", &path).send().await;
    assert_eq!((gone.status, gone.body.as_str()), (204, ""));
    assert_eq!(bench.controller.session_of(&token), None);
    let (message, _) = bench.ask("DELETE", &path).send().await.error(404, "not_found");
    assert!(message.contains(session.id.as_str()), "{message}");
    assert_eq!(bench.get("/status").await.json()["sessions"].as_array().expect("sessions").len(), 1);
}

#[tokio::test]
async fn what_is_no_session_is_not_found() {
    let bench = Bench::new().await;
    for path in ["/sessions/nobody", "/sessions/a%20b", "/sessions/%F0%9F", "/sessions/", "/sessions/a/b"] {
        bench.ask("DELETE", path).send().await.error(404, "not_found");
    }
    let (message, _) =
        bench.post("/sessions", &format!(r#"{{"label":"{}"}}"#, "x".repeat(201))).await.error(400, "invalid_request");
    assert!(message.contains("200"), "{message}");
    bench.post("/sessions", r#"{"lable":"x"}"#).await.error(400, "invalid_request");
    assert_eq!(bench.post("/sessions", &format!(r#"{{"label":"{}"}}"#, "é".repeat(200))).await.status, 201);
}

#[tokio::test]
async fn a_session_is_told_of_no_other() {
    let bench = Bench::new().await;
    let own = bench.controller.open_session(Some("own".to_owned())).await.expect("a session");
    bench.controller.open_session(Some("secret-project".to_owned())).await.expect("a session");
    let bearer = format!("Bearer {}", own.token.expose());
    let told = bench.ask("GET", "/status").with("Authorization", &bearer).send().await.json();
    assert_eq!(told["sessions"].as_array().expect("sessions").len(), 1, "{told:#}");
    assert_eq!(told["sessions"][0]["id"], own.session.id.to_string());
    assert!(!told.to_string().contains("secret-project"));
    let user = bench.get("/status").await.json();
    assert_eq!(user["sessions"].as_array().expect("sessions").len(), 2, "the user is told of both");
}

#[tokio::test]
async fn a_session_may_switch_but_cut_nobody() {
    let bench = Bench::new().await;
    let bearer = format!("Bearer {}", bench.controller.open_session(None).await.expect("a session").token.expose());
    let switch = |body: &str| bench.ask("POST", "/switch").body(body).with("Authorization", &bearer);
    for body in [r#"{"model":"a","force":true}"#, r#"{"model":"a","force":true,"dry_run":true}"#] {
        let (message, hint) = switch(body).send().await.error(403, "forbidden");
        assert!(message.contains("force") && hint.contains("corral switch --force"), "{message} {hint}");
    }
    assert_eq!(switch(r#"{"model":"a","force":false,"wait":true}"#).send().await.status, 200);
    let by_the_user = bench.post("/switch", r#"{"model":"b","force":true,"wait":true}"#).await;
    assert_eq!(by_the_user.status, 200, "the user may");
}
