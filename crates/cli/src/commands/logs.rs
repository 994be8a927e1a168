//! `corral logs`

use std::io::BufRead;

use corral_core::log::{LogLevel, LogRecord};
use corral_daemon::Environment;
use jiff::tz::TimeZone;

use super::Outcome;
use crate::args::LogsArgs;
use crate::exit;
use crate::output::{BAD, BUSY, DIM, Output, Paint, visible};
use corral_client::Client;

/// Prints `llama-server`'s log as it comes.
pub(crate) fn logs(args: &LogsArgs, env: &Environment, out: &mut Output) -> Outcome {
    let client = Client::of_home(env)?;
    let mut stream = client.stream(&format!("/logs?tail={}&follow={}", args.tail, u8::from(args.follow)))?;
    let zone = TimeZone::system();
    loop {
        // Whatever has come is shown before more is waited for.
        out.flush()?;
        let mut piece = stream.fill_buf().map_err(|error| client.broken(error))?.to_vec();
        if piece.is_empty() {
            return Ok(exit::DONE);
        }
        stream.consume(piece.len());
        if piece.last() != Some(&b'\n') {
            stream.read_until(b'\n', &mut piece).map_err(|error| client.broken(error))?;
        }
        if out.json {
            out.text(&String::from_utf8_lossy(&piece))?;
            continue;
        }
        for line in piece.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let record: LogRecord = client.parse(line)?;
            out.line(&render(&record, &zone, out.paint))?;
        }
    }
}

/// For instance `12:03:04 INFO  glm-flash  server is listening`.
fn render(record: &LogRecord, zone: &TimeZone, paint: Paint) -> String {
    let (level, style) = match record.level {
        LogLevel::Debug => ("DEBUG", DIM),
        LogLevel::Info => ("INFO ", anstyle::Style::new()),
        LogLevel::Warn => ("WARN ", BUSY),
        LogLevel::Error => ("ERROR", BAD),
    };
    let at = record.ts.to_zoned(zone.clone()).strftime("%H:%M:%S").to_string();
    let (at, level) = (paint.paint(DIM, &at), paint.paint(style, level));
    format!("{at} {level} {}  {}", paint.paint(DIM, record.model.as_str()), visible(&record.msg))
}

#[cfg(test)]
mod tests {
    use corral_core::ModelId;

    use super::*;

    #[test]
    fn a_record_is_one_line() {
        let mut record = LogRecord {
            ts: "2026-05-04T12:03:04Z".parse().unwrap(),
            level: LogLevel::Info,
            model: ModelId::new("glm").unwrap(),
            msg: "listening\u{1b}[2J".to_owned(),
        };
        assert_eq!(render(&record, &TimeZone::UTC, Paint(false)), r"12:03:04 INFO  glm  listening\u{1b}[2J");
        record.level = LogLevel::Error;
        let paint = "\u{1b}[2m12:03:04\u{1b}[0m \u{1b}[1m\u{1b}[31mERROR\u{1b}[0m";
        assert!(render(&record, &TimeZone::UTC, Paint(true)).starts_with(paint));
    }
}
