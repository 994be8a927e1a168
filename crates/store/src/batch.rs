//! Writing requests down: the rows, and the sums over quarters of an hour in the same transaction.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use corral_core::usage::{InferenceRoute, RequestEnd, RequestRecord};
use corral_core::{ModelId, SessionId};
use jiff::Timestamp;
use rusqlite::{Connection, Transaction, TransactionBehavior, params};

use crate::schema;

/// A bucket of the sums, in milliseconds. Every time zone's days begin at a multiple of it.
pub(crate) const BUCKET_MS: i64 = 15 * 60 * 1000;

/// No request has more tokens or takes more microseconds; with less than that no sum can overflow.
pub(crate) const MOST: u64 = 1 << 42;

/// So many buckets are removed at once, so that nobody waits long.
const BUCKETS_AT_ONCE: i64 = 16;

/// The name of none.
const NOBODY: i64 = 0;

/// Writes batches through a connection of its own.
pub(crate) struct Writer {
    path: PathBuf,
    connection: Option<Connection>,
    /// The names that are in the file for sure.
    names: HashMap<String, i64>,
}

/// What is summed up in each bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sums {
    pub(crate) requests: i64,
    pub(crate) tokens_in: i64,
    pub(crate) tokens_out: i64,
    pub(crate) tokens_cached: i64,
    pub(crate) duration_us: i64,
    pub(crate) energy_mj: i64,
    /// Of the requests, those whose energy was measured; none where that is not known of all of them.
    pub(crate) energy_requests: Option<i64>,
}

impl Default for Sums {
    /// Those of no request.
    fn default() -> Self {
        Self {
            requests: 0,
            tokens_in: 0,
            tokens_out: 0,
            tokens_cached: 0,
            duration_us: 0,
            energy_mj: 0,
            energy_requests: Some(0),
        }
    }
}

impl Sums {
    pub(crate) fn add(&mut self, other: Self) {
        self.requests = self.requests.saturating_add(other.requests);
        self.tokens_in = self.tokens_in.saturating_add(other.tokens_in);
        self.tokens_out = self.tokens_out.saturating_add(other.tokens_out);
        self.tokens_cached = self.tokens_cached.saturating_add(other.tokens_cached);
        self.duration_us = self.duration_us.saturating_add(other.duration_us);
        self.energy_mj = self.energy_mj.saturating_add(other.energy_mj);
        let both = self.energy_requests.zip(other.energy_requests);
        self.energy_requests = both.map(|(these, more)| these.saturating_add(more));
    }

    fn of(record: &RequestRecord) -> Self {
        Self {
            requests: 1,
            tokens_in: count(record.tokens.input),
            tokens_out: count(record.tokens.output),
            tokens_cached: count(record.tokens.cached),
            duration_us: micros(record.duration),
            energy_mj: record.energy.map_or(0, |energy| count(energy.0)),
            energy_requests: Some(record.energy.is_some().into()),
        }
    }
}

impl Writer {
    /// A writer of this file; it is opened when there is something to write.
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, connection: None, names: HashMap::new() }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes records, all of them or none.
    pub(crate) fn write(&mut self, records: &[RequestRecord]) -> rusqlite::Result<()> {
        self.attempt(|connection, names| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            write(&transaction, names, records)?;
            transaction.commit()
        })
    }

    /// Removes what is older, bucket by bucket.
    pub(crate) fn prune(&mut self, oldest: Timestamp) -> rusqlite::Result<()> {
        self.attempt(|connection, names| {
            let before = oldest.as_millisecond().div_euclid(BUCKET_MS);
            while prune_some(connection, before)? {}
            names.clear();
            connection.execute_batch(
                "DELETE FROM names WHERE id NOT IN (SELECT name FROM usage_by_model)
                     AND id NOT IN (SELECT name FROM usage_by_session)",
            )?;
            connection
                .execute("DELETE FROM sessions WHERE coalesce(ended_ms, started_ms) < ?1", [oldest.as_millisecond()])?;
            Ok(())
        })
    }

    /// Does something with the connection. One that failed is not used again: the file may have become another.
    fn attempt(
        &mut self,
        act: impl FnOnce(&mut Connection, &mut HashMap<String, i64>) -> rusqlite::Result<()>,
    ) -> rusqlite::Result<()> {
        let mut connection = self.connection.take().map_or_else(|| open(&self.path), Ok)?;
        let done = act(&mut connection, &mut self.names);
        if done.is_ok() {
            self.connection = Some(connection);
        } else {
            // Names that were new in it are not in the file.
            self.names.clear();
        }
        done
    }
}

fn open(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    schema::prepare(&connection)?;
    Ok(connection)
}

fn write(
    transaction: &Transaction<'_>,
    names: &mut HashMap<String, i64>,
    records: &[RequestRecord],
) -> rusqlite::Result<()> {
    let mut by_model: HashMap<(i64, i64), Sums> = HashMap::new();
    let mut by_session: HashMap<(i64, i64), Sums> = HashMap::new();
    let mut insert = transaction
        .prepare_cached("INSERT INTO requests VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)")?;
    for record in records {
        let at = record.at.as_millisecond();
        let session = name(transaction, names, record.session.as_ref().map(SessionId::as_str))?;
        let model = name(transaction, names, record.model.as_ref().map(ModelId::as_str))?;
        let sums = Sums::of(record);
        insert.execute(params![
            at,
            session,
            model,
            route(record.route),
            record.status,
            end(record.end),
            sums.tokens_in,
            sums.tokens_out,
            sums.tokens_cached,
            record.first_token.map(micros),
            sums.duration_us,
            micros(record.held),
            micros(record.overhead),
            record.energy.map(|energy| count(energy.0)),
        ])?;
        let bucket = at.div_euclid(BUCKET_MS);
        by_model.entry((bucket, model)).or_default().add(sums);
        by_session.entry((bucket, session)).or_default().add(sums);
    }
    for (table, all) in [("usage_by_model", by_model), ("usage_by_session", by_session)] {
        let mut upsert = transaction.prepare_cached(&format!(
            "INSERT INTO {table} VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT DO UPDATE SET
                 requests = requests + ?3, tokens_in = tokens_in + ?4, tokens_out = tokens_out + ?5,
                 tokens_cached = tokens_cached + ?6, duration_us = duration_us + ?7,
                 energy_mj = energy_mj + ?8, energy_requests = energy_requests + ?9"
        ))?;
        for ((bucket, name), sums) in all {
            let Sums { requests, tokens_in, tokens_out, tokens_cached, duration_us, energy_mj, energy_requests } = sums;
            upsert.execute(params![
                bucket,
                name,
                requests,
                tokens_in,
                tokens_out,
                tokens_cached,
                duration_us,
                energy_mj,
                energy_requests
            ])?;
        }
    }
    Ok(())
}

fn name(transaction: &Transaction<'_>, known: &mut HashMap<String, i64>, name: Option<&str>) -> rusqlite::Result<i64> {
    let Some(name) = name else { return Ok(NOBODY) };
    if let Some(id) = known.get(name) {
        return Ok(*id);
    }
    transaction.prepare_cached("INSERT INTO names (name) VALUES (?1) ON CONFLICT DO NOTHING")?.execute([name])?;
    let id = transaction.prepare_cached("SELECT id FROM names WHERE name = ?1")?.query_row([name], |row| row.get(0))?;
    known.insert(name.to_owned(), id);
    Ok(id)
}

/// Removes the oldest buckets before this one; whether there may be more.
fn prune_some(connection: &mut Connection, before: i64) -> rusqlite::Result<bool> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let oldest: Option<i64> = transaction.query_row("SELECT min(bucket) FROM usage_by_model", [], |row| row.get(0))?;
    let Some(oldest) = oldest.filter(|oldest| *oldest < before) else { return Ok(false) };
    let end = (oldest + BUCKETS_AT_ONCE).min(before);
    transaction.execute("DELETE FROM requests WHERE at_ms < ?1", [end * BUCKET_MS])?;
    transaction.execute("DELETE FROM usage_by_model WHERE bucket < ?1", [end])?;
    transaction.execute("DELETE FROM usage_by_session WHERE bucket < ?1", [end])?;
    transaction.commit()?;
    Ok(true)
}

fn count(number: u64) -> i64 {
    i64::try_from(number.min(MOST)).unwrap_or(i64::MAX)
}

fn micros(duration: Duration) -> i64 {
    count(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))
}

/// The number of a route in the file: never changed, only added to.
fn route(route: InferenceRoute) -> u8 {
    match route {
        InferenceRoute::Messages => 1,
        InferenceRoute::CountTokens => 2,
        InferenceRoute::ChatCompletions => 3,
        InferenceRoute::Completions => 4,
        InferenceRoute::Responses => 5,
        InferenceRoute::Embeddings => 6,
    }
}

/// The number of an end in the file: never changed, only added to.
fn end(end: RequestEnd) -> u8 {
    match end {
        RequestEnd::Complete => 1,
        RequestEnd::Refused => 2,
        RequestEnd::Broken => 3,
        RequestEnd::Cut => 4,
        RequestEnd::Abandoned => 5,
    }
}
