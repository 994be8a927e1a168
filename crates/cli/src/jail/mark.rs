//! Marks of jails that run, so that what one has left is told where its launcher did not live to look at it.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use corral_core::{Code, Error, Result};
use corral_sandbox::audit::{Record, Snapshot};
use corral_sandbox::workspace::Workspace;
use jiff::tz::TimeZone;
use rustix::fs::{FlockOperation, flock};

/// So many files are named.
const NAMED: usize = 20;

/// A file with a workspace and what counted in it at the start. Whose lock nobody has is that of a dead launcher.
#[derive(Debug)]
pub(super) struct Mark {
    path: PathBuf,
    _lock: File,
}

impl Mark {
    /// Leaves one, before the jail starts.
    pub(super) fn leave(folder: &Path, workspace: &Workspace, snapshot: &Snapshot) -> Result<Self> {
        let failed = |error: io::Error| {
            Error::new(Code::Io, format!("the folder {} cannot be used", folder.display())).because(error)
        };
        let mut bytes = [0_u8; 8];
        getrandom::fill(&mut bytes)
            .map_err(|error| Error::new(Code::Internal, "the system gives no random bytes").because(error))?;
        let path = folder.join(format!("{:016x}.jail", u64::from_ne_bytes(bytes)));
        // By another name until it is locked and whole.
        let begun = path.with_extension("new");
        let make = || -> io::Result<File> {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
            let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&begun)?;
            flock(&file, FlockOperation::NonBlockingLockExclusive)?;
            file.write_all(&[workspace.path().as_os_str().as_bytes(), b"\0", &snapshot.record().to_bytes()].concat())?;
            fs::rename(&begun, &path)?;
            Ok(file)
        };
        Ok(Self { _lock: make().map_err(failed)?, path })
    }

    /// Takes those that dead launchers have left of this workspace, with what was in it.
    pub(super) fn left(folder: &Path, workspace: &Workspace) -> Vec<(Self, Record)> {
        let entries = fs::read_dir(folder).into_iter().flatten().filter_map(io::Result::ok);
        let files = entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|end| end == "jail"));
        // One that cannot be read is not this user's to judge.
        files.filter_map(|path| Self::take(path, workspace).ok().flatten()).collect()
    }

    fn take(path: PathBuf, workspace: &Workspace) -> io::Result<Option<(Self, Record)>> {
        let mut file = File::open(&path)?;
        let prefix = [workspace.path().as_os_str().as_bytes(), b"\0"].concat();
        let mut begin = Vec::new();
        Read::by_ref(&mut file).take(prefix.len() as u64).read_to_end(&mut begin)?;
        if begin != prefix || flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Ok(None);
        }
        let mut rest = Vec::new();
        file.seek(io::SeekFrom::Start(prefix.len() as u64))?;
        file.read_to_end(&mut rest)?;
        Ok(Record::of(&rest).map(|record| (Self { path, _lock: file }, record)))
    }

    /// All is looked at, or told.
    pub(super) fn lift(self) {
        // Where it cannot go, what it says is told once more.
        let _ = fs::remove_file(self.path);
    }
}

/// What is to be said of what a jail has left that nobody looked at.
pub(super) fn sentences(earlier: &Record, snapshot: &Snapshot) -> Vec<String> {
    let notices = snapshot.since(earlier);
    if notices.is_empty() {
        return Vec::new();
    }
    let when = earlier.taken().to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M");
    let mut all = vec![format!(
        "The jail that was started here at {when} was killed, and nobody looked at what it left. What follows would run \
         outside the jail by itself: look at it before you work here with Git or an editor."
    )];
    all.extend(notices.iter().take(NAMED).map(ToString::to_string));
    if notices.len() > NAMED {
        all.push(format!("So are {} more.", notices.len() - NAMED));
    }
    all
}
