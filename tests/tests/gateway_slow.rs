//! Clients that take their time hold nobody up.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "test code: a panic is how it fails")]
#![allow(clippy::print_stdout, reason = "test code: what was measured is shown where it is asked for")]

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use corral_tests::load::percentile;
use corral_tests::{Client, Daemon, Manner, Models, Question};
use rustix::net::sockopt::set_socket_recv_buffer_size;

/// A connection that takes in as little as can be.
fn narrow(client: &Client) -> TcpStream {
    let socket = TcpStream::connect(client.address()).expect("a connection");
    set_socket_recv_buffer_size(&socket, 1).expect("a small buffer");
    socket
}

/// How long short answers take, shortest first.
fn times(client: &Client, count: usize) -> Vec<Duration> {
    let question = Question::new(Manner::Messages, "hello").once();
    let mut times: Vec<_> = (0..count).map(|_| client.ask_now(&question).complete().took).collect();
    times.sort_unstable();
    times
}

#[test]
fn a_client_that_reads_a_byte_a_second_slows_nobody_down() {
    let models = Models::docker().one_thread().gateway("min_stay = \"0s\"\ndrain_timeout = \"2s\"");
    let models = models.with("ctx = 4096", "ctx = 65536\nparallel = 2\nargs = [\"--ignore-eos\"]").tiny(&["a", "b"]);
    let daemon = Daemon::start(models.home());
    let client = Client::of(&daemon.api().switched("a"));
    let alone = percentile(&times(&client, 40), 50);

    let mut slow = narrow(&client);
    let long = Question::new(Manner::Chat, "hello").tokens(30_000);
    let bytes = client.bytes("POST", long.manner.path(), long.body.to_string().as_bytes());
    slow.write_all(&bytes).expect("it is sent");
    let mut byte = [0];
    slow.read_exact(&mut byte).expect("it is answered");
    let began = Instant::now();
    let mut beside = Vec::new();
    for seconds in 1..=5 {
        beside.extend(times(&client, 10));
        std::thread::park_timeout((began + Duration::from_secs(seconds)).saturating_duration_since(Instant::now()));
        slow.read_exact(&mut byte).expect("it is answered on");
    }
    beside.sort_unstable();
    let beside = percentile(&beside, 50);
    println!("alone: {alone:?}, beside it: {beside:?}");
    // The model itself generates for it as well, on the same cores.
    assert!(beside < 5 * alone + Duration::from_millis(50), "alone {alone:?}, beside it {beside:?}");

    // Nor does it hold a switch up for longer than running requests may take.
    let began = Instant::now();
    let seen = client.ask_now(&Question::new(Manner::Messages, "hello").model("b")).complete();
    assert_eq!(seen.model, "b");
    assert!(began.elapsed() < Duration::from_secs(15), "the switch took {:?}", began.elapsed());
}

#[test]
fn a_client_that_sends_its_head_byte_by_byte_is_closed_after_a_time() {
    let daemon = Daemon::start(Models::docker().one_thread().tiny(&["a"]).home());
    let client = Client::of(&daemon.api().switched("a"));
    let mut socket = TcpStream::connect(client.address()).expect("a connection");
    socket.set_read_timeout(Some(Duration::from_millis(500))).expect("a timeout");
    let head = format!("GET /v1/models HTTP/1.1\r\nHost: {}\r\nX-Long: ", client.address());
    let bytes = head.bytes().chain(std::iter::repeat(b'x'));
    let began = Instant::now();
    let mut closed = false;
    for byte in bytes {
        if socket.write_all(&[byte]).is_err() {
            closed = true;
        }
        let mut answer = [0; 512];
        match socket.read(&mut answer) {
            Ok(0) => closed = true,
            // A refusal before the close is as good.
            Ok(_) => {}
            Err(error) => closed |= !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        }
        if closed || began.elapsed() > Duration::from_secs(40) {
            break;
        }
    }
    let took = began.elapsed();
    assert!(
        closed && (Duration::from_secs(10)..Duration::from_secs(25)).contains(&took),
        "closed {closed} at {took:?}"
    );
    // One that says nothing between two requests is left alone, and so is everybody else.
    client.ask_now(&Question::new(Manner::Messages, "hello")).complete();
}

#[test]
fn many_clients_that_send_nothing_leave_room_for_others() {
    let daemon = Daemon::start(Models::docker().one_thread().tiny(&["a"]).home());
    let client = Client::of(&daemon.api().switched("a"));
    let idle: Vec<_> = (0..300).map(|_| TcpStream::connect(client.address()).expect("a connection")).collect();
    client.ask_now(&Question::new(Manner::Chat, "hello")).complete();
    drop(idle);
}
