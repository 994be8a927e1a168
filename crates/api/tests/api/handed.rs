//! Listeners that sessions hand over.

use std::net::SocketAddr;
use std::sync::Arc;

use corral_api::openapi;
use corral_core::command::OpenedSession;
use corral_core::listen::Via;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::bench::{Ask, Bench, TOKEN, in_time};

/// A session whose listener the API serves.
struct Jail {
    address: SocketAddr,
    opened: OpenedSession,
    end: CancellationToken,
}

impl Jail {
    async fn of(bench: &Bench) -> Self {
        let opened = bench.controller.open_session(None).await.expect("a session");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let end = CancellationToken::new();
        let via = Arc::new(Via { session: opened.session.id.clone(), port: 8081, end: end.clone() });
        let handover = bench.handover.clone();
        tokio::spawn(async move { handover.serve(listener, via).await });
        Self { address, opened, end }
    }

    /// A request by its listener, with this token.
    fn ask(&self, bench: &Bench, method: &str, path: &str, token: &str) -> Ask {
        bench.ask(method, path).at(self.address).with("Authorization", &format!("Bearer {token}"))
    }
}

#[tokio::test]
async fn only_its_own_token_is_taken_and_only_where_sessions_may_call() {
    let document = openapi();
    let paths = document["paths"].as_object().expect("paths");
    let mut routes = 0;
    for (path, item) in paths {
        for method in item.as_object().expect("methods").keys().map(|method| method.to_uppercase()) {
            let bench = Bench::new().await;
            let jail = Jail::of(&bench).await;
            let other = bench.controller.open_session(None).await.expect("a session");
            let target = path.replace("{id}", other.session.id.as_str()).replace("{file}", "index.html");
            let body = crate::doors::body(&method, path);
            let ask = |token: &str| jail.ask(&bench, &method, &target, token).body(body);
            let may = ["/status", "/models", "/switch"].contains(&path.as_str());
            if path == "/healthz" {
                assert_eq!(ask("").without("Authorization").send().await.status, 200);
                continue;
            }
            if crate::doors::is_page(path) {
                for token in ["", TOKEN, jail.opened.token.expose()] {
                    ask(token).send().await.error(403, "forbidden");
                }
                ask("").without("Authorization").send().await.error(403, "forbidden");
                continue;
            }
            for foreign in [TOKEN, other.token.expose(), "wrong"] {
                let (_, hint) = ask(foreign).send().await.error(401, "unauthorized");
                assert!(hint.contains("token of this session"), "{hint}");
            }
            ask("").without("Authorization").send().await.error(401, "unauthorized");
            let own = ask(jail.opened.token.expose()).open().await;
            let expected = if may { 200..=202 } else { 403..=403 };
            assert!(expected.contains(&own.status), "{method} {path}: {}", own.status);
            // The same by the port itself.
            let open = bench.ask(&method, &target).body(body).open().await;
            assert!((200..=204).contains(&open.status), "{method} {path}: {}", open.status);
            routes += 1;
        }
    }
    assert!(routes > 10);
}

#[tokio::test]
async fn pages_of_its_own_port_are_an_origin_and_others_are_not() {
    let bench = Bench::new().await;
    let jail = Jail::of(&bench).await;
    let token = jail.opened.token.expose();
    let from = |port: u16| {
        jail.ask(&bench, "GET", "/status", token).with("Origin", &format!("http://127.0.0.1:{port}")).send()
    };
    assert_eq!(from(8081).await.status, 200);
    for port in [bench.address.port(), jail.address.port(), 8080] {
        from(port).await.error(403, "forbidden_origin");
    }
    let foreign = jail.ask(&bench, "GET", "/status", token).with("Host", "evil.example").send().await;
    foreign.error(403, "forbidden_host");
}

#[tokio::test]
async fn its_connections_end_with_the_session_and_no_others() {
    let bench = Bench::new().await;
    let jail = Jail::of(&bench).await;
    let mut kept = Vec::new();
    for address in [jail.address, bench.address] {
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("sent");
        assert_ne!(in_time(stream.read(&mut [0; 4096])).await.expect("an answer"), 0);
        kept.push(stream);
    }
    jail.end.cancel();
    assert_eq!(in_time(kept[0].read(&mut [0; 1])).await.unwrap_or(0), 0, "it ends");
    kept[1].write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("sent");
    assert_ne!(in_time(kept[1].read(&mut [0; 4096])).await.expect("an answer"), 0, "it goes on");
}
