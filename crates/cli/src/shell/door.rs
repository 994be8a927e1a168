//! Where a holder is asked: connections are taken and read while a command runs, and put in a row.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

use corral_core::{Code, Error};

use super::frame::{Kind, read, read_message, send};
use super::{Asked, Info, Said, Wanted};

/// How long somebody may take to say what they want.
const ASKING: Duration = Duration::from_secs(10);

/// Something for the process's one main thread to do.
pub(super) enum Job {
    /// Runs a command.
    Run(UnixStream, Wanted, Vec<u8>),
    /// Ends the session.
    End(UnixStream),
}

/// Open as long as the process lives.
pub(super) struct Door {
    pub(super) info: Info,
    /// Whether a command runs.
    pub(super) busy: Arc<AtomicBool>,
    woken: UnixStream,
}

/// What each connection's thread has.
#[derive(Debug)]
struct Row {
    jobs: Sender<Job>,
    wake: UnixStream,
    stop: UnixStream,
    info: Info,
    busy: Arc<AtomicBool>,
}

impl Door {
    /// Takes connections from now on. `stop` is written to when the session is to end.
    pub(super) fn open(listener: UnixListener, info: Info, stop: UnixStream) -> io::Result<(Self, Receiver<Job>)> {
        let (jobs, taken) = mpsc::channel();
        let (wake, woken) = UnixStream::pair()?;
        for one in [&wake, &woken] {
            one.set_nonblocking(true)?;
        }
        let busy = Arc::new(AtomicBool::new(false));
        let row = Arc::new(Row { jobs, wake, stop, info: info.clone(), busy: Arc::clone(&busy) });
        thread::Builder::new().spawn(move || {
            for connection in listener.incoming().filter_map(io::Result::ok) {
                let row = Arc::clone(&row);
                // Where there is no thread for it, whoever asks sees the connection end.
                let _ = thread::Builder::new().spawn(move || row.hear(connection));
            }
        })?;
        Ok((Self { info, busy, woken }, taken))
    }

    /// Readable when there is a job.
    pub(super) fn woken(&self) -> BorrowedFd<'_> {
        self.woken.as_fd()
    }

    /// To be called before the jobs are taken.
    pub(super) fn wake_taken(&self) {
        let mut bytes = [0; 64];
        while matches!((&self.woken).read(&mut bytes), Ok(read) if read > 0) {}
    }
}

impl Row {
    fn hear(&self, mut connection: UnixStream) {
        // Whoever breaks off has asked for nothing.
        let _ = self.take(&mut connection);
    }

    fn take(&self, connection: &mut UnixStream) -> io::Result<()> {
        connection.set_read_timeout(Some(ASKING))?;
        let asked = match read_message(connection) {
            Ok(Some(asked)) => asked,
            Ok(None) => return Ok(()),
            Err(error) => {
                let error =
                    Error::new(Code::InvalidRequest, "the session was not asked in its language").because(error);
                return send(connection, &Said::Failed(error.hint("is it of another version? end it first").body()));
            }
        };
        let job = match asked {
            Asked::Info => {
                let busy = self.busy.load(Ordering::Relaxed);
                return send(connection, &Said::Info(Info { busy, ..self.info.clone() }));
            }
            Asked::Run(wanted) => match read(connection)? {
                Some((Kind::Command, command)) => Job::Run(connection.try_clone()?, wanted, command),
                _ => return Ok(()),
            },
            Asked::End => Job::End(connection.try_clone()?),
        };
        let ends = matches!(job, Job::End(_));
        // The main thread lives as long as the process.
        let _ = self.jobs.send(job);
        // A full socket wakes as well as one byte.
        let _ = (&self.wake).write(&[0]);
        if ends {
            let _ = (&self.stop).write(&[0]);
        }
        Ok(())
    }
}
