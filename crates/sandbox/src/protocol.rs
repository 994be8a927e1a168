//! What the launcher outside and the init inside the jail say to each other.
//!
//! They share one stream socket, which is the init's standard input. Each message is a line of JSON; descriptors travel
//! with its first byte. The launcher speaks first, with [`Request::SetUp`]; the init answers [`Event::Ready`] or
//! [`Event::Refused`].

use std::ffi::OsString;

use serde::{Deserialize, Serialize};

/// The launcher to the init.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Makes the jail's own part of itself; once, first.
    SetUp(SetUp),
    /// Runs a command. With it travel descriptors for those of standard input, output and error that are not the
    /// terminal, in this order.
    Run(Run),
    /// Sends a signal to the process group of a command.
    Signal {
        /// Which command.
        id: u64,
        /// The signal's number.
        signal: i32,
    },
    /// Kills a command, with all that is in its session or was started by what is.
    End {
        /// Which command.
        id: u64,
    },
}

/// The parts of the jail that are made from within.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetUp {
    /// Ports of the jail's own 127.0.0.1 to listen on; the listening sockets are passed out with [`Event::Ready`].
    pub listen: Vec<u16>,
    /// Folders and files that may be written beneath; all else is for reading.
    pub writable: Vec<OsString>,
    /// Bounds of everything that runs.
    pub limits: ResourceLimits,
}

/// Bounds of what runs in the jail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceLimits {
    /// Processes and threads at once.
    pub processes: u64,
    /// Writable private memory of each process, in bytes.
    pub data: Option<u64>,
    /// Open files of each process.
    pub open_files: u64,
}

/// A command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Chosen by the launcher; names the command in all that follows.
    pub id: u64,
    /// The program, looked up in the `PATH` of `environment`, and its arguments.
    pub command: Vec<OsString>,
    /// All of its environment.
    pub environment: Vec<(OsString, OsString)>,
    /// Where it starts.
    pub directory: OsString,
    /// The terminal that it gets, if any.
    pub terminal: Option<Terminal>,
    /// The jail ends with it.
    pub is_main: bool,
}

/// A terminal that is opened inside the jail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terminal {
    /// Its size at first.
    pub rows: u16,
    /// The same.
    pub columns: u16,
    /// Which of standard input, output and error it is.
    pub is: [bool; 3],
}

/// The init to the launcher.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// The jail stands. With it travel the listening sockets, in the order in which they were asked for.
    Ready {
        /// The layers of Landlock in force: its ABI's number, none where the kernel has none.
        landlock: Option<u8>,
    },
    /// The jail could not be made as it was asked for; the init ends.
    Refused {
        /// What did not work.
        why: String,
    },
    /// A command runs. Where it has a terminal, that terminal's master travels with it.
    Started {
        /// Which.
        id: u64,
    },
    /// A command could not be started.
    NotStarted {
        /// Which.
        id: u64,
        /// The system's error number.
        errno: i32,
        /// What did not work.
        why: String,
    },
    /// A command was stopped, as by ^Z.
    Stopped {
        /// Which.
        id: u64,
        /// By which signal.
        signal: i32,
    },
    /// A command has ended.
    Ended {
        /// Which.
        id: u64,
        /// How.
        ending: Ending,
    },
}

/// How a command ended, as the kernel says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ending {
    /// By itself, with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

impl Ending {
    /// The code that shells give it: its own, or 128 and the number of the signal.
    pub fn exit_code(self) -> u8 {
        let code = match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128 + signal,
        };
        u8::try_from(code & 0xff).unwrap_or(u8::MAX)
    }
}
