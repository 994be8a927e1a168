//! Holds a started server back before it loads its model, so that all the rest of a start is done ahead.
//!
//! Making a container's network takes Docker longer than a small model takes to load. So a new server is started while
//! the old one still serves, with one more argument, its last: a file with API keys that is a named pipe. It reads all
//! its other arguments, then waits for the pipe, before it has touched the GPU or the model. Opening the pipe and
//! closing it again, with nothing written, lets it go on. Should Corral itself die meanwhile, the server goes on too;
//! the next Corral finds it running.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};

/// Where the pipe is inside the container.
pub(super) const TARGET: &str = "/run/corral/gate";

/// Makes the pipe where it is not there yet, and makes it readable for the container's user: nobody else gets into the
/// folder around it.
pub(super) fn make(path: &Path) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    match rustix::fs::mkfifoat(CWD, path, Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::ROTH) {
        Ok(()) => {}
        Err(rustix::io::Errno::EXIST) => return Ok(()),
        Err(error) => return Err(error.into()),
    }
    // The mask of this process must not take the reader's right away.
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o644))
}

/// A server that waits at its gate. Dropping this lets it go on.
#[derive(Debug)]
pub(super) struct Held(#[expect(dead_code, reason = "the open pipe is what holds the server")] OwnedFd);

/// Takes hold of the server once it waits; none while it does not wait yet.
pub(super) fn try_hold(path: &Path) -> io::Result<Option<Held>> {
    match rustix::fs::open(path, OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty()) {
        Ok(fd) => Ok(Some(Held(fd))),
        Err(rustix::io::Errno::NXIO) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The pipe of a container.
pub(super) fn path(run_dir: &Path, container: &str) -> PathBuf {
    run_dir.join("gates").join(container)
}

/// Removes the pipe.
pub(super) fn remove(path: &Path) {
    if let Err(error) = std::fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::debug!(path = %path.display(), %error, "a gate stays behind");
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;

    use super::*;

    #[test]
    fn a_reader_waits_until_the_gate_is_let_go() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = path(folder.path(), "corral-m-1");
        make(&path).expect("a pipe");
        make(&path).expect("making it again changes nothing");
        assert!(try_hold(&path).expect("a pipe").is_none(), "nobody waits yet");
        let at = path.clone();
        let reader = std::thread::spawn(move || {
            let mut text = String::new();
            File::open(at).and_then(|mut file| file.read_to_string(&mut text)).map(|_| text)
        });
        let held = loop {
            if let Some(held) = try_hold(&path).expect("a pipe") {
                break held;
            }
            std::thread::yield_now();
        };
        assert!(!reader.is_finished(), "it waits while it is held");
        drop(held);
        assert_eq!(reader.join().expect("no panic").expect("no error"), "", "it reads no key");
        remove(&path);
        assert!(!path.exists());
    }
}
