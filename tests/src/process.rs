//! Processes, looked at and ended by their number.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use rustix::process::{Pid, Signal};

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
