//! What Corral remembers between runs, in one SQLite file: the operations it carried out and the model it should be
//! running.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use corral_core::ports::{Ended, FirstAnswer, Journal};
use corral_core::snapshot::{OperationKind, OperationView, SessionView};
use corral_core::{Code, Error, ModelId, OperationId, Result};
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};

/// The schema's number, kept in `PRAGMA user_version`.
const SCHEMA: i64 = 1;

/// How many ended operations are kept.
const KEPT_OPERATIONS: i64 = 10_000;

/// The store. One connection behind a lock: it is written a few times per switch.
#[derive(Debug)]
pub struct Store {
    connection: Mutex<Connection>,
}

/// An operation as it was remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PastOperation {
    /// Its id.
    pub id: String,
    /// `start`, `stop`, `switch` or `restore`.
    pub kind: String,
    /// The model that served before.
    pub from: Option<String>,
    /// The model that was to serve.
    pub to: Option<String>,
    /// Milliseconds from the request to the end; none while it runs, or when Corral was killed meanwhile.
    pub milliseconds: Option<i64>,
    /// The error's code; none where it ended well or has not ended.
    pub error: Option<String>,
}

impl Store {
    /// Opens the file, readable by this user only, and brings its schema up to date.
    pub fn open(path: &Path) -> Result<Self> {
        let failed = |source: rusqlite::Error| {
            Error::new(Code::Io, format!("cannot use {}", path.display()))
                .because(source)
                .hint("move the file away; Corral makes a new one")
        };
        restrict(path)?;
        let connection = Connection::open(path).map_err(failed)?;
        Self::with(connection).map_err(failed)
    }

    fn with(connection: Connection) -> rusqlite::Result<Self> {
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        // The page cache is memory of an idle program: 256 KiB is plenty.
        connection.pragma_update(None, "cache_size", -256)?;
        let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        if version < SCHEMA {
            connection.execute_batch(
                "BEGIN;
                 CREATE TABLE operations (
                     id TEXT PRIMARY KEY, kind TEXT NOT NULL, from_model TEXT, to_model TEXT,
                     started_ms INTEGER NOT NULL, ended_ms INTEGER, error TEXT
                 ) STRICT, WITHOUT ROWID;
                 CREATE INDEX operations_by_end ON operations (ended_ms);
                 CREATE TABLE state (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
                 PRAGMA user_version = 1;
                 COMMIT;",
            )?;
        }
        Ok(Self { connection: Mutex::new(connection) })
    }

    /// The latest operations, newest first.
    pub fn operations(&self, count: u32) -> Result<Vec<PastOperation>> {
        let read = || {
            let connection = self.connection();
            let mut statement = connection.prepare_cached(
                "SELECT id, kind, from_model, to_model, ended_ms - started_ms, error FROM operations
                 ORDER BY id DESC LIMIT ?1",
            )?;
            let rows = statement.query_map([count], |row| {
                Ok(PastOperation {
                    id: row.get(0)?,
                    kind: row.get(1)?,
                    from: row.get(2)?,
                    to: row.get(3)?,
                    milliseconds: row.get(4)?,
                    error: row.get(5)?,
                })
            })?;
            rows.collect::<rusqlite::Result<Vec<_>>>()
        };
        read().map_err(|source| Error::new(Code::Io, "cannot read the switch history").because(source))
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a write whose failure must not become the operation's own.
    fn write(&self, what: &str, write: impl FnOnce(&Connection) -> rusqlite::Result<()>) {
        if let Err(error) = write(&self.connection()) {
            tracing::warn!(%error, "could not remember {what}");
        }
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
}

fn restrict(path: &Path) -> Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let opened = std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(path);
    opened.map(drop).map_err(|source| Error::new(Code::Io, format!("cannot open {}", path.display())).because(source))
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

fn kind(operation: &OperationView) -> &'static str {
    use corral_core::snapshot::OperationKind::{Restart, Restore, Start, Stop, Switch, Unload};
    match operation.kind {
        Start => "start",
        Stop => "stop",
        Switch => "switch",
        Restore => "restore",
        Restart => "restart",
        Unload => "unload",
    }
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
                    kind(operation),
                    operation.from.as_ref().map(ModelId::as_str),
                    operation.to.as_ref().map(ModelId::as_str),
                    operation.started_at.as_millisecond(),
                ])?;
            Ok(())
        });
    }

    fn ended(&self, ended: &Ended) {
        self.write("the end of an operation", |connection| {
            connection.prepare_cached("UPDATE operations SET ended_ms = ?2, error = ?3 WHERE id = ?1")?.execute(
                params![
                    ended.operation.id.to_string(),
                    ended.at.as_millisecond(),
                    ended.error.as_ref().map(|error| error.code().as_str()),
                ],
            )?;
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
        });
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

    fn first_answer(&self, _: OperationId, _: &FirstAnswer) {}

    fn expected(&self, _: OperationKind, _: &ModelId) -> Option<Duration> {
        None
    }

    fn session(&self, _: &SessionView, _: Option<Timestamp>) {}
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use corral_core::OperationId;
    use corral_core::snapshot::{OperationKind, Step};
    use jiff::Timestamp;
    use uuid::Uuid;

    use super::*;

    fn operation(number: u128, to: &str) -> OperationView {
        OperationView {
            id: OperationId(Uuid::from_u128(number)),
            kind: OperationKind::Switch,
            from: None,
            to: Some(ModelId::new(to).unwrap()),
            step: Step::Load,
            progress: None,
            started_at: Timestamp::from_millisecond(1_000).unwrap(),
            expected_ms: None,
        }
    }

    fn ended(number: u128, to: &str, error: Option<Error>) -> Ended {
        Ended { operation: operation(number, to), at: Timestamp::from_millisecond(1_250).unwrap(), error }
    }

    #[test]
    fn it_remembers_across_runs_and_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("corral.sqlite3");
        let store = Store::open(&path).unwrap();
        store.began(&operation(1, "a"));
        store.ended(&ended(1, "a", None));
        store.began(&operation(2, "b"));
        store.ended(&ended(2, "b", Some(Error::new(Code::LoadFailed, "x"))));
        store.began(&operation(3, "c"));
        store.want(Some(&ModelId::new("c").unwrap()));
        drop(store);
        let store = Store::open(&path).unwrap();
        assert_eq!(store.wanted().unwrap().as_str(), "c");
        assert_eq!(store.last_served().unwrap().as_str(), "a", "a failed one does not count");
        let past: Vec<_> = store.operations(10).unwrap().into_iter().map(|o| (o.to, o.milliseconds, o.error)).collect();
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(
            past,
            [(text("c"), None, None), (text("b"), Some(250), text("load_failed")), (text("a"), Some(250), None)]
        );
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        store.want(None);
        assert_eq!(store.wanted(), None);
    }

    #[test]
    fn a_file_that_is_no_database_is_an_error_with_a_hint() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("corral.sqlite3");
        std::fs::write(&path, "not a database, and long enough to be looked at as one").unwrap();
        let error = Store::open(&path).unwrap_err();
        assert_eq!(error.code(), Code::Io);
        assert!(error.body().hint.is_some());
    }
}
