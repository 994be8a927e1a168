//! A folder whose content belongs to somebody who is not trusted: a jailed program that may plant links, pipes and
//! anything else between two runs, and at any moment of one.
//!
//! Every step starts from an open folder and takes one name. No link is followed, nothing is written in place, and what
//! somebody else wrote at the same time is not lost. Runs of Corral take turns; with Claude Code, which knows of no
//! turns, a change is given up and made again where the file is another one meanwhile.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use corral_core::{Code, Error, Result};
use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags, RenameFlags, Stat};
use rustix::io::Errno;

/// More than this is not read: Claude Code's own files have a few MiB at most.
const MOST: u64 = 64 << 20;
/// More names than this are not read.
const MOST_NAMES: usize = 4096;
/// So often a file is read again that others write at the same time.
const TRIES: u32 = 64;

/// An open folder.
#[derive(Debug)]
pub(crate) struct Folder {
    fd: OwnedFd,
    /// The folder around the outermost one, which no jail shows: whoever has it locked may change files.
    turns: Option<Arc<OwnedFd>>,
    /// For messages only.
    path: PathBuf,
}

/// What bears a name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Nothing,
    File(Vec<u8>),
    /// A symbolic link, and where it points.
    Link(String),
}

/// Who has a file locked.
#[derive(Debug)]
pub(crate) enum Held {
    /// This process, until the file is closed.
    Ours(File),
    /// Another one, or this one by another opening of it.
    Others,
    /// There is no file of this name.
    NoFile,
}

/// Tells whether a name still means what was read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Stamp(u64, u64, i64, i64, i64);

impl From<Stat> for Stamp {
    #[allow(
        clippy::cast_lossless,
        clippy::cast_possible_wrap,
        clippy::unnecessary_cast,
        reason = "the types of these fields differ between architectures"
    )]
    fn from(stat: Stat) -> Self {
        Self(
            stat.st_dev as u64,
            stat.st_ino as u64,
            stat.st_size as i64,
            stat.st_mtime as i64,
            stat.st_mtime_nsec as i64,
        )
    }
}

impl Folder {
    /// Opens this user's own folder and makes it where there is none; others lose what rights they have in it.
    ///
    /// The folder itself may be a link: its name is in the user's hands, not in those of the jailed program.
    pub(crate) fn private(path: &Path, notices: &mut Vec<String>) -> Result<Self> {
        let failed = |error: io::Error| unusable(path, "cannot be used").because(error);
        std::fs::DirBuilder::new().mode(0o700).recursive(true).create(path).map_err(failed)?;
        let fd = rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        let fd = fd.map_err(|error| failed(error.into()))?;
        let stat = rustix::fs::fstat(&fd).map_err(|error| failed(error.into()))?;
        if stat.st_uid != rustix::process::geteuid().as_raw() {
            return Err(unusable(path, "belongs to another user"));
        }
        if Mode::from_raw_mode(stat.st_mode).intersects(Mode::RWXG | Mode::RWXO) {
            rustix::fs::fchmod(&fd, Mode::RWXU).map_err(|error| failed(error.into()))?;
            notices.push(format!("{} was open to other users; it is this user's alone now", path.display()));
        }
        let turns = own_parent(&fd).map(Arc::new);
        Ok(Self { fd, turns, path: path.to_owned() })
    }

    /// Opens a folder in this one and makes it where there is none; a link in its place is removed.
    pub(crate) fn folder(&self, name: &str, notices: &mut Vec<String>) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let path = self.path.join(name);
        for _ in 0..TRIES {
            match rustix::fs::openat(&self.fd, name, flags, Mode::empty()) {
                Ok(fd) => return Ok(Self { fd, turns: self.turns.clone(), path }),
                Err(Errno::NOENT) => match rustix::fs::mkdirat(&self.fd, name, Mode::RWXU) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(error) => return Err(self.failed(name, error)),
                },
                // Of a link Linux says the one or the other, by its flags.
                Err(Errno::LOOP | Errno::NOTDIR) => match self.link(name)? {
                    Some(target) => {
                        self.remove(name)?;
                        notices.push(removed(&path, &target));
                    }
                    None => return Err(unusable(&path, "is no folder")),
                },
                Err(error) => return Err(self.failed(name, error)),
            }
        }
        Err(unusable(&path, "changes all the time"))
    }

    /// Changes a file: `change` sees what is there and gives the new content, or nothing where it may stay so.
    ///
    /// It is called again where somebody else changed the file meanwhile.
    pub(crate) fn update(&self, name: &str, mut change: impl FnMut(&Found) -> Result<Option<Vec<u8>>>) -> Result<()> {
        let _turn = self.turn();
        for _ in 0..TRIES {
            let (found, stamp) = self.read(name)?;
            let Some(content) = change(&found)? else { return Ok(()) };
            let (new, own) = self.write_beside(name, &content)?;
            let placed = match &stamp {
                None => self.place(&new, name),
                Some(stamp) => self.exchange(&new, name, stamp, &own),
            };
            // Either the new file, which did not get its place, or the old one, which lost it.
            let gone = match rustix::fs::unlinkat(&self.fd, &new, AtFlags::empty()) {
                Err(Errno::NOENT) => Ok(()),
                gone => gone.map_err(|error| self.failed(&new, error)),
            };
            if placed? {
                return gone;
            }
            gone?;
        }
        Err(unusable(&self.path.join(name), "changes all the time"))
    }

    /// Waits for other runs that change files here; it is over when this is closed.
    ///
    /// Nothing where the file system has no locks: then changes are only told apart, as Claude Code's are.
    fn turn(&self) -> Option<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        // Each opening has a lock of its own, so that threads take turns too.
        let turn = rustix::fs::openat(self.turns.as_ref()?, ".", flags, Mode::empty()).ok()?;
        rustix::io::retry_on_intr(|| rustix::fs::flock(&turn, FlockOperation::LockExclusive)).ok()?;
        Some(turn)
    }

    /// Writes a new file, under this name or one with a number behind it; its name.
    pub(crate) fn keep(&self, name: &str, content: &[u8]) -> Result<String> {
        let numbered = (2..=TRIES).map(|number| format!("{name}-{number}"));
        self.write_new(std::iter::once(name.to_owned()).chain(numbered), content).map(|(name, _)| name)
    }

    fn read(&self, name: &str) -> Result<(Found, Option<Stamp>)> {
        // Without NONBLOCK a pipe would keep the open from returning.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let fd = match rustix::fs::openat(&self.fd, name, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok((Found::Nothing, None)),
            Err(Errno::LOOP) => {
                let stamp = self.stamp(name)?;
                return Ok((self.link(name)?.map_or(Found::Nothing, Found::Link), stamp));
            }
            Err(error) => return Err(self.failed(name, error)),
        };
        let stat = rustix::fs::fstat(&fd).map_err(|error| self.failed(name, error))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(unusable(&self.path.join(name), "is no file"));
        }
        let mut content = Vec::new();
        let read = File::from(fd).take(MOST + 1).read_to_end(&mut content);
        read.map_err(|error| unusable(&self.path.join(name), "cannot be read").because(error))?;
        if content.len() as u64 > MOST {
            return Err(unusable(&self.path.join(name), "is larger than 64 MiB"));
        }
        Ok((Found::File(content), Some(stat.into())))
    }

    /// Where a link points; nothing where this is none.
    fn link(&self, name: &str) -> Result<Option<String>> {
        match rustix::fs::readlinkat(&self.fd, name, Vec::new()) {
            Ok(target) => Ok(Some(target.to_string_lossy().escape_debug().take(200).collect())),
            Err(Errno::INVAL | Errno::NOENT) => Ok(None),
            Err(error) => Err(self.failed(name, error)),
        }
    }

    fn stamp(&self, name: &str) -> Result<Option<Stamp>> {
        match rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat.into())),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(self.failed(name, error)),
        }
    }

    fn write_beside(&self, name: &str, content: &[u8]) -> Result<(String, Stamp)> {
        let id = rustix::process::getpid();
        self.write_new((0..TRIES).map(|number| format!(".{name}.{id}-{number}")), content)
    }

    /// Writes a new file for this user alone, under the first of these names that is free.
    pub(crate) fn write_new(&self, names: impl Iterator<Item = String>, content: &[u8]) -> Result<(String, Stamp)> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        for name in names {
            let mut file = match rustix::fs::openat(&self.fd, &name, flags, Mode::RUSR | Mode::WUSR) {
                Ok(fd) => File::from(fd),
                Err(Errno::EXIST) => continue,
                Err(error) => return Err(self.failed(&name, error)),
            };
            let written = file.write_all(content).and_then(|()| file.sync_all());
            let stat = written.and_then(|()| Ok(rustix::fs::fstat(&file)?));
            return match stat {
                Ok(stat) => Ok((name, stat.into())),
                Err(error) => {
                    let _ = rustix::fs::unlinkat(&self.fd, &name, AtFlags::empty());
                    Err(unusable(&self.path.join(&name), "cannot be written").because(error))
                }
            };
        }
        Err(unusable(&self.path, "is full of left over files"))
    }

    /// Gives a new file its name; false where something bears it meanwhile.
    fn place(&self, new: &str, name: &str) -> Result<bool> {
        match rustix::fs::renameat_with(&self.fd, new, &self.fd, name, RenameFlags::NOREPLACE) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => self.replace(new, name, None),
            Err(error) => Err(self.failed(name, error)),
        }
    }

    /// Exchanges the new file for the one that was read; false where it is another meanwhile, which then stays.
    fn exchange(&self, new: &str, name: &str, was: &Stamp, own: &Stamp) -> Result<bool> {
        let exchange = || rustix::fs::renameat_with(&self.fd, new, &self.fd, name, RenameFlags::EXCHANGE);
        match exchange() {
            Ok(()) => {}
            Err(Errno::NOENT) => return Ok(false),
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => return self.replace(new, name, Some(was)),
            Err(error) => return Err(self.failed(name, error)),
        }
        if self.stamp(new)?.as_ref() == Some(was) {
            return Ok(true);
        }
        // Somebody was quicker: what was there is put back, or what came in between, and read.
        for _ in 0..2 {
            match exchange() {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => return Err(self.failed(name, error)),
            }
            if self.stamp(new)?.as_ref() == Some(own) {
                break;
            }
        }
        Ok(false)
    }

    /// For file systems that can only rename, NFS for one: a moment is left in which another's change is lost.
    fn replace(&self, new: &str, name: &str, was: Option<&Stamp>) -> Result<bool> {
        if self.stamp(name)?.as_ref() != was {
            return Ok(false);
        }
        rustix::fs::renameat(&self.fd, new, &self.fd, name).map_err(|error| self.failed(name, error))?;
        Ok(true)
    }

    pub(crate) fn remove(&self, name: &str) -> Result<()> {
        match rustix::fs::unlinkat(&self.fd, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(self.failed(name, error)),
        }
    }

    /// The names in it, up to a number that is more than enough.
    pub(crate) fn names(&self) -> Result<Vec<String>> {
        let failed = |error: Errno| unusable(&self.path, "cannot be read").because(io::Error::from(error));
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.fd).map_err(failed)?.take(MOST_NAMES) {
            let entry = entry.map_err(failed)?;
            names
                .extend(entry.file_name().to_str().ok().filter(|name| !matches!(*name, "." | "..")).map(str::to_owned));
        }
        Ok(names)
    }

    /// Locks a file for as long as it is open.
    pub(crate) fn hold(&self, name: &str) -> Held {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let Ok(fd) = rustix::fs::openat(&self.fd, name, flags, Mode::empty()) else { return Held::NoFile };
        let kind = rustix::fs::fstat(&fd).map(|about| FileType::from_raw_mode(about.st_mode));
        if kind != Ok(FileType::RegularFile) {
            return Held::NoFile;
        }
        let file = File::from(fd);
        if file.try_lock().is_ok() { Held::Ours(file) } else { Held::Others }
    }

    /// Whether a name still means what was written.
    pub(crate) fn is_still(&self, name: &str, stamp: &Stamp) -> bool {
        self.stamp(name).is_ok_and(|now| now.as_ref() == Some(stamp))
    }

    /// The path of a name in it, for messages.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    fn failed(&self, name: &str, error: Errno) -> Error {
        unusable(&self.path.join(name), "cannot be used").because(io::Error::from(error))
    }
}

/// The folder around this one, where it is this user's: another user's lock must not keep a run waiting.
fn own_parent(fd: &OwnedFd) -> Option<OwnedFd> {
    let parent = rustix::fs::openat(fd, "..", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let parent = parent.ok()?;
    (rustix::fs::fstat(&parent).ok()?.st_uid == rustix::process::geteuid().as_raw()).then_some(parent)
}

/// What is said of a link that was found and removed.
pub(crate) fn removed(path: &Path, target: &str) -> String {
    format!("{} was a link to {target}, which is never followed: it was removed", path.display())
}

fn unusable(path: &Path, why: &str) -> Error {
    Error::new(Code::ProfileInvalid, format!("the profile cannot be used: {} {why}", path.display()))
        .hint("mend it, or move it away to have it made afresh")
}

#[cfg(test)]
mod tests;
