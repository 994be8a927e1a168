//! The processes that /proc shows.

use std::collections::BTreeSet;
use std::fs;

/// A process, as `/proc/PID/stat` has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) id: i32,
    pub(crate) name: String,
    pub(crate) parent: i32,
    pub(crate) session: i32,
    /// Whether it only waits to be reaped.
    pub(crate) is_dead: bool,
}

/// Those that live of the session that this process leads, itself included, and of all that descends from what is in it.
pub(crate) fn belonging(all: Vec<Process>, leader: i32) -> Vec<Process> {
    let mut found: BTreeSet<i32> = BTreeSet::new();
    loop {
        let belongs = |one: &&Process| one.id == leader || one.session == leader || found.contains(&one.parent);
        let more: Vec<i32> = all.iter().filter(belongs).map(|one| one.id).filter(|id| !found.contains(id)).collect();
        if more.is_empty() {
            break;
        }
        found.extend(more);
    }
    all.into_iter().filter(|one| !one.is_dead && found.contains(&one.id)).collect()
}

/// All that there are.
pub(crate) fn processes() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())).filter_map(|name| of(&name)).collect()
}

/// The process of this number.
pub(crate) fn process(id: u32) -> Option<Process> {
    of(&id.to_string())
}

fn of(id: &str) -> Option<Process> {
    // A name may be of any bytes.
    parse(&String::from_utf8_lossy(&fs::read(format!("/proc/{id}/stat")).ok()?))
}

/// proc(5): the number, the name in parentheses, then state, parent, group, session.
fn parse(stat: &str) -> Option<Process> {
    // A name may have parentheses of its own.
    let (head, rest) = stat.rsplit_once(')')?;
    let (id, name) = head.split_once(" (")?;
    let mut fields = rest.split_ascii_whitespace();
    let is_dead = matches!(fields.next()?, "Z" | "X");
    let parent = fields.next()?.parse().ok()?;
    let session = fields.nth(1)?.parse().ok()?;
    Some(Process { id: id.parse().ok()?, name: name.to_owned(), parent, session, is_dead })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read_whatever_its_name_is() {
        let stat = "42 (a) Z 1 (b) S 7 42 40 0 -1 4194560 118\n";
        let name = "a) Z 1 (b".to_owned();
        assert_eq!(parse(stat), Some(Process { id: 42, name, parent: 7, session: 40, is_dead: false }));
        let name = "a".to_owned();
        assert_eq!(parse("42 (a) Z 7 42 40"), Some(Process { id: 42, name, parent: 7, session: 40, is_dead: true }));
        assert_eq!(parse("42 (a"), None);
        let own = i32::try_from(std::process::id()).expect("a number");
        assert!(processes().iter().any(|one| one.id == own && !one.is_dead));
        assert_eq!(process(std::process::id()).map(|one| one.id), Some(own));
    }

    #[test]
    fn to_a_session_belong_its_processes_and_what_they_have_started() {
        let process = |id, parent, session| Process { id, name: String::new(), parent, session, is_dead: false };
        let gone = Process { is_dead: true, ..process(6, 1, 2) };
        // 4 has made a session of its own, 5 is its child; 6 waits to be reaped; 7 is of another command.
        let all = [process(1, 0, 1), process(2, 1, 2), process(5, 4, 4), process(4, 3, 4), process(3, 2, 2), gone];
        let all = [&all[..], &[process(7, 1, 7), process(8, 7, 7)]].concat();
        let ids = |leader| belonging(all.clone(), leader).into_iter().map(|one| one.id).collect::<Vec<_>>();
        assert_eq!(ids(2), [2, 5, 4, 3]);
        assert_eq!(ids(7), [7, 8]);
        assert_eq!(ids(9), [] as [i32; 0]);
    }
}
