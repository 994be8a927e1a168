//! The user's terminal, while a command inside has one of its own.

use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::termios::{OptionalActions, Termios, Winsize, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};

/// The user's terminal.
#[derive(Debug)]
pub(crate) struct UserTerminal {
    /// A descriptor of its own, for the time when the standard ones are gone.
    descriptor: OwnedFd,
    /// As it was before.
    modes: Termios,
    /// What is typed goes to the command, byte for byte.
    is_raw: bool,
    /// Standard input is this terminal.
    pub(crate) is_input: bool,
}

/// Which of standard input, output and error are a terminal.
pub(crate) fn standard() -> [bool; 3] {
    [io::stdin().is_terminal(), io::stdout().is_terminal(), io::stderr().is_terminal()]
}

impl UserTerminal {
    /// The terminal among the standard descriptors, if there is one.
    pub(crate) fn find(is: [bool; 3]) -> io::Result<Option<Self>> {
        let [is_input, is_output, is_error] = is;
        let descriptor = match is {
            _ if is_output => io::stdout().as_fd().try_clone_to_owned()?,
            _ if is_error => io::stderr().as_fd().try_clone_to_owned()?,
            _ if is_input => io::stdin().as_fd().try_clone_to_owned()?,
            _ => return Ok(None),
        };
        let modes = tcgetattr(&descriptor)?;
        Ok(Some(Self { descriptor, modes, is_raw: false, is_input }))
    }

    /// Its size; that of a terminal of old where it says none.
    pub(crate) fn size(&self) -> (u16, u16) {
        match tcgetwinsize(&self.descriptor) {
            Ok(Winsize { ws_row, ws_col, .. }) if ws_row > 0 && ws_col > 0 => (ws_row, ws_col),
            _ => (24, 80),
        }
    }

    /// Makes the inner terminal behave and measure as this one does.
    pub(crate) fn pass_on(&self, master: impl AsFd) -> io::Result<()> {
        tcsetattr(&master, OptionalActions::Now, &self.modes)?;
        self.pass_on_size(master)
    }

    pub(crate) fn pass_on_size(&self, master: impl AsFd) -> io::Result<()> {
        let (ws_row, ws_col) = self.size();
        Ok(tcsetwinsize(master, Winsize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 })?)
    }

    /// From now on each byte that is typed is the command's.
    pub(crate) fn give(&mut self) -> io::Result<()> {
        if self.is_input {
            let mut raw = self.modes.clone();
            raw.make_raw();
            tcsetattr(&self.descriptor, OptionalActions::Drain, &raw)?;
            self.is_raw = true;
        }
        Ok(())
    }

    /// As it was. What is typed and not read goes: it may be a terminal's answer to what the jail has written, and would
    /// be taken for a command by the shell.
    pub(crate) fn take_back(&mut self) {
        if std::mem::take(&mut self.is_raw) {
            // Where the terminal has gone there is nothing to put right.
            let _ = tcsetattr(&self.descriptor, OptionalActions::Flush, &self.modes);
        }
    }
}

impl AsFd for UserTerminal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl Drop for UserTerminal {
    fn drop(&mut self) {
        self.take_back();
    }
}
