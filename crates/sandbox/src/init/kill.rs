//! Ending a command with all that belongs to it.

use rustix::process::{Pid, Signal, kill_process};

use crate::processes::{belonging, processes};

/// What starts others while it is killed is looked for so often at most.
const ROUNDS: usize = 100;

/// Kills the session that this process leads, and all that descends from what is in it.
///
/// What has left the session and lost its parent is not known to belong to it any more; it ends with the jail.
pub(super) fn session(leader: Pid) {
    for _ in 0..ROUNDS {
        let found = belonging(processes(), leader.as_raw_nonzero().get());
        if found.is_empty() {
            return;
        }
        for pid in found.into_iter().filter_map(|one| Pid::from_raw(one.id)) {
            // It may have ended just now.
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}
