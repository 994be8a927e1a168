//! `GET /usage` and `GET /history`: what was written down.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use corral_core::Error;
use corral_core::ports::UsageSource;
use corral_core::usage::UsageBy;
use http::Uri;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::blocking::blocking;
use crate::dto::{HistoryList, UsageList};
use crate::failure::Failure;
use crate::query::parameters;
use crate::quote::quoted;
use crate::router::Shared;

/// How many operations are told of unless the caller says.
const OPERATIONS: u32 = 20;

/// `GET /usage`
pub(crate) async fn usage(State(shared): State<Shared>, uri: Uri) -> Result<Json<UsageList>, Failure> {
    let zone = TimeZone::system();
    let asked = Asked::parse(uri.query().unwrap_or_default(), Timestamp::now(), &zone)?;
    let rows = read(&shared, move |source| source.usage(asked.by, asked.since, None, &zone)).await?;
    let configuration = shared.configuration.clone();
    let settings = blocking("the reader of settings", move || Ok(configuration.settings().settings)).await?;
    Ok(Json(UsageList { rows, electricity_price: settings.electricity_price }))
}

/// `GET /history`
pub(crate) async fn history(State(shared): State<Shared>, uri: Uri) -> Result<Json<HistoryList>, Failure> {
    let mut count = OPERATIONS;
    for (_, value) in parameters("/history", uri.query().unwrap_or_default(), &["count"])? {
        count = value.parse().map_err(|_| {
            Failure::invalid(
                format!("`count` is {}, not a number of operations", quoted(&value)),
                "for instance count=20",
            )
        })?;
    }
    let operations = read(&shared, move |source| source.history(count)).await?;
    Ok(Json(HistoryList { operations }))
}

async fn read<T: Send + 'static>(
    shared: &Shared,
    read: impl FnOnce(&dyn UsageSource) -> Result<T, Error> + Send + 'static,
) -> Result<T, Failure> {
    let source: Arc<dyn UsageSource> = shared.usage.clone();
    blocking("the reader of usage", move || read(&*source)).await
}

/// What stands behind the question mark.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    by: UsageBy,
    since: Option<Timestamp>,
}

impl Asked {
    fn parse(query: &str, now: Timestamp, zone: &TimeZone) -> Result<Self, Failure> {
        let mut asked = Self { by: UsageBy::default(), since: None };
        for (name, value) in parameters("/usage", query, &["by", "since"])? {
            if name == "by" {
                asked.by = by(&value).ok_or_else(|| {
                    let message = format!("`by` is {}, which nothing is summed up by", quoted(&value));
                    Failure::invalid(message, "by=model, by=session or by=day")
                })?;
            } else {
                asked.since = Some(since(&value, now, zone).ok_or_else(|| {
                    let message = format!("`since` is {}, which is no time", quoted(&value));
                    Failure::invalid(message, "for instance 30d, 12h, 90m, 2026-11-01 or 2026-11-01T08:00:00Z")
                })?);
            }
        }
        Ok(asked)
    }
}

fn by(text: &str) -> Option<UsageBy> {
    match text {
        "model" => Some(UsageBy::Model),
        "session" => Some(UsageBy::Session),
        "day" => Some(UsageBy::Day),
        _ => None,
    }
}

/// The time that a text means: a time by itself, so long ago, or the beginning of a day in the zone.
fn since(text: &str, now: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
    if let Some(ago) = duration(text) {
        // Longer ago than time goes back is: everything.
        return Some(now.checked_sub(ago).unwrap_or(Timestamp::MIN));
    }
    if let Ok(day) = text.parse::<Date>()
        && !text.contains(['T', 't', ' '])
    {
        return day.to_zoned(zone.clone()).ok().map(|at| at.timestamp());
    }
    text.parse().ok()
}

/// A duration such as `30d`: days, hours, minutes or seconds.
fn duration(text: &str) -> Option<SignedDuration> {
    let unit = match text.bytes().last()? {
        b'd' => 86_400,
        b'h' => 3_600,
        b'm' => 60,
        b's' => 1,
        _ => return None,
    };
    let digits = &text[..text.len() - 1];
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number = digits.parse::<i64>().unwrap_or(i64::MAX);
    Some(SignedDuration::from_secs(number.saturating_mul(unit)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    #[test]
    fn times_are_written_in_many_ways() {
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        let read = |text: &str| since(text, time("2026-11-21T12:00:00Z"), &zone);
        let table = [
            ("30d", "2026-10-22T12:00:00Z"),
            ("12h", "2026-11-21T00:00:00Z"),
            ("90m", "2026-11-21T10:30:00Z"),
            ("0s", "2026-11-21T12:00:00Z"),
            ("2026-11-01", "2026-10-31T22:00:00Z"),
            ("2026-11-01T08:00:00Z", "2026-11-01T08:00:00Z"),
            ("2026-11-01T08:00:00+02:00", "2026-11-01T06:00:00Z"),
        ];
        for (text, expected) in table {
            assert_eq!(read(text), Some(time(expected)), "{text}");
        }
        assert_eq!(read("99999999999999999999d"), Some(Timestamp::MIN));
        for bad in
            ["", "d", "-1d", "+1d", "1.5h", "1 d", "30", "30D", "yesterday", "2026-13-01", "2026-11-01T08:00", "1dd"]
        {
            assert_eq!(read(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_question_is_read() {
        let now = time("2026-11-21T12:00:00Z");
        let read = |query: &str| Asked::parse(query, now, &TimeZone::UTC).ok();
        assert_eq!(read(""), Some(Asked { by: UsageBy::Model, since: None }));
        let day = Asked { by: UsageBy::Day, since: Some(time("2026-11-20T12:00:00Z")) };
        assert_eq!(read("by=day&since=1d"), Some(day));
        for bad in ["by=", "by=week", "since=", "since", "until=1d"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
