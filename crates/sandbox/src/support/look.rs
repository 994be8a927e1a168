//! Looking at the machine. Every wait is bounded.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rustix::fs::{Access, access};

use super::judge::{Facts, Found, Said};
use crate::landlock_layer;
use crate::memory::{MemoryBound, Unbounded, trial};

/// The real thing but for its files, which nobody's can be known to be.
const TRIAL: [&str; 18] = [
    "--unshare-user",
    "--unshare-ipc",
    "--unshare-pid",
    "--unshare-net",
    "--unshare-uts",
    "--unshare-cgroup-try",
    "--disable-userns",
    "--die-with-parent",
    "--cap-drop",
    "ALL",
    "--ro-bind",
    "/",
    "/",
    "--proc",
    "/proc",
    "--dev",
    "/dev",
    "true",
];

/// Where to look.
pub(super) struct Machine<'a> {
    /// Beneath it lie `/proc` and `/etc`.
    pub root: &'a Path,
    /// The bubblewrap to prefer: on Ubuntu only that of the distribution has a profile of `AppArmor`'s.
    pub usual: &'a Path,
    /// Folders to search where that one is not there.
    pub path: &'a OsStr,
    /// How long bubblewrap may take.
    pub patience: Duration,
    /// The bound of memory to try out.
    pub memory: Option<&'a MemoryBound>,
}

impl<'a> Machine<'a> {
    /// The one that this runs on.
    pub(super) fn this(path: &'a OsStr, memory: Option<&'a MemoryBound>) -> Self {
        let patience = Duration::from_secs(10);
        Self { root: Path::new("/"), usual: Path::new("/usr/bin/bwrap"), path, patience, memory }
    }

    fn read(&self, file: &str) -> Option<String> {
        std::fs::read_to_string(self.root.join(file)).ok()
    }
}

pub(super) fn look(machine: &Machine<'_>) -> Facts {
    Facts {
        bwrap: find(machine).map(|path| Found {
            version: ask(machine, &path, &["--version"]),
            help: ask(machine, &path, &["--help"]),
            trial: ask(machine, &path, &TRIAL),
            path,
        }),
        // Ubuntu has it in /usr/lib too, but this link is the documented place.
        os_release: machine.read("etc/os-release").unwrap_or_default(),
        apparmor_restricts: machine.read("proc/sys/kernel/apparmor_restrict_unprivileged_userns"),
        userns_clone: machine.read("proc/sys/kernel/unprivileged_userns_clone"),
        max_user_namespaces: machine.read("proc/sys/user/max_user_namespaces"),
        seccomp_actions: machine.read("proc/sys/kernel/seccomp/actions_avail").unwrap_or_default(),
        landlock: landlock(),
        memory: machine.memory.ok_or(Unbounded::NoBus).and_then(|bound| trial(bound, machine.path)),
    }
}

fn find(machine: &Machine<'_>) -> Option<PathBuf> {
    let folders = std::env::split_paths(machine.path).filter(|folder| folder.is_absolute());
    let mut candidates = std::iter::once(machine.usual.to_owned()).chain(folders.map(|folder| folder.join("bwrap")));
    candidates.find(|path| path.is_file() && access(path, Access::EXEC_OK).is_ok())
}

fn ask(machine: &Machine<'_>, program: &Path, arguments: &[&str]) -> Said {
    match run(machine, program, arguments) {
        Ok(said) => said,
        Err(error) => Said { success: false, text: error.to_string() },
    }
}

fn run(machine: &Machine<'_>, program: &Path, arguments: &[&str]) -> io::Result<Said> {
    let (output, writer) = io::pipe()?;
    let mut command = Command::new(program);
    command.args(arguments).env_clear().env("PATH", machine.path);
    command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
    let mut child = command.spawn()?;
    // It holds the pipe open as well.
    drop(command);
    let (done, outcome) = mpsc::channel();
    std::thread::spawn(move || {
        let mut text = Vec::new();
        let read = output.take(1 << 16).read_to_end(&mut text);
        // Nobody waits any longer if it took too long.
        let _ = done.send(read.map(|_| text));
    });
    let text = outcome.recv_timeout(machine.patience).unwrap_or_else(|_| {
        child.kill()?;
        Err(io::Error::other(format!("it was not done in {} s", machine.patience.as_secs())))
    });
    let status = child.wait()?;
    Ok(Said { success: status.success(), text: String::from_utf8_lossy(&text?).trim().to_owned() })
}

/// Tried out in a thread that ends with it: what is in force there says what could be here.
fn landlock() -> Option<u8> {
    std::thread::spawn(|| landlock_layer::restrict(&[]).ok().flatten()).join().ok().flatten()
}
