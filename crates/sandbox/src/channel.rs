//! Messages with descriptors over a stream socket: each is a line of JSON, and descriptors travel with its first byte.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The longest message, in bytes: the kernel's own limit on arguments and environment is 2 MiB, and JSON makes up to four
/// of each byte.
const LONGEST: usize = 16 << 20;

/// So many descriptors travel with one message at most.
const DESCRIPTORS: usize = 8;

/// One end.
#[derive(Debug)]
pub(crate) struct Channel<S> {
    socket: S,
    received: Vec<u8>,
    descriptors: VecDeque<OwnedFd>,
}

impl<S: AsFd> Channel<S> {
    pub(crate) fn new(socket: S) -> Self {
        Self { socket, received: Vec::new(), descriptors: VecDeque::new() }
    }

    /// Sends a message whole; blocks until it is on its way.
    pub(crate) fn send(&self, message: &impl Serialize, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut bytes = serde_json::to_vec(message)?;
        bytes.push(b'\n');
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(io::Error::other("too many descriptors for one message"));
        }
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let sent = retried(|| sendmsg(&self.socket, &[IoSlice::new(rest)], &mut ancillary, SendFlags::NOSIGNAL))?;
            rest = rest.get(sent..).unwrap_or_default();
            // They have gone with the first bytes.
            ancillary.clear();
        }
        Ok(())
    }

    /// The next message; none once the other side has gone. Blocks until it is there.
    pub(crate) fn receive<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        loop {
            if let Some(message) = self.parse()? {
                return Ok(Some(message));
            }
            if !self.read()? {
                return Ok(None);
            }
        }
    }

    /// A message that has come whole already.
    pub(crate) fn parse<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        let Some(end) = memchr::memchr(b'\n', &self.received) else { return Ok(None) };
        let line: Vec<u8> = self.received.drain(..=end).collect();
        Ok(Some(serde_json::from_slice(&line)?))
    }

    /// Takes in what has come, and waits where nothing has. False once the other side has gone.
    pub(crate) fn read(&mut self) -> io::Result<bool> {
        if self.received.len() > LONGEST {
            return Err(io::Error::other("a message does not end"));
        }
        let mut bytes = vec![0; 64 << 10];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let message = retried(|| {
            recvmsg(&self.socket, &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)
        })?;
        for one in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = one {
                self.descriptors.extend(descriptors);
            }
        }
        if message.flags.contains(ReturnFlags::CTRUNC) {
            return Err(io::Error::other("more descriptors came than there is room for"));
        }
        self.received.extend_from_slice(bytes.get(..message.bytes).unwrap_or_default());
        Ok(message.bytes > 0)
    }

    /// The descriptors that came with the last messages, in their order.
    pub(crate) fn descriptors(&mut self, count: usize) -> io::Result<Vec<OwnedFd>> {
        if self.descriptors.len() < count {
            return Err(io::Error::other("descriptors are missing"));
        }
        Ok(self.descriptors.drain(..count).collect())
    }
}

impl<S: AsFd> AsFd for Channel<S> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Again, where a signal came between.
fn retried<T>(mut call: impl FnMut() -> rustix::io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(rustix::io::Errno::INTR) => {}
            result => return result.map_err(io::Error::from),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    #[test]
    fn messages_and_their_descriptors_arrive_in_order() {
        let (here, there) = UnixStream::pair().expect("a pair of sockets");
        let (here, mut there) = (Channel::new(here), Channel::new(there));
        let (mut reader, writer) = std::io::pipe().expect("a pipe");
        here.send(&"first", &[]).expect("sent");
        here.send(&vec!["second"; 1000], &[writer.as_fd()]).expect("sent");
        here.send(&"third", &[]).expect("sent");
        drop((here, writer));
        assert_eq!(there.receive::<String>().expect("read").as_deref(), Some("first"));
        assert_eq!(there.receive::<Vec<String>>().expect("read").map(|all| all.len()), Some(1000));
        let writer = there.descriptors(1).expect("it came").remove(0);
        std::fs::File::from(writer).write_all(b"by the descriptor").expect("written");
        assert_eq!(there.receive::<String>().expect("read").as_deref(), Some("third"));
        assert_eq!(there.receive::<String>().expect("read"), None);
        assert!(there.descriptors(1).is_err());
        let mut text = String::new();
        reader.read_to_string(&mut text).expect("read");
        assert_eq!(text, "by the descriptor");
    }
}
