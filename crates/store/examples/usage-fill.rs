//! Fills a file with requests of the last 30 days, to measure questions on: `usage-fill FILE COUNT`.

use std::path::PathBuf;
use std::time::Duration;

use corral_core::ports::Ledger;
use corral_core::usage::{InferenceRoute, RequestEnd, RequestRecord, Tokens};
use corral_core::{Code, Error, ModelId, Result, SessionId};
use corral_store::{CAPACITY, Hooks, Store, ledger};
use jiff::Timestamp;

const SPAN_MS: i64 = 30 * 24 * 3_600_000;
/// Sessions at a time, and how long each lasts.
const SESSIONS: (i64, i64) = (10, 4 * 3_600_000);
const MODELS: i64 = 5;

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let usage = || Error::new(Code::InvalidRequest, "say where, and how many requests: usage-fill FILE COUNT");
    let file = PathBuf::from(args.next().ok_or_else(usage)?);
    let count: i64 = args.next().and_then(|count| count.parse().ok()).ok_or_else(usage)?;
    Store::open(&file)?;
    let first = Timestamp::now().as_millisecond() - SPAN_MS;
    for chunk in (0..count).collect::<Vec<_>>().chunks(CAPACITY) {
        let (queue, writer) = ledger(&file);
        for number in chunk {
            queue.record(request(*number, first + SPAN_MS / count * number)?);
        }
        let hooks = Hooks {
            keep: Box::new(|| Duration::from_hours(365 * 24)),
            now: Box::new(Timestamp::now),
            tell: Box::new(|trouble| eprintln_of(&format!("{trouble:?}"))),
            on_batch: Box::new(|_| {}),
        };
        writer.start(hooks)?.flush_and_close();
    }
    Ok(())
}

#[expect(clippy::print_stderr, reason = "this is a program for people")]
fn eprintln_of(text: &str) {
    eprintln!("{text}");
}

fn request(number: i64, at: i64) -> Result<RequestRecord> {
    let (at_a_time, lasting) = SESSIONS;
    let session = format!("session-{}-{}", at / lasting, number % at_a_time);
    let invalid = |what: &str| Error::new(Code::Internal, format!("no {what}"));
    Ok(RequestRecord {
        at: Timestamp::from_millisecond(at).map_err(|_| invalid("time"))?,
        session: Some(SessionId::new(session).map_err(|_| invalid("session"))?),
        model: Some(ModelId::new(format!("model-{}", number % MODELS)).map_err(|_| invalid("model"))?),
        route: InferenceRoute::Messages,
        status: 200,
        end: RequestEnd::Complete,
        tokens: Tokens { input: 20_000, cached: 19_000, output: 300 },
        first_token: Some(Duration::from_millis(180)),
        duration: Duration::from_millis(4_200),
        held: Duration::ZERO,
        overhead: Duration::from_micros(60),
    })
}
