//! The editor that the user works in, which knows of diagnostics and of what is selected.
//!
//! Its extension listens on this machine's loopback and says so in `~/.claude/ide`, the one folder of the user's normal
//! Claude Code that is read, and only for who asks for the editor. It offers far more than that, running code for
//! one, so nothing of it gets into the jail but through [`filter`].

mod announce;
pub mod bridge;
pub mod filter;
mod scope;

use std::fs::File;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use corral_core::{Code, Error, Result, Secret};
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::process::{Pid, test_kill_process};
use serde::Deserialize;

pub use self::announce::Announcement;
pub use self::bridge::Bridge;
pub use self::scope::Scope;

/// The ports of the jail that an editor can be at: the first that no other session has announced.
pub const IDE_PORTS: std::ops::Range<u16> = 8082..8146;

/// The header that a client shows its token in.
const AUTHORIZATION: &str = "x-claude-code-ide-authorization";

/// So many editors are looked at, the newest first.
const MOST_EDITORS: usize = 64;

/// So many names are read to find them.
const MOST_NAMES: usize = 4096;

/// More than this is no editor's file, in bytes.
const MOST_BYTES: u64 = 64 << 10;

/// How long an editor on this machine may take to be reached.
const PATIENCE: Duration = Duration::from_millis(500);

/// An editor that runs, with a window for a workspace.
#[derive(Debug, Clone)]
pub struct Editor {
    name: String,
    port: u16,
    token: Secret,
    workspace: PathBuf,
}

/// What an editor writes of itself. There is more in it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Lock {
    pid: Option<i32>,
    #[serde(default)]
    workspace_folders: Vec<PathBuf>,
    ide_name: Option<String>,
    transport: Option<String>,
    auth_token: String,
}

impl Editor {
    /// An editor that listens on this port of this machine's 127.0.0.1 and wants this token.
    pub fn new(name: &str, port: u16, token: Secret, workspace: &Path) -> Self {
        let name = name.chars().filter(|c| !c.is_control()).take(64).collect();
        Self { name, port, token, workspace: workspace.to_owned() }
    }

    /// Finds the newest one in `folder`, `~/.claude/ide` as a rule, which has a folder open that the workspace is in or
    /// that is in the workspace. Files that are not as they should be count as none.
    pub fn find(folder: &Path, workspace: &Path) -> Result<Option<Self>> {
        let failed = |error: std::io::Error| {
            Error::new(Code::Io, format!("{} cannot be read", folder.display()))
                .because(error)
                .hint("leave `--ide` out to go on without the editor")
        };
        let names = match std::fs::read_dir(folder) {
            Ok(names) => names,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let mut found: Vec<(SystemTime, u16, PathBuf)> = Vec::new();
        for entry in names.take(MOST_NAMES) {
            let entry = entry.map_err(failed)?;
            let port = entry.file_name().to_str().and_then(port_of);
            // One that goes meanwhile is none.
            let changed = entry.metadata().and_then(|about| about.modified());
            if let (Some(port), Ok(changed)) = (port, changed) {
                found.push((changed, port, entry.path()));
            }
        }
        found.sort_unstable_by(|one, other| other.cmp(one));
        found.truncate(MOST_EDITORS);
        Ok(found.into_iter().find_map(|(_, port, path)| Self::of(read(&path)?, port, workspace)))
    }

    fn of(lock: Lock, port: u16, workspace: &Path) -> Option<Self> {
        let is_near =
            |folder: &PathBuf| folder.is_absolute() && (folder.starts_with(workspace) || workspace.starts_with(folder));
        let fits = lock.transport.as_deref() == Some("ws")
            && (1..=1024).contains(&lock.auth_token.len())
            && lock.auth_token.chars().all(|c| c.is_ascii_graphic())
            && lock.workspace_folders.iter().any(is_near)
            && lock.pid.is_none_or(lives);
        let name = lock.ide_name.as_deref().unwrap_or("IDE");
        let editor = Self::new(name, port, Secret::new(lock.auth_token), workspace);
        (fits && editor.dial().is_ok()).then_some(editor)
    }

    /// How it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn dial(&self) -> std::io::Result<TcpStream> {
        TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, self.port)), PATIENCE)
    }
}

/// The port in the name of a file.
fn port_of(name: &str) -> Option<u16> {
    let digits = name.strip_suffix(".lock")?;
    let port: u16 = digits.parse().ok().filter(|port| *port > 0)?;
    (port.to_string() == digits).then_some(port)
}

fn read(path: &Path) -> Option<Lock> {
    // Without NONBLOCK a pipe would keep the open from returning.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(CWD, path, flags, Mode::empty()).ok()?;
    let about = rustix::fs::fstat(&fd).ok()?;
    // Another user's file would name a server that is not the user's editor.
    let is_ours = about.st_uid == rustix::process::geteuid().as_raw();
    if !is_ours || FileType::from_raw_mode(about.st_mode) != FileType::RegularFile {
        return None;
    }
    let mut content = Vec::new();
    File::from(fd).take(MOST_BYTES + 1).read_to_end(&mut content).ok()?;
    if content.len() as u64 > MOST_BYTES { None } else { serde_json::from_slice(&content).ok() }
}

fn lives(pid: i32) -> bool {
    let of = Pid::from_raw(pid).filter(|_| pid > 0);
    // Whoever may not be signalled is there.
    of.is_some_and(|pid| matches!(test_kill_process(pid), Ok(()) | Err(rustix::io::Errno::PERM)))
}

#[cfg(test)]
mod tests;
