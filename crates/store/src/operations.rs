//! The journal: operations with their phases, sessions, and the model that should be running.

use std::time::Duration;

use corral_core::history::PastOperation;
use corral_core::ports::{Ended, FirstAnswer, Journal};
use corral_core::snapshot::{OperationKind, OperationView, SessionView, Step};
use corral_core::{Code, Error, ModelId, OperationId, Result};
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::Store;

/// How many ended operations are kept.
const KEPT_OPERATIONS: i64 = 10_000;

/// How many operations of the past say how long the next one takes.
const SAMPLES: i64 = 5;

impl Store {
    /// The latest operations, newest first.
    pub(crate) fn operations(&self, count: u32) -> Result<Vec<PastOperation>> {
        let read = || {
            let connection = self.reader()?;
            let mut statement = connection.prepare(
                "SELECT id, kind, from_model, to_model, started_ms, total_ms, error,
                     drain_ms, save_ms, stop_ms, create_ms, load_ms, restore_ms, saved_tokens, restored_tokens,
                     first_token_ms, first_prompt_tokens, first_cached_tokens
                 FROM operations ORDER BY id DESC LIMIT ?1",
            )?;
            // Of a newer version there may be kinds that are not known here.
            let rows = statement.query_map([count], past)?.filter_map(Result::transpose);
            rows.collect::<rusqlite::Result<Vec<_>>>()
        };
        read().map_err(|source| Error::new(Code::Io, "cannot read the switch history").because(source))
    }

    /// Runs a write whose failure must not become the operation's own.
    pub(crate) fn write(&self, what: &str, write: impl FnOnce(&Connection) -> rusqlite::Result<()>) {
        if let Err(error) = write(&self.connection()) {
            tracing::warn!(%error, "could not remember {what}");
        }
    }

    /// Ends the sessions of a Corral that has ended itself: with their last request, for nobody knows of later.
    pub(crate) fn end_sessions(&self) {
        self.write("the end of earlier sessions", |connection| {
            connection.execute(
                "UPDATE sessions SET ended_ms = coalesce(
                     (SELECT at_ms FROM requests
                      WHERE at_ms >= started_ms AND session = (SELECT names.id FROM names WHERE name = sessions.id)
                      ORDER BY at_ms DESC LIMIT 1),
                     started_ms)
                 WHERE ended_ms IS NULL",
                [],
            )?;
            Ok(())
        });
    }

    fn state(&self, key: &str) -> Option<ModelId> {
        let connection = self.connection();
        let value = connection
            .prepare_cached("SELECT value FROM state WHERE key = ?1")
            .and_then(|mut statement| statement.query_row([key], |row| row.get::<_, String>(0)).optional());
        match value {
            Ok(value) => value.and_then(|text| ModelId::new(text).ok()),
            Err(error) => {
                tracing::warn!(%error, "could not recall {key}");
                None
            }
        }
    }

    /// Milliseconds that the latest operations took which loaded this model, by an expression over the table.
    fn samples(&self, what: &str, condition: &str, to: &ModelId) -> rusqlite::Result<Vec<i64>> {
        let connection = self.connection();
        let mut statement = connection.prepare_cached(&format!(
            "SELECT {what} FROM operations
             WHERE to_model = ?1 AND total_ms IS NOT NULL AND error IS NULL AND load_ms IS NOT NULL {condition}
             ORDER BY id DESC LIMIT ?2"
        ))?;
        let rows = statement.query_map(params![to.as_str(), SAMPLES], |row| row.get(0))?;
        rows.collect()
    }

    fn expected_ms(&self, kind: OperationKind, to: &ModelId) -> rusqlite::Result<Option<u64>> {
        let loading = "coalesce(create_ms, 0) + load_ms + coalesce(restore_ms, 0)";
        match kind {
            OperationKind::Stop | OperationKind::Unload => Ok(None),
            OperationKind::Start | OperationKind::Restore | OperationKind::Restart => {
                Ok(median(self.samples(loading, "", to)?))
            }
            OperationKind::Switch => {
                // How long the requests of others still ran is no property of the model.
                let own = "total_ms - coalesce(drain_ms, 0)";
                let whole = median(self.samples(own, "AND kind = 'switch'", to)?);
                Ok(whole.or(median(self.samples(loading, "", to)?)))
            }
        }
    }
}

/// The one in the middle; of an even number the later of the two, for it is better to be early.
fn median(mut numbers: Vec<i64>) -> Option<u64> {
    numbers.sort_unstable();
    numbers.get(numbers.len() / 2).map(|middle| middle.unsigned_abs())
}

/// A row of the history; none where this version does not know what it is.
fn past(row: &Row<'_>) -> rusqlite::Result<Option<PastOperation>> {
    let model =
        |index| Ok::<_, rusqlite::Error>(row.get::<_, Option<String>>(index)?.and_then(|id| ModelId::new(id).ok()));
    let id = row.get::<_, String>(0)?.parse().ok().map(OperationId);
    let known = id.zip(kind_of(&row.get::<_, String>(1)?));
    let started_at = Timestamp::from_millisecond(row.get(4)?).ok();
    let (Some((id, kind)), Some(started_at)) = (known, started_at) else { return Ok(None) };
    let error = row.get::<_, Option<String>>(6)?;
    Ok(Some(PastOperation {
        id,
        kind,
        from: model(2)?,
        to: model(3)?,
        started_at,
        total_ms: number(row, 5)?,
        error: error.map(|code| code_of(&code)),
        drain_ms: number(row, 7)?,
        save_ms: number(row, 8)?,
        stop_ms: number(row, 9)?,
        create_ms: number(row, 10)?,
        load_ms: number(row, 11)?,
        restore_ms: number(row, 12)?,
        saved_tokens: number(row, 13)?,
        restored_tokens: number(row, 14)?,
        first_token_ms: number(row, 15)?,
        first_prompt_tokens: number(row, 16)?,
        first_cached_tokens: number(row, 17)?,
    }))
}

fn number(row: &Row<'_>, index: usize) -> rusqlite::Result<Option<u64>> {
    Ok(row.get::<_, Option<i64>>(index)?.map(i64::unsigned_abs))
}

const KINDS: [(OperationKind, &str); 6] = [
    (OperationKind::Start, "start"),
    (OperationKind::Stop, "stop"),
    (OperationKind::Switch, "switch"),
    (OperationKind::Restore, "restore"),
    (OperationKind::Restart, "restart"),
    (OperationKind::Unload, "unload"),
];

fn kind_name(kind: OperationKind) -> &'static str {
    KINDS.iter().find(|(known, _)| *known == kind).map_or("", |(_, name)| name)
}

fn kind_of(name: &str) -> Option<OperationKind> {
    KINDS.iter().find(|(_, known)| *known == name).map(|(kind, _)| *kind)
}

fn code_of(name: &str) -> Code {
    serde::Deserialize::deserialize(serde::de::value::StrDeserializer::<serde::de::value::Error>::new(name))
        .unwrap_or(Code::Internal)
}

fn set_state(connection: &Connection, key: &str, model: Option<&ModelId>) -> rusqlite::Result<()> {
    match model {
        Some(model) => connection
            .prepare_cached("INSERT INTO state (key, value) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = ?2")?
            .execute(params![key, model.as_str()])?,
        None => connection.prepare_cached("DELETE FROM state WHERE key = ?1")?.execute([key])?,
    };
    Ok(())
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// Milliseconds of these steps together; none where none of them was taken.
fn phase(ended: &Ended, steps: &[Step]) -> Option<i64> {
    let taken: Vec<Duration> =
        ended.steps.iter().filter(|(step, _)| steps.contains(step)).map(|(_, took)| *took).collect();
    (!taken.is_empty()).then(|| millis(taken.iter().sum()))
}

fn tokens(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn end_of(connection: &Connection, ended: &Ended) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "UPDATE operations SET ended_ms = ?2, error = ?3, drain_ms = ?4, save_ms = ?5, stop_ms = ?6,
                 create_ms = ?7, load_ms = ?8, restore_ms = ?9, saved_tokens = ?10, restored_tokens = ?11,
                 total_ms = ?12
             WHERE id = ?1",
        )?
        .execute(params![
            ended.operation.id.to_string(),
            ended.at.as_millisecond(),
            ended.error.as_ref().map(|error| error.code().as_str()),
            phase(ended, &[Step::Drain]),
            phase(ended, &[Step::Save]),
            phase(ended, &[Step::Stop, Step::Free]),
            phase(ended, &[Step::Prepare, Step::Pull]),
            phase(ended, &[Step::Start, Step::Load]),
            phase(ended, &[Step::Restore]),
            ended.saved.map(|kept| tokens(kept.tokens)),
            ended.restored.map(|kept| tokens(kept.tokens)),
            ended.took().map(millis),
        ])?;
    if ended.error.is_none() && ended.operation.to.is_some() {
        set_state(connection, "last_served", ended.operation.to.as_ref())?;
    }
    // Version 7 UUIDs sort by time.
    connection
        .prepare_cached(
            "DELETE FROM operations WHERE id < (SELECT id FROM operations ORDER BY id DESC LIMIT 1 OFFSET ?1)",
        )?
        .execute([KEPT_OPERATIONS])?;
    Ok(())
}

impl Journal for Store {
    fn began(&self, operation: &OperationView) {
        self.write("the start of an operation", |connection| {
            connection
                .prepare_cached(
                    "INSERT INTO operations (id, kind, from_model, to_model, started_ms) VALUES (?1, ?2, ?3, ?4, ?5)",
                )?
                .execute(params![
                    operation.id.to_string(),
                    kind_name(operation.kind),
                    operation.from.as_ref().map(ModelId::as_str),
                    operation.to.as_ref().map(ModelId::as_str),
                    operation.started_at.as_millisecond(),
                ])?;
            Ok(())
        });
    }

    fn ended(&self, ended: &Ended) {
        self.write("the end of an operation", |connection| end_of(connection, ended));
    }

    fn want(&self, model: Option<&ModelId>) {
        self.write("the wanted model", |connection| set_state(connection, "wanted", model));
    }

    fn wanted(&self) -> Option<ModelId> {
        self.state("wanted")
    }

    fn last_served(&self) -> Option<ModelId> {
        self.state("last_served")
    }

    fn first_answer(&self, operation: OperationId, answer: &FirstAnswer) {
        // The first token is the first answer's. What the cache was good for, the first answer says that continues.
        self.write("the first answer of a model", |connection| {
            connection
                .prepare_cached(
                    "UPDATE operations SET
                         first_token_ms = coalesce(first_token_ms, max(?2 - started_ms, 0)),
                         first_prompt_tokens = CASE WHEN ?6 THEN ?3 ELSE coalesce(first_prompt_tokens, ?3) END,
                         first_cached_tokens = CASE WHEN ?6 THEN ?4 ELSE coalesce(first_cached_tokens, ?4) END,
                         first_continues = CASE WHEN ?6 THEN ?5 ELSE coalesce(first_continues, ?5) END
                     WHERE id = ?1 AND first_continues IS NOT 1",
                )?
                .execute(params![
                    operation.to_string(),
                    answer.first_token_at.as_millisecond(),
                    tokens(answer.tokens.input),
                    tokens(answer.tokens.cached),
                    answer.continues,
                    answer.continues == Some(true),
                ])?;
            Ok(())
        });
    }

    fn expected(&self, kind: OperationKind, to: &ModelId) -> Option<Duration> {
        match self.expected_ms(kind, to) {
            Ok(expected) => expected.map(Duration::from_millis),
            Err(error) => {
                tracing::warn!(%error, "could not recall how long loading {to} takes");
                None
            }
        }
    }

    fn session(&self, session: &SessionView, ended: Option<Timestamp>) {
        self.write("a session", |connection| {
            connection
                .prepare_cached(
                    "INSERT INTO sessions (id, label, started_ms, ended_ms) VALUES (?1, ?2, ?3, ?4)
                     ON CONFLICT DO UPDATE SET ended_ms = ?4",
                )?
                .execute(params![
                    session.id.as_str(),
                    session.label,
                    session.started_at.as_millisecond(),
                    ended.map(Timestamp::as_millisecond),
                ])?;
            Ok(())
        });
    }
}

#[cfg(test)]
#[path = "operations_tests.rs"]
mod tests;
