//! Which process it is: a number alone is used again by others.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use corral_core::InstanceId;
use rustix::process::{Pid, PidfdFlags, Signal};
use serde::{Deserialize, Serialize};

/// The variable by which a server is found whose process id could not be written down.
pub(super) const MARK: &str = corral_core::launch::INSTANCE_VARIABLE;

/// A process, and no other that gets its number later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    /// The process id, which is the id of its group as well.
    pub(super) pid: i32,
    /// When it began, in clock ticks since the machine was started: field 22 of `/proc/PID/stat`.
    start_ticks: u64,
    /// Which start of the machine.
    boot_id: String,
}

impl Identity {
    /// The process that has this number now; none where there is none, or only what is left of one.
    pub(super) fn of(pid: i32) -> Option<Self> {
        let (state, identity) = Self::read(pid)?;
        (!matches!(state, 'Z' | 'X')).then_some(identity)
    }

    /// A child of this process that was not waited for yet, ended or not.
    pub(super) fn of_child(pid: i32) -> Option<Self> {
        Self::read(pid).map(|(_, identity)| identity)
    }

    fn read(pid: i32) -> Option<(char, Self)> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (state, start_ticks) = state_and_start(&stat)?;
        let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?.trim().to_owned();
        Some((state, Self { pid, start_ticks, boot_id }))
    }

    /// The process that was started for an instance, where one runs.
    pub(super) fn marked(id: &InstanceId) -> Option<Self> {
        let mark = format!("{MARK}={id}");
        let processes = fs::read_dir("/proc").ok()?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        let marked = |pid: &i32| {
            let environ = fs::read(Path::new("/proc").join(pid.to_string()).join("environ")).unwrap_or_default();
            environ.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())
        };
        // What the server itself starts is marked as well: the leader of the group is the server.
        processes.filter(marked).filter(|pid| leads_its_group(*pid)).find_map(Self::of)
    }

    /// A handle on the process; none where it has ended.
    pub(super) fn open(&self) -> Option<OwnedFd> {
        let handle = self.handle().ok()?;
        // Asked after the handle was opened: so the handle cannot be that of a later process.
        (Self::of(self.pid).as_ref() == Some(self)).then_some(handle)
    }

    /// A handle on whatever process has the number now.
    pub(super) fn handle(&self) -> io::Result<OwnedFd> {
        let number = self.number().ok_or(rustix::io::Errno::SRCH)?;
        Ok(rustix::process::pidfd_open(number, PidfdFlags::NONBLOCK)?)
    }

    /// Sends a signal to the whole group, so that a wrapper's child is reached as well.
    pub(super) fn signal(&self, signal: Signal) {
        if let Some(group) = self.number() {
            // It fails only where the whole group has ended.
            let _ = rustix::process::kill_process_group(group, signal);
        }
    }

    fn number(&self) -> Option<Pid> {
        Pid::from_raw(self.pid)
    }
}

fn leads_its_group(pid: i32) -> bool {
    Pid::from_raw(pid).is_some_and(|pid| rustix::process::getpgid(Some(pid)) == Ok(pid))
}

/// Fields 3 and 22. The name before them is in parentheses and may itself hold spaces and parentheses.
fn state_and_start(stat: &str) -> Option<(char, u64)> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_lie_about_the_fields() {
        let stat = "42 (a) Z 1) S 1 42 42 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 98765 1 1";
        assert_eq!(state_and_start(stat), Some(('S', 98765)));
        assert_eq!(state_and_start("42 (a"), None);
    }

    #[test]
    fn a_process_is_itself_and_no_other() {
        let me = Identity::of(i32::try_from(std::process::id()).unwrap()).unwrap();
        assert!(me.open().is_some());
        for other in [
            Identity { start_ticks: me.start_ticks + 1, ..me.clone() },
            Identity { boot_id: "another".to_owned(), ..me.clone() },
            Identity { pid: i32::MAX, ..me },
        ] {
            assert!(other.open().is_none(), "{other:?}");
        }
    }
}
