//! A shell that lasts: commands one after another in one jail, each with the state that the last one left.
//!
//! Each command has a bash of its own, which loads that state and saves it again. So the end of a command is the end of
//! a process, as the kernel tells it to the jail's init, and nothing that a command writes can be taken for it.

mod running;
#[cfg(test)]
mod tests;

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, PipeReader};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::sync::Arc;
use std::time::Duration;

use corral_core::{Code, Error, Result};
use serde::{Deserialize, Serialize};

use self::running::Running;
use crate::launch::{Jail, broken};
use crate::protocol::{Ending, Run};

/// Where the state is inside, from one command to the next.
const STATE: &str = "/tmp/.corral-shell";

/// What makes a shell ready for a command, and the variable that it comes in: arguments would be shown by `ps`.
const RUNNER: (&str, &str) = ("__corral_runner", include_str!("shell/runner.bash"));

/// Runs [`RUNNER`], then the command, on one line: so the command's own lines are counted from 1.
const LINE: &str = "{ builtin eval \"$__corral_runner\"; \
builtin eval \"${__corral_set:+builtin set $__corral_set; }$__corral_command\"; { __corral_save; } 2>/dev/null; }";

/// The longest command, in bytes: the kernel takes 2 MiB of arguments and environment.
const LONGEST: usize = 1 << 20;

/// So much of it is one argument, in bytes: the kernel takes 128 KiB.
const PIECE: usize = 100 << 10;

/// So many background processes' pipes are read on after the end of their commands; further ones are closed.
const LEFT: usize = 64;

/// A shell in a jail of its own, which ends with this value.
#[derive(Debug)]
pub struct Shell {
    jail: Jail,
    environment: Vec<(OsString, OsString)>,
    directory: OsString,
    next: u64,
    /// Shared with each thread that reads a pipe on.
    left: Arc<()>,
    stands: bool,
}

/// Bounds of one command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunLimits {
    /// How long it may take.
    pub timeout: Option<Duration>,
    /// How much of its output is passed on, in bytes, and as much again of its error output; the rest is counted.
    pub output_bytes: u64,
}

/// What became of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Finish {
    /// It ended.
    Ended(Ending),
    /// It was killed, with all of its session, for it took too long. The shell has the state from before.
    TimedOut,
    /// It was killed in the same way, for its [`Audience`] had left.
    Cancelled,
}

/// One of the two outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Output,
    /// Standard error.
    Error,
}

/// Who a command is run for.
pub trait Audience {
    /// Takes what the command has written. Must not block, for the command's time is measured here as well.
    fn hear(&mut self, stream: Stream, piece: &[u8]);

    /// Descriptors of which each, by becoming readable or hung up, says that nobody waits for the command any more.
    fn leaves(&self) -> Vec<BorrowedFd<'_>> {
        Vec::new()
    }
}

/// How a command went whose output was heard by an [`Audience`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// What became of it.
    pub ending: Finish,
    /// Bytes of standard output that were beyond the bound.
    pub stdout_dropped: u64,
    /// The same of standard error.
    pub stderr_dropped: u64,
}

/// How a command went, and what it wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// What became of it.
    pub ending: Finish,
    /// Its standard output.
    pub stdout: Captured,
    /// Its standard error.
    pub stderr: Captured,
}

/// An output.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Captured {
    /// Its beginning.
    pub bytes: Vec<u8>,
    /// How many more bytes there were.
    pub dropped: u64,
}

impl Shell {
    /// A shell in this jail, with this environment, in this folder of it. Nothing runs in it yet.
    pub fn start(jail: Jail, environment: Vec<(OsString, OsString)>, directory: OsString) -> Self {
        Self { jail, environment, directory, next: 0, left: Arc::new(()), stands: true }
    }

    /// Runs a command, in bash's language, and returns how it went and what it wrote. Its standard input is empty.
    ///
    /// [`Code::InvalidRequest`]: it is too long, or has a null byte in it. [`Code::JailFailed`]: it could not be
    /// started, or the jail has broken down, which [`Shell::stands`] tells.
    pub fn run(&mut self, command: &OsStr, limits: RunLimits) -> Result<Outcome> {
        let mut capture = Capture::default();
        let Summary { ending, stdout_dropped, stderr_dropped } = self.run_for(command, limits, &mut capture)?;
        let stdout = Captured { bytes: capture.output, dropped: stdout_dropped };
        Ok(Outcome { ending, stdout, stderr: Captured { bytes: capture.error, dropped: stderr_dropped } })
    }

    /// The same for somebody who hears what it writes while it runs.
    pub fn run_for(&mut self, command: &OsStr, limits: RunLimits, audience: &mut dyn Audience) -> Result<Summary> {
        let words = words(STATE, command)?;
        if !self.stands {
            return Err(broken(io::ErrorKind::UnexpectedEof.into()));
        }
        let id = self.next;
        self.next += 1;
        let outputs = self.begin(id, words)?;
        Running::new(self, id, outputs, limits).until_it_ends(audience)
    }

    /// Asks for a command; its two outputs.
    fn begin(&mut self, id: u64, command: Vec<OsString>) -> Result<[PipeReader; 2]> {
        let (mut environment, directory) = (self.environment.clone(), self.directory.clone());
        environment.push((RUNNER.0.into(), RUNNER.1.into()));
        let run = Run { id, command, environment, directory, terminal: None, is_main: false };
        let pipes = || Ok::<_, io::Error>((File::open("/dev/null")?, io::pipe()?, io::pipe()?));
        let (input, (stdout, output), (stderr, error)) =
            pipes().map_err(|error| Error::new(Code::Internal, "there are no pipes for the command").because(error))?;
        let asked = self.jail.run(run, &[input.as_fd(), output.as_fd(), error.as_fd()]);
        self.stands &= asked.is_ok();
        asked.map(|()| [stdout, stderr])
    }

    /// Whether the jail stands, as far as is known: [`Shell::look`] finds out.
    pub fn stands(&self) -> bool {
        self.stands
    }

    /// Takes in what the jail says while no command runs, to be called when it becomes readable. False once it has
    /// ended.
    pub fn look(&mut self) -> bool {
        let channel = self.jail.channel();
        let goes_on = channel.read().unwrap_or(false);
        // What it may say is about commands of which nobody waits for the end.
        while let Ok(Some(_)) = channel.parse::<crate::protocol::Event>() {}
        self.stands &= goes_on;
        self.stands
    }

    /// Ends the jail with all that runs in it, as [`Jail::close`] does.
    pub fn close(self) -> Result<()> {
        self.jail.close()
    }

    /// The process that holds the jail, outside of it.
    pub fn pid(&self) -> u32 {
        self.jail.pid()
    }
}

/// Readable when the jail has something to say.
impl AsFd for Shell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.jail.as_fd()
    }
}

#[derive(Debug, Default)]
struct Capture {
    output: Vec<u8>,
    error: Vec<u8>,
}

impl Audience for Capture {
    fn hear(&mut self, stream: Stream, piece: &[u8]) {
        match stream {
            Stream::Output => self.output.extend_from_slice(piece),
            Stream::Error => self.error.extend_from_slice(piece),
        }
    }
}

/// The program and the arguments that run a command.
fn words(state: &str, command: &OsStr) -> Result<Vec<OsString>> {
    let bytes = command.as_bytes();
    let refused = |what: &str| Error::new(Code::InvalidRequest, format!("the command {what}"));
    if bytes.len() > LONGEST {
        let most = LONGEST >> 10;
        return Err(refused(&format!("is longer than {most} KiB")).hint("write it into a file, and run that"));
    }
    if memchr::memchr(0, bytes).is_some() {
        return Err(refused("has a null byte in it, which no shell takes"));
    }
    let fixed = ["bash", "--noprofile", "--norc", "-c", LINE, "bash", state].map(OsString::from);
    let pieces = bytes.chunks(PIECE).map(|piece| OsString::from_vec(piece.to_vec()));
    Ok(fixed.into_iter().chain(pieces).collect())
}
