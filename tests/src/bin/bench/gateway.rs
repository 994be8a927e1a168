//! What the inference gateway costs on the way to a `llama-server`, against no hop, nginx and `LiteLLM`.

use std::time::Duration;

use corral_tests::load::{End, Load, Target, percentile};

use crate::figures::{Bounds, Series, resident};
use crate::hops::{Corral, Hop, MODEL, PACE};

/// The latency at one connection, as a multiple of nginx's.
const LATENCY_BOUND: f64 = 1.3;

/// What `LiteLLM` adds to the latency, as a multiple of what Corral adds.
const ADDED_BOUND: f64 = 50.0;

/// The part of nginx's requests per second.
const RATE_BOUND: f64 = 0.6;

/// The part of the tokens per second that there are without a hop.
const PACE_BOUND: f64 = 0.99;

/// Connections at once, for requests per second.
const CONNECTIONS: usize = 64;

/// For how long requests are counted.
const WINDOW: Duration = Duration::from_secs(1);

/// Streams at once, and tokens of each: two seconds of them.
const STREAMS: (usize, usize) = (32, 2 * PACE);

/// One who is measured, and the figures so far.
struct Contender {
    name: &'static str,
    target: Target,
    /// Requests one after the other in each round; fewer of one who is slow.
    requests: usize,
    median_us: Series,
    p99_us: Series,
    rate: Series,
    tokens: Series,
    wait_ms: Series,
}

impl Contender {
    fn new(name: &'static str, address: std::net::SocketAddr, requests: usize) -> Self {
        let target = Target::new(address, MODEL, STREAMS.1);
        let [median_us, p99_us, rate, tokens, wait_ms] = std::array::from_fn(|_| Series::default());
        Self { name, target, requests, median_us, p99_us, rate, tokens, wait_ms }
    }
}

pub(crate) fn costs(pairs: usize, bounds: &mut Bounds) {
    let corral = Corral::start();
    let (nginx, litellm) = (Hop::nginx(corral.backend), Hop::litellm(corral.backend));
    let mut all = vec![
        Contender::new("direct", corral.backend, 1000),
        Contender::new("nginx", nginx.address, 1000),
        Contender::new("LiteLLM", litellm.address, 100),
    ];
    all.extend(corral.gateway.map(|gateway| Contender::new("Corral", gateway, 1000)));
    let (rounds, stream_rounds) = (pairs.div_ceil(2), pairs.div_ceil(4));
    measure(&mut all, rounds, stream_rounds);

    println!("\nInference gateway, in turns, {rounds} rounds and {stream_rounds} of streams: medians (quartiles)");
    println!(
        "  behind each the same program with a fixed answer; nginx {}, LiteLLM {}",
        nginx.version, litellm.version
    );
    let names: Vec<_> = all.iter().map(|one| format!("   {:<17}", one.name)).collect();
    println!("  {:<30} {}", "", names.join(" ").trim_end());
    row(&all, "p50 in µs, 1 connection", |one| &one.median_us);
    row(&all, "p99 in µs, 1 connection", |one| &one.p99_us);
    row(&all, &format!("requests/s, {CONNECTIONS} connections"), |one| &one.rate);
    row(&all, &format!("tokens/s, {} streams of {PACE}/s", STREAMS.0), |one| &one.tokens);
    row(&all, "longest wait for a token, ms", |one| &one.wait_ms);
    let memory = format!("nginx {:.1}, LiteLLM {:.1}", nginx.resident(), litellm.resident());
    println!("  memory after that in MB: {memory}, Corral {:.1}", resident(corral.daemon.pid()));
    match all.as_slice() {
        [direct, nginx, litellm, corral] => judge([direct, nginx, litellm, corral], bounds),
        _ => bounds.miss("corral serve has no inference gateway that could be measured"),
    }
}

/// In turns, so that what the machine does otherwise meets all alike.
fn measure(all: &mut [Contender], rounds: usize, stream_rounds: usize) {
    let load = Load::default();
    for _ in 0..rounds {
        for one in &mut *all {
            let latencies = load.latencies(&one.target, one.requests);
            let micros = |hundredths| percentile(&latencies, hundredths).as_secs_f64() * 1e6;
            one.median_us.push(micros(50));
            one.p99_us.push(micros(99));
        }
        for one in &mut *all {
            one.rate.push(load.rate(&one.target, CONNECTIONS, End::After(WINDOW)));
        }
    }
    for _ in 0..stream_rounds {
        for one in &mut *all {
            let streamed = load.streams(&one.target, STREAMS.0);
            one.tokens.push(streamed.tokens_per_second);
            one.wait_ms.push_ms(streamed.longest_wait);
        }
    }
}

fn row(all: &[Contender], name: &str, figures: impl Fn(&Contender) -> &Series) {
    let figures: Vec<_> = all.iter().map(|one| figures(one).to_string()).collect();
    println!("  {name:<30} {}", figures.join(" ").trim_end());
}

fn judge([direct, nginx, litellm, corral]: [&Contender; 4], bounds: &mut Bounds) {
    let added = |one: &Contender| one.median_us.median() - direct.median_us.median();
    println!(
        "  added to p50: nginx {:.0} µs, LiteLLM {:.0} µs, Corral {:.0} µs",
        added(nginx),
        added(litellm),
        added(corral)
    );
    let ratio = corral.median_us.median() / nginx.median_us.median();
    let verdict = bounds.at_most("the gateway's p50 against nginx's", ratio, LATENCY_BOUND, "");
    println!("  p50, Corral / nginx            {ratio:>7.2}  {verdict}");
    // Below a microsecond there is only noise.
    let ratio = added(litellm) / added(corral).max(1.0);
    let verdict = bounds.at_least("what LiteLLM adds against what the gateway adds", ratio, ADDED_BOUND, "");
    println!("  added to p50, LiteLLM / Corral {ratio:>7.2}  {verdict}");
    let ratio = corral.rate.median() / nginx.rate.median();
    let verdict = bounds.at_least("the gateway's requests/s against nginx's", ratio, RATE_BOUND, "");
    println!("  requests/s, Corral / nginx     {ratio:>7.2}  {verdict}");
    let ratio = corral.tokens.median() / direct.tokens.median();
    let verdict = bounds.at_least("the gateway's tokens/s against none", ratio, PACE_BOUND, "");
    println!("  tokens/s, Corral / direct      {ratio:>7.2}  {verdict}");
}
