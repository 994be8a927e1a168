//! What Corral remembers between runs, in one SQLite file: the operations it carried out, the model it should be running,
//! and what each request cost.
//!
//! [`Store`] is the journal and answers questions; requests are written by a thread of their own, see [`ledger()`].

mod batch;
mod ledger;
mod lessons;
mod operations;
mod schema;
mod usage;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use corral_core::{Code, Error, Result};
use rusqlite::{Connection, OpenFlags};

pub use ledger::{CAPACITY, Hooks, LedgerWriter, OnBatch, Queue, RunningWriter, Trouble, ledger};
use schema::Age;

/// The store. One connection behind a lock writes the journal, a few times per switch; questions get a connection of
/// their own each, so that nobody waits for their answers.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    connection: Mutex<Connection>,
}

impl Store {
    /// Opens the file, readable by this user only, and brings its schema up to date. Whoever opens it is the only one
    /// that serves sessions: those that the file holds as open are not any more.
    pub fn open(path: &Path) -> Result<Self> {
        let failed = |source: rusqlite::Error| {
            Error::new(Code::Io, format!("cannot use {}", path.display()))
                .because(source)
                .hint("move the file away; Corral makes a new one")
        };
        restrict(path)?;
        let mut connection = Connection::open(path).map_err(failed)?;
        schema::prepare(&connection).map_err(failed)?;
        if schema::migrate(&mut connection).map_err(failed)? == Age::Newer {
            return Err(Error::new(Code::Io, format!("{} was made by a newer Corral", path.display()))
                .hint("start that version again, or move the file away; Corral makes a new one"));
        }
        let store = Self { path: path.to_owned(), connection: Mutex::new(connection) };
        store.end_sessions();
        Ok(store)
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection that only reads.
    fn reader(&self) -> rusqlite::Result<Connection> {
        Connection::open_with_flags(&self.path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)
    }
}

fn restrict(path: &Path) -> Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let opened = std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(path);
    opened.map(drop).map_err(|source| Error::new(Code::Io, format!("cannot open {}", path.display())).because(source))
}
