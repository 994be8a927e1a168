//! The log file of a server, read as it grows.
//!
//! A file and not a pipe: a pipe would end with Corral, and the server with it.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use corral_core::ModelId;
use corral_core::log::LogBuffer;
use jiff::Timestamp;
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::io::unix::AsyncFd;

use crate::logs::{self, Line, Splitter};

/// Beyond this the file is emptied, in bytes.
const MAX_FILE: u64 = 8 << 20;
/// How much of an adopted server's log is read again, in bytes.
const HISTORY: u64 = 64 << 10;
/// The lines that are kept to explain an end.
const MAX_LINES: usize = 200;

/// The last lines of one run.
#[derive(Debug, Clone, Default)]
pub(super) struct LastLines(Arc<Mutex<VecDeque<Line>>>);

impl LastLines {
    pub(super) fn get(&self) -> Vec<Line> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    fn push(&self, line: Line) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.push_back(line);
        if lines.len() > MAX_LINES {
            lines.pop_front();
        }
    }
}

/// Opens a log file for a server to write to, readable by this user only.
pub(super) fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)
}

/// Reads what a server writes, from a place in its log file on.
#[derive(Debug)]
pub(super) struct Follower {
    file: File,
    offset: u64,
    /// The first line is half of one.
    skip_first: bool,
    splitter: Splitter,
    changes: Option<AsyncFd<OwnedFd>>,
    logs: Arc<LogBuffer>,
    model: ModelId,
    last: LastLines,
}

impl Follower {
    /// Follows `file`, the log at `path`, from its present end, or from a little before it for the sake of `history`.
    pub(super) fn new(
        file: File,
        path: &Path,
        history: bool,
        logs: Arc<LogBuffer>,
        model: ModelId,
    ) -> io::Result<Self> {
        let end = file.metadata()?.len();
        let offset = if history { end.saturating_sub(HISTORY) } else { end };
        // Without this, for instance because the user has too many of them, the log is read when the server ends.
        let changes = watch(path).inspect_err(|error| tracing::warn!(%error, "cannot follow the log")).ok();
        let (splitter, last) = (Splitter::default(), LastLines::default());
        Ok(Self { file, offset, skip_first: history && offset > 0, splitter, changes, logs, model, last })
    }

    pub(super) fn last_lines(&self) -> LastLines {
        self.last.clone()
    }

    /// Returns when the file has grown.
    pub(super) async fn changed(&self) {
        let Some(changes) = &self.changes else { return std::future::pending().await };
        match changes.readable().await {
            Ok(mut ready) => {
                // Whatever the events say, the file is read to its end.
                while rustix::io::read(changes.get_ref(), &mut [0_u8; 1024]).is_ok() {}
                ready.clear_ready();
            }
            Err(_) => std::future::pending().await,
        }
    }

    /// Reads to the present end.
    pub(super) async fn read(&mut self) {
        let mut block = vec![0_u8; 64 << 10];
        loop {
            match self.file.read_at(&mut block, self.offset) {
                Ok(0) => break,
                Ok(count) => {
                    self.offset += count as u64;
                    self.take(block.get(..count).unwrap_or_default());
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot read the log");
                    break;
                }
            }
            // A server that writes without end leaves room for others.
            tokio::task::yield_now().await;
        }
        let size = self.file.metadata().map_or(self.offset, |metadata| metadata.len());
        if size > MAX_FILE {
            // The server appends, so it goes on at the new end.
            let _ = self.file.set_len(0).inspect_err(|error| tracing::warn!(%error, "cannot shorten the log"));
            self.offset = 0;
        } else if size < self.offset {
            // Somebody else shortened it.
            self.offset = 0;
        }
    }

    /// Reads the rest of a server that has ended.
    pub(super) async fn finish(mut self) {
        self.read().await;
        self.each(|splitter, each| splitter.end(each));
    }

    fn take(&mut self, bytes: &[u8]) {
        self.each(|splitter, each| splitter.push(bytes, each));
    }

    fn each(&mut self, split: impl FnOnce(&mut Splitter, &mut dyn FnMut(&str))) {
        let Self { splitter, skip_first, logs, model, last, .. } = self;
        let now = Timestamp::now();
        split(splitter, &mut |raw| {
            if !std::mem::take(skip_first) {
                for line in logs::parse(raw) {
                    last.push(line.clone());
                    logs.push(line.record(now, model));
                }
            }
        });
    }
}

fn watch(path: &Path) -> io::Result<AsyncFd<OwnedFd>> {
    let changes = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
    inotify::add_watch(&changes, path, WatchFlags::MODIFY)?;
    super::run::waitable(changes)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn follower(file: &File, path: &Path, history: bool) -> (Follower, Arc<LogBuffer>) {
        let logs = Arc::new(LogBuffer::new(1000, 1 << 20));
        let file = file.try_clone().unwrap();
        (Follower::new(file, path, history, logs.clone(), ModelId::new("m").unwrap()).unwrap(), logs)
    }

    fn texts(logs: &LogBuffer) -> Vec<String> {
        logs.tail(1000).into_iter().map(|record| record.msg).collect()
    }

    #[tokio::test]
    async fn lines_come_as_they_are_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut file = open(&path).unwrap();
        file.write_all(b"of an earlier run\n").unwrap();
        let (mut follower, logs) = follower(&file, &path, false);
        for text in ["one\ntw", "o\nthr", "ee"] {
            file.write_all(text.as_bytes()).unwrap();
            follower.changed().await;
            follower.read().await;
        }
        assert_eq!(texts(&logs), ["one", "two"]);
        let last = follower.last_lines();
        follower.finish().await;
        assert_eq!(texts(&logs), ["one", "two", "three"]);
        assert_eq!(last.get().len(), 3);
    }

    #[tokio::test]
    async fn a_long_file_is_emptied_and_followed_further() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut file = open(&path).unwrap();
        let (mut follower, logs) = follower(&file, &path, false);
        let line = [b"x".repeat(1023), b"\n".to_vec()].concat();
        for _ in 0..=MAX_FILE / 1024 {
            file.write_all(&line).unwrap();
        }
        follower.read().await;
        assert_eq!(file.metadata().unwrap().len(), 0);
        file.write_all(b"after\n").unwrap();
        follower.read().await;
        assert_eq!(texts(&logs).last().unwrap(), "after");
    }

    #[tokio::test]
    async fn an_adopted_log_begins_with_a_whole_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut file = open(&path).unwrap();
        for number in 0..20_000 {
            writeln!(file, "line {number}").unwrap();
        }
        let (mut follower, logs) = follower(&file, &path, true);
        follower.read().await;
        let texts = texts(&logs);
        assert_eq!(texts.last().unwrap(), "line 19999");
        assert!(texts.len() > 100 && texts.iter().all(|text| text.starts_with("line ")), "{:?}", texts.first());
    }
}
