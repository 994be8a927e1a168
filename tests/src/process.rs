//! Processes, looked at and ended by their number.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal};

use crate::{PATIENCE, until};

/// Sends a signal; one that cannot be delivered is the test's failure.
pub fn signal(pid: u32, signal: Signal) {
    let number = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a process number");
    rustix::process::kill_process(number, signal).unwrap_or_else(|error| panic!("cannot signal {pid}: {error}"));
}

/// Whether a process with this number runs; one that only waits to be reaped does not.
pub fn runs(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(')').and_then(|(_, fields)| fields.trim_start().chars().next());
    state.is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

/// The arguments of a process, joined by spaces.
pub fn command_line(pid: u32) -> String {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ")
}

/// The processes that have `path` in their arguments: with the path of a test's own home, its own `llama-server`s.
pub fn with_argument(path: &Path) -> Vec<u32> {
    let path = path.display().to_string();
    let numbers = std::fs::read_dir("/proc").expect("/proc").filter_map(Result::ok);
    let numbers = numbers.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.filter(|pid| *pid != std::process::id() && runs(*pid) && command_line(*pid).contains(&path)).collect()
}

/// The port that a process listens at on 127.0.0.1.
pub fn listens_at(pid: u32) -> Option<u16> {
    let links = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.filter_map(|fd| fs::read_link(fd.ok()?.path()).ok());
    let sockets: BTreeSet<String> =
        links.filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned())).collect();
    let table = fs::read_to_string(format!("/proc/{pid}/net/tcp")).ok()?;
    table.lines().find_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let port = fields.get(1)?.strip_prefix("0100007F:")?;
        let listens = *fields.get(3)? == "0A" && sockets.contains(*fields.get(9)?);
        listens.then(|| u16::from_str_radix(port, 16).ok())?
    })
}

/// A process and all that it has started.
pub fn family(pid: u32) -> BTreeSet<u32> {
    let mut all = BTreeSet::from([pid]);
    let mut left = vec![pid];
    while let Some(pid) = left.pop() {
        // Any of its threads may have started one.
        for thread in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().map_while(Result::ok) {
            let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            left.extend(
                children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()).filter(|pid| all.insert(*pid)),
            );
        }
    }
    all
}

/// A program that is ended when this is dropped.
#[derive(Debug)]
pub struct Running(Child);

impl Running {
    /// Starts it; what it says is nobody's.
    #[track_caller]
    pub fn start(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().expect("a program that can be started"))
    }

    /// Its process number.
    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.0.try_wait().is_ok_and(|ended| ended.is_some())
    }

    /// Waits for its end, and returns its exit code; -1 where a signal ended it.
    #[track_caller]
    pub fn ended(&mut self) -> i32 {
        until(PATIENCE, "it ends", || self.0.try_wait().expect("a child can be waited for")).code().unwrap_or(-1)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
