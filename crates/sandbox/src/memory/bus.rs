//! Asking systemd over D-Bus. Every wait is bounded but the one for the jail's processes.

use std::fmt::Display;
use std::path::PathBuf;
use std::time::Duration;

use futures_util::StreamExt;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tokio::time::timeout;
use zbus::message::Type;
use zbus::zvariant::{ObjectPath, OwnedObjectPath};
use zbus::{Connection, MatchRule, MessageStream, connection};

use super::Unbounded;
use super::scope::{Property, Scope, is_too_old};

const SYSTEMD: &str = "org.freedesktop.systemd1";
const PATH: &str = "/org/freedesktop/systemd1";
const INTERFACE: &str = "org.freedesktop.systemd1.Manager";

/// A socket of a message bus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bus {
    /// A file.
    Path(PathBuf),
    /// An abstract name.
    Abstract(Vec<u8>),
}

impl Bus {
    /// The first socket of an address as D-Bus has it. Other ways to a bus, as starting a program, are not gone.
    pub(super) fn of(address: &str) -> Option<Self> {
        address.split(';').find_map(|one| {
            let mut keys = one.strip_prefix("unix:")?.split(',').filter_map(|pair| pair.split_once('='));
            keys.find_map(|(key, value)| match key {
                "path" => Some(Self::Path(String::from_utf8(unescaped(value)?).ok()?.into())),
                "abstract" => Some(Self::Abstract(unescaped(value)?)),
                _ => None,
            })
        })
    }

    pub(super) fn is_there(&self) -> bool {
        match self {
            Self::Path(path) => path.exists(),
            Self::Abstract(_) => true,
        }
    }

    /// Does not wait, not even where the other side accepts nobody.
    fn open(&self) -> std::io::Result<UnixStream> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        let address = match self {
            Self::Path(path) => SocketAddrUnix::new(path)?,
            Self::Abstract(name) => SocketAddrUnix::new_abstract_name(name)?,
        };
        connect(&socket, &address)?;
        UnixStream::from_std(socket.into())
    }
}

/// A value of an address, in which bytes may be written as `%` and two digits.
fn unescaped(value: &str) -> Option<Vec<u8>> {
    let mut bytes = value.bytes();
    let mut all = Vec::new();
    while let Some(byte) = bytes.next() {
        all.push(match byte {
            b'%' => {
                let digits = [bytes.next()?, bytes.next()?];
                u8::from_str_radix(str::from_utf8(&digits).ok()?, 16).ok()?
            }
            byte => byte,
        });
    }
    Some(all)
}

/// Asks for the scope at the first bus that systemd is at, once the processes are known.
pub(super) async fn ask(
    buses: &[Bus],
    patience: Duration,
    scope: &Scope,
    processes: oneshot::Receiver<Vec<u32>>,
) -> Result<(), Unbounded> {
    let mut last = Unbounded::NoBus;
    let mut systemd = None;
    for bus in buses {
        match timeout(patience, Systemd::at(bus)).await {
            Ok(Ok(found)) => {
                systemd = Some(found);
                break;
            }
            Ok(Err(why)) => last = why,
            Err(_) => last = Unbounded::NoAnswer,
        }
    }
    let Some(mut systemd) = systemd else { return Err(last) };
    // The jail was not built.
    let processes = processes.await.map_err(|_| refused("there is no jail"))?;
    timeout(patience, systemd.start(scope, &processes)).await.map_err(|_| Unbounded::NoAnswer)?
}

struct Systemd {
    bus: Connection,
    ended: MessageStream,
}

impl Systemd {
    async fn at(bus: &Bus) -> Result<Self, Unbounded> {
        let stream = bus.open().map_err(refused)?;
        let bus = connection::Builder::unix_stream(stream).build().await.map_err(refused)?;
        let rule = MatchRule::builder().msg_type(Type::Signal).sender(SYSTEMD).and_then(|rule| rule.path(PATH));
        let rule = rule.and_then(|rule| rule.interface(INTERFACE)).and_then(|rule| rule.member("JobRemoved"));
        let rule = rule.map_err(refused)?.build();
        let ended = MessageStream::for_match_rule(rule, &bus, Some(64)).await.map_err(refused)?;
        Ok(Self { bus, ended })
    }

    /// Has the scope made, and waits until the processes are in it.
    async fn start(&mut self, scope: &Scope, processes: &[u32]) -> Result<(), Unbounded> {
        let job = match self.request(scope, processes, false).await {
            Err(error) if is_too_old(&error) => self.request(scope, processes, true).await,
            job => job,
        };
        let job = job.map_err(refused)?;
        while let Some(signal) = self.ended.next().await {
            let body = signal.map_err(refused)?.body();
            match body.deserialize::<(u32, ObjectPath<'_>, &str, &str)>() {
                Ok((_, ended, _, "done")) if ended == *job => return Ok(()),
                Ok((_, ended, _, how)) if ended == *job => return Err(refused(format!("its job ended as `{how}`"))),
                _ => {}
            }
        }
        Err(refused("the bus has gone"))
    }

    async fn request(&self, scope: &Scope, processes: &[u32], is_old: bool) -> zbus::Result<OwnedObjectPath> {
        let others: Vec<(String, Vec<Property>)> = Vec::new();
        let body = (scope.name.as_str(), "fail", scope.properties(processes, is_old), others);
        let answer = self.bus.call_method(Some(SYSTEMD), PATH, Some(INTERFACE), "StartTransientUnit", &body).await?;
        answer.body().deserialize()
    }
}

fn refused(why: impl Display) -> Unbounded {
    Unbounded::Refused { said: why.to_string() }
}
