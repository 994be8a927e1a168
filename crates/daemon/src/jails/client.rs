//! The launcher's side.

use std::io::{self, BufRead, BufReader, IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use corral_core::session::About;
use corral_core::{Code, Error, Result, Secret, SessionId};
use rustix::cmsg_space;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use super::{Answer, END, Hello, Listener, with_address};
use crate::paths::Paths;

/// How long the daemon may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// The longest answer that is read, in bytes.
const MAX_ANSWER: u64 = 64 << 10;

/// The listening TCP sockets of a jail.
#[derive(Debug, Clone, Copy, Default)]
pub struct Listeners<'a> {
    /// For the inference gateway.
    pub gateway: Option<BorrowedFd<'a>>,
    /// For the management API.
    pub management: Option<BorrowedFd<'a>>,
}

/// Why what was handed over is so no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// The daemon has ended, or the connection to it.
    DaemonEnded,
    /// A person has ended the session: what runs in the jail has to end, too.
    SessionEnded,
}

/// What was handed over. When this is dropped, the daemon closes its copies of the listeners, ends their connections
/// and detaches the session.
#[derive(Debug)]
pub struct Handed {
    stream: UnixStream,
    session: SessionId,
}

impl Handed {
    /// The session, as the daemon knows it.
    pub fn session(&self) -> &SessionId {
        &self.session
    }

    /// Returns once it is over. The descriptor ([`AsFd`]) can be read then.
    pub fn wait(&self) -> Over {
        let (mut said, mut block) = (Vec::new(), [0; 64]);
        loop {
            match (&self.stream).read(&mut block) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(0) | Err(_) => return Over::DaemonEnded,
                Ok(count) => {
                    said.extend_from_slice(block.get(..count).unwrap_or_default());
                    if said.starts_with(END) {
                        return Over::SessionEnded;
                    }
                    // Nothing else is said; of what is not understood no more is kept than needed.
                    said.truncate(END.len());
                }
            }
        }
    }
}

impl AsFd for Handed {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// Hands the listeners of a jail over to the daemon of this home, for a session with this token: one that it has given,
/// or one of this form that it has never seen. The listeners stay open here, too, and can be handed to the next daemon.
///
/// [`Code::DaemonUnavailable`] and [`Code::ShuttingDown`] pass by themselves once a daemon runs; whatever else the daemon
/// answers does not.
pub fn hand_over(paths: &Paths, token: &Secret, about: &About, listeners: Listeners<'_>) -> Result<Handed> {
    let of = [(Listener::Gateway, listeners.gateway), (Listener::Management, listeners.management)];
    let (names, descriptors): (Vec<_>, Vec<_>) = of.into_iter().filter_map(|(name, fd)| Some((name, fd?))).unzip();
    let About { label, workspace, model } = about.clone();
    let hello = Hello { token: token.expose().to_owned(), label, workspace, model, listeners: names };
    let mut line =
        serde_json::to_vec(&hello).map_err(|error| Error::new(Code::Internal, "no message").because(error))?;
    line.push(b'\n');
    let unavailable = |error: io::Error| {
        let what = format!("no daemon takes listeners at {}", paths.jails.display());
        Error::new(Code::DaemonUnavailable, what)
            .because(error)
            .hint("start Corral with `corral serve`, as the same user")
    };
    let stream = with_address(&paths.jails, |path| UnixStream::connect(path)).map_err(unavailable)?;
    let answer = ask(&stream, &line, &descriptors).map_err(unavailable)?;
    match serde_json::from_slice(&answer) {
        Ok(Answer::Taken { session, .. }) => Ok(Handed { stream, session }),
        Ok(Answer::Refused { error }) => Err(error.into()),
        Err(_) if answer.is_empty() => Err(unavailable(io::ErrorKind::UnexpectedEof.into())),
        Err(error) => Err(Error::new(Code::Internal, "the daemon's answer is none").because(error)),
    }
}

fn ask(stream: &UnixStream, line: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<Vec<u8>> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(2))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !beside.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let sent = sendmsg(stream, &[IoSlice::new(line)], &mut beside, SendFlags::NOSIGNAL)?;
    let mut stream = stream;
    stream.write_all(line.get(sent..).unwrap_or_default())?;
    let mut answer = Vec::new();
    // Nothing follows this line, so nothing is lost with the buffer.
    BufReader::new(stream.take(MAX_ANSWER)).read_until(b'\n', &mut answer)?;
    stream.set_read_timeout(None)?;
    Ok(answer)
}
