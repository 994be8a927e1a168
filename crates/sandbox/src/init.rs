//! The first process of a jail: it finishes the jail from within, then starts commands and tells how they end.
//!
//! It runs as process 1 with bubblewrap's binds in place and no capabilities. Everything that it sets up it is itself
//! subject to, and so is all that it starts. When the launcher goes, or the main command ends, it ends, and the kernel
//! ends all others with it.

mod kill;
mod session;

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io::{self, Stdin};
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use close_fds::CloseFdsBuilder;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::process::{
    DumpableBehavior, Pid, Resource, Rlimit, Signal, WaitOptions, WaitStatus, kill_process_group,
    set_dumpable_behavior, setrlimit, setsid, wait,
};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcgetpgrp, tcsetwinsize};
use signal_hook::consts::SIGCHLD;

use crate::arguments::INIT;
use crate::channel::Channel;
use crate::memory::FIRST_TO_GO;
use crate::protocol::{Ending, Event, Request, ResourceLimits, Run, SetUp};
use crate::{landlock_layer, seccomp};

/// How long the launcher may take to hang up after the main command's end.
const PARTING: Duration = Duration::from_secs(1);

/// Whether a program that was called by this name is the init.
pub fn is_init(name: &OsStr) -> bool {
    name == INIT
}

/// What the program does instead of all else when it is the init; `arguments` are those behind its name.
pub fn main(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    if arguments.next().is_some_and(|first| first == session::STARTER) {
        return session::start(arguments);
    }
    match Init::new().and_then(Init::serve) {
        Ok(()) => ExitCode::SUCCESS,
        // The launcher has gone, or nothing can be said to it.
        Err(_) => ExitCode::FAILURE,
    }
}

struct Init {
    channel: Channel<Stdin>,
    children: UnixStream,
    commands: HashMap<Pid, Known>,
}

/// A command that runs. Its process leads a session of its own.
struct Known {
    id: u64,
    is_main: bool,
    /// The master of its terminal, if it has one.
    terminal: Option<OwnedFd>,
}

impl Known {
    /// The process group that a signal is for: on a terminal, the one in its foreground, as a key there would have it.
    fn group(&self, leader: Pid, signal: Signal) -> Pid {
        let terminal = self.terminal.as_ref().filter(|_| signal != Signal::CONT);
        terminal.and_then(|terminal| tcgetpgrp(terminal).ok()).unwrap_or(leader)
    }
}

/// What the launcher is told when the jail cannot be finished.
type Why = String;

impl Init {
    fn new() -> io::Result<Self> {
        // Whatever the launcher or bubblewrap had open ends here.
        CloseFdsBuilder::new().cloexecfrom(3);
        let (children, told) = UnixStream::pair()?;
        children.set_nonblocking(true)?;
        signal_hook::low_level::pipe::register(SIGCHLD, told)?;
        Ok(Self { channel: Channel::new(io::stdin()), children, commands: HashMap::new() })
    }

    fn serve(mut self) -> io::Result<()> {
        let Some(Request::SetUp(set_up)) = self.channel.receive()? else { return Ok(()) };
        match finish(&set_up) {
            Ok((listeners, landlock)) => {
                let listeners: Vec<_> = listeners.iter().map(AsFd::as_fd).collect();
                self.channel.send(&Event::Ready { landlock }, &listeners)?;
            }
            Err(why) => return self.channel.send(&Event::Refused { why }, &[]),
        }
        loop {
            let [asked, ended] = {
                let mut both = [PollFd::new(&self.channel, PollFlags::IN), PollFd::new(&self.children, PollFlags::IN)];
                match poll(&mut both, None) {
                    Err(rustix::io::Errno::INTR) => continue,
                    result => result?,
                };
                both.map(|one| !one.revents().is_empty())
            };
            if ended && self.reap()? {
                return self.part();
            }
            if asked {
                if !self.channel.read()? {
                    return Ok(());
                }
                while let Some(request) = self.channel.parse()? {
                    self.carry_out(request)?;
                }
            }
        }
    }

    /// Waits until the launcher hangs up: until this process ends, what the jail's control group counted can be read.
    fn part(&self) -> io::Result<()> {
        let patience = Timespec::try_from(PARTING).ok();
        loop {
            match poll(&mut [PollFd::new(&self.channel, PollFlags::IN)], patience.as_ref()) {
                Err(rustix::io::Errno::INTR) => {}
                result => return Ok(result.map(drop)?),
            }
        }
    }

    fn carry_out(&mut self, request: Request) -> io::Result<()> {
        match request {
            // Once is enough, and it has been.
            Request::SetUp(_) => Ok(()),
            Request::Run(run) => self.run(&run),
            Request::Signal { id, signal } => {
                let known = self.commands.iter().find(|(_, known)| known.id == id);
                if let (Some((leader, known)), Some(signal)) = (known, Signal::from_named_raw(signal)) {
                    // It may have ended just now.
                    let _ = kill_process_group(known.group(*leader, signal), signal);
                }
                Ok(())
            }
            Request::End { id } => {
                if let Some((leader, _)) = self.commands.iter().find(|(_, known)| known.id == id) {
                    kill::session(*leader);
                }
                Ok(())
            }
        }
    }

    fn run(&mut self, run: &Run) -> io::Result<()> {
        match self.start(run) {
            Ok((pid, terminal)) => {
                let passed: Vec<BorrowedFd<'_>> = terminal.iter().map(AsFd::as_fd).collect();
                self.channel.send(&Event::Started { id: run.id }, &passed)?;
                drop(passed);
                self.commands.insert(pid, Known { id: run.id, is_main: run.is_main, terminal });
                Ok(())
            }
            Err(error) => {
                let errno = error.raw_os_error().unwrap_or_default();
                let why = format!("it could not be started: {error}");
                self.channel.send(&Event::NotStarted { id: run.id, errno, why }, &[])
            }
        }
    }

    /// Starts a command; gives back its process, and the master of its terminal.
    fn start(&mut self, run: &Run) -> io::Result<(Pid, Option<OwnedFd>)> {
        let on_terminal = run.terminal.map_or([false; 3], |terminal| terminal.is);
        let others = on_terminal.iter().filter(|is| !**is).count();
        let mut others = self.channel.descriptors(others)?.into_iter();
        let terminal = run.terminal.map(|terminal| open_terminal(terminal.rows, terminal.columns)).transpose()?;
        let mut command = Command::new(INIT);
        command.arg(session::STARTER).arg(session::place(terminal.is_some())).args(&run.command);
        command.env_clear().envs(run.environment.iter().map(|(name, value)| (name, value)));
        command.current_dir(&run.directory);
        let mut standard = |is_terminal: bool| match (is_terminal, &terminal) {
            (true, Some((_, slave))) => slave.try_clone().map(Stdio::from),
            _ => Ok(others.next().map_or_else(Stdio::null, Stdio::from)),
        };
        let [input, output, error] = on_terminal;
        command.stdin(standard(input)?).stdout(standard(output)?).stderr(standard(error)?);
        let child = command.spawn()?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| io::Error::other("a process without a number"))?;
        Ok((pid, terminal.map(|(master, _)| master)))
    }

    /// Tells of the commands that have ended or stopped. True once the main one has ended.
    fn reap(&mut self) -> io::Result<bool> {
        let mut woken = [0; 64];
        // Only that something came matters.
        while rustix::io::read(&self.children, &mut woken).is_ok_and(|read| read == woken.len()) {}
        loop {
            let (pid, status) = match wait(WaitOptions::NOHANG | WaitOptions::UNTRACED) {
                Ok(Some(found)) => found,
                Ok(None) | Err(rustix::io::Errno::CHILD) => return Ok(false),
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            // What lost its parent is reaped here, and nobody has asked for it.
            let Some(&Known { id, is_main, .. }) = self.commands.get(&pid) else { continue };
            if let Some(signal) = status.stopping_signal() {
                self.channel.send(&Event::Stopped { id, signal }, &[])?;
                continue;
            }
            self.commands.remove(&pid);
            self.channel.send(&Event::Ended { id, ending: ending(status) }, &[])?;
            if is_main {
                return Ok(true);
            }
        }
    }
}

fn ending(status: WaitStatus) -> Ending {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Ending::Code(code),
        (None, signal) => Ending::Signal(signal.unwrap_or_default()),
    }
}

/// A terminal of the jail's own: its master, and the side that programs use.
fn open_terminal(rows: u16, columns: u16) -> io::Result<(OwnedFd, OwnedFd)> {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    grantpt(&master)?;
    unlockpt(&master)?;
    let name = ptsname(&master, Vec::new())?;
    let slave = rustix::fs::open(name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())?;
    tcsetwinsize(&slave, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 })?;
    Ok((master, slave))
}

/// Makes the rest of the jail: all of it, or nothing runs.
fn finish(set_up: &SetUp) -> Result<(Vec<TcpListener>, Option<u8>), Why> {
    // While the file is this process's own to write.
    std::fs::write("/proc/self/oom_score_adj", FIRST_TO_GO)
        .map_err(|error| format!("it cannot be made what goes first when memory runs out: {error}"))?;
    // The launcher's terminal, if it has one, is not this session's.
    setsid().map_err(|error| format!("it cannot leave the launcher's session: {error}"))?;
    // What runs here may not look into the init, though it has the same user.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(|error| format!("the init cannot be closed to others: {error}"))?;
    let listen = |port: &u16| {
        TcpListener::bind((Ipv4Addr::LOCALHOST, *port))
            .map_err(|error| format!("it cannot listen on its own 127.0.0.1:{port}: {error}"))
    };
    let listeners = set_up.listen.iter().map(listen).collect::<Result<_, _>>()?;
    limit(set_up.limits).map_err(|error| format!("the limits cannot be set: {error}"))?;
    let writable: Vec<PathBuf> = set_up.writable.iter().map(PathBuf::from).collect();
    let landlock = landlock_layer::restrict(&writable).map_err(|error| error.to_string())?;
    seccomp::apply().map_err(|error| error.to_string())?;
    Ok((listeners, landlock))
}

fn limit(limits: ResourceLimits) -> rustix::io::Result<()> {
    let exactly = |most: u64| Rlimit { current: Some(most), maximum: Some(most) };
    let of = |resource: Resource, most: u64| {
        // More than it may have cannot be had without privileges.
        let most = rustix::process::getrlimit(resource).maximum.map_or(most, |maximum| maximum.min(most));
        setrlimit(resource, exactly(most))
    };
    of(Resource::Nproc, limits.processes)?;
    of(Resource::Nofile, limits.open_files)?;
    // A core would be written into the workspace, with all that the process knew.
    of(Resource::Core, 0)?;
    limits.data.map_or(Ok(()), |data| of(Resource::Data, data))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_name_inside_makes_the_init() {
        assert!(is_init(OsStr::new("/run/corral/init")));
        assert!(!is_init(OsStr::new("corral")) && !is_init(OsStr::new("init")));
    }
}
