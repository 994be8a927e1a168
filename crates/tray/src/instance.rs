//! One tray for each home: the first launch holds a lock and listens, every later one hands on what it was asked for.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use corral_core::{Code, Error, Result};
use corral_daemon::{Paths, private_dir};
use rustix::fs::{FlockOperation, flock};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::{Instant, sleep, timeout};

use crate::request::Request;

/// How long a first launch may take to listen, and one that ends to end with all that it holds.
const LISTENS_WITHIN: Duration = Duration::from_secs(15);

/// Longest request, in bytes: a path, and a few words.
const LONGEST: u64 = 16 << 10;

/// What a request is answered with.
const TAKEN: &[u8] = b"taken";

/// This is the tray of its home, until dropped.
#[derive(Debug)]
pub(crate) struct Instance {
    listener: UnixListener,
    socket: PathBuf,
    _lock: File,
}

/// What a launch is.
#[derive(Debug)]
pub(crate) enum Launch {
    /// The tray of its home.
    First(Instance),
    /// One of several: what it was asked for is with the first.
    HandedOn,
}

impl Instance {
    /// Becomes the tray of this home, or hands on what was asked for.
    pub(crate) async fn launch(paths: &Paths, request: &Request) -> Result<Launch> {
        private_dir(&paths.run_dir)?;
        let (lock, socket) = (paths.run_dir.join("tray.lock"), paths.run_dir.join("tray.sock"));
        let failed = |what: &str, error: io::Error| Error::new(Code::Io, format!("{what}: {error}"));
        let began = Instant::now();
        loop {
            let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&lock);
            let file = file.map_err(|error| failed(&format!("cannot open {}", lock.display()), error))?;
            if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
                // Of one that was killed.
                let _ = std::fs::remove_file(&socket);
                let listener = UnixListener::bind(&socket)
                    .map_err(|error| failed(&format!("cannot listen at {}", socket.display()), error))?;
                return Ok(Launch::First(Self { listener, socket, _lock: file }));
            }
            match timeout(LISTENS_WITHIN, hand_on(&socket, request))
                .await
                .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            {
                Ok(()) => return Ok(Launch::HandedOn),
                // It begins to listen just now, or ends just now.
                Err(_) if began.elapsed() < LISTENS_WITHIN => sleep(Duration::from_millis(20)).await,
                Err(error) => {
                    return Err(failed("Corral's tray runs already, but does not take what is asked of it", error)
                        .hint("end it, and start it again"));
                }
            }
        }
    }

    /// The next request of another launch.
    pub(crate) async fn next(&self) -> Request {
        loop {
            let Ok((mut stream, _)) = self.listener.accept().await else {
                // Out of descriptors, for instance: the caller waits, and so does this.
                sleep(Duration::from_millis(100)).await;
                continue;
            };
            let mut text = Vec::new();
            let mut bounded = (&mut stream).take(LONGEST);
            // Somebody who says nothing must not keep others out.
            let read = timeout(Duration::from_secs(2), bounded.read_to_end(&mut text)).await;
            let Ok(Ok(_)) = read else { continue };
            let Ok(request) = serde_json::from_slice(&text) else { continue };
            let _ = stream.write_all(TAKEN).await;
            return request;
        }
    }
}

impl Instance {
    /// Takes nothing more: whoever asks from now on waits for the lock, and is the next tray.
    pub(crate) fn take_no_more(&self) {
        let _ = std::fs::remove_file(&self.socket);
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.take_no_more();
    }
}

async fn hand_on(socket: &Path, request: &Request) -> io::Result<()> {
    let mut stream = UnixStream::connect(socket).await?;
    stream.write_all(&serde_json::to_vec(request)?).await?;
    stream.shutdown().await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    if answer == TAKEN { Ok(()) } else { Err(io::Error::other("it was not answered")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Page;

    fn paths(folder: &Path) -> Paths {
        Paths::resolve(&[("CORRAL_HOME", folder.display().to_string())].into_iter().collect()).unwrap()
    }

    #[tokio::test]
    async fn of_twenty_launches_one_is_the_tray_and_gets_what_the_others_were_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let paths = paths(folder.path());
        let (first, mut ready) = tokio::sync::mpsc::unbounded_channel();
        let launch = |paths: Paths, first: tokio::sync::mpsc::UnboundedSender<Instance>| async move {
            if let Launch::First(instance) = Instance::launch(&paths, &Request::Open(Page::Logs)).await.unwrap() {
                first.send(instance).unwrap();
            }
        };
        let launches: Vec<_> = (0..20).map(|_| tokio::spawn(launch(paths.clone(), first.clone()))).collect();
        drop(first);
        let instance = ready.recv().await.unwrap();
        for _ in 1..20 {
            assert_eq!(instance.next().await, Request::Open(Page::Logs));
        }
        for launch in launches {
            launch.await.unwrap();
        }
        assert!(ready.recv().await.is_none(), "there was one only");
        drop(instance);
        let again = Instance::launch(&paths, &Request::Nothing).await.unwrap();
        assert!(matches!(again, Launch::First(_)), "{again:?}");
    }

    #[tokio::test]
    async fn what_a_killed_one_left_is_in_nobodys_way_and_nonsense_is_not_taken() {
        let folder = tempfile::tempdir().unwrap();
        let paths = paths(folder.path());
        let socket = paths.run_dir.join("tray.sock");
        private_dir(&paths.run_dir).unwrap();
        std::fs::write(&socket, "left").unwrap();
        let Launch::First(instance) = Instance::launch(&paths, &Request::Nothing).await.unwrap() else { panic!() };
        let caller = tokio::spawn(async move {
            let mut stream = UnixStream::connect(&socket).await.unwrap();
            stream.write_all(b"{\"what\":1}").await.unwrap();
            stream.shutdown().await.unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await.unwrap();
            assert_eq!(answer, b"");
            hand_on(&socket, &Request::Quit).await.unwrap();
        });
        assert_eq!(instance.next().await, Request::Quit);
        caller.await.unwrap();
    }
}
