//! Listeners that sessions hand over.

use std::net::SocketAddr;
use std::sync::Arc;

use corral_core::catalog::{Catalog, Surroundings};
use corral_core::command::Command;
use corral_core::listen::Via;
use corral_core::usage::RequestEnd;
use corral_core::{Secret, SessionId};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::bed::{Bed, Client, Server, post};

const PATH: &str = "/v1/chat/completions";
const ASK: &str = r#"{"model":"a","messages":[]}"#;
const SLOTS: &str = "GET /slots HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n";

fn session(id: &str) -> SessionId {
    SessionId::new(id).expect("an id")
}

/// A session's listener that the gateway serves.
struct Jail {
    address: SocketAddr,
    end: CancellationToken,
    serving: JoinHandle<()>,
}

impl Jail {
    async fn of(bed: &Bed, id: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let end = CancellationToken::new();
        let via = Arc::new(Via { session: session(id), port: 8080, end: end.clone() });
        let handover = bed.handover.clone();
        let serving = tokio::spawn(async move { handover.serve(listener, via).await });
        Self { address, end, serving }
    }

    async fn send(&self, bytes: impl AsRef<[u8]>) -> Client {
        Client::send(self.address, bytes).await
    }
}

#[tokio::test]
async fn what_comes_by_it_is_that_sessions_whatever_the_token() {
    let bed = Bed::new().await;
    let mut server = Server::new().await;
    bed.open(&server);
    bed.ends.tokens.send_modify(|tokens| Arc::make_mut(tokens).insert(&Secret::new("another"), session("other")));
    let jail = Jail::of(&bed, "jailed").await;
    let own = r#"{"model":"a","messages":[],"metadata":{"user_id":"user_x_account__session_0190"}}"#;
    let foreign = post(PATH, ASK).replace("anything", "another");
    let mut count = 0;
    for request in [post(PATH, ASK), post(PATH, own), foreign.clone()] {
        let mut client = jail.send(&request).await;
        server.request().await.answer("{}").await;
        client.until("{}").await;
        count += 1;
        assert_eq!(bed.records(count).await[count - 1].session, Some(session("jailed")), "{request}");
    }
    // The same by the port itself.
    for (request, whose) in [(post(PATH, ASK), None), (foreign, Some(session("other")))] {
        let mut client = bed.send(&request).await;
        server.request().await.answer("{}").await;
        client.until("{}").await;
        count += 1;
        assert_eq!(bed.records(count).await[count - 1].session, whose, "{request}");
    }
}

#[tokio::test]
async fn what_shows_the_server_is_not_for_it() {
    let bed = Bed::new().await;
    let mut server = Server::new().await;
    bed.open(&server);
    let jail = Jail::of(&bed, "jailed").await;
    for path in ["/slots", "/props", "/", "/index.html"] {
        let request = SLOTS.replace("/slots", path);
        let text = jail.send(&request).await.until("may not use").await;
        assert!(text.starts_with("HTTP/1.1 403"), "{path}: {text}");
        assert!(server.is_untouched(), "{path}");
        let mut open = bed.send(&request).await;
        server.request().await.answer("[]").await;
        assert!(open.until("[]").await.starts_with("HTTP/1.1 200"), "{path}");
    }
    let models = jail.send(SLOTS.replace("/slots", "/v1/models")).await.until("al-*").await;
    assert!(models.starts_with("HTTP/1.1 200"), "what is for everybody is for it, too: {models}");
    // What is checked of every request is checked of its.
    let foreign = jail.send(SLOTS.replace("127.0.0.1:8080", "evil.example")).await.until("\r\n\r\n").await;
    assert!(foreign.starts_with("HTTP/1.1 403"), "{foreign}");
    let page = jail.send(SLOTS.replace("\r\n\r\n", "\r\nOrigin: http://evil.example\r\n\r\n")).await;
    assert!({ page }.until("forbidden_origin").await.starts_with("HTTP/1.1 403"));
}

#[tokio::test]
async fn its_requests_may_switch_where_those_of_sessions_may() {
    let mut bed = Bed::new().await;
    let server = Server::new().await;
    bed.open(&server);
    let text = "schema = 1\n[gateway]\nauto_switch = \"sessions\"\nmin_stay = \"0s\"\n\
                [models.a]\nfile = \"a.gguf\"\n[models.b]\nfile = \"b.gguf\"\n";
    let surroundings =
        Surroundings { path: "models.toml".into(), home: "/home/u".into(), models_dir: "/models".into() };
    let reading = Catalog::read(text, &surroundings);
    bed.ends.catalog.send_replace(Arc::new(reading.catalog.unwrap_or_else(|| panic!("{:?}", reading.problems))));
    let first = bed.ends.commands.recv().await.expect("the scheduler asks what runs");
    assert!(matches!(first, Command::DryRun { .. }), "{first:?}");
    drop(first);
    let other = post(PATH, r#"{"model":"b","messages":[]}"#);
    bed.send(&other).await.until("switch_not_allowed").await;
    let jail = Jail::of(&bed, "jailed").await;
    let _waiting = jail.send(&other).await;
    let asked = bed.ends.commands.recv().await.expect("the scheduler asks");
    assert!(matches!(&asked, Command::Switch { model, .. } if model == "b"), "{asked:?}");
}

#[tokio::test]
async fn its_connections_end_with_the_session_and_no_others() {
    let bed = Bed::new().await;
    let mut server = Server::new().await;
    bed.open(&server);
    let jail = Jail::of(&bed, "jailed").await;
    let ask = post(PATH, r#"{"model":"a","messages":[],"stream":true}"#);
    let mut streaming = jail.send(&ask).await;
    let mut asked = server.request().await;
    let mut others = bed.send(&ask).await;
    let mut others_asked = server.request().await;
    for (client, asked) in [(&mut streaming, &mut asked), (&mut others, &mut others_asked)] {
        asked.begin_stream().await;
        asked.chunk("data: {\"first\":1}\n\n").await;
        client.until("first").await;
    }
    let mut idle = jail.send("").await;
    jail.serving.abort();
    jail.end.cancel();
    assert!(!streaming.rest().await.contains("0\r\n\r\n"), "it breaks off");
    assert_eq!(idle.rest().await, "");
    asked.closed().await;
    let records = bed.records(1).await;
    assert_eq!((&records[0].session, records[0].end), (&Some(session("jailed")), RequestEnd::Abandoned));
    // Its listener is closed with it.
    corral_testkit::eventually(std::time::Duration::from_secs(10), || async {
        tokio::net::TcpStream::connect(jail.address).await.is_err()
    })
    .await;
    others_asked.chunk("data: {\"second\":1}\n\n").await;
    others.until("second").await;
}
