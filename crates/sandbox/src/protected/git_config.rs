//! Git's configuration, read as Git reads it, and which of it can run nothing.
//!
//! What is not known to be harmless counts as able to run something: Git's keys are many and become more.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::beneath::resolved;

/// One line of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// In small letters.
    pub(crate) section: Vec<u8>,
    /// As it is written.
    pub(crate) subsection: Option<Vec<u8>>,
    /// In small letters.
    pub(crate) key: Vec<u8>,
    /// None: a key without `=`, which is true.
    pub(crate) value: Option<Vec<u8>>,
}

/// Git would refuse it, or read it in a way that is not known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

/// All entries, in their order.
pub(crate) fn parse(bytes: &[u8]) -> Result<Vec<Entry>, Malformed> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut reader = Reader { bytes, at: 0 };
    let mut entries = Vec::new();
    let mut header: Option<(Vec<u8>, Option<Vec<u8>>)> = None;
    while let Some(byte) = reader.next() {
        match byte {
            b if is_space(b) => {}
            b'#' | b';' => reader.skip_line(),
            b'[' => header = Some(reader.header()?),
            b if b.is_ascii_alphabetic() => {
                let (section, subsection) = header.clone().ok_or(Malformed)?;
                let (key, value) = reader.variable(b)?;
                entries.push(Entry { section, subsection, key, value });
            }
            _ => return Err(Malformed),
        }
    }
    Ok(entries)
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn next(&mut self) -> Option<u8> {
        let mut byte = *self.bytes.get(self.at)?;
        self.at += 1;
        if byte == b'\r' && self.bytes.get(self.at) == Some(&b'\n') {
            self.at += 1;
            byte = b'\n';
        }
        Some(byte)
    }

    /// The end of the file ends the last line too.
    fn next_in_line(&mut self) -> u8 {
        self.next().unwrap_or(b'\n')
    }

    fn skip_line(&mut self) {
        while !matches!(self.next(), None | Some(b'\n')) {}
    }

    fn header(&mut self) -> Result<(Vec<u8>, Option<Vec<u8>>), Malformed> {
        let mut name = Vec::new();
        let quoted = loop {
            match self.next().ok_or(Malformed)? {
                b']' => break None,
                b if is_space(b) => break Some(self.quoted_subsection(b)?),
                b if is_key(b) || b == b'.' => name.push(b.to_ascii_lowercase()),
                _ => return Err(Malformed),
            }
        };
        if name.is_empty() {
            return Err(Malformed);
        }
        // `[a.b]` is an old way to write `[a "b"]`.
        let dot = name.iter().position(|&b| b == b'.');
        let (section, old) = match dot {
            Some(dot) => (name[..dot].to_vec(), Some(name[dot + 1..].to_vec())),
            None => (name, None),
        };
        let subsection = match (old, quoted) {
            (Some(old), Some(quoted)) => Some([old, quoted].join(&b'.')),
            (old, quoted) => old.or(quoted),
        };
        Ok((section, subsection))
    }

    fn quoted_subsection(&mut self, mut byte: u8) -> Result<Vec<u8>, Malformed> {
        while is_space(byte) && byte != b'\n' {
            byte = self.next().ok_or(Malformed)?;
        }
        if byte != b'"' {
            return Err(Malformed);
        }
        let mut text = Vec::new();
        loop {
            match self.next_in_line() {
                b'\n' => return Err(Malformed),
                b'"' => break,
                b'\\' => match self.next_in_line() {
                    b'\n' => return Err(Malformed),
                    b => text.push(b),
                },
                b => text.push(b),
            }
        }
        if self.next() == Some(b']') { Ok(text) } else { Err(Malformed) }
    }

    fn variable(&mut self, first: u8) -> Result<(Vec<u8>, Option<Vec<u8>>), Malformed> {
        let mut key = vec![first.to_ascii_lowercase()];
        let mut byte = self.next_in_line();
        while is_key(byte) {
            key.push(byte.to_ascii_lowercase());
            byte = self.next_in_line();
        }
        while matches!(byte, b' ' | b'\t') {
            byte = self.next_in_line();
        }
        match byte {
            b'\n' => Ok((key, None)),
            b'=' => Ok((key, Some(self.value()?))),
            _ => Err(Malformed),
        }
    }

    fn value(&mut self) -> Result<Vec<u8>, Malformed> {
        let (mut value, mut is_quoted) = (Vec::new(), false);
        // Spaces at the end do not belong to it, those within quotes do.
        let mut end = 0;
        loop {
            match self.next_in_line() {
                b'\n' if is_quoted => return Err(Malformed),
                b'\n' => break,
                b if is_space(b) && !is_quoted => {
                    if !value.is_empty() {
                        value.push(b);
                    }
                    continue;
                }
                b'#' | b';' if !is_quoted => {
                    self.skip_line();
                    break;
                }
                b'\\' => match self.next_in_line() {
                    b'\n' => continue,
                    b't' => value.push(b'\t'),
                    b'b' => value.push(8),
                    b'n' => value.push(b'\n'),
                    b @ (b'\\' | b'"') => value.push(b),
                    _ => return Err(Malformed),
                },
                b'"' => is_quoted = !is_quoted,
                b => value.push(b),
            }
            end = value.len();
        }
        value.truncate(end);
        Ok(value)
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

fn is_key(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-'
}

/// Where a configuration is and where its work tree may be, by absolute paths.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Whereabouts<'a> {
    /// The folder of the repository that it is in.
    pub(crate) git_dir: &'a Path,
    /// What has been given away.
    pub(crate) workspace: &'a Path,
}

impl Entry {
    /// Its full name, as `git config` takes it.
    pub(crate) fn name(&self) -> Vec<u8> {
        let section = Some(&self.section);
        section.into_iter().chain(&self.subsection).chain([&self.key]).cloned().collect::<Vec<_>>().join(&b'.')
    }

    /// Whether its name is `section.key`, or `section.….key` where `is_within` a subsection.
    pub(crate) fn is(&self, section: &str, is_within: bool, key: &str) -> bool {
        self.section == section.as_bytes() && self.subsection.is_some() == is_within && self.key == key.as_bytes()
    }

    /// Whether it can make Git neither run something nor work elsewhere.
    pub(crate) fn is_harmless(&self, place: Whereabouts<'_>) -> bool {
        let value = self.value.as_deref().unwrap_or(b"true");
        if self.is("core", false, "worktree") {
            let tree = resolved(&place.git_dir.join(OsStr::from_bytes(value)));
            return tree.is_some_and(|tree| tree.target.starts_with(place.workspace));
        }
        if self.is("core", false, "fsmonitor") {
            return value.eq_ignore_ascii_case(b"true") || value.eq_ignore_ascii_case(b"false");
        }
        if self.is("submodule", true, "update") {
            return [&b"checkout"[..], b"rebase", b"merge", b"none"].contains(&value);
        }
        let is_of_branch = self.section == b"branch" && matches!(self.key.as_slice(), b"remote" | b"pushremote");
        if (matches!(self.key.as_slice(), b"url" | b"pushurl") || is_of_branch) && self.subsection.is_some() {
            // A branch's remote is a name or an address.
            let is_of_these = matches!(self.section.as_slice(), b"branch" | b"remote" | b"submodule");
            // `name::…` starts a program for the transport, and what begins with `-` may pass for an option.
            return is_of_these && !value.windows(2).any(|two| two == b"::") && !value.starts_with(b"-");
        }
        if self.section == b"filter" && self.subsection.as_deref() == Some(b"lfs") {
            return LFS.iter().any(|(key, known)| self.key == key.as_bytes() && value == known.as_bytes());
        }
        HARMLESS.iter().any(|(section, is_within, keys)| {
            self.section == section.as_bytes()
                && is_within.is_none_or(|is_within| is_within == self.subsection.is_some())
                && (keys.is_empty() || keys.split_whitespace().any(|key| self.key == key.as_bytes()))
        })
    }
}

/// What `git lfs install --local` writes: a program of the user's own.
const LFS: &[(&str, &str)] = &[
    ("clean", "git-lfs clean -- %f"),
    ("smudge", "git-lfs smudge -- %f"),
    ("smudge", "git-lfs smudge --skip -- %f"),
    ("process", "git-lfs filter-process"),
    ("process", "git-lfs filter-process --skip"),
    ("required", "true"),
];

/// Section, whether with a subsection (none: either), keys with spaces between them (none: all keys).
type Known = (&'static str, Option<bool>, &'static str);

/// What is known to run nothing.
const HARMLESS: &[Known] = &[
    ("advice", None, ""),
    ("branch", Some(false), "autosetupmerge autosetuprebase sort"),
    ("branch", Some(true), "merge rebase description vscode-merge-base gh-merge-base"),
    ("color", None, ""),
    ("column", None, ""),
    (
        "core",
        Some(false),
        "abbrev autocrlf bare bigfilethreshold checkstat commentchar commitgraph compression eol filemode \
         fscache ignorecase logallrefupdates longpaths multipackindex precomposeunicode preloadindex \
         quotepath repositoryformatversion safecrlf sharedrepository sparsecheckout sparsecheckoutcone \
         splitindex symlinks trustctime untrackedcache whitespace",
    ),
    (
        "diff",
        Some(false),
        "algorithm colormoved context ignoresubmodules mnemonicprefix noprefix renamelimit renames submodule",
    ),
    (
        "extensions",
        Some(false),
        "compatobjectformat noop noop-v1 objectformat partialclone preciousobjects refstorage \
         relativeworktrees worktreeconfig",
    ),
    ("feature", Some(false), "experimental manyfiles"),
    ("fetch", Some(false), "parallel prune prunetags writecommitgraph"),
    ("gc", Some(false), "auto autodetach autopacklimit pruneexpire reflogexpire"),
    ("index", Some(false), "skiphash sparse threads version"),
    ("init", Some(false), "defaultbranch"),
    ("lfs", Some(false), "repositoryformatversion"),
    ("lfs", Some(true), "access locksverify"),
    ("log", Some(false), "abbrevcommit date decorate follow"),
    ("maintenance", Some(false), "auto strategy"),
    ("merge", Some(false), "autostash conflictstyle ff log renamelimit renames stat"),
    ("pull", Some(false), "ff rebase"),
    ("push", Some(false), "autosetupremote default followtags"),
    ("rebase", Some(false), "autosquash autostash stat updaterefs"),
    ("remote", Some(true), "fetch followremotehead mirror partialclonefilter promisor prune prunetags push tagopt"),
    ("rerere", Some(false), "autoupdate enabled"),
    ("status", Some(false), ""),
    ("submodule", Some(false), "active fetchjobs recurse"),
    ("submodule", Some(true), "active branch fetchrecursesubmodules ignore path shallow"),
    ("user", Some(false), "email name useconfigonly"),
];

/// Merge strategies that are Git's own; any other name is that of a program.
pub(crate) const STRATEGIES: &str = "octopus ort ours recursive resolve subtree";

#[cfg(test)]
#[path = "git_config_tests.rs"]
mod tests;
