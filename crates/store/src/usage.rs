//! The questions: sums over requests, and the switch history.

use std::cmp::Reverse;
use std::collections::HashMap;

use corral_core::history::PastOperation;
use corral_core::ports::UsageSource;
use corral_core::usage::{UsageBy, UsageRow};
use corral_core::{Code, Error, Result};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use rusqlite::{Connection, OptionalExtension, Row, Statement, params};

use crate::Store;
use crate::batch::{BUCKET_MS, Sums};

/// The name of requests that had no model, or no session.
const NOBODY: i64 = 0;

impl UsageSource for Store {
    fn usage(
        &self,
        by: UsageBy,
        since: Option<Timestamp>,
        until: Option<Timestamp>,
        zone: &TimeZone,
    ) -> Result<Vec<UsageRow>> {
        let span = Span::of(since, until);
        let read = || {
            let mut reader = self.reader()?;
            // One moment for all that is read, whatever is written meanwhile.
            let moment = reader.transaction()?;
            match by {
                UsageBy::Model => named(&moment, "usage_by_model", "model", &span),
                UsageBy::Session => labelled(&moment, named(&moment, "usage_by_session", "session", &span)?),
                UsageBy::Day => by_day(&moment, &span, zone),
            }
        };
        read().map_err(|source| Error::new(Code::Io, "cannot read the usage").because(source))
    }

    fn history(&self, count: u32) -> Result<Vec<PastOperation>> {
        self.operations(count)
    }
}

/// What is asked for: whole buckets, which are read from the sums, and what lies beside them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    /// The first and the one behind the last.
    buckets: (i64, i64),
    /// Milliseconds, the second not included; before and behind the buckets.
    rest: [(i64, i64); 2],
}

impl Span {
    fn of(since: Option<Timestamp>, until: Option<Timestamp>) -> Self {
        let millis = |at: Timestamp| at.as_millisecond();
        let (since, until) = (since.map_or(i64::MIN, millis), until.map_or(i64::MAX, millis));
        let until = until.max(since);
        let first = since.div_euclid(BUCKET_MS) + i64::from(since.rem_euclid(BUCKET_MS) > 0);
        let end = until.div_euclid(BUCKET_MS);
        if first >= end {
            return Self { buckets: (0, 0), rest: [(since, until), (0, 0)] };
        }
        let (whole, behind) = (first.saturating_mul(BUCKET_MS), end.saturating_mul(BUCKET_MS));
        Self { buckets: (first, end), rest: [(since, whole), (behind, until)] }
    }
}

/// The sums from a row whose columns are those of [`SUMS`], from this one on.
fn sums(row: &Row<'_>, from: usize) -> rusqlite::Result<Sums> {
    Ok(Sums {
        requests: row.get(from)?,
        tokens_in: row.get(from + 1)?,
        tokens_out: row.get(from + 2)?,
        tokens_cached: row.get(from + 3)?,
        duration_us: row.get(from + 4)?,
        energy_mj: row.get(from + 5)?,
        energy_requests: row.get(from + 6)?,
    })
}

/// Adds up rows of a key and sums.
fn add_up(
    all: &mut HashMap<i64, Sums>,
    mut statement: Statement<'_>,
    (from, to): (i64, i64),
    key: impl Fn(i64) -> i64,
) -> rusqlite::Result<()> {
    let mut rows = statement.query(params![from, to])?;
    while let Some(row) = rows.next()? {
        all.entry(key(row.get(0)?)).or_default().add(sums(row, 1)?);
    }
    Ok(())
}

const SUMS: &str = "requests, tokens_in, tokens_out, tokens_cached, duration_us, energy_mj, energy_requests";
const ONE: &str = "1, tokens_in, tokens_out, tokens_cached, duration_us, coalesce(energy_mj, 0), energy_mj IS NOT NULL";

fn named(reader: &Connection, table: &str, column: &str, span: &Span) -> rusqlite::Result<Vec<UsageRow>> {
    let mut all = HashMap::new();
    let buckets = format!("SELECT name, {SUMS} FROM {table} WHERE bucket >= ?1 AND bucket < ?2");
    add_up(&mut all, reader.prepare(&buckets)?, span.buckets, |name| name)?;
    let rows = format!("SELECT {column}, {ONE} FROM requests WHERE at_ms >= ?1 AND at_ms < ?2");
    for rest in span.rest {
        add_up(&mut all, reader.prepare(&rows)?, rest, |name| name)?;
    }
    let mut name = reader.prepare("SELECT name FROM names WHERE id = ?1")?;
    let mut usage = Vec::with_capacity(all.len());
    for (id, sums) in all {
        let key = if id == NOBODY { String::new() } else { name.query_row([id], |row| row.get(0))? };
        usage.push(row(key, sums));
    }
    usage.sort_by(|a, b| {
        let tokens = |row: &UsageRow| Reverse(row.tokens_in.saturating_add(row.tokens_out));
        (tokens(a), &a.key).cmp(&(tokens(b), &b.key))
    });
    Ok(usage)
}

/// The rows of sessions with their labels.
fn labelled(reader: &Connection, mut sessions: Vec<UsageRow>) -> rusqlite::Result<Vec<UsageRow>> {
    let mut label = reader.prepare("SELECT label FROM sessions WHERE id = ?1")?;
    for row in &mut sessions {
        row.label = label.query_row([&row.key], |found| found.get(0)).optional()?.flatten();
    }
    Ok(sessions)
}

fn by_day(reader: &Connection, span: &Span, zone: &TimeZone) -> rusqlite::Result<Vec<UsageRow>> {
    let mut quarters = HashMap::new();
    let buckets = format!("SELECT bucket, {SUMS} FROM usage_by_model WHERE bucket >= ?1 AND bucket < ?2");
    add_up(&mut quarters, reader.prepare(&buckets)?, span.buckets, |bucket| bucket)?;
    let rows = format!("SELECT at_ms, {ONE} FROM requests WHERE at_ms >= ?1 AND at_ms < ?2");
    for rest in span.rest {
        add_up(&mut quarters, reader.prepare(&rows)?, rest, |at| at.div_euclid(BUCKET_MS))?;
    }
    let mut days: HashMap<Date, Sums> = HashMap::new();
    for (bucket, sums) in quarters {
        // No day begins within a bucket. The first bucket of all begins before time does.
        let at = Timestamp::from_millisecond(bucket.saturating_mul(BUCKET_MS)).unwrap_or(Timestamp::MIN);
        days.entry(zone.to_datetime(at).date()).or_default().add(sums);
    }
    let mut days: Vec<_> = days.into_iter().collect();
    days.sort_by_key(|(day, _)| *day);
    Ok(days.into_iter().map(|(day, sums)| row(day.to_string(), sums)).collect())
}

#[expect(clippy::cast_precision_loss, reason = "a fraction of a second is of no interest after 285 years")]
fn row(key: String, sums: Sums) -> UsageRow {
    let count = |number: i64| u64::try_from(number).unwrap_or(0);
    // A short request may have been measured and have taken nothing.
    let measured = sums.energy_mj > 0 || sums.energy_requests.is_some_and(|requests| requests > 0);
    UsageRow {
        key,
        label: None,
        requests: count(sums.requests),
        tokens_in: count(sums.tokens_in),
        tokens_out: count(sums.tokens_out),
        tokens_cached: count(sums.tokens_cached),
        seconds: sums.duration_us as f64 / 1e6,
        energy_joules: measured.then(|| sums.energy_mj as f64 / 1e3),
        energy_requests: sums.energy_requests.map(count),
    }
}

#[cfg(test)]
#[path = "usage_tests.rs"]
mod tests;
