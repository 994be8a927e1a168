//! Listeners of jails, handed over to the daemon.
//!
//! A jail has a network of its own with nothing in it but listening sockets, which its launcher holds outside. The
//! launcher hands them over by the socket [`Paths::jails`], and the daemon accepts the jail's connections itself:
//! nothing copies bytes in between, and what comes by such a listener is that session's, whatever token it carries or
//! lacks.
//!
//! There is one connection for each jail. The launcher sends a line of JSON, and with its first byte the listeners
//! (`SCM_RIGHTS`), in the order in which the line names them:
//!
//! ```json
//! {"token": "64 hexadecimal digits", "label": "~/project", "workspace": "/home/u/project", "model": "glm",
//!  "listeners": ["gateway", "management"]}
//! ```
//!
//! `label`, `workspace` and `model` may be missing, and so may `listeners`, which then are these two. The token is that of
//! a session attached, or one that this daemon has never seen: then the session is attached with it, so that a jail
//! outlives a restart of the daemon. The answer is one line, `{"ok": true, "session": "ID"}` or `{"error": {"code", "message", "hint"}}`;
//! after an error the connection ends.
//!
//! Otherwise the listeners are served, and the session is attached, until the launcher closes the connection, as it
//! also does by being killed. Where a person ends the session, the daemon says `{"end": true}` on one more line and
//! closes it: the launcher then ends what runs in the jail. Where the daemon closes it without a word, it has ended; the
//! launcher may then hand the same listeners to the next one.
//!
//! When a jail has ended with files that would have run later outside, its launcher says so by a line of its own on a
//! connection of its own, with or without a session, and closes it. There is no answer; people are told by a notice.
//!
//! ```json
//! {"ended": {"claude": true, "label": "claude in project", "workspace": "/home/u/project", "moved": 3, "renamed": 0,
//!  "left": 0, "folder": "/home/u/.local/state/corral/quarantine/…"}}
//! ```
//!
//! The two sides may be of different versions, as after an update. What one does not know in a line it passes over. Where
//! that would be wrong, the line says `"protocol": 2`, and so on: who speaks an earlier one refuses it, and says why.

mod client;
mod ended;
mod receive;
mod serve;
#[cfg(test)]
mod tests;

use std::io;
use std::path::Path;

use corral_core::{ErrorBody, SessionId};
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};

pub use self::client::{Handed, Listeners, Over, hand_over};
pub use self::ended::Ended;
pub(crate) use self::serve::{Jails, JailsPorts};
#[cfg(doc)]
use crate::paths::Paths;

/// What is spoken here. It is raised where passing over what is new would be wrong; a line without it speaks the first.
const PROTOCOL: u32 = 1;

/// What each line of a launcher says of itself, whatever else it says.
#[derive(Deserialize)]
struct Line {
    #[serde(default = "first")]
    protocol: u32,
    ended: Option<Ended>,
}

fn first() -> u32 {
    1
}

/// The launcher's line. It is not printed: it holds a token.
#[derive(Serialize, Deserialize)]
struct Hello {
    token: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    label: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    workspace: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    model: Option<String>,
    #[serde(default = "Listener::both")]
    listeners: Vec<Listener>,
}

/// What a listener is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Listener {
    Gateway,
    Management,
}

impl Listener {
    fn both() -> Vec<Self> {
        vec![Self::Gateway, Self::Management]
    }
}

/// What the daemon says where a person has ended the session.
const END: &[u8] = b"{\"end\": true}\n";

/// The daemon's line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Answer {
    Taken { ok: bool, session: SessionId },
    Refused { error: ErrorBody },
}

impl Answer {
    /// As it is sent.
    fn line(&self) -> Vec<u8> {
        let mut line = serde_json::to_vec(self).unwrap_or_default();
        line.push(b'\n');
        line
    }
}

/// The longest path that the address of a socket has room for, in bytes.
const MAX_PATH: usize = 107;

/// Calls with a path for the address of a socket: this one, or a short one by way of its folder.
fn with_address<T>(path: &Path, call: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    use std::os::fd::AsRawFd;
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return call(path) };
    if path.as_os_str().len() <= MAX_PATH {
        return call(path);
    }
    let folder = rustix::fs::open(folder, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    call(&Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name))
}
