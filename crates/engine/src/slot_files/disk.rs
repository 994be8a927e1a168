//! Files that something wrote which nobody trusts: never followed, only read where they are plain files.

use std::fs::{self, File, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use xxhash_rust::xxh3::Xxh3;

/// Bytes that are read at once.
const CHUNK: usize = 1 << 20;

/// A plain file.
#[derive(Debug)]
pub(super) struct Plain {
    file: File,
    /// Its size in bytes.
    pub(super) bytes: u64,
    /// Its modification time, in nanoseconds since 1970.
    pub(super) modified_ns: i64,
}

impl Plain {
    /// Opens a file for reading. What is not a plain file is an error: a server could have put a link there.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        // Without NONBLOCK a pipe would hold whoever opens it.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
        let about = file.metadata()?;
        if !about.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is not a plain file"));
        }
        let modified_ns = about.mtime().saturating_mul(1_000_000_000).saturating_add(about.mtime_nsec());
        Ok(Self { file, bytes: about.len(), modified_ns })
    }

    /// Leaves it to its owner alone.
    pub(super) fn close_to_others(&self) -> io::Result<()> {
        self.file.set_permissions(Permissions::from_mode(0o600))
    }

    /// XXH3 over its content.
    pub(super) fn checksum(mut self) -> io::Result<u64> {
        let mut hasher = Xxh3::new();
        let mut chunk = vec![0; CHUNK];
        loop {
            match self.file.read(&mut chunk) {
                Ok(0) => return Ok(hasher.digest()),
                Ok(read) => hasher.update(chunk.get(..read).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Bytes that are free for this user on the disk of a folder.
pub(super) fn free(folder: &Path) -> io::Result<u64> {
    let disk = rustix::fs::statvfs(folder)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// Removes a file, there or not.
pub(super) fn remove(path: &Path) {
    match fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => tracing::warn!(path = %path.display(), %error, "a file of conversations stays behind"),
    }
}

/// A file that goes when this is dropped.
#[derive(Debug)]
pub(super) struct Unfinished(pub(super) PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        remove(&self.0);
    }
}

/// A file under the name that says that a server is reading it. It gets its own name back when this is dropped.
#[derive(Debug)]
pub(super) struct Trying {
    own: PathBuf,
    trying: PathBuf,
}

impl Trying {
    /// Renames the file.
    pub(super) fn new(own: PathBuf, trying: PathBuf) -> io::Result<Self> {
        fs::rename(&own, &trying)?;
        Ok(Self { own, trying })
    }

    /// Removes the file.
    pub(super) fn remove(self) {
        remove(&self.trying);
    }
}

impl Drop for Trying {
    fn drop(&mut self) {
        match fs::rename(&self.trying, &self.own) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(path = %self.own.display(), %error, "conversations are lost"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_the_whole_content() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("a.kv");
        let content: Vec<u8> = (0..CHUNK + 100_000).map(|n| u8::try_from(n % 251).expect("small")).collect();
        let sum = |content: &[u8]| {
            fs::write(&path, content).expect("written");
            Plain::open(&path).and_then(Plain::checksum).expect("readable")
        };
        let whole = sum(&content);
        assert_eq!(whole, xxhash_rust::xxh3::xxh3_64(&content));
        let mut flipped = content.clone();
        flipped[CHUNK + 5] ^= 1;
        for other in [&content[..content.len() - 1], &flipped, b""] {
            assert_ne!(sum(other), whole);
        }
    }

    #[test]
    fn only_plain_files_are_opened_and_closed_to_others() {
        let dir = tempfile::tempdir().expect("a folder");
        let [file, link, pipe] = ["file", "link", "pipe"].map(|name| dir.path().join(name));
        fs::write(&file, "abc").expect("written");
        fs::set_permissions(&file, Permissions::from_mode(0o644)).expect("permissions");
        std::os::unix::fs::symlink(&file, &link).expect("a link");
        let (fifo, mode) = (rustix::fs::FileType::Fifo, Mode::RUSR | Mode::WUSR);
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, fifo, mode, 0).expect("a pipe");
        for odd in [&link, &pipe, &dir.path().to_owned(), &dir.path().join("none")] {
            assert!(Plain::open(odd).is_err(), "{}", odd.display());
        }
        let plain = Plain::open(&file).expect("a plain file");
        plain.close_to_others().expect("permissions");
        assert_eq!(plain.bytes, 3);
        assert_eq!(fs::metadata(&file).expect("there").permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn what_is_dropped_half_way_leaves_nothing_half() {
        let dir = tempfile::tempdir().expect("a folder");
        let [own, trying] = ["a.kv", "a.kv.trying"].map(|name| dir.path().join(name));
        fs::write(&own, "abc").expect("written");
        let tried = Trying::new(own.clone(), trying.clone()).expect("renamed");
        assert!(trying.exists() && !own.exists());
        drop(tried);
        assert!(own.exists() && !trying.exists(), "it gets its name back");
        Trying::new(own.clone(), trying.clone()).expect("renamed").remove();
        assert!(!own.exists() && !trying.exists());

        fs::write(&own, "abc").expect("written");
        drop(Unfinished(own.clone()));
        assert!(!own.exists());
        drop(Unfinished(own));
    }
}
