//! What a file is like: enough to tell later whether it has changed, and what in it could run.

use std::ffi::OsStr;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, statat};
use sha2::{Digest, Sha256};

use super::git_config::{self, STRATEGIES, Whereabouts};
use crate::beneath::{self, Identity};

/// Larger files count as changed when their times or sizes do.
const HASHED: usize = 64 << 10;

/// Larger ones of Git's are not its own work.
const GIT_FILE: usize = 1 << 20;

/// Why a file counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Matter {
    /// Its name, or that of a folder that it is in.
    Named {
        /// What obeys it.
        why: &'static str,
        /// How many steps of the path come before that name.
        from: usize,
        /// How many steps the name has: `.claude/settings.json` has two.
        parts: usize,
    },
    /// It is one of Git's hooks, or stands in their folder's place.
    Hook,
    /// It is a configuration of Git's.
    Config,
    /// It is named `.git` and leads to a repository.
    Pointer,
    /// It leads from a worktree's repository to the main one.
    Common,
    /// What Git does next in a rebase.
    Steps,
    /// The program that Git merges with in a rebase.
    Strategy,
    /// Options of a pick, written like a configuration; that program among them.
    Options,
}

/// A file at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) kind: FileType,
    pub(crate) identity: Identity,
    pub(crate) mode: u32,
    pub(crate) links: u64,
    size: i64,
    modified: (i64, u64),
    /// The kernel alone sets it: nobody can turn it back.
    pub(crate) changed: (i64, u64),
    /// Of a link.
    pub(crate) target: Option<PathBuf>,
}

impl State {
    /// What `name` in `folder` is like now.
    #[allow(clippy::unnecessary_cast, reason = "the kernel's types differ between machines")]
    pub(crate) fn of(folder: BorrowedFd<'_>, name: &Path) -> rustix::io::Result<Self> {
        let stat = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let kind = beneath::kind(&stat);
        let target = if kind == FileType::Symlink { Some(beneath::read_link(folder, name)?) } else { None };
        Ok(Self {
            kind,
            identity: Identity::from(&stat),
            mode: stat.st_mode & 0o7777,
            links: stat.st_nlink as u64,
            size: stat.st_size,
            modified: (stat.st_mtime as i64, stat.st_mtime_nsec as u64),
            changed: (stat.st_ctime as i64, stat.st_ctime_nsec as u64),
            target,
        })
    }

    /// Whether someone may run it.
    pub(crate) fn can_run(&self) -> bool {
        self.kind == FileType::Symlink || (self.kind == FileType::RegularFile && self.mode & 0o111 != 0)
    }
}

/// Something that counts.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    pub(crate) matter: Matter,
    pub(crate) state: State,
    hash: Option<[u8; 32]>,
    /// What in it could run, or where it leads; none where it could not be read.
    pub(crate) says: Option<Vec<Vec<u8>>>,
}

impl Item {
    /// Reads as much of it as has to be known; at most as many bytes as are `left` only to tell whether they change.
    pub(crate) fn read(
        folder: BorrowedFd<'_>,
        name: &Path,
        matter: Matter,
        state: State,
        place: Whereabouts<'_>,
        can_be_compared: bool,
        left: &mut usize,
    ) -> Self {
        let size = usize::try_from(state.size).unwrap_or(usize::MAX);
        let is_file = state.kind == FileType::RegularFile;
        let is_read = !matches!(matter, Matter::Named { .. } | Matter::Hook);
        let is_hashed = can_be_compared && size <= HASHED.min(*left);
        let most = if is_read { GIT_FILE } else { HASHED };
        let bytes = (is_file && (is_read || is_hashed)).then(|| beneath::read(folder, name, most).ok()).flatten();
        let says = match &bytes {
            Some(bytes) if is_read => what_it_says(matter, bytes, place),
            _ => None,
        };
        let hash = bytes.filter(|_| is_hashed).map(|bytes| {
            *left -= bytes.len().min(*left);
            Sha256::digest(&bytes).into()
        });
        Self { matter, state, hash, says }
    }

    /// Whether it takes its contents to tell whether it has become this.
    pub(crate) fn compares_to(&self, now: &State) -> bool {
        self.hash.is_some() && self.state != *now
    }

    /// Whether it is another than it was.
    pub(crate) fn differs_from(&self, before: &Self) -> bool {
        let (now, then) = (&self.state, &before.state);
        if now == then {
            return false;
        }
        if now.kind != then.kind || now.target != then.target {
            return true;
        }
        match now.kind {
            FileType::Symlink => false,
            // The same text in a new file is what Git makes of a file when it goes to a branch and back.
            FileType::RegularFile => {
                self.hash.is_none() || self.hash != before.hash || (now.can_run() && !then.can_run())
            }
            _ => true,
        }
    }

    /// Whether it can do more than before though it is the same: where a folder that it names leads has changed.
    pub(crate) fn means_more(&self, before: &Self) -> bool {
        self.matter == Matter::Config
            && before.says.is_some()
            && self.says_anew(Some(before)).is_some_and(|anew| !anew.is_empty())
    }

    /// Whether it is no more than a copy.
    pub(crate) fn is_copy_of(&self, other: &Self) -> bool {
        self.hash.is_some() && self.hash == other.hash && (other.state.can_run() || !self.state.can_run())
    }

    /// What it says that it did not say before; none where it cannot be read.
    pub(crate) fn says_anew(&self, before: Option<&Self>) -> Option<Vec<&[u8]>> {
        let then = before.and_then(|before| before.says.as_deref()).unwrap_or_default();
        let says = self.says.as_ref()?;
        Some(says.iter().filter(|line| !then.contains(line)).map(Vec::as_slice).collect())
    }
}

fn what_it_says(matter: Matter, bytes: &[u8], place: Whereabouts<'_>) -> Option<Vec<Vec<u8>>> {
    match matter {
        Matter::Config => {
            let entries = git_config::parse(bytes).ok()?;
            let harmful = entries.into_iter().filter(|entry| !entry.is_harmless(place));
            Some(harmful.map(|entry| [entry.name(), entry.value.unwrap_or_default()].join(&b'=')).collect())
        }
        Matter::Pointer => Some(vec![bytes.strip_prefix(b"gitdir:")?.trim_ascii().to_vec()]),
        Matter::Common => Some(vec![bytes.trim_ascii_end().to_vec()]),
        Matter::Steps => {
            let lines = bytes.split(|&b| b == b'\n').map(<[u8]>::trim_ascii);
            let runs = |line: &&[u8]| {
                let word = line.split(u8::is_ascii_whitespace).next().unwrap_or_default();
                matches!(word, b"x" | b"exec")
            };
            Some(lines.filter(runs).map(<[u8]>::to_vec).collect())
        }
        Matter::Strategy => Some(of_programs([bytes.trim_ascii().to_vec()])),
        Matter::Options => {
            let entries = git_config::parse(bytes).ok()?.into_iter().filter(|entry| entry.key == b"strategy");
            Some(of_programs(entries.map(|entry| entry.value.unwrap_or_default())))
        }
        Matter::Named { .. } | Matter::Hook => None,
    }
}

fn of_programs(strategies: impl IntoIterator<Item = Vec<u8>>) -> Vec<Vec<u8>> {
    let is_known = |name: &[u8]| STRATEGIES.split(' ').any(|known| known.as_bytes() == name);
    strategies.into_iter().filter(|name| !is_known(name)).collect()
}

/// A path as it stands in one of Git's files.
pub(crate) fn path_in(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}
