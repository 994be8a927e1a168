//! The session of a command: what the init runs as, between itself and the command.

use std::ffi::OsString;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use rustix::process::{
    Pid, Signal, WaitOptions, WaitStatus, getpid, ioctl_tiocsctty, kill_process, kill_process_group, setsid, waitpid,
};
use rustix::termios::{isatty, tcsetpgrp};

/// What the init calls itself when it only has a command's session to make.
pub(super) const STARTER: &str = "start";

/// Whether the command has a terminal.
const ON_TERMINAL: &str = "on-terminal";
const OFF_TERMINAL: &str = "off-terminal";

/// The code of a command that cannot be found, and of one that cannot be run, as shells have them.
const NOT_FOUND: u8 = 127;
const NOT_RUN: u8 = 126;

/// The argument that says whether there is a terminal.
pub(super) fn place(on_terminal: bool) -> &'static str {
    if on_terminal { ON_TERMINAL } else { OFF_TERMINAL }
}

/// Makes a session of its own for a command. Without a terminal it becomes the command.
///
/// With one it stays, as the parent in the same session: a command whose parent is elsewhere could not be stopped from its
/// terminal (POSIX: an orphaned process group).
pub(super) fn start(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let on_terminal = arguments.next().is_some_and(|place| place == ON_TERMINAL);
    let Some(program) = arguments.next() else { return ExitCode::from(NOT_FOUND) };
    let mut command = Command::new(&program);
    command.args(arguments);
    let error = match setsid() {
        Ok(_) if on_terminal => match lead(command) {
            Ok(code) => return code,
            Err(error) => error,
        },
        Ok(_) => command.exec(),
        Err(error) => error.into(),
    };
    complain(&format!("corral: cannot run `{}`: {error}\n", program.to_string_lossy()));
    ExitCode::from(if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { NOT_RUN })
}

/// Runs a command in the foreground of the terminal, stops when it stops, and ends as it ends.
fn lead(mut command: Command) -> io::Result<ExitCode> {
    let standard = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
    let terminal = standard.into_iter().find(|descriptor| isatty(descriptor));
    let terminal: BorrowedFd<'_> = terminal.ok_or_else(|| io::Error::other("there is no terminal"))?;
    ioctl_tiocsctty(terminal)?;
    let child = command.process_group(0).spawn()?;
    let child = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let child = child.ok_or_else(|| io::Error::other("a process without a number"))?;
    // Where it has ended already, that is seen below.
    let _ = tcsetpgrp(terminal, child);
    loop {
        // It may have been stopped for reading before it was in the foreground, and is continued after a stop.
        let _ = kill_process_group(child, Signal::CONT);
        let status = match waitpid(Some(child), WaitOptions::UNTRACED) {
            Ok(Some((_, status))) => status,
            Ok(None) | Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        };
        if !status.stopped() {
            return Ok(end_as(status));
        }
        // Returns when the init continues this process.
        kill_process(getpid(), Signal::STOP)?;
    }
}

fn end_as(status: WaitStatus) -> ExitCode {
    let signal = status.terminating_signal();
    if let Some(signal) = signal.and_then(Signal::from_named_raw) {
        // The init sees the signal; where this one does not end a process, it sees the code of shells for it.
        let _ = kill_process(getpid(), signal);
    }
    let code = status.exit_status().unwrap_or_else(|| 128 + signal.unwrap_or_default());
    ExitCode::from(u8::try_from(code & 0xff).unwrap_or(NOT_RUN))
}

/// To the command's own error output: nobody else listens.
fn complain(text: &str) {
    let _ = rustix::io::write(rustix::stdio::stderr(), text.as_bytes());
}
