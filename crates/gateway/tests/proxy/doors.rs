//! What is let in, and what is not.

use corral_core::{Secret, SessionId};

use crate::bed::{Bed, Server};

const BODY: &str = r#"{"model":"a","messages":[]}"#;

async fn status(bed: &Bed, request: &str) -> String {
    let text = bed.send(request).await.until("\r\n\r\n").await;
    text.split(' ').nth(1).unwrap_or_default().to_owned()
}

#[tokio::test]
async fn shapes_that_hide_a_second_request_are_refused() {
    let bed = Bed::new().await;
    let mut server = Server::new().await;
    bed.open(&server);
    let head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n";
    let hidden = "GET /slots HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let ambiguous = [
        format!("{head}Content-Length: 27\r\nContent-Length: 27\r\n\r\n{BODY}"),
        format!("{head}Content-Length: 27\r\nContent-Length: 0\r\n\r\n{BODY}"),
        format!("{head}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}"),
        format!("{head}Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n{hidden}"),
        format!("{head}Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n{hidden}"),
    ];
    for shape in &ambiguous {
        let text = bed.send(shape).await.rest().await;
        assert!(text.starts_with("HTTP/1.1 400"), "{shape:?}: {text:?}");
        assert_eq!(text.matches("HTTP/1.1").count(), 1, "{shape:?}: {text:?}");
    }
    let foreign = [
        "GET http://127.0.0.1/v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET /v1/models HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        "GET /v1/models HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example\r\n\r\n",
    ];
    for request in foreign {
        let status = status(&bed, request).await;
        assert!(matches!(status.as_str(), "400" | "403"), "{request:?}: {status}");
    }
    assert!(server.is_untouched(), "nothing of it reached the server");
    // The same without the trick goes through.
    let sound = [
        format!("{head}Content-Length: 27\r\n\r\n{BODY}"),
        format!("{head}Transfer-Encoding: chunked\r\n\r\n1b\r\n{BODY}\r\n0\r\n\r\n"),
    ];
    for sound in sound {
        let mut client = bed.send(sound).await;
        server.request().await.answer("{}").await;
        client.until("{}").await;
    }
}

#[tokio::test]
async fn admin_routes_are_for_nobody() {
    let bed = Bed::new().await;
    let mut server = Server::new().await;
    bed.open(&server);
    let routes = [
        "POST /props",
        "POST /slots/0?action=erase",
        "POST /slots/0?action=save",
        "POST /models/load",
        "POST /models/unload",
        "POST /lora-adapters",
        "GET /metrics",
        "POST /apply-template",
        "DELETE /v1/models",
        "GET /slots/0",
        "GET /..%2fprops",
        "GET /_app/../slots",
        "PUT /v1/messages",
    ];
    for route in routes {
        let status = status(&bed, &format!("{route} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")).await;
        assert!(matches!(status.as_str(), "404" | "405"), "{route}: {status}");
    }
    assert!(server.is_untouched());
}

#[tokio::test]
async fn a_session_reads_nothing_of_the_server_and_everybody_else_does() {
    let bed = Bed::new().await;
    let mut server = Server::new().await;
    bed.open(&server);
    let session = SessionId::new("s").expect("an id");
    let old = SessionId::new("old").expect("an id");
    bed.ends.tokens.send_modify(|tokens| {
        let tokens = std::sync::Arc::make_mut(tokens);
        tokens.insert(&Secret::new("tok"), session);
        tokens.insert(&Secret::new("old"), old.clone());
        tokens.remove(&old);
    });
    for path in ["/slots", "/props", "/", "/index.html"] {
        let beside = "Authorization: Bearer junk\r\nx-api-key: tok";
        for header in ["Authorization: Bearer tok", "x-api-key: tok", beside, "Authorization: Bearer old"] {
            let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{header}\r\n\r\n");
            assert_eq!(status(&bed, &request).await, "403", "{path}");
        }
        assert!(server.is_untouched());
        let mut client = bed.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")).await;
        let mut asked = server.request().await;
        asked.say("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello").await;
        client.until("hello").await;
    }
}

#[tokio::test]
async fn a_head_that_is_too_large_is_told_so() {
    let bed = Bed::new().await;
    for length in [100_000, 1_000_000] {
        let long = "x".repeat(length);
        let request =
            format!("POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nX-Long: {long}\r\nContent-Length: 0\r\n\r\n");
        let text = bed.send(request).await.until("head_too_large").await;
        assert!(text.starts_with("HTTP/1.1 431") && text.contains("\"type\":\"error\""), "{text}");
    }
}
