//! The first process of a container, seen from outside.
//!
//! Docker tells of a container's end only after it has taken its network apart, which takes ten times as long as
//! `llama-server` takes to end. What a switch waits for is the process: with it goes the memory.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// So long the end of a process is waited for, in seconds: longer than Docker takes to end one by force.
const PATIENCE: i64 = 30;

/// A handle on one process, never on another one that gets its number later.
#[derive(Debug)]
pub(super) struct ContainerProcess {
    fd: Arc<OwnedFd>,
    /// Its number outside the container.
    pub pid: i32,
}

impl ContainerProcess {
    /// The process `pid` if it is one of the container's on this machine; none where that cannot be told.
    pub(super) fn of(pid: i64, container: &str) -> Option<Self> {
        let raw = i32::try_from(pid).ok().filter(|pid| *pid > 0)?;
        let fd = pidfd_open(Pid::from_raw(raw)?, PidfdFlags::empty()).ok()?;
        // The number can belong to another process namespace, or to another process by now.
        let groups = std::fs::read_to_string(format!("/proc/{raw}/cgroup")).ok()?;
        groups.contains(container).then(|| Self { fd: Arc::new(fd), pid: raw })
    }

    /// Whether it has ended already.
    pub(super) fn has_ended(&self) -> bool {
        // A process descriptor becomes readable when the process ends, and stays so.
        poll(&mut [PollFd::new(&*self.fd, PollFlags::IN)], Some(&Timespec::default())) == Ok(1)
    }

    /// Returns true once the process has ended, false where that could not be seen.
    pub(super) async fn ended(&self) -> bool {
        let fd = Arc::clone(&self.fd);
        let seen = tokio::task::spawn_blocking(move || {
            let patience = Timespec { tv_sec: PATIENCE, tv_nsec: 0 };
            poll(&mut [PollFd::new(&*fd, PollFlags::IN)], Some(&patience)) == Ok(1)
        });
        seen.await.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_a_process_of_the_container_is_taken() {
        let own = i64::from(std::process::id());
        let groups = std::fs::read_to_string("/proc/self/cgroup").expect("cgroups");
        let group = groups.lines().next().and_then(|line| line.rsplit(':').next()).expect("a cgroup");
        assert!(!ContainerProcess::of(own, group).expect("this process").has_ended());
        assert!(ContainerProcess::of(own, "no such container").is_none());
        assert!(ContainerProcess::of(0, group).is_none());
    }
}
