//! Clients that do not read.

use std::time::{Duration, Instant};

use corral_core::ports::Traffic;
use corral_core::{Code, Error};
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use crate::bed::{Asked, Bed, Client, Server, post};

const STREAM: &str = r#"{"model":"a","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;

/// What a call takes that waits for nobody.
const QUICK: Duration = Duration::from_millis(500);

/// Whoever takes nothing for so long is stalled.
const FULL: Duration = Duration::from_millis(200);

fn why() -> Error {
    Error::new(Code::Cut, "the model was switched")
}

/// Says more than all buffers on the way to the client hold.
async fn stall(asked: &mut Asked) {
    asked.begin_stream().await;
    let piece = format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{}\"}}}}]}}\n\n", "x".repeat(1 << 16));
    while timeout(FULL, asked.chunk(&piece)).await.is_ok() {}
}

pub(crate) async fn stalled(bed: &Bed, server: &mut Server) -> (Client, Asked) {
    let client = bed.post("/v1/chat/completions", STREAM).await;
    let mut asked = server.request().await;
    stall(&mut asked).await;
    (client, asked)
}

#[tokio::test]
async fn a_client_that_never_reads_delays_no_later_switch() {
    let bed = Bed::new().await;
    let mut server = Server::new().await;
    bed.open(&server);
    let (_client, mut asked) = stalled(&bed, &mut server).await;
    bed.gate.close();
    bed.gate.cut(&why());
    // Its own server is free before the controller has waited for 2 s.
    timeout(Duration::from_millis(1900), bed.gate.drained()).await.expect("its connection is closed");
    asked.closed().await;
    bed.records(1).await;
    // Nor while that has not happened yet.
    bed.open(&server);
    let (_client, _asked) = stalled(&bed, &mut server).await;
    bed.gate.close();
    bed.gate.cut(&why());
    for _ in 0..3 {
        let began = Instant::now();
        bed.open(&Server::new().await);
        assert_eq!(bed.gate.counts(), (0, 0));
        bed.gate.close();
        bed.gate.cut(&why());
        bed.gate.drained().await;
        assert!(began.elapsed() < QUICK, "{:?}", began.elapsed());
    }
    bed.records(2).await;
}

#[tokio::test]
async fn a_client_that_reads_keeps_its_connection_after_a_cut() {
    let (bed, mut server, mut client, mut asked) = Bed::asked("/v1/chat/completions", STREAM).await;
    asked.begin_stream().await;
    asked.chunk("data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\n").await;
    client.until("\"x\"").await;
    let (_stuck, mut stuck) = stalled(&bed, &mut server).await;
    bed.gate.close();
    bed.gate.cut(&why());
    client.until("0\r\n\r\n").await;
    stuck.closed().await;
    // The time of both is over.
    bed.open(&server);
    client.stream.write_all(post("/v1/chat/completions", STREAM).as_bytes()).await.expect("sent");
    server.request().await.answer(r#"{"choices":[],"usage":{"completion_tokens":77}}"#).await;
    client.until("77").await;
}
