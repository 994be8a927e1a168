//! The tables, and how a file of an earlier version gets them.

use rusqlite::{Connection, Transaction, TransactionBehavior};

/// Each step leads from the schema before it to its own number, which is kept in `PRAGMA user_version`. A step that was
/// released is never changed: files that it has made are out there.
const STEPS: [&str; 5] = [
    "CREATE TABLE operations (
         id TEXT PRIMARY KEY, kind TEXT NOT NULL, from_model TEXT, to_model TEXT,
         started_ms INTEGER NOT NULL, ended_ms INTEGER, error TEXT
     ) STRICT, WITHOUT ROWID;
     CREATE INDEX operations_by_end ON operations (ended_ms);
     CREATE TABLE state (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;",
    // Phases are milliseconds. `first_continues` is what is known of the answer whose tokens are noted.
    "ALTER TABLE operations ADD COLUMN drain_ms INTEGER;
     ALTER TABLE operations ADD COLUMN save_ms INTEGER;
     ALTER TABLE operations ADD COLUMN stop_ms INTEGER;
     ALTER TABLE operations ADD COLUMN create_ms INTEGER;
     ALTER TABLE operations ADD COLUMN load_ms INTEGER;
     ALTER TABLE operations ADD COLUMN restore_ms INTEGER;
     ALTER TABLE operations ADD COLUMN saved_tokens INTEGER;
     ALTER TABLE operations ADD COLUMN restored_tokens INTEGER;
     ALTER TABLE operations ADD COLUMN first_token_ms INTEGER;
     ALTER TABLE operations ADD COLUMN first_prompt_tokens INTEGER;
     ALTER TABLE operations ADD COLUMN first_cached_tokens INTEGER;
     ALTER TABLE operations ADD COLUMN first_continues INTEGER;
     CREATE INDEX operations_by_target ON operations (to_model, id);
     CREATE TABLE sessions (
         id TEXT PRIMARY KEY, label TEXT, started_ms INTEGER NOT NULL, ended_ms INTEGER
     ) STRICT, WITHOUT ROWID;
     -- The names of models and sessions; 0 stands for none.
     CREATE TABLE names (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;
     CREATE TABLE requests (
         at_ms INTEGER NOT NULL, session INTEGER NOT NULL, model INTEGER NOT NULL, route INTEGER NOT NULL,
         status INTEGER NOT NULL, end INTEGER NOT NULL,
         tokens_in INTEGER NOT NULL, tokens_out INTEGER NOT NULL, tokens_cached INTEGER NOT NULL,
         first_token_us INTEGER, duration_us INTEGER NOT NULL, held_us INTEGER NOT NULL, overhead_us INTEGER NOT NULL
     ) STRICT;
     CREATE INDEX requests_by_time ON requests (at_ms);
     -- Sums of the requests of a quarter of an hour, numbered since 1970.
     CREATE TABLE usage_by_model (
         bucket INTEGER NOT NULL, name INTEGER NOT NULL, requests INTEGER NOT NULL,
         tokens_in INTEGER NOT NULL, tokens_out INTEGER NOT NULL, tokens_cached INTEGER NOT NULL,
         duration_us INTEGER NOT NULL, PRIMARY KEY (bucket, name)
     ) STRICT, WITHOUT ROWID;
     CREATE TABLE usage_by_session (
         bucket INTEGER NOT NULL, name INTEGER NOT NULL, requests INTEGER NOT NULL,
         tokens_in INTEGER NOT NULL, tokens_out INTEGER NOT NULL, tokens_cached INTEGER NOT NULL,
         duration_us INTEGER NOT NULL, PRIMARY KEY (bucket, name)
     ) STRICT, WITHOUT ROWID;",
    // What took how long is measured; until now it was the difference of two times of day, which may have been set.
    "ALTER TABLE operations ADD COLUMN total_ms INTEGER;
     UPDATE operations SET total_ms = CASE WHEN load_ms IS NULL THEN max(ended_ms - started_ms, 0) ELSE
         coalesce(drain_ms, 0) + coalesce(save_ms, 0) + coalesce(stop_ms, 0) + coalesce(create_ms, 0) + load_ms
             + coalesce(restore_ms, 0) END
     WHERE ended_ms IS NOT NULL;",
    // Millijoules; none where they were not measured, which adds nothing to the sums.
    "ALTER TABLE requests ADD COLUMN energy_mj INTEGER;
     ALTER TABLE usage_by_model ADD COLUMN energy_mj INTEGER NOT NULL DEFAULT 0;
     ALTER TABLE usage_by_session ADD COLUMN energy_mj INTEGER NOT NULL DEFAULT 0;",
    // Of the requests summed up, those whose energy was measured; none where their rows are not there to tell.
    "ALTER TABLE usage_by_model ADD COLUMN energy_requests INTEGER;
     UPDATE usage_by_model SET energy_requests = (
         SELECT CASE WHEN count(*) = usage_by_model.requests THEN count(energy_mj) END FROM requests AS one
         WHERE one.at_ms >= bucket * 900000 AND one.at_ms < (bucket + 1) * 900000 AND one.model = name);
     ALTER TABLE usage_by_session ADD COLUMN energy_requests INTEGER;
     UPDATE usage_by_session SET energy_requests = (
         SELECT CASE WHEN count(*) = usage_by_session.requests THEN count(energy_mj) END FROM requests AS one
         WHERE one.at_ms >= bucket * 900000 AND one.at_ms < (bucket + 1) * 900000 AND one.session = name);",
];

/// The schema that this version uses.
const VERSION: i64 = 5;

/// How the file stands to this version of Corral.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Age {
    /// It has the tables that this version uses.
    Current,
    /// A newer version has made it.
    Newer,
}

/// Settings of a connection that writes.
pub(crate) fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    // The page cache is memory of an idle program: 256 KiB is plenty.
    connection.pragma_update(None, "cache_size", -256)
}

/// Brings the file up to date in one transaction: a kill or a full disk in between leaves it as it was.
pub(crate) fn migrate(connection: &mut Connection) -> rusqlite::Result<Age> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let version = version(&transaction)?;
    let Some(steps) = usize::try_from(version).ok().and_then(|version| STEPS.get(version..)) else {
        return Ok(Age::Newer);
    };
    if !steps.is_empty() {
        for step in steps {
            transaction.execute_batch(step)?;
        }
        transaction.pragma_update(None, "user_version", VERSION)?;
    }
    transaction.commit()?;
    Ok(Age::Current)
}

fn version(transaction: &Transaction<'_>) -> rusqlite::Result<i64> {
    transaction.pragma_query_value(None, "user_version", |row| row.get(0))
}

#[cfg(test)]
mod tests {
    use corral_core::Code;
    use corral_core::ports::{Journal, UsageSource};
    use corral_core::snapshot::OperationKind::{Start, Switch};
    use corral_core::usage::UsageBy;

    use super::*;
    use crate::Store;

    /// A file as the first version of Corral made it.
    const MADE_BY_1: &str = "PRAGMA journal_mode = WAL;
        BEGIN;
        CREATE TABLE operations (
            id TEXT PRIMARY KEY, kind TEXT NOT NULL, from_model TEXT, to_model TEXT,
            started_ms INTEGER NOT NULL, ended_ms INTEGER, error TEXT
        ) STRICT, WITHOUT ROWID;
        CREATE INDEX operations_by_end ON operations (ended_ms);
        CREATE TABLE state (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
        PRAGMA user_version = 1;
        INSERT INTO operations VALUES
            ('019a0000-0000-7000-8000-000000000001', 'start', NULL, 'a', 1000, 4000, NULL),
            ('019a0000-0000-7000-8000-000000000002', 'switch', 'a', 'b', 5000, 9000, 'load_failed');
        INSERT INTO state VALUES ('wanted', 'a'), ('last_served', 'a');
        COMMIT;";

    #[test]
    fn a_file_of_the_first_version_is_taken_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("corral.sqlite3");
        Connection::open(&path).unwrap().execute_batch(MADE_BY_1).unwrap();
        for _ in 0..2 {
            let store = Store::open(&path).unwrap();
            let history = store.history(10).unwrap();
            let seen: Vec<_> = history.iter().map(|past| (past.kind, past.total_ms, past.error)).collect();
            assert_eq!(seen, [(Switch, Some(4000), Some(Code::LoadFailed)), (Start, Some(3000), None)]);
            assert_eq!(history[0].load_ms, None);
            assert_eq!((store.wanted().unwrap().as_str(), store.last_served().unwrap().as_str()), ("a", "a"));
        }
        let connection = Connection::open(&path).unwrap();
        let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
        assert_eq!(version, VERSION);
    }

    #[test]
    fn what_a_set_clock_made_of_durations_is_mended() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("corral.sqlite3");
        let connection = Connection::open(&path).unwrap();
        connection.execute_batch(MADE_BY_1).unwrap();
        connection.execute_batch(STEPS[1]).unwrap();
        connection.execute_batch("UPDATE operations SET ended_ms = 9999999, load_ms = 700, stop_ms = 20").unwrap();
        connection.execute_batch("UPDATE operations SET ended_ms = 1, load_ms = NULL WHERE kind = 'start'").unwrap();
        connection.pragma_update(None, "user_version", 2).unwrap();
        let history = Store::open(&path).unwrap().history(10).unwrap();
        assert_eq!(history.iter().map(|past| past.total_ms).collect::<Vec<_>>(), [Some(720), Some(0)]);
    }

    #[test]
    fn how_many_requests_were_measured_is_counted_anew_where_their_rows_are_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("corral.sqlite3");
        let connection = Connection::open(&path).unwrap();
        connection.execute_batch(MADE_BY_1).unwrap();
        for step in &STEPS[1..4] {
            connection.execute_batch(step).unwrap();
        }
        // Of two models and of none, on both sides of 1970, in the first and the last millisecond of a quarter of an hour;
        // of the last quarter a row is missing.
        let rows = [(-900_000, 1, 5), (-1, 1, -1), (0, 1, 0), (0, 2, -1), (899_999, 0, 7), (900_000, 1, 9)];
        for (at, model, energy) in rows {
            let energy = (energy >= 0).then_some(energy);
            connection
                .execute(
                    "INSERT INTO requests VALUES (?1, 3, ?2, 1, 200, 1, 1, 1, 1, NULL, 1, 1, 1, ?3)",
                    rusqlite::params![at, model, energy],
                )
                .unwrap();
        }
        connection
            .execute_batch(
                "INSERT INTO names VALUES (1, 'a'), (2, 'b'), (3, 's');
                 INSERT INTO usage_by_model VALUES (-1, 1, 2, 1, 1, 1, 1, 5), (0, 1, 1, 1, 1, 1, 1, 0),
                     (0, 2, 1, 1, 1, 1, 1, 0), (0, 0, 1, 1, 1, 1, 1, 7), (1, 1, 2, 1, 1, 1, 1, 20);
                 INSERT INTO usage_by_session VALUES (-1, 3, 2, 1, 1, 1, 1, 5), (0, 3, 3, 1, 1, 1, 1, 7),
                     (1, 3, 2, 1, 1, 1, 1, 20);
                 PRAGMA user_version = 4;",
            )
            .unwrap();
        let store = Store::open(&path).unwrap();
        let counted = |by, quarters: (i64, i64)| {
            let at = |quarter| jiff::Timestamp::from_millisecond(quarter * 900_000).ok();
            let rows = store.usage(by, at(quarters.0), at(quarters.1), &jiff::tz::TimeZone::UTC).unwrap();
            let mut rows: Vec<_> =
                rows.into_iter().map(|row| (row.key, row.requests, row.energy_requests, row.energy_joules)).collect();
            rows.sort_by(|a, b| a.0.cmp(&b.0));
            rows
        };
        let name = str::to_owned;
        let known =
            [(name(""), 1, Some(1), Some(0.007)), (name("a"), 3, Some(2), Some(0.005)), (name("b"), 1, Some(0), None)];
        assert_eq!(counted(UsageBy::Model, (-1, 1)), known);
        assert_eq!(counted(UsageBy::Session, (-1, 1)), [(name("s"), 5, Some(3), Some(0.012))]);
        let unknown = |key| [(name(key), 2, None, Some(0.02))];
        assert_eq!(counted(UsageBy::Model, (1, 2)), unknown("a"));
        assert_eq!(counted(UsageBy::Session, (1, 2)), unknown("s"));
        // What is added to it stays unknown.
        let record = crate::ledger::tests::request(900_001, "a", 1);
        crate::batch::Writer::new(path).write(&[record]).unwrap();
        let more = counted(UsageBy::Model, (1, 2));
        assert_eq!((more[0].1, more[0].2), (3, None));
    }

    #[test]
    fn a_file_that_cannot_be_taken_over_stays_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("corral.sqlite3");
        let connection = Connection::open(&path).unwrap();
        connection.execute_batch(MADE_BY_1).unwrap();
        // The last of what the second step makes is there already.
        connection.execute_batch("CREATE TABLE usage_by_session (x)").unwrap();
        assert_eq!(Store::open(&path).unwrap_err().code(), Code::Io);
        let columns = connection.prepare("SELECT * FROM operations").unwrap().column_count();
        let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
        assert_eq!((columns, version), (7, 1));
    }

    #[test]
    fn a_file_of_a_newer_version_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("corral.sqlite3");
        Connection::open(&path).unwrap().pragma_update(None, "user_version", VERSION + 1).unwrap();
        let error = Store::open(&path).unwrap_err();
        assert!(error.to_string().contains("newer") && error.body().hint.is_some(), "{error}");
    }
}
