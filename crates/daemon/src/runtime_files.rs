//! The small files of a running daemon: token, address, lock, key. Folder 0700, files 0600.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use corral_core::ports::EndpointFile;
use corral_core::{Code, Error, Result, Secret};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::hex::hex;
use crate::paths::Paths;

/// What a running daemon says of itself in the runtime folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaemonFile {
    /// Its process id.
    pub pid: u32,
    /// Where its management API listens.
    pub management: SocketAddr,
    /// Where its inference gateway listens.
    pub gateway: SocketAddr,
    /// Its version.
    pub version: String,
}

impl DaemonFile {
    /// What the daemon of this home last wrote; none where none runs, or none ended badly. The daemon may be gone.
    pub fn read(paths: &Paths) -> Option<Self> {
        serde_json::from_slice(&fs::read(&paths.daemon_file).ok()?).ok()
    }

    /// Writes it.
    pub(crate) fn write(&self, paths: &Paths) -> Result<()> {
        let text = serde_json::to_vec(self).map_err(|e| Error::new(Code::Internal, "no daemon file").because(e))?;
        write_private(&paths.daemon_file, &text)
    }
}

/// The management token of the running daemon.
pub fn read_token(paths: &Paths) -> Result<Secret> {
    let token = fs::read_to_string(&paths.token).map_err(|source| {
        Error::new(Code::DaemonUnavailable, format!("cannot read the token in {}", paths.token.display()))
            .because(source)
            .hint("start Corral with `corral serve`, as the same user")
    })?;
    Ok(Secret::new(token.trim_end()))
}

/// Makes a folder that only this user may enter, and refuses one that belongs to somebody else.
pub fn private_dir(path: &Path) -> Result<()> {
    let failed =
        |source: io::Error| Error::new(Code::Io, format!("cannot use the folder {}", path.display())).because(source);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
    let metadata = fs::metadata(path).map_err(failed)?;
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        return Err(Error::new(Code::Io, format!("the folder {} belongs to another user", path.display()))
            .hint("remove it, or set CORRAL_HOME to a folder of your own"));
    }
    if metadata.permissions().mode() & 0o077 != 0 {
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(failed)?;
    }
    Ok(())
}

/// Writes a file that only this user may read, whole or not at all.
pub(crate) fn write_private(path: &Path, content: &[u8]) -> Result<()> {
    let write = || -> io::Result<()> {
        let folder = path.parent().unwrap_or(Path::new("."));
        // `tempfile` makes it with mode 0600.
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(content)?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    };
    write().map_err(|source| Error::new(Code::Io, format!("cannot write {}", path.display())).because(source))
}

/// A fresh management token: 32 random bytes in hexadecimal.
pub(crate) fn new_token(paths: &Paths) -> Result<Secret> {
    let token = random_secret()?;
    write_private(&paths.token, format!("{}\n", token.expose()).as_bytes())?;
    Ok(token)
}

/// 256 random bits, in hexadecimal digits.
pub(crate) fn random_secret() -> Result<Secret> {
    let mut bytes = [0_u8; 32];
    getrandom::fill(&mut bytes)
        .map_err(|error| Error::new(Code::Internal, "the system gives no random bytes").because(error))?;
    Ok(Secret::new(hex(&bytes)))
}

/// Holds the home for one daemon as long as it lives.
#[derive(Debug)]
pub(crate) struct HomeLock {
    _file: File,
}

impl HomeLock {
    pub(crate) fn take(paths: &Paths) -> Result<Self> {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&paths.lock)
            .map_err(|e| Error::new(Code::Io, format!("cannot open {}", paths.lock.display())).because(e))?;
        flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
            let who = DaemonFile::read(paths)
                .map_or_else(String::new, |daemon| format!(" (process {}, at {})", daemon.pid, daemon.management));
            Error::new(Code::DaemonRunning, format!("Corral already runs for this home{who}"))
                .hint("use it with `corral status`, or end it first")
        })?;
        Ok(Self { _file: file })
    }
}

/// The file that holds the key of the `llama-server` that serves.
#[derive(Debug)]
pub(crate) struct KeyFile {
    paths: Paths,
}

impl KeyFile {
    pub(crate) fn new(paths: Paths) -> Self {
        Self { paths }
    }
}

impl EndpointFile for KeyFile {
    fn publish(&self, key: Option<&Secret>) -> Option<String> {
        let path = &self.paths.api_key;
        let Some(key) = key else {
            remove(path);
            return None;
        };
        match write_private(path, format!("{}\n", key.expose()).as_bytes()) {
            Ok(()) => Some(path.display().to_string()),
            Err(error) => {
                tracing::warn!(%error, "the key of the model is not published");
                None
            }
        }
    }
}

/// Removes a file that may be gone already.
pub(crate) fn remove(path: &Path) {
    match fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => tracing::warn!(%error, path = %path.display(), "could not remove a file"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home() -> (tempfile::TempDir, Paths) {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().display().to_string();
        let paths = Paths::resolve(&[("CORRAL_HOME", home)].into_iter().collect()).unwrap();
        private_dir(&paths.run_dir).unwrap();
        (folder, paths)
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn secrets_are_for_this_user_only() {
        let (_folder, paths) = home();
        let token = new_token(&paths).unwrap();
        assert_eq!(token.expose().len(), 64);
        assert_eq!(read_token(&paths).unwrap(), token);
        let file = KeyFile::new(paths.clone()).publish(Some(&Secret::new("k"))).unwrap();
        assert_eq!((mode(&paths.run_dir), mode(&paths.token), mode(Path::new(&file))), (0o700, 0o600, 0o600));
        KeyFile::new(paths.clone()).publish(None);
        assert!(!paths.api_key.exists());
    }

    #[test]
    fn a_folder_open_to_others_is_closed() {
        let (_folder, paths) = home();
        fs::set_permissions(&paths.run_dir, fs::Permissions::from_mode(0o755)).unwrap();
        private_dir(&paths.run_dir).unwrap();
        assert_eq!(mode(&paths.run_dir), 0o700);
    }

    #[test]
    fn a_home_has_one_daemon() {
        let (_folder, paths) = home();
        let held = HomeLock::take(&paths).unwrap();
        assert_eq!(HomeLock::take(&paths).unwrap_err().code(), Code::DaemonRunning);
        drop(held);
        HomeLock::take(&paths).unwrap();
    }
}
