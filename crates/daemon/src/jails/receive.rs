//! A launcher's message, and the listeners that came with it. Nothing in it is trusted.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use corral_core::{Code, Error, Result};
use rustix::cmsg_space;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SocketType, ipproto, recvmsg,
    sockopt,
};
use tokio::io::Interest;
use tokio::net::{TcpListener, UnixStream};

use super::{Ended, Hello, Line, Listener, PROTOCOL};

/// The longest message, in bytes: a path of the longest kind, and a label in which every character is escaped.
const MAX_MESSAGE: usize = 16 << 10;

/// So much is read at once, in bytes.
const BLOCK: usize = 4096;

/// What a launcher says.
pub(super) enum Message {
    /// It hands listeners over.
    Listeners(Box<Received>),
    /// A jail has ended, and what it has left people have to hear of.
    Ended(Ended),
}

/// What a launcher hands over.
pub(super) struct Received {
    pub(super) hello: Hello,
    pub(super) gateway: Option<TcpListener>,
    pub(super) management: Option<TcpListener>,
}

/// Reads the message. All descriptors that came with what is refused are closed.
pub(super) async fn receive(stream: &UnixStream) -> Result<Message> {
    let (line, descriptors) = line(stream).await?;
    let malformed = |error| invalid("the message is not as it should be").because(error);
    let Line { protocol, ended } = serde_json::from_slice(&line).map_err(malformed)?;
    if protocol > PROTOCOL {
        let what = format!(
            "`corral` is newer than the daemon, which speaks protocol {PROTOCOL} with jails and not {protocol}"
        );
        return Err(Error::new(Code::InvalidRequest, what)
            .hint("end the daemon and start it again; jails that run go on, and what they ask waits meanwhile"));
    }
    if let Some(ended) = ended {
        return Ok(Message::Ended(ended));
    }
    let hello: Hello = serde_json::from_slice(&line).map_err(malformed)?;
    let mut received = Received { gateway: None, management: None, hello };
    if received.hello.listeners.len() != descriptors.len() {
        let (named, came) = (received.hello.listeners.len(), descriptors.len());
        return Err(invalid(&format!("the message names {named} listeners, and {came} descriptors came with it")));
    }
    for (name, descriptor) in received.hello.listeners.iter().zip(descriptors) {
        let place = match name {
            Listener::Gateway => &mut received.gateway,
            Listener::Management => &mut received.management,
        };
        if place.replace(listener(descriptor)?).is_some() {
            return Err(invalid("the message names the same listener twice"));
        }
    }
    Ok(Message::Listeners(Box::new(received)))
}

/// One line, and the descriptors that came with it.
async fn line(stream: &UnixStream) -> Result<(Vec<u8>, Vec<OwnedFd>)> {
    let (mut read, mut descriptors) = (Vec::new(), Vec::new());
    loop {
        let mut block = [0; BLOCK];
        let (count, too_many) = stream
            .async_io(Interest::READABLE, || piece(stream, &mut block, &mut descriptors))
            .await
            .map_err(|error| invalid("the message cannot be read").because(error))?;
        if too_many {
            return Err(invalid("more descriptors came than there can be listeners"));
        }
        read.extend_from_slice(block.get(..count).unwrap_or_default());
        match read.iter().position(|byte| *byte == b'\n') {
            Some(end) if end + 1 == read.len() => {
                read.truncate(end);
                return Ok((read, descriptors));
            }
            Some(_) => return Err(invalid("something follows the message")),
            None if count == 0 => return Err(invalid("the message broke off")),
            None if read.len() >= MAX_MESSAGE => {
                return Err(invalid(&format!("the message is longer than {MAX_MESSAGE} bytes")));
            }
            None => {}
        }
    }
}

/// The next bytes, how many, and whether descriptors were left out since there were too many.
fn piece(stream: &UnixStream, block: &mut [u8], descriptors: &mut Vec<OwnedFd>) -> io::Result<(usize, bool)> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(2))];
    let mut beside = RecvAncillaryBuffer::new(&mut space);
    let message = recvmsg(stream, &mut [IoSliceMut::new(block)], &mut beside, RecvFlags::CMSG_CLOEXEC)?;
    for part in beside.drain() {
        if let RecvAncillaryMessage::ScmRights(came) = part {
            descriptors.extend(came);
        }
    }
    let too_many = message.flags.contains(ReturnFlags::CTRUNC) || descriptors.len() > 2;
    Ok((message.bytes, too_many))
}

/// A descriptor as what it should be: a TCP socket that listens on a loopback, of whichever network.
fn listener(descriptor: OwnedFd) -> Result<TcpListener> {
    let refuse = || invalid("a descriptor is no TCP socket that listens on 127.0.0.1 or ::1");
    if !listens(&descriptor).unwrap_or(false) {
        return Err(refuse());
    }
    let listener = std::net::TcpListener::from(descriptor);
    if !listener.local_addr().is_ok_and(|address| address.ip().is_loopback()) {
        return Err(refuse());
    }
    let ready = listener.set_nonblocking(true).and_then(|()| TcpListener::from_std(listener));
    ready.map_err(|error| Error::new(Code::Io, "a listener of a jail cannot be served").because(error))
}

fn listens(descriptor: impl AsFd) -> rustix::io::Result<bool> {
    let fd = descriptor.as_fd();
    let internet = matches!(sockopt::socket_domain(fd)?, AddressFamily::INET | AddressFamily::INET6);
    let tcp = sockopt::socket_type(fd)? == SocketType::STREAM && sockopt::socket_protocol(fd)? == Some(ipproto::TCP);
    Ok(internet && tcp && sockopt::socket_acceptconn(fd)?)
}

fn invalid(what: &str) -> Error {
    Error::new(Code::InvalidRequest, what).hint("`corral` and the daemon have to be of the same version")
}
