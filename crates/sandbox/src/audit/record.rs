//! What counted in a workspace at a start, kept for whoever comes next where nobody lives to look at the end.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::report::MOST;
use super::{Part, Snapshot, why};
use crate::beneath::joined;
use crate::protected::Notice;
use crate::protected::names::Exact;
use crate::protected::state::Item;

/// A [`Snapshot`] as far as it can be kept: enough to tell later what was not there, or has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    taken: Timestamp,
    files: BTreeSet<Known>,
}

/// A file that counts: its inode, so that none can take another's place; the time of its last change, which the kernel
/// alone sets; its path.
type Known = (u64, (i64, u64), PathBuf);

impl Record {
    /// When it was taken, to the second.
    pub fn taken(&self) -> Timestamp {
        self.taken
    }

    /// As bytes: lines that end with a zero.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = format!("{}\0", self.taken.as_second()).into_bytes();
        for (inode, (seconds, nanoseconds), path) in &self.files {
            bytes.extend_from_slice(format!("{inode} {seconds} {nanoseconds} ").as_bytes());
            bytes.extend_from_slice(path.as_os_str().as_bytes());
            bytes.push(0);
        }
        bytes
    }

    /// None where they are none of these.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        let mut lines = bytes.strip_suffix(b"\0")?.split(|byte| *byte == 0);
        let taken = Timestamp::from_second(number(lines.next()?)?).ok()?;
        let files = lines.map(|line| {
            let mut words = line.splitn(4, |byte| *byte == b' ');
            let (inode, seconds, nanoseconds) = (words.next()?, words.next()?, words.next()?);
            let path = PathBuf::from(OsStr::from_bytes(words.next()?));
            Some((number(inode)?, (number(seconds)?, number(nanoseconds)?), path))
        });
        Some(Self { taken, files: files.collect::<Option<_>>()? })
    }
}

fn number<T: std::str::FromStr>(bytes: &[u8]) -> Option<T> {
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

impl Snapshot {
    /// To be kept until the end has been looked at.
    pub fn record(&self) -> Record {
        let taken = Timestamp::from_second(self.taken.as_second()).unwrap_or_default();
        Record { taken, files: self.items().map(|(part, path, item)| known(part, path, item)).collect() }
    }

    /// What could run later outside and has come or changed since an earlier record.
    pub fn since(&self, earlier: &Record) -> Vec<Notice> {
        let of_part =
            |part: &Part| part.survey.git_dirs.iter().map(|path| joined(&part.path, path)).collect::<Vec<_>>();
        let repositories = self.parts.iter().flat_map(of_part).collect();
        let new = self.items().filter(|(part, path, item)| !earlier.files.contains(&known(part, path, item)));
        let exact = Exact::new();
        let told = new.filter_map(|(part, path, item)| {
            let why = why(part, path, item, None, &repositories)?;
            let notice = Notice::new(&joined(&part.path, path), format!("is new or has changed since; it is {why}"));
            Some(((!exact.holds(path), path.components().count(), path), notice))
        });
        let mut told: Vec<_> = told.collect();
        // Among very many someone may hide what counts.
        told.sort_by_key(|(key, _)| *key);
        let more = told.len().saturating_sub(MOST);
        let mut notices: Vec<_> = told.into_iter().take(MOST).map(|(_, notice)| notice).collect();
        if let (Some(part), 1..) = (self.parts.first(), more) {
            notices.push(Notice::new(&part.path, format!("has {more} more such files: look at them yourself")));
        }
        notices
    }

    fn items(&self) -> impl Iterator<Item = (&Part, &PathBuf, &Item)> {
        self.parts.iter().flat_map(|part| part.survey.items.iter().map(move |(path, item)| (part, path, item)))
    }
}

fn known(part: &Part, path: &Path, item: &Item) -> Known {
    (item.state.identity.inode(), item.state.changed, joined(&part.path, path))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::bed::Bed;

    #[test]
    fn what_came_or_changed_since_a_record_is_told_and_nothing_else() {
        let bed = Bed::new();
        bed.git(&["init", "-q"]);
        for name in [".envrc", "a/.envrc", "b/.envrc", ".vscode/tasks.json", "odd\n\u{e4} name/.npmrc"] {
            bed.write(name, "x");
        }
        let record = bed.protection().snapshot.record();
        let kept = Record::of(&record.to_bytes()).unwrap();
        assert_eq!(kept, record);
        let since = || {
            let all = bed.protection().snapshot.since(&kept).into_iter();
            all.map(|notice| notice.path.strip_prefix(bed.path("")).unwrap().to_str().unwrap().to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(since(), [""; 0]);
        // Git's own work, and what does not run.
        bed.git(&["config", "user.name", "x"]);
        bed.write("Makefile", "x");
        assert_eq!(since(), [""; 0]);

        bed.write(".vscode/tasks.json", "y");
        bed.write("new/.envrc", "x");
        bed.git(&["config", "core.pager", "evil"]);
        // Each was there, elsewhere.
        fs::rename(bed.path("a"), bed.path("c")).unwrap();
        fs::rename(bed.path("b"), bed.path("a")).unwrap();
        assert_eq!(since(), [".git/config", ".vscode/tasks.json", "a/.envrc", "c/.envrc", "new/.envrc"]);
    }

    #[test]
    fn what_counts_is_told_before_very_much_else() {
        let bed = Bed::new();
        let record = bed.protection().snapshot.record();
        for number in 0..100 {
            bed.write(format!("!{number}.code-workspace"), "{}");
        }
        bed.write(".envrc", "x");
        let told = bed.protection().snapshot.since(&record);
        assert_eq!((told.len(), &told[0].path), (MOST + 1, &bed.path(".envrc")));
        assert!(told[MOST].to_string().contains("61 more"), "{}", told[MOST]);
    }

    #[test]
    fn what_is_no_record_is_none() {
        for bad in [&b""[..], b"\0", b"x\0", b"1", b"1\0a\0", b"1\x001 2\0", b"1\x001 2 3\0", b"1\x001 2 3 /a"] {
            assert_eq!(Record::of(bad), None, "{bad:?}");
        }
        assert!(Record::of(b"1\x001 2 3 /a b\0").is_some() && Record::of(b"1\0").is_some());
    }
}
