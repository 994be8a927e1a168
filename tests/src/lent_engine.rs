//! The tests' Docker engine, for a user who may not use its socket.

use std::io;
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::Command;
use std::thread;

use tempfile::TempDir;

/// A socket that everybody may use and that leads to the engine, as long as this lives.
#[derive(Debug)]
pub struct LentEngine {
    folder: TempDir,
    listener: UnixListener,
}

impl LentEngine {
    /// Lends the engine that the tests' environment names.
    #[track_caller]
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("corral-lent-").tempdir().expect("a folder");
        let listener = UnixListener::bind(folder.path().join("docker.sock")).expect("a socket");
        for path in [folder.path().to_owned(), folder.path().join("docker.sock")] {
            std::fs::set_permissions(path, PermissionsExt::from_mode(0o777)).expect("its mode can be changed");
        }
        let engine = address();
        let taken = listener.try_clone().expect("a descriptor");
        thread::spawn(move || {
            while let Ok((client, _)) = taken.accept() {
                // A client of an engine that is away sees its connection end.
                let _ = UnixStream::connect(&engine).and_then(|server| relay(&client, &server));
            }
        });
        Self { folder, listener }
    }

    /// Its address, for `DOCKER_HOST`.
    pub fn host(&self) -> String {
        format!("unix://{}", self.folder.path().join("docker.sock").display())
    }
}

impl Default for LentEngine {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for LentEngine {
    fn drop(&mut self) {
        // Whoever waits for a connection then waits no more.
        let _ = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both);
    }
}

/// The socket of the engine itself.
#[track_caller]
fn address() -> PathBuf {
    let asked = Command::new("docker").args(["context", "inspect", "--format", "{{.Endpoints.docker.Host}}"]).output();
    let host = String::from_utf8(asked.expect("the `docker` command runs").stdout).expect("text");
    let path = host.trim().strip_prefix("unix://");
    path.unwrap_or_else(|| panic!("the tests' engine is at a socket of this machine, not at {host}")).into()
}

/// Passes on what each side says, until it has said all.
fn relay(client: &UnixStream, server: &UnixStream) -> io::Result<()> {
    for (from, to) in [(client, server), (server, client)] {
        let (mut from, mut to) = (from.try_clone()?, to.try_clone()?);
        thread::spawn(move || {
            let _ = io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Write);
        });
    }
    Ok(())
}
