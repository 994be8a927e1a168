//! Being with a command from its start to its end: its terminal, signals, job control.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use corral_core::{Code, Error, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::process::{Signal, getpid, kill_process};
use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGWINCH};
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::SignalOnly;

use crate::launch::{Jail, broken};
use crate::protocol::{Ending, Event, Run, Terminal};
use crate::terminal::{UserTerminal, standard};

/// The command that a jail is built for.
const MAIN: u64 = 0;

/// How long a command may go on when its terminal has gone.
const AFTER_HANGUP: Duration = Duration::from_secs(2);

/// So much is read from a terminal at once, in bytes.
const PIECE: usize = 64 << 10;

/// So much that was typed waits for the command to read it, in bytes; more is left in the user's terminal.
const TYPED: usize = 64 << 10;

/// What is to be run, with the standard descriptors and the terminal of this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Main {
    /// The program and its arguments.
    pub command: Vec<std::ffi::OsString>,
    /// All of its environment.
    pub environment: Vec<(std::ffi::OsString, std::ffi::OsString)>,
    /// Where it starts.
    pub directory: std::ffi::OsString,
}

impl Jail {
    /// Runs the command that the jail is for and returns how it ended; the jail ends with it.
    ///
    /// Those of the standard descriptors that are a terminal are a new one inside, whose bytes are passed on; the others
    /// are the command's as they are. Signals are passed on, and a command that stops itself stops this process.
    pub fn attend(&mut self, main: Main) -> Result<Ending> {
        let is = standard();
        let terminal = UserTerminal::find(is).map_err(broken)?;
        let size = terminal.as_ref().map(UserTerminal::size);
        let run = Run {
            id: MAIN,
            command: main.command,
            environment: main.environment,
            directory: main.directory,
            terminal: size.map(|(rows, columns)| Terminal { rows, columns, is }),
            is_main: true,
        };
        let (input, output, error) = (io::stdin(), io::stdout(), io::stderr());
        let standard = [input.as_fd(), output.as_fd(), error.as_fd()];
        let others: Vec<_> = standard.into_iter().zip(is).filter(|(_, is)| !is).map(|(one, _)| one).collect();
        let signals = Signals::new().map_err(broken)?;
        self.run(run, &others)?;
        Attendance { jail: self, signals, terminal, master: None, typed: Vec::new(), until: None }.until_it_ends()
    }
}

/// The signals that are passed on, where they can be waited for.
struct Signals(SignalDelivery<UnixStream, SignalOnly>);

impl Signals {
    fn new() -> io::Result<Self> {
        let (read, write) = UnixStream::pair()?;
        let all = [SIGWINCH, SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGCONT];
        SignalDelivery::with_pipe(read, write, SignalOnly, all).map(Self)
    }
}

struct Attendance<'a> {
    jail: &'a mut Jail,
    signals: Signals,
    terminal: Option<UserTerminal>,
    /// Of the command's own terminal; none once nobody has that open any more.
    master: Option<OwnedFd>,
    /// What was typed and has not found room yet.
    typed: Vec<u8>,
    /// When it is over at the latest.
    until: Option<Instant>,
}

/// What there is to do.
#[derive(Debug, Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "each is a descriptor of its own")]
struct Due {
    event: bool,
    signal: bool,
    typed: bool,
    shown: bool,
    writable: bool,
}

impl Attendance<'_> {
    fn until_it_ends(mut self) -> Result<Ending> {
        loop {
            let due = self.wait().map_err(broken)?;
            if due.shown {
                self.show().map_err(broken)?;
            }
            if due.typed {
                self.take_typed().map_err(broken)?;
            }
            if due.writable {
                self.give_typed().map_err(broken)?;
            }
            if due.signal {
                self.pass_signals_on()?;
            }
            if due.event
                && let Some(ending) = self.hear()?
            {
                // What it wrote last may still be on its way.
                while self.master.is_some() && self.show().map_err(broken)? {}
                return Ok(ending);
            }
            if self.until.is_some_and(|until| Instant::now() >= until) {
                return Ok(Ending::Signal(SIGHUP));
            }
        }
    }

    fn wait(&mut self) -> io::Result<Due> {
        let reads_terminal = self.typed.len() < TYPED;
        let typing = self.terminal.as_ref().filter(|terminal| terminal.is_input && reads_terminal);
        let input = io::stdin();
        let mut all =
            vec![PollFd::new(self.jail, PollFlags::IN), PollFd::new(self.signals.0.get_read(), PollFlags::IN)];
        // The master's place, then the user's: there or not.
        let (mut master_at, mut typing_at) = (None, None);
        if let Some(master) = &self.master {
            let wanted = if self.typed.is_empty() { PollFlags::IN } else { PollFlags::IN | PollFlags::OUT };
            master_at = Some(all.len());
            all.push(PollFd::new(master, wanted));
            if typing.is_some() {
                typing_at = Some(all.len());
                all.push(PollFd::new(&input, PollFlags::IN));
            }
        }
        let left = self.until.map(|until| until.saturating_duration_since(Instant::now()));
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        match poll(&mut all, left.as_ref()) {
            // A signal: it shows in its own place.
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let came = |at: Option<usize>| at.and_then(|at| all.get(at)).map_or(PollFlags::empty(), PollFd::revents);
        let master = came(master_at);
        Ok(Due {
            event: !came(Some(0)).is_empty(),
            signal: !came(Some(1)).is_empty(),
            typed: !came(typing_at).is_empty(),
            shown: master.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR),
            writable: master.contains(PollFlags::OUT),
        })
    }

    /// Passes on what the command has written. False where there was nothing.
    fn show(&mut self) -> io::Result<bool> {
        let (Some(master), Some(terminal)) = (&self.master, &self.terminal) else { return Ok(false) };
        let mut piece = vec![0; PIECE];
        let read = match rustix::io::read(master, &mut piece) {
            Ok(read) => read,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(false),
            // Nobody has the inner side open any more.
            Err(Errno::IO) => 0,
            Err(error) => return Err(error.into()),
        };
        if read == 0 {
            self.master = None;
            return Ok(false);
        }
        if write_all(terminal.as_fd(), piece.get(..read).unwrap_or_default()).is_err() {
            // The user's terminal has gone; the command is told by a hang-up, and its end is waited for.
            self.master = None;
        }
        Ok(true)
    }

    fn take_typed(&mut self) -> io::Result<()> {
        let mut piece = vec![0; PIECE];
        match rustix::io::read(io::stdin(), &mut piece) {
            Ok(0) | Err(Errno::IO) => {
                // The terminal has gone.
                if let Some(terminal) = &mut self.terminal {
                    terminal.is_input = false;
                }
            }
            Ok(read) => self.typed.extend_from_slice(piece.get(..read).unwrap_or_default()),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        self.give_typed()
    }

    fn give_typed(&mut self) -> io::Result<()> {
        let Some(master) = &self.master else { return Ok(()) };
        while !self.typed.is_empty() {
            match rustix::io::write(master, &self.typed) {
                Ok(written) => drop(self.typed.drain(..written)),
                Err(Errno::AGAIN | Errno::IO) => break,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn pass_signals_on(&mut self) -> Result<()> {
        let signals: Vec<i32> = self.signals.0.pending().collect();
        for signal in signals {
            match signal {
                SIGWINCH => {
                    if let (Some(terminal), Some(master)) = (&self.terminal, &self.master) {
                        // A size that cannot be told stays as it was.
                        let _ = terminal.pass_on_size(master);
                    }
                }
                // Whoever continues this process is noticed where it was stopped.
                SIGCONT => {}
                _ => {
                    if signal == SIGHUP {
                        self.until = Some(Instant::now() + AFTER_HANGUP);
                    }
                    self.jail.signal(MAIN, signal)?;
                }
            }
        }
        Ok(())
    }

    /// Hears what has become of the command.
    fn hear(&mut self) -> Result<Option<Ending>> {
        let goes_on = self.jail.channel().read().map_err(broken)?;
        while let Some(event) = self.jail.channel().parse().map_err(broken)? {
            match event {
                Event::Ended { ending, .. } => return Ok(Some(ending)),
                Event::NotStarted { why, .. } => {
                    return Err(Error::new(Code::JailFailed, format!("the command did not start: {why}")));
                }
                Event::Started { .. } => self.started().map_err(broken)?,
                Event::Stopped { .. } => self.stop()?,
                Event::Ready { .. } | Event::Refused { .. } => {}
            }
        }
        if goes_on { Ok(None) } else { Err(broken(io::ErrorKind::UnexpectedEof.into())) }
    }

    fn started(&mut self) -> io::Result<()> {
        if let Some(terminal) = &mut self.terminal {
            let master = self.jail.channel().descriptors(1)?.remove(0);
            fcntl_setfl(&master, fcntl_getfl(&master)? | OFlags::NONBLOCK)?;
            terminal.pass_on(&master)?;
            self.master = Some(master);
            terminal.give()?;
        }
        Ok(())
    }

    /// The command has stopped, so this process does, until the user's shell continues it.
    fn stop(&mut self) -> Result<()> {
        if let Some(terminal) = &mut self.terminal {
            terminal.take_back();
        }
        kill_process(getpid(), Signal::STOP).map_err(|error| broken(error.into()))?;
        if let Some(terminal) = &mut self.terminal {
            terminal.give().map_err(broken)?;
            if let Some(master) = &self.master {
                let _ = terminal.pass_on_size(master);
            }
        }
        self.jail.signal(MAIN, SIGCONT)
    }
}

/// Writes all of it, also to a terminal that another program has made non-blocking.
fn write_all(to: BorrowedFd<'_>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(to, bytes) {
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(Errno::AGAIN) => drop(poll(&mut [PollFd::new(&to, PollFlags::OUT)], None)?),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
