//! Who a command is run for: a connection, which is written to by a thread of its own, so that nobody who reads slowly
//! holds the session up.

use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};

use corral_sandbox::shell::{Audience, Stream};
use serde::Serialize;

use super::frame::{Kind, frame, message};

/// The one who asked for a command.
pub(super) struct Asker<'a> {
    connection: UnixStream,
    frames: Sender<Vec<u8>>,
    /// Readable where the session is to end.
    stop: BorrowedFd<'a>,
}

impl<'a> Asker<'a> {
    /// The thread ends when all is written, or cannot be, after this value has gone.
    pub(super) fn new(connection: UnixStream, stop: BorrowedFd<'a>) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (frames, written) = mpsc::channel::<Vec<u8>>();
        let mut writer = connection.try_clone()?;
        let writing = thread::Builder::new().spawn(move || {
            // One who has gone is noticed where the connection is looked at.
            let _ = written.iter().try_for_each(|frame| writer.write_all(&frame));
        })?;
        Ok((Self { connection, frames, stop }, writing))
    }

    /// Sends a message.
    pub(super) fn say(&self, value: &impl Serialize) {
        self.send(message(value));
    }

    fn send(&self, frame: Vec<u8>) {
        // Where the thread has ended, nobody listens any more.
        let _ = self.frames.send(frame);
    }
}

impl Audience for Asker<'_> {
    fn hear(&mut self, stream: Stream, piece: &[u8]) {
        let kind = match stream {
            Stream::Output => Kind::Output,
            Stream::Error => Kind::Error,
        };
        self.send(frame(kind, piece));
    }

    /// An asker says nothing more, so that all that comes is its end.
    fn leaves(&self) -> Vec<BorrowedFd<'_>> {
        vec![self.connection.as_fd(), self.stop]
    }
}
