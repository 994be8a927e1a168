//! Where obeyed things lead: links, and what Git's configuration names. What is there is obeyed as well.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, statat};

use super::git_config::{self, Whereabouts};
use super::names;
use super::select::{is_at_top, is_pinned};
use super::state::{Item, Matter, path_in};
use super::survey::{Kept, Rank, Root, Survey, is_git};
use crate::beneath::{self, joined, resolved};

/// More configurations than these are not read for what they name; those that count most come first.
const CONFIGS: usize = 400;

/// As many words of all configurations are looked up.
const WORDS: usize = 4_000;

const HOOKS: &str = "where this repository's hooks are: they run at a commit";
const CONFIG: &str = "part of this repository's configuration: programs that Git starts";
const PROGRAM: &str = "named by this repository's configuration: Git starts it";
const HOOK: &str = "where one of Git's hooks leads: Git runs it";

/// Paths to texts, which Git only reads.
const TEXTS: [&[u8]; 5] =
    [b"blame.ignorerevsfile", b"commit.template", b"core.attributesfile", b"core.excludesfile", b"mailmap.file"];

/// All paths that obeyed things lead to, by absolute paths. With what was there `before`, of what is new nothing is
/// asked: it is judged itself.
pub(crate) fn leads(root: Root<'_>, survey: &Survey, before: Option<&Survey>, home: &Path) -> Vec<Kept> {
    let own = own_git_dir(root, survey);
    let mut leads = Leads { root, home, all: BTreeMap::new(), words: WORDS };
    let mut configs = Vec::new();
    for (path, item) in &survey.items {
        let then = before.map(|before| before.items.get(path));
        if matches!(then, Some(None)) {
            continue;
        }
        let at = root.path.join(path);
        let rank = rank(path, item, own.as_deref());
        if item.matter == Matter::Config && path.parent().is_some_and(|git_dir| is_pinned(root, git_dir)) {
            let git_dir = at.parent().unwrap_or(root.path).to_owned();
            configs.push(Config { rank, at: at.clone(), git_dir });
        }
        let is_same = then.flatten().is_none_or(|then| !item.differs_from(then));
        if item.state.target.is_some() && is_same {
            match item.matter {
                Matter::Named { why, .. } => leads.follow(&at, why, rank),
                Matter::Hook => leads.follow(&at, HOOK, rank),
                Matter::Config => leads.follow(&at, CONFIG, rank),
                _ => {}
            }
        }
    }
    configs.sort_by_key(|config| config.rank);
    leads.read(configs);
    leads.all.into_iter().map(|(path, (why, rank))| Kept { path, why, rank }).collect()
}

/// Those beneath the root, by their paths there.
pub(crate) fn beneath_root(root: Root<'_>, leads: &[Kept]) -> Vec<Kept> {
    let beneath = leads.iter().filter_map(|lead| {
        let path = lead.path.strip_prefix(root.path).ok().filter(|path| !path.as_os_str().is_empty())?;
        Some(Kept { path: path.to_owned(), ..*lead })
    });
    beneath.collect()
}

/// The repository that Git takes for that of the root, if it is in there.
pub(crate) fn own_git_dir(root: Root<'_>, survey: &Survey) -> Option<PathBuf> {
    if root.path != root.workspace {
        return Some(PathBuf::new());
    }
    let mut at = resolved(&root.path.join(".git"))?.target;
    let pointer = at.strip_prefix(root.path).ok().and_then(|path| survey.items.get(path));
    if let Some(target) = pointer.and_then(|item| item.says.as_ref()?.first()) {
        at = resolved(&at.parent()?.join(path_in(target)))?.target;
    }
    at.strip_prefix(root.path).ok().map(Path::to_owned)
}

fn rank(path: &Path, item: &Item, own: Option<&Path>) -> Rank {
    let in_own = own.and_then(|own| path.strip_prefix(own).ok());
    let is_at_top = is_at_top(path, item.matter);
    match item.matter {
        Matter::Config if in_own.is_some_and(|path| path.components().count() == 1) => Rank::First,
        Matter::Hook if in_own == Some(Path::new("hooks")) => Rank::First,
        Matter::Hook if in_own.is_some_and(|path| path.starts_with("hooks")) => Rank::Near,
        Matter::Named { .. } if is_at_top && names::exact().any(|(exact, _)| exact == path) => Rank::First,
        Matter::Named { from: 0, .. } => Rank::Near,
        _ if is_at_top => Rank::Near,
        _ => Rank::Rest,
    }
}

struct Config {
    rank: Rank,
    /// As it is named: what it includes is relative to that.
    at: PathBuf,
    /// The repository that it configures.
    git_dir: PathBuf,
}

struct Leads<'a> {
    root: Root<'a>,
    home: &'a Path,
    all: BTreeMap<PathBuf, (&'static str, Rank)>,
    words: usize,
}

impl Leads<'_> {
    /// Takes what an absolute path leads to, and each link on the way: whoever changes that changes where it leads.
    fn follow(&mut self, at: &Path, why: &'static str, rank: Rank) {
        let Some(resolved) = resolved(at) else { return };
        // A link to what holds it would shut the whole project.
        let holds = at != resolved.target && at.starts_with(&resolved.target);
        for path in resolved.links.into_iter().chain((!holds).then_some(resolved.target)) {
            let known = self.all.entry(path).or_insert((why, rank));
            known.1 = known.1.min(rank);
        }
    }

    /// Follows what configurations name, and reads those that they include.
    fn read(&mut self, configs: Vec<Config>) {
        let mut queue = std::collections::VecDeque::from(configs);
        for _ in 0..CONFIGS {
            let Some(config) = queue.pop_front() else { break };
            let Some(bytes) = self.bytes(&config.at) else { continue };
            let entries = git_config::parse(&bytes).unwrap_or_default();
            let tree = self.tree(&config.git_dir, &entries);
            let place = Whereabouts { git_dir: &config.git_dir, workspace: self.root.workspace };
            for entry in &entries {
                let Some(value) = &entry.value else { continue };
                let path = self.home_in(value);
                if entry.is("core", false, "hookspath") || entry.is("init", false, "templatedir") {
                    self.follow(&tree.join(path), HOOKS, config.rank);
                } else if entry.is("include", false, "path") || entry.is("includeif", true, "path") {
                    let at = config.at.parent().unwrap_or(self.root.path).join(path);
                    self.follow(&at, CONFIG, config.rank);
                    // What counts most comes first also where there are very many.
                    queue.push_front(Config { at, git_dir: config.git_dir.clone(), ..config });
                } else if !entry.is_harmless(place) && !TEXTS.contains(&entry.name().as_slice()) {
                    self.words(value, [&tree, &config.git_dir], config.rank);
                }
            }
        }
    }

    fn bytes(&self, at: &Path) -> Option<Vec<u8>> {
        let target = resolved(at)?.target;
        beneath::read(self.root.folder, target.strip_prefix(self.root.path).ok()?, 1 << 20).ok()
    }

    /// The folder that Git works in, which most paths are relative to.
    fn tree(&self, git_dir: &Path, entries: &[git_config::Entry]) -> PathBuf {
        let named = entries.iter().rev().find(|entry| entry.is("core", false, "worktree"));
        if let Some(value) = named.and_then(|entry| entry.value.as_ref()) {
            return joined(git_dir, path_in(value));
        }
        if self.root.path != self.root.workspace {
            return self.root.workspace.to_owned();
        }
        let is_usual = git_dir.file_name().is_some_and(is_git);
        git_dir.parent().filter(|_| is_usual).unwrap_or(git_dir).to_owned()
    }

    /// A command's words that are files; shells take words apart in many ways, so more is tried than is meant.
    fn words(&mut self, value: &[u8], bases: [&Path; 2], rank: Rank) {
        let spaced = value.split(u8::is_ascii_whitespace);
        let apart = value.split(|b| b.is_ascii_whitespace() || b"!;|&()<>{}\"'`$=:,".contains(b));
        for word in std::iter::once(value).chain(spaced).chain(apart) {
            let word = word.trim_ascii();
            if word.is_empty() || word.len() > 4096 || word.contains(&0) {
                continue;
            }
            let Some(left) = self.words.checked_sub(1) else { return };
            self.words = left;
            let path = self.home_in(word);
            // `$(git rev-parse --show-toplevel)/tools/x` has been taken apart.
            let from_top = path.strip_prefix("/").unwrap_or(&path).to_owned();
            for at in bases.iter().flat_map(|base| [base.join(&path), base.join(&from_top)]) {
                let target = resolved(&at).map(|resolved| resolved.target);
                let is_ours = target.as_ref().is_some_and(|target| target.starts_with(self.root.workspace))
                    || target.as_ref().is_some_and(|target| target.starts_with(self.root.path));
                let stat = target.filter(|_| is_ours).and_then(|at| statat(CWD, &at, AtFlags::SYMLINK_NOFOLLOW).ok());
                if stat.is_some_and(|stat| beneath::kind(&stat) == FileType::RegularFile) {
                    self.follow(&at, PROGRAM, rank);
                }
            }
        }
    }

    fn home_in(&self, value: &[u8]) -> PathBuf {
        match value.strip_prefix(b"~/") {
            Some(rest) => self.home.join(path_in(rest)),
            None => path_in(value).to_owned(),
        }
    }
}
