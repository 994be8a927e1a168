//! One walk through a folder: everything in it that other programs run or obey by themselves, and what it is like.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, chmodat, fstat};
use rustix::io::Errno;

use super::git_config::Whereabouts;
use super::names::{Is, Meaning, Names};
use super::state::{Item, Matter, State};
use crate::beneath;

/// How far a walk goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Files and folders in all.
    pub(crate) entries: usize,
    /// Folders within folders.
    pub(crate) depth: usize,
    /// Bytes that are read to tell whether they change.
    pub(crate) hashed: usize,
}

impl Bounds {
    /// Before a start, which must be quick.
    pub(crate) const START: Self = Self { entries: 200_000, depth: 32, hashed: 8 << 20 };

    /// Afterwards, when someone may have hidden things on purpose.
    pub(crate) const END: Self = Self { entries: 2_000_000, depth: 32, hashed: 64 << 20 };
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

/// A path that something in the repository's configuration names: hooks, included configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kept {
    /// Beneath the root.
    pub(crate) path: PathBuf,
    /// What obeys it.
    pub(crate) why: &'static str,
}

/// What a walk found; all paths are beneath the root.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    /// Files and links.
    pub(crate) items: BTreeMap<PathBuf, Item>,
    /// Folders that count with all that is in them.
    pub(crate) folders: BTreeMap<PathBuf, Matter>,
    /// Repositories: `.git`, bare ones, those of submodules and worktrees.
    pub(crate) git_dirs: BTreeSet<PathBuf>,
    /// Folders that were not looked into: too many, too deep.
    pub(crate) beyond: HashSet<PathBuf>,
    /// Folders that cannot be read.
    pub(crate) closed: HashSet<PathBuf>,
    /// Where the items of a name are.
    names: BTreeMap<PathBuf, Vec<PathBuf>>,
}

impl Survey {
    /// Walks through `root`, then looks at what `kept` makes of that. With what was there `before`, only what may have
    /// changed is read.
    pub(crate) fn of(
        root: Root<'_>,
        bounds: Bounds,
        before: Option<&Survey>,
        kept: impl FnOnce(&Self) -> Vec<Kept>,
    ) -> (Self, Vec<Kept>) {
        let mut walk = Walk {
            root,
            bounds,
            names: Names::new(),
            before,
            survey: Self::default(),
            queue: VecDeque::from([Pending {
                path: PathBuf::new(),
                inside: if root.path == root.workspace { Inside::Plain } else { Inside::Git },
            }]),
            buffer: vec![MaybeUninit::uninit(); 32 << 10].into_boxed_slice(),
        };
        walk.run();
        let kept = kept(&walk.survey);
        for kept in &kept {
            walk.keep(kept);
        }
        walk.run();
        (walk.survey.with_names(), kept)
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

    /// Whether something at `path` would have gone unseen.
    pub(crate) fn did_not_see(&self, path: &Path) -> bool {
        let nothing = self.beyond.is_empty() && self.closed.is_empty();
        !nothing && path.ancestors().any(|upper| self.beyond.contains(upper) || self.closed.contains(upper))
    }
}

/// Where a folder lies.
#[derive(Debug, Clone, Copy)]
enum Inside {
    Plain,
    Git,
    Hooks,
    Guarded(Matter),
}

#[derive(Debug)]
struct Pending {
    path: PathBuf,
    inside: Inside,
}

/// Folders of a repository that hold contents only, many of them.
const CONTENTS: [&str; 7] = ["objects", "refs", "logs", "lfs", "rr-cache", "info", "hooks"];

fn is_contents(name: &OsString) -> bool {
    CONTENTS.iter().any(|known| name == known)
}

/// Files of a repository that can make Git run something, besides its hooks.
const GIT_FILES: [(&str, Matter); 6] = [
    ("config", Matter::Config),
    ("config.worktree", Matter::Config),
    ("commondir", Matter::Common),
    ("rebase-merge/git-rebase-todo", Matter::Steps),
    ("rebase-merge/strategy", Matter::Strategy),
    ("sequencer/opts", Matter::Options),
];

/// Names by which Git knows a repository.
const LAYOUT: [&str; 4] = ["HEAD", "objects", "refs", "commondir"];

struct Walk<'a> {
    root: Root<'a>,
    bounds: Bounds,
    names: Names,
    before: Option<&'a Survey>,
    survey: Survey,
    queue: VecDeque<Pending>,
    buffer: Box<[MaybeUninit<u8>]>,
}

/// What the names in one folder tell.
#[derive(Debug, Default)]
struct Listing {
    folders: Vec<OsString>,
    meant: Vec<(OsString, FileType, Meaning)>,
    /// `.git`, as it is written.
    git: Vec<(OsString, FileType)>,
    others: Vec<OsString>,
    /// Those of [`LAYOUT`].
    layout: Vec<OsString>,
    is_cut: bool,
}

impl Listing {
    /// Git takes a folder that looks like this for a repository, whatever its name.
    fn is_git_dir(&self) -> bool {
        let has = |name: &str| self.layout.iter().any(|found| found == name);
        has("HEAD") && (has("commondir") || (has("objects") && has("refs")))
    }
}

impl Walk<'_> {
    /// Nearest first: where the bounds end the walk, what lies deep is left out.
    fn run(&mut self) {
        while let Some(pending) = self.queue.pop_front() {
            if self.bounds.entries == 0 || pending.path.components().count() > self.bounds.depth {
                self.survey.beyond.insert(pending.path);
                continue;
            }
            match self.open(&pending.path) {
                Ok(folder) => self.look_into(&folder, &pending),
                // It is gone, or no folder any more.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(_) => _ = self.survey.closed.insert(pending.path),
            }
        }
    }

    fn open(&self, path: &Path) -> rustix::io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        match beneath::open(self.root.folder, path, flags) {
            // Whoever makes a folder unreadable hides things in it from us, but not from programs that know the names.
            Err(Errno::ACCESS) if self.before.is_some() => {
                let closed = beneath::open(self.root.folder, path, OFlags::PATH | OFlags::DIRECTORY)?;
                with_rights(&closed, || beneath::open(&closed, Path::new(""), flags))
            }
            other => other,
        }
    }

    fn keep(&mut self, kept: &Kept) {
        let Ok((folder, name)) = beneath::open_parent(self.root.folder, &kept.path) else { return };
        let Ok(state) = State::of(folder.as_fd(), Path::new(name)) else { return };
        let from = kept.path.components().count() - 1;
        let matter = Matter::Named { why: kept.why, from, parts: 1 };
        if state.kind != FileType::Directory {
            self.item(folder.as_fd(), Path::new(name), kept.path.clone(), matter);
        } else if !self.survey.folders.keys().any(|known| kept.path.starts_with(known)) {
            self.survey.folders.insert(kept.path.clone(), matter);
            self.queue.push_back(Pending { path: kept.path.clone(), inside: Inside::Guarded(matter) });
        }
    }

    fn look_into(&mut self, folder: &OwnedFd, pending: &Pending) {
        let listing = self.list(folder, pending);
        if listing.is_cut {
            self.survey.beyond.insert(pending.path.clone());
        }
        let path = &pending.path;
        match pending.inside {
            Inside::Guarded(matter) => {
                for name in &listing.others {
                    self.item(folder.as_fd(), Path::new(name), path.join(name), matter);
                }
                self.queue_all(path, &listing.folders, Inside::Guarded(matter));
            }
            Inside::Hooks => {
                for name in listing.others.iter().filter(|name| !name.as_bytes().ends_with(b".sample")) {
                    self.item(folder.as_fd(), Path::new(name), path.join(name), Matter::Hook);
                }
            }
            Inside::Git => {
                self.git_dir(folder.as_fd(), path);
                let rest = listing.folders.into_iter().filter(|name| !is_contents(name)).collect::<Vec<_>>();
                self.queue_all(path, &rest, Inside::Plain);
            }
            Inside::Plain => {
                let mut listing = listing;
                if listing.is_git_dir() {
                    self.git_dir(folder.as_fd(), path);
                    // Elsewhere someone may look into what only bears these names.
                    if self.root.path != self.root.workspace || path.iter().any(is_git) {
                        listing.folders.retain(|name| !is_contents(name));
                    }
                }
                self.plain(folder, path, listing);
            }
        }
    }

    fn list(&mut self, folder: &OwnedFd, pending: &Pending) -> Listing {
        let mut listing = Listing::default();
        let (names, left) = (&self.names, &mut self.bounds.entries);
        let read = beneath::entries(folder, &mut self.buffer, |name, kind| {
            if *left == 0 {
                listing.is_cut = true;
                return false;
            }
            *left -= 1;
            let is_folder = kind == FileType::Directory;
            if matches!(pending.inside, Inside::Guarded(_) | Inside::Hooks | Inside::Git) {
                let list = if is_folder { &mut listing.folders } else { &mut listing.others };
                list.push(name.to_owned());
                return true;
            }
            if LAYOUT.iter().any(|known| name == *known) {
                listing.layout.push(name.to_owned());
            }
            if name.eq_ignore_ascii_case(".git") {
                listing.git.push((name.to_owned(), kind));
            } else if let Some(meaning) = names.meaning(&pending.path, name) {
                listing.meant.push((name.to_owned(), kind, meaning));
            } else if is_folder {
                listing.folders.push(name.to_owned());
            }
            true
        });
        listing.is_cut |= read.is_err();
        listing
    }

    fn plain(&mut self, folder: &OwnedFd, path: &Path, listing: Listing) {
        for (name, kind) in listing.git {
            if kind == FileType::Directory {
                self.queue.push_back(Pending { path: path.join(&name), inside: Inside::Git });
            } else {
                self.item(folder.as_fd(), Path::new(&name), path.join(&name), Matter::Pointer);
            }
        }
        for (name, kind, meaning) in listing.meant {
            let here = path.join(&name);
            let from = here.components().count() - meaning.parts;
            let matter = Matter::Named { why: meaning.why, from, parts: meaning.parts };
            let is_folder = kind == FileType::Directory;
            if is_folder && meaning.is == Is::Folder {
                self.survey.folders.insert(here.clone(), matter);
                self.queue.push_back(Pending { path: here, inside: Inside::Guarded(matter) });
            } else if is_folder {
                self.queue.push_back(Pending { path: here, inside: Inside::Plain });
            } else if !meaning.is_way || kind == FileType::Symlink {
                self.item(folder.as_fd(), Path::new(&name), here, matter);
            }
        }
        self.queue_all(path, &listing.folders, Inside::Plain);
    }

    fn queue_all(&mut self, path: &Path, names: &[OsString], inside: Inside) {
        self.queue.extend(names.iter().map(|name| Pending { path: path.join(name), inside }));
    }

    fn git_dir(&mut self, folder: BorrowedFd<'_>, path: &Path) {
        self.survey.git_dirs.insert(path.to_owned());
        for (name, matter) in GIT_FILES {
            let Ok((parent, last)) = beneath::open_parent(folder, Path::new(name)) else { continue };
            // A folder of that name is not read by Git, and may hold anything.
            if State::of(parent.as_fd(), Path::new(last)).is_ok_and(|state| state.kind != FileType::Directory) {
                self.item(parent.as_fd(), Path::new(last), path.join(name), matter);
            }
        }
        let hooks = path.join("hooks");
        match State::of(folder, Path::new("hooks")) {
            Ok(state) if state.kind == FileType::Directory => {
                self.queue.push_back(Pending { path: hooks, inside: Inside::Hooks });
            }
            Ok(_) => self.item(folder, Path::new("hooks"), hooks, Matter::Hook),
            Err(_) => {}
        }
    }

    fn item(&mut self, folder: BorrowedFd<'_>, name: &Path, path: PathBuf, matter: Matter) {
        let Ok(state) = State::of(folder, name) else { return };
        let at = self.root.path.join(&path);
        let place = Whereabouts { git_dir: at.parent().unwrap_or(self.root.path), workspace: self.root.workspace };
        let can_be_compared = match self.before {
            Some(before) => match before.items.get(&path) {
                Some(before) => before.compares_to(&state),
                None => before.by_name(&path, matter).next().is_some(),
            },
            None => true,
        };
        let item = Item::read(folder, name, matter, state, place, can_be_compared, &mut self.bounds.hashed);
        self.survey.items.insert(path, item);
    }
}

/// Does something with a file or folder of ours that we have no rights to at the moment, and leaves it as it was.
pub(crate) fn with_rights<T>(file: &OwnedFd, act: impl FnOnce() -> rustix::io::Result<T>) -> rustix::io::Result<T> {
    let mode = Mode::from_raw_mode(fstat(file)?.st_mode);
    let by_number = format!("/proc/self/fd/{}", file.as_raw_fd());
    chmodat(CWD, &by_number, mode | Mode::RWXU, AtFlags::empty())?;
    let result = act();
    chmodat(CWD, &by_number, mode, AtFlags::empty())?;
    result
}

/// Whether a name is `.git` in any writing.
pub(crate) fn is_git(name: &OsStr) -> bool {
    name.eq_ignore_ascii_case(".git")
}
