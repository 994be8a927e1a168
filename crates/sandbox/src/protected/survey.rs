//! One walk through a folder: everything in it that other programs run or obey by themselves, and what it is like.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ffi::OsStr;
use std::ops::Bound::{Included, Unbounded};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use super::state::{Item, Matter};
use super::walk::Walk;

/// How far a walk goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Files and folders in all.
    pub(crate) entries: usize,
    /// Folders within folders.
    pub(crate) depth: usize,
    /// Bytes that are read to tell whether they change.
    pub(crate) hashed: usize,
    /// Bytes of the paths that are kept in mind, and about as much again for what is known of each.
    pub(crate) paths: usize,
}

impl Bounds {
    /// Before a start, which must be quick.
    pub(crate) const START: Self = Self { entries: 200_000, depth: 32, hashed: 8 << 20, paths: 64 << 20 };

    /// Afterwards, when someone may have hidden things on purpose.
    pub(crate) const END: Self = Self { entries: 2_000_000, depth: 32, hashed: 64 << 20, paths: 128 << 20 };
}

/// What is walked through.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Root<'a> {
    /// The folder.
    pub(crate) folder: BorrowedFd<'a>,
    /// Where it is, without links.
    pub(crate) path: &'a Path,
    /// The folder that is worked in; the root is a repository of its own where it is another one.
    pub(crate) workspace: &'a Path,
}

/// What is bound before what else, since someone may make very much of the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rank {
    /// The workspace's own repository and the names at its top. Without these nothing starts.
    First,
    /// What else is at the top or leads from there.
    Near,
    /// All else.
    Rest,
}

/// A path that something obeyed leads to: a link, or a configuration of Git's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kept {
    /// Beneath the root, where nothing else is said.
    pub(crate) path: PathBuf,
    /// What obeys it.
    pub(crate) why: &'static str,
    /// How much it counts.
    pub(crate) rank: Rank,
}

/// Things that lead to things that lead further.
const ROUNDS: usize = 8;

/// What a walk found; all paths are beneath the root.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    /// Files and links.
    pub(crate) items: BTreeMap<PathBuf, Item>,
    /// Folders that count with all that is in them.
    pub(crate) folders: BTreeMap<PathBuf, Matter>,
    /// Repositories: `.git`, bare ones, those of submodules and worktrees.
    pub(crate) git_dirs: BTreeSet<PathBuf>,
    /// Sockets that have a name here.
    pub(crate) sockets: BTreeSet<PathBuf>,
    /// Folders that were not looked into: too many, too deep.
    pub(crate) beyond: HashSet<PathBuf>,
    /// Folders that cannot be read.
    pub(crate) closed: HashSet<PathBuf>,
    /// Other links, which lead out of the root, and where to.
    pub(crate) out: BTreeMap<PathBuf, PathBuf>,
    /// Where the items of a name are.
    names: BTreeMap<PathBuf, Vec<PathBuf>>,
}

impl Survey {
    /// Walks through `root`, then looks at what `kept` makes of that, and of what is found there. With what was there
    /// `before`, only what may have changed is read.
    pub(crate) fn of(
        root: Root<'_>,
        bounds: Bounds,
        before: Option<&Survey>,
        kept: impl Fn(&Self) -> Vec<Kept>,
    ) -> (Self, Vec<Kept>) {
        let mut walk = Walk::new(root, bounds, before);
        walk.run();
        let mut all: BTreeMap<PathBuf, Kept> = BTreeMap::new();
        for _ in 0..ROUNDS {
            let mut is_done = true;
            for kept in kept(&walk.survey) {
                match all.entry(kept.path.clone()) {
                    Entry::Occupied(mut known) => {
                        let rank = kept.rank.min(known.get().rank);
                        known.get_mut().rank = rank;
                    }
                    Entry::Vacant(place) => {
                        is_done = false;
                        walk.keep(&kept);
                        place.insert(kept);
                    }
                }
            }
            if is_done {
                break;
            }
            walk.run();
        }
        // Nothing is compared with what is found at the end.
        let survey = if before.is_none() { walk.survey.with_names() } else { walk.survey };
        (survey, all.into_values().collect())
    }

    fn with_names(mut self) -> Self {
        for (path, item) in &self.items {
            if let Matter::Named { from, .. } = item.matter {
                self.names.entry(path.iter().skip(from).collect()).or_default().push(path.clone());
            }
        }
        self
    }

    /// What has the name that `path` has, wherever it is.
    pub(crate) fn by_name(&self, path: &Path, matter: Matter) -> impl Iterator<Item = (&Path, &Item)> {
        let paths = match matter {
            Matter::Named { from, .. } => self.names.get(&path.iter().skip(from).collect::<PathBuf>()),
            _ => None,
        };
        paths.into_iter().flatten().filter_map(|path| Some((path.as_path(), self.items.get(path)?)))
    }

    /// Whether there is anything of this name, or in a folder of this name, wherever it is.
    pub(crate) fn knows_name(&self, name: &Path) -> bool {
        let next = self.names.range::<Path, _>((Included(name), Unbounded)).next();
        next.is_some_and(|(known, _)| known.starts_with(name))
    }

    /// Whether something at `path` would have gone unseen.
    pub(crate) fn did_not_see(&self, path: &Path) -> bool {
        let nothing = self.beyond.is_empty() && self.closed.is_empty();
        !nothing && path.ancestors().any(|upper| self.beyond.contains(upper) || self.closed.contains(upper))
    }
}

/// Whether a name is `.git` in any writing.
pub(crate) fn is_git(name: &OsStr) -> bool {
    name.eq_ignore_ascii_case(".git")
}
