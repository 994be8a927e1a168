//! The folder where things are moved to: out of the workspace, by descriptor, never through a link.

use std::ffi::{OsStr, OsString};
use std::fs::DirBuilder;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RenameFlags, mkdirat, openat, renameat_with, statat};
use rustix::io::{Errno, Result};
use serde::Serialize;

use super::copy::{Left, copy, remove};
use super::report::{Finding, Outcome};
use crate::beneath::{self, joined, with_rights};
use crate::shown::shown;

/// What a name gets at its end when it has to stay in the workspace.
const DISARMED: &str = ".corral-disarmed";

/// One audit's part of the quarantine.
pub(super) struct Quarantine {
    parent: PathBuf,
    now: Timestamp,
    folder: Option<(PathBuf, OwnedFd)>,
}

impl Quarantine {
    pub(super) fn new(parent: &Path, now: Timestamp) -> Self {
        Self { parent: parent.to_owned(), now, folder: None }
    }

    /// Moves `path` beneath `root`, which is at `at`, to the same path beneath `part`.
    pub(super) fn take(&mut self, root: BorrowedFd<'_>, at: &Path, path: &Path, part: &str) -> Outcome {
        let (folder, name) = match beneath::open_parent(root, path) {
            Ok(found) => found,
            Err(error) => return Outcome::Left { why: format!("it cannot be reached: {error}") },
        };
        let into = self.place(part, path.parent().unwrap_or_else(|| Path::new("")));
        let (into, to) = match into {
            Ok((into, to)) => (Ok(into), to.join(name)),
            Err(error) => (Err(error), PathBuf::new()),
        };
        let moved = into.as_ref().map_err(|error| *error).and_then(|into| rename(&folder, name, into, name));
        let error = match moved {
            Ok(()) => return Outcome::Moved { to },
            Err(error) => error,
        };
        // By this name nothing obeys it, whatever becomes of the rest.
        let disarmed = match disarm(&folder, name) {
            Ok(disarmed) => disarmed,
            Err(error) => return Outcome::Left { why: format!("it cannot be renamed: {error}") },
        };
        let error = match (error, &into) {
            (Errno::XDEV, Ok(into)) => {
                let mut left = Left::default();
                let copied = copy(folder.as_fd(), &disarmed, into.as_fd(), name, &mut left, 0);
                match copied.and_then(|()| remove(folder.as_fd(), &disarmed, 0)) {
                    Ok(()) => return Outcome::Moved { to },
                    Err(error) => error,
                }
            }
            (error, _) => error,
        };
        let to = joined(at, path).with_file_name(&disarmed);
        Outcome::Renamed { to, why: format!("it cannot be moved to {}: {error}", shown(&self.parent)) }
    }

    /// Writes down what was done; where it all is, if anything was moved.
    pub(super) fn finish(self, findings: &[Finding]) -> Option<PathBuf> {
        let (path, folder) = self.folder?;
        let entries: Vec<_> = findings.iter().map(|finding| Entry::of(finding, self.now)).collect();
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let written = openat(&folder, "manifest.json", flags, Mode::RUSR | Mode::WUSR)
            .map_err(std::io::Error::from)
            .and_then(|file| std::fs::File::from(file).write_all(&serde_json::to_vec_pretty(&entries)?));
        if let Err(error) = written {
            // What was moved and where is in the report too.
            tracing::warn!(%error, folder = %shown(&path), "the quarantine has no manifest");
        }
        Some(path)
    }

    /// The folder for what was in `path` of `part`, and where it is.
    fn place(&mut self, part: &str, path: &Path) -> Result<(OwnedFd, PathBuf)> {
        if self.folder.is_none() {
            self.folder = Some(self.create()?);
        }
        let (at, folder) = self.folder.as_ref().ok_or(Errno::NOENT)?;
        let mut here = folder.try_clone().map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        for step in std::iter::once(OsStr::new(part)).chain(path.iter()) {
            match mkdirat(&here, step, Mode::RWXU) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error),
            }
            here = beneath::open(&here, Path::new(step), OFlags::PATH | OFlags::DIRECTORY)?;
        }
        Ok((here, at.join(part).join(path)))
    }

    fn create(&self) -> Result<(PathBuf, OwnedFd)> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&self.parent);
        made.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        let parent = openat(CWD, &self.parent, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let name = self.now.strftime("%Y%m%dT%H%M%SZ").to_string();
        for number in 1..1000 {
            let name = if number == 1 { name.clone() } else { format!("{name}-{number}") };
            match mkdirat(&parent, &name, Mode::RWXU) {
                Ok(()) => {
                    let folder = beneath::open(&parent, Path::new(&name), OFlags::PATH | OFlags::DIRECTORY)?;
                    return Ok((self.parent.join(name), folder));
                }
                Err(Errno::EXIST) => {}
                Err(error) => return Err(error),
            }
        }
        Err(Errno::EXIST)
    }
}

/// Renames without replacing anything, also where the rights to do so were taken away on purpose.
fn rename(from: &OwnedFd, name: &OsStr, to: &OwnedFd, to_name: &OsStr) -> Result<()> {
    let rename = || match renameat_with(from, name, to, to_name, RenameFlags::NOREPLACE) {
        // Some file systems cannot do both at once; nobody else works here at this time.
        Err(Errno::INVAL) if statat(to, to_name, AtFlags::SYMLINK_NOFOLLOW).is_err() => {
            rustix::fs::renameat(from, name, to, to_name)
        }
        other => other,
    };
    match rename() {
        Err(Errno::ACCESS) => with_rights(from, || {
            let stat = statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
            if beneath::kind(&stat) == FileType::Directory {
                // A folder that moves gets a new `..`, and so must be writable itself.
                with_rights(&beneath::open(from, Path::new(name), OFlags::PATH)?, rename)
            } else {
                rename()
            }
        }),
        other => other,
    }
}

fn disarm(folder: &OwnedFd, name: &OsStr) -> Result<OsString> {
    for number in 0..1000 {
        let mut disarmed = name.to_owned();
        disarmed.push(DISARMED);
        if number > 0 {
            disarmed.push(format!("-{number}"));
        }
        match rename(folder, name, folder, &disarmed) {
            Err(Errno::EXIST) => {}
            other => return other.map(|()| disarmed),
        }
    }
    Err(Errno::EXIST)
}

/// What the manifest says of one finding.
#[derive(Serialize)]
struct Entry {
    when: Timestamp,
    path: String,
    /// Where it is not all text.
    #[serde(skip_serializing_if = "Option::is_none")]
    path_bytes: Option<Vec<u8>>,
    what: &'static str,
    why: String,
    outcome: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    restore: Option<String>,
}

impl Entry {
    fn of(finding: &Finding, when: Timestamp) -> Self {
        Self {
            when,
            path: finding.path.to_string_lossy().into_owned(),
            path_bytes: finding.path.to_str().is_none().then(|| finding.path.as_os_str().as_bytes().to_vec()),
            what: match finding.change {
                super::Change::New => "new",
                super::Change::Changed => "changed",
            },
            why: finding.why.clone(),
            outcome: finding.to_string(),
            restore: finding.command_to_restore(),
        }
    }
}
