//! What is known of each file, and which of them have to go.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// The form of the index. One of another form is not read, and its files go.
const VERSION: u32 = 1;

/// What is known of all files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Index {
    version: u32,
    /// By `<model>/<file>`.
    pub(super) files: BTreeMap<String, Entry>,
}

/// What is known of one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    /// Tokens in it.
    pub(super) tokens: u64,
    /// Its size.
    pub(super) bytes: u64,
    /// XXH3 over its content; none until that has been read.
    pub(super) checksum: Option<u64>,
    /// When it was saved.
    pub(super) saved_at: Timestamp,
    /// When it was last saved or brought back.
    pub(super) used_at: Timestamp,
    /// Its modification time right after it was saved, in nanoseconds since 1970.
    pub(super) modified_ns: i64,
    /// In which run of the system it was saved.
    pub(super) boot: String,
}

impl Default for Index {
    fn default() -> Self {
        Self { version: VERSION, files: BTreeMap::new() }
    }
}

impl Index {
    /// Reads what was written. What cannot be read is as good as nothing.
    pub(super) fn parse(text: &[u8]) -> Self {
        serde_json::from_slice(text).ok().filter(|index: &Self| index.version == VERSION).unwrap_or_default()
    }

    /// The time, moved on where that is needed so that what is used now was used last: clocks are set back at times.
    pub(super) fn tick(&self, now: Timestamp) -> Timestamp {
        let latest = self.files.values().map(|entry| entry.used_at).max();
        let next = latest.and_then(|latest| latest.checked_add(SignedDuration::from_nanos(1)).ok());
        next.map_or(now, |next| next.max(now))
    }

    /// The files that have to go so that the others take `budget` bytes at most: those that are larger by themselves,
    /// then the ones not used for longest. Of several that were used together the shortest conversation goes first.
    pub(super) fn over(&self, budget: u64) -> Vec<String> {
        let (mut going, mut rest): (Vec<_>, Vec<_>) = self.files.iter().partition(|(_, entry)| entry.bytes > budget);
        rest.sort_by_key(|(_, entry)| (entry.used_at, entry.tokens));
        let mut total: u64 = rest.iter().map(|(_, entry)| entry.bytes).fold(0, u64::saturating_add);
        for file in rest {
            if total <= budget {
                break;
            }
            total -= file.1.bytes;
            going.push(file);
        }
        going.into_iter().map(|(key, _)| key.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(files: &[(&str, u64, i64, u64)]) -> Index {
        let entry = |bytes, used, tokens| Entry {
            tokens,
            bytes,
            checksum: Some(7),
            saved_at: Timestamp::UNIX_EPOCH,
            used_at: Timestamp::from_second(used).expect("a time"),
            modified_ns: 5,
            boot: "b".to_owned(),
        };
        let files = files.iter().map(|(key, bytes, used, tokens)| ((*key).to_owned(), entry(*bytes, *used, *tokens)));
        Index { files: files.collect(), ..Index::default() }
    }

    #[test]
    fn what_was_not_used_for_longest_goes_first() {
        let index = index(&[("a", 10, 3, 1), ("b", 10, 1, 1), ("c", 10, 2, 1), ("d", 5, 4, 1)]);
        let table: [(u64, &[&str]); 6] = [
            (35, &[]),
            (34, &["b"]),
            (25, &["b"]),
            (24, &["b", "c"]),
            (9, &["a", "b", "c"]),
            (0, &["a", "b", "c", "d"]),
        ];
        for (budget, expected) in table {
            assert_eq!(index.over(budget), expected, "{budget}");
        }
    }

    #[test]
    fn what_is_too_large_by_itself_takes_nothing_with_it() {
        let index = index(&[("old", 10, 1, 1), ("huge", 100, 2, 9)]);
        assert_eq!(index.over(50), ["huge"]);
    }

    #[test]
    fn of_files_of_the_same_save_the_shortest_conversation_goes_first() {
        let index = index(&[("a", 10, 1, 500), ("b", 10, 1, 20)]);
        assert_eq!(index.over(15), ["b"]);
    }

    #[test]
    fn a_clock_that_was_set_back_makes_nothing_older() {
        let index = index(&[("a", 10, 100, 1)]);
        let now = Timestamp::from_second(50).expect("a time");
        assert!(index.tick(now) > index.files["a"].used_at);
        let later = Timestamp::from_second(150).expect("a time");
        assert_eq!(index.tick(later), later);
    }

    #[test]
    fn it_is_read_as_it_was_written_or_not_at_all() {
        let index = index(&[("m/a", 10, 3, 1)]);
        let text = serde_json::to_vec(&index).expect("JSON");
        assert_eq!(Index::parse(&text), index);
        let other = String::from_utf8(text).expect("UTF-8").replace("\"version\":1", "\"version\":2");
        for unreadable in [other.as_bytes(), b"", b"{\"version\":1", b"[]"] {
            assert_eq!(Index::parse(unreadable), Index::default());
        }
    }
}
