//! Ending a command with all that belongs to it.

use std::collections::BTreeSet;
use std::fs;

use rustix::process::{Pid, Signal, kill_process};

/// What starts others while it is killed is looked for so often at most.
const ROUNDS: usize = 100;

/// A process, as `/proc/PID/stat` has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Process {
    id: i32,
    parent: i32,
    session: i32,
    /// Whether it only waits to be reaped.
    is_dead: bool,
}

/// Kills the session that this process leads, and all that descends from what is in it.
///
/// What has left the session and lost its parent is not known to belong to it any more; it ends with the jail.
pub(super) fn session(leader: Pid) {
    for _ in 0..ROUNDS {
        let found = belonging(&processes(), leader.as_raw_nonzero().get());
        if found.is_empty() {
            return;
        }
        for id in found.into_iter().filter_map(Pid::from_raw) {
            // It may have ended just now.
            let _ = kill_process(id, Signal::KILL);
        }
    }
}

fn belonging(all: &[Process], leader: i32) -> Vec<i32> {
    let mut found: BTreeSet<i32> = BTreeSet::new();
    loop {
        let belongs = |one: &&Process| one.id == leader || one.session == leader || found.contains(&one.parent);
        let more: Vec<i32> = all.iter().filter(belongs).map(|one| one.id).filter(|id| !found.contains(id)).collect();
        if more.is_empty() {
            break;
        }
        found.extend(more);
    }
    all.iter().filter(|one| !one.is_dead && found.contains(&one.id)).map(|one| one.id).collect()
}

fn processes() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let stats = names.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
    // A name may be of any bytes.
    let stats = stats.filter_map(|name| fs::read(format!("/proc/{name}/stat")).ok());
    stats.filter_map(|stat| parse(&String::from_utf8_lossy(&stat))).collect()
}

/// proc(5): the number, the name in parentheses, then state, parent, group, session.
fn parse(stat: &str) -> Option<Process> {
    // A name may have parentheses of its own.
    let (head, rest) = stat.rsplit_once(')')?;
    let id = head.split_once(' ')?.0.parse().ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let is_dead = matches!(fields.next()?, "Z" | "X");
    let parent = fields.next()?.parse().ok()?;
    let session = fields.nth(1)?.parse().ok()?;
    Some(Process { id, parent, session, is_dead })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read_whatever_its_name_is() {
        let stat = "42 (a) Z 1 (b) S 7 42 40 0 -1 4194560 118\n";
        assert_eq!(parse(stat), Some(Process { id: 42, parent: 7, session: 40, is_dead: false }));
        assert_eq!(parse("42 (a) Z 7 42 40"), Some(Process { id: 42, parent: 7, session: 40, is_dead: true }));
        assert_eq!(parse("42 (a"), None);
        let own = i32::try_from(std::process::id()).expect("a number");
        assert!(processes().iter().any(|one| one.id == own && !one.is_dead));
    }

    #[test]
    fn to_a_session_belong_its_processes_and_what_they_have_started() {
        let process = |id, parent, session| Process { id, parent, session, is_dead: false };
        let gone = Process { is_dead: true, ..process(6, 1, 2) };
        // 4 has made a session of its own, 5 is its child; 6 waits to be reaped; 7 is of another command.
        let all = [process(1, 0, 1), process(2, 1, 2), process(5, 4, 4), process(4, 3, 4), process(3, 2, 2), gone];
        let all = [&all[..], &[process(7, 1, 7), process(8, 7, 7)]].concat();
        assert_eq!(belonging(&all, 2), [2, 5, 4, 3]);
        assert_eq!(belonging(&all, 7), [7, 8]);
        assert_eq!(belonging(&all, 9), [] as [i32; 0]);
    }
}
