//! Shell sessions that outlive who asks: one process holds each, and is asked over a socket of its own.

mod ask;
mod audience;
mod door;
mod frame;
mod holder;
mod place;

use std::ffi::OsString;

use corral_core::ErrorBody;
use corral_sandbox::shell::Summary;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub(crate) use self::ask::{Asking, End, end, from_input, line, list, run};
pub(crate) use self::holder::hold;
pub(crate) use self::place::Name;
use crate::args::Network;

/// What a holder says on its standard output when its session stands.
const READY: &str = "ready";

/// The same where another holder has the session.
const TAKEN: &str = "taken";

/// Whoever asks, to the holder: one for each connection. With `Run` comes the command, as a frame of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Asked {
    Run(Wanted),
    Info,
    End,
}

/// What is asked of a command's session, and how long it may take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Wanted {
    /// The session has to be of this folder, whose name need not be text.
    workspace: Option<OsString>,
    /// The session has to reach this.
    network: Option<Network>,
    timeout_s: Option<u64>,
    output_bytes: u64,
}

/// The holder's answer, besides pieces of output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Said {
    /// The command is about to run; before this it has not.
    Begins,
    /// The command is over.
    Over(Summary),
    Info(Info),
    /// It could not be done.
    Failed(ErrorBody),
    /// The session has ended; the sentences say what was found then.
    Ended {
        sentences: Vec<String>,
        failed: Option<ErrorBody>,
    },
}

/// A session, as it is listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Info {
    /// Its name.
    pub(crate) name: String,
    /// The folder that it works in.
    pub(crate) workspace: String,
    /// What it reaches.
    pub(crate) network: Network,
    /// When it began.
    pub(crate) since: Timestamp,
    /// Whether a command runs.
    pub(crate) busy: bool,
    /// The process that holds it.
    pub(crate) pid: u32,
}
