//! Starting a jail from outside.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, PipeReader, Read, Seek, Write};
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use close_fds::CloseFdsBuilder;
use corral_core::{Code, Error, Result};
use rustix::fs::{MemfdFlags, Mode, OFlags, memfd_create, open};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::net::{Shutdown, shutdown};

use crate::arguments::{Argument, Host, INIT, Source, arguments, files};
use crate::channel::Channel;
use crate::held::Held;
use crate::info;
use crate::keyring;
use crate::memory::{Bounding, Group, Joining, Unbounded};
use crate::policy::Policy;
use crate::protocol::{Event, Request, Run, SetUp};

/// How long a jail may take until nothing of it runs any more: so long that thousands of busy processes have their turn.
const END: Duration = Duration::from_secs(20);

/// How much of what bubblewrap says is repeated, in bytes.
const SAID: u64 = 4096;

/// A jail that stands, and ends with this value.
#[derive(Debug)]
pub struct Jail {
    held: Held,
    channel: Channel<UnixStream>,
    /// The sockets that listen on the jail's own 127.0.0.1, in the order of [`Policy::listen`].
    pub listeners: Vec<TcpListener>,
    /// Landlock's ABI, where it is in force.
    pub landlock: Option<u8>,
    /// The control group that bounds the memory of all of it.
    pub memory: std::result::Result<Group, Unbounded>,
}

impl Jail {
    /// Builds a jail with this bubblewrap. Nothing runs in it yet but its init.
    ///
    /// [`Code::JailFailed`] with what bubblewrap or the init said. The session keyring of this process is a new one from
    /// then on, and none of its descriptors but the standard ones are inherited by what it starts.
    pub fn start(bwrap: &Path, policy: &Policy) -> Result<Self> {
        keyring::join_empty()?;
        // systemd is asked while bubblewrap works.
        let tasks = policy.limits.processes;
        let bounding = policy.memory.as_ref().ok_or(Unbounded::NoBus).and_then(|bound| Bounding::begin(bound, tasks));
        let Spawned { bwrap, socket, told } = spawn(bwrap, policy)
            .map_err(|error| Error::new(Code::JailFailed, "bubblewrap cannot be started").because(error))?;
        let channel = Channel::new(socket);
        let memory = Err(Unbounded::NoBus);
        let held = Held::new(bwrap);
        let mut jail = Self { held, channel, listeners: Vec::new(), landlock: None, memory };
        let writable = policy.writable().map(|path| path.as_os_str().to_owned()).collect();
        let set_up = SetUp { listen: policy.listen.clone(), writable, limits: policy.limits };
        // Where it has ended already, what it said is told below.
        let _ = jail.channel.send(&Request::SetUp(set_up), &[]);
        let first = info::child(told);
        if let Some(first) = first {
            // Where it has gone already, it does not become ready.
            let _ = jail.held.hold(first);
        }
        // bubblewrap and the init are all that there is; what comes later is where they are.
        let both = std::iter::once(jail.held.id()).chain(first).collect();
        let joining = bounding.map(|bounding| bounding.with(both));
        match jail.channel.receive() {
            Ok(Some(Event::Ready { .. })) if !jail.held.is_complete() => {
                Err(broken(io::Error::other("its first process is not known outside")))
            }
            Ok(Some(Event::Ready { landlock })) => {
                let sockets = jail.channel.descriptors(policy.listen.len()).map_err(broken)?;
                jail.listeners = sockets.into_iter().map(TcpListener::from).collect();
                jail.landlock = landlock;
                // The init runs nothing until it is asked to.
                jail.memory = joining.and_then(Joining::finish);
                Ok(jail)
            }
            Ok(Some(Event::Refused { why })) => {
                Err(Error::new(Code::JailFailed, format!("the jail cannot be built: {why}"))
                    .hint("`corral doctor` says what this kernel offers"))
            }
            Ok(_) | Err(_) => Err(jail.explained()),
        }
    }

    /// Why there is no jail, in bubblewrap's words.
    fn explained(&mut self) -> Error {
        let mut said = String::new();
        if let Some(errors) = self.held.errors() {
            // What cannot be read is not told.
            let _ = errors.take(SAID).read_to_string(&mut said);
        }
        let said = said.trim().trim_start_matches("bwrap: ");
        let why = if said.is_empty() { "bubblewrap ended without a word" } else { said };
        Error::new(Code::JailFailed, format!("the jail cannot be built: {why}"))
            .hint("`corral doctor` says whether this machine can build one, and what mends it")
    }

    /// Asks for a command to be run; what becomes of it comes as events.
    pub(crate) fn run(&mut self, run: Run, descriptors: &[BorrowedFd<'_>]) -> Result<()> {
        self.channel.send(&Request::Run(run), descriptors).map_err(broken)
    }

    pub(crate) fn signal(&mut self, id: u64, signal: i32) -> Result<()> {
        self.channel.send(&Request::Signal { id, signal }, &[]).map_err(broken)
    }

    pub(crate) fn end(&mut self, id: u64) -> Result<()> {
        self.channel.send(&Request::End { id }, &[]).map_err(broken)
    }

    /// Ends the jail with all that runs in it, and returns when nothing of it works on the workspace any more.
    ///
    /// [`Code::JailFailed`] where something still does: nobody can say then what will be there.
    pub fn close(mut self) -> Result<()> {
        self.end_all()
    }

    fn end_all(&mut self) -> Result<()> {
        let _ = shutdown(&self.channel, Shutdown::Both);
        self.held.end(END)
    }

    /// Its events.
    pub(crate) fn channel(&mut self) -> &mut Channel<UnixStream> {
        &mut self.channel
    }

    /// How many processes in it were ended because the bound of its memory was reached: so many, and that bound in bytes.
    /// To be asked before the jail ends.
    pub fn killed_for_memory(&self) -> Option<(u64, u64)> {
        let group = self.memory.as_ref().ok()?;
        let killed = group.killed().filter(|killed| *killed > 0)?;
        Some((killed, group.limit()?))
    }

    /// The process that holds the jail, outside of it.
    pub fn pid(&self) -> u32 {
        self.held.id()
    }
}

/// Where its events come from.
impl AsFd for Jail {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }
}

impl Drop for Jail {
    fn drop(&mut self) {
        if let Err(error) = self.end_all() {
            tracing::warn!("{error}");
        }
    }
}

/// The jail's own side has gone or makes no sense.
pub(crate) fn broken(error: io::Error) -> Error {
    Error::new(Code::JailFailed, "the jail has broken down").because(error)
}

/// bubblewrap as it was started.
struct Spawned {
    bwrap: Child,
    socket: UnixStream,
    /// Where it tells its child's number.
    told: PipeReader,
}

fn spawn(bwrap: &Path, policy: &Policy) -> io::Result<Spawned> {
    // What this process was started with is nobody's business inside.
    CloseFdsBuilder::new().cloexecfrom(3);
    let host = Host::look();
    let contents = files(policy, &host).into_iter().map(|file| in_memory("file", &file.content));
    let contents = contents.collect::<io::Result<Vec<_>>>()?;
    let init = open("/proc/self/exe", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let (told, telling) = io::pipe()?;
    let descriptor = |source: Source| match source {
        Source::Bind(index) => policy.binds.get(index).map(|bind| bind.source.as_fd()),
        Source::File(index) => contents.get(index).map(AsFd::as_fd),
        Source::Init => Some(init.as_fd()),
        Source::Told => Some(telling.as_fd()),
    };
    let mut inherited = Vec::new();
    let mut options = Vec::new();
    for argument in arguments(policy, &host) {
        let text = match argument {
            Argument::Text(text) => text,
            Argument::Descriptor(source) => {
                let descriptor = descriptor(source).ok_or_else(|| io::Error::other("a bind of no policy"))?;
                inherited.push(descriptor);
                OsString::from(descriptor.as_raw_fd().to_string())
            }
        };
        options.extend(text.into_vec());
        options.push(0);
    }
    let options = in_memory("arguments", &options)?;
    inherited.push(options.as_fd());

    let (socket, inner) = UnixStream::pair()?;
    let mut command = Command::new(bwrap);
    // Arguments can be read in the jail, from /proc/1/cmdline, until the init runs.
    command.arg("--args").arg(options.as_raw_fd().to_string()).args(["--", INIT]);
    command.env_clear().current_dir("/");
    // What keys of the terminal do is for the command inside, and for this process until there is one.
    command.process_group(0);
    command.stdin(OwnedFd::from(inner)).stdout(Stdio::null()).stderr(Stdio::piped());
    for descriptor in &inherited {
        fcntl_setfd(descriptor, FdFlags::empty())?;
    }
    let child = command.spawn();
    for descriptor in &inherited {
        fcntl_setfd(descriptor, FdFlags::CLOEXEC)?;
    }
    Ok(Spawned { bwrap: child?, socket, told })
}

/// A file without a name.
fn in_memory(name: &str, content: &[u8]) -> io::Result<OwnedFd> {
    let mut file = File::from(memfd_create(name, MemfdFlags::CLOEXEC)?);
    file.write_all(content)?;
    file.rewind()?;
    Ok(file.into())
}
