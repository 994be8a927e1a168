//! Where sessions are found: for each a socket, a lock that its holder has, and a file that says it was begun.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use corral_core::{Code, Error, Result};
use rustix::fs::{CWD, FlockOperation, Mode, OFlags, fchmod, flock, fstat, openat};
use rustix::process::geteuid;

/// The longest name, in characters.
const LONGEST: usize = 64;

/// The name of a session.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Name(String);

impl Name {
    /// [`Code::InvalidRequest`] where it is none: it becomes part of file names.
    pub(crate) fn new(name: &str) -> Result<Self> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        let begins = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
        if begins && name.len() <= LONGEST && name.bytes().all(fits) {
            return Ok(Self(name.to_owned()));
        }
        Err(Error::new(Code::InvalidRequest, format!("`{name}` cannot be the name of a session"))
            .hint("it may have 64 letters, digits, `-`, `_` and `.`, and begins with a letter or digit"))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The folder of all sessions of this user.
#[derive(Debug)]
pub(super) struct Place {
    path: PathBuf,
    folder: OwnedFd,
}

impl Place {
    /// Makes it where it is missing.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let failed = |error: io::Error| {
            Error::new(Code::Io, format!("the folder {} cannot be used", path.display())).because(error)
        };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = openat(CWD, path, flags, Mode::empty()).map_err(|error| failed(error.into()))?;
        let found = fstat(&folder).map_err(|error| failed(error.into()))?;
        if found.st_uid != geteuid().as_raw() {
            return Err(Error::new(Code::Io, format!("the folder {} belongs to another user", path.display())));
        }
        if found.st_mode & 0o077 != 0 {
            fchmod(&folder, Mode::RWXU).map_err(|error| failed(error.into()))?;
        }
        Ok(Self { path: path.to_owned(), folder })
    }

    /// Whoever holds this session; none where nobody does.
    pub(super) fn connect(&self, name: &Name) -> Result<Option<UnixStream>> {
        match UnixStream::connect(self.address(name)) {
            Ok(stream) => Ok(Some(stream)),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                Ok(None)
            }
            Err(error) => Err(Error::new(Code::Io, format!("the session {name} cannot be asked")).because(error)),
        }
    }

    /// By the folder's descriptor, for a socket's path may only be short.
    fn address(&self, name: &Name) -> PathBuf {
        format!("/proc/self/fd/{}/{name}.sock", self.folder.as_raw_fd()).into()
    }

    fn file(&self, name: &Name, extension: &str) -> PathBuf {
        self.path.join(format!("{name}.{extension}"))
    }

    /// The sessions that were begun and not ended; not each has a holder.
    pub(super) fn names(&self) -> Vec<Name> {
        let entries = fs::read_dir(&self.path).into_iter().flatten().filter_map(io::Result::ok);
        let files = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let mut names: Vec<_> = files.filter_map(|file| Name::new(file.strip_suffix(".begun")?).ok()).collect();
        names.sort();
        names
    }

    /// Whether somebody holds this session, or is about to. Where nobody does, what a holder that was killed has left
    /// goes, but for the file that says so.
    pub(super) fn is_held(&self, name: &Name) -> Result<bool> {
        let Some(lock) = self.lock(name)? else { return Ok(true) };
        let _ = fs::remove_file(self.file(name, "sock"));
        self.unlock(name, lock);
        Ok(false)
    }

    /// None where somebody else has it.
    fn lock(&self, name: &Name) -> Result<Option<File>> {
        self.lock_after(name, || {})
    }

    /// The same, with something that happens each time between opening the file and locking it.
    fn lock_after(&self, name: &Name, mut meanwhile: impl FnMut()) -> Result<Option<File>> {
        let path = self.file(name, "lock");
        let failed =
            |error: io::Error| Error::new(Code::Io, format!("{} cannot be locked", path.display())).because(error);
        loop {
            let mut options = OpenOptions::new();
            let file = options.create(true).truncate(false).write(true).mode(0o600).open(&path).map_err(failed)?;
            meanwhile();
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
                Err(error) => return Err(failed(error.into())),
            }
            // Whoever had it before may have removed it in between: then it is no lock to anybody.
            let ours = file.metadata().map_err(failed)?;
            if fs::symlink_metadata(&path).is_ok_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino())) {
                return Ok(Some(file));
            }
        }
    }

    /// Lets go of a lock, whose file only its owner removes.
    fn unlock(&self, name: &Name, lock: File) {
        let _ = fs::remove_file(self.file(name, "lock"));
        drop(lock);
    }

    /// Takes a session over, from nobody or from a holder that is dead, and listens; none where a holder lives.
    pub(super) fn hold(self, name: &Name) -> Result<Option<(Held, UnixListener)>> {
        let Some(lock) = self.lock(name)? else { return Ok(None) };
        let was_lost = self.file(name, "begun").exists();
        let failed =
            |error: io::Error| Error::new(Code::Io, format!("the session {name} cannot listen")).because(error);
        let held = Held { name: name.clone(), place: self, was_lost, lock: Some(lock) };
        held.forget();
        let address = held.place.address(name);
        let listener = UnixListener::bind(&address).map_err(failed)?;
        fs::set_permissions(&address, fs::Permissions::from_mode(0o600)).map_err(failed)?;
        fs::write(held.place.file(name, "begun"), b"").map_err(failed)?;
        Ok(Some((held, listener)))
    }
}

/// A session that this process holds, and nobody else. Its files go with this value.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) name: Name,
    /// Whether its last holder died, so that what it knew is lost.
    pub(super) was_lost: bool,
    place: Place,
    /// Until this value goes.
    lock: Option<File>,
}

impl Held {
    fn forget(&self) {
        for extension in ["sock", "begun"] {
            // What is not there need not go.
            let _ = fs::remove_file(self.place.file(&self.name, extension));
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.forget();
        if let Some(lock) = self.lock.take() {
            self.place.unlock(&self.name, lock);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn names_are_those_that_are_safe_in_file_names() {
        for good in ["a", "A-1_b.c", "9", &"x".repeat(64)] {
            assert_eq!(Name::new(good).unwrap().to_string(), good);
        }
        for bad in ["", ".", "..", ".a", "-a", "_a", "a/b", "a b", "ä", "a\n", "a\0", &"x".repeat(65)] {
            assert_eq!(Name::new(bad).unwrap_err().code(), Code::InvalidRequest, "{bad:?}");
        }
    }

    fn files(path: &Path) -> Vec<String> {
        let mut all: Vec<_> = fs::read_dir(path).unwrap().map(|one| one.unwrap().file_name()).collect();
        all.sort();
        all.into_iter().map(|name| name.into_string().unwrap()).collect()
    }

    #[test]
    fn a_lock_that_comes_and_goes_has_one_owner_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let (name, owners, times) = (Name::new("a").unwrap(), AtomicUsize::new(0), AtomicUsize::new(0));
        let one = || {
            let place = Place::open(folder.path()).unwrap();
            while times.load(Ordering::SeqCst) < 500 {
                let Some(lock) = place.lock(&name).unwrap() else {
                    std::thread::yield_now();
                    continue;
                };
                assert_eq!(owners.fetch_add(1, Ordering::SeqCst), 0, "somebody else has it, too");
                times.fetch_add(1, Ordering::SeqCst);
                // So that others try meanwhile.
                std::thread::yield_now();
                owners.fetch_sub(1, Ordering::SeqCst);
                place.unlock(&name, lock);
            }
        };
        std::thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(one))));
        assert_eq!(files(folder.path()), [""; 0]);
    }

    #[test]
    fn a_lock_whose_file_was_removed_before_it_was_taken_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let (place, name) = (Place::open(folder.path()).unwrap(), Name::new("a").unwrap());
        // Who had it lets go just after this one opens the file, and nobody else comes: the next try gets it.
        let (mut before, mut opened) = (place.lock(&name).unwrap(), 0);
        let lock = place.lock_after(&name, || {
            opened += 1;
            before.take().into_iter().for_each(|lock| place.unlock(&name, lock));
        });
        let lock = lock.unwrap().unwrap();
        assert_eq!((opened, lock.metadata().unwrap().nlink()), (2, 1), "it is a lock on the file that is there");
        assert!(place.lock(&name).unwrap().is_none(), "somebody has it");
        // Who had it lets go, and another takes it at once: that one has it alone.
        let (mut before, mut after) = (Some(lock), None);
        let lock = place.lock_after(&name, || {
            if let Some(lock) = before.take() {
                place.unlock(&name, lock);
                after = place.lock(&name).unwrap();
            }
        });
        assert!(lock.unwrap().is_none() && after.is_some(), "two have it");
    }

    #[test]
    fn a_session_has_one_holder_and_one_that_died_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run").join("x".repeat(120)).join("shells");
        let (place, name) = (|| Place::open(&path).unwrap(), Name::new("a").unwrap());
        assert!(place().connect(&name).unwrap().is_none() && !place().is_held(&name).unwrap());
        let (held, listener) = place().hold(&name).unwrap().unwrap();
        assert!(!held.was_lost && place().is_held(&name).unwrap());
        assert!(place().hold(&name).unwrap().is_none());
        assert!(place().connect(&name).unwrap().is_some());
        assert_eq!(place().names(), std::slice::from_ref(&name));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::metadata(path.join("a.sock")).unwrap().permissions().mode() & 0o777, 0o600);
        drop((held, listener));
        assert!(place().connect(&name).unwrap().is_none() && place().names().is_empty());
        assert_eq!(files(&path), [""; 0]);
        // As a holder leaves it that is killed: the files are there, nobody listens, the lock is free.
        fs::write(path.join("a.begun"), b"").unwrap();
        drop(UnixListener::bind(place().address(&name)).unwrap());
        assert!(place().connect(&name).unwrap().is_none());
        // Of that only the mark of the loss is left, for whoever takes the session next.
        assert!(!place().is_held(&name).unwrap());
        assert_eq!(files(&path), ["a.begun"]);
        let (held, _listener) = place().hold(&name).unwrap().unwrap();
        assert!(held.was_lost && place().connect(&name).unwrap().is_some());
    }
}
