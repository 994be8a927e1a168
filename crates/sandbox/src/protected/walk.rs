//! The walk that makes a survey: bounded in all, nearest folders first.

use std::collections::{HashSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;

use super::git_config::Whereabouts;
use super::names::{Is, Meaning, Names};
use super::state::{Item, Matter, State};
use super::survey::{Bounds, Kept, Root, Survey, is_git};
use crate::beneath::{self, joined, resolved, with_rights};

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

/// What a path in mind costs besides its own bytes.
const OVERHEAD: usize = 256;

/// Links that lead out and are kept in mind.
const OUT: usize = 10_000;

/// Where the system is, which nobody writes to by accident.
const SYSTEM: [&str; 6] = ["/usr", "/bin", "/sbin", "/lib", "/lib64", "/nix/store"];

pub(super) struct Walk<'a> {
    root: Root<'a>,
    bounds: Bounds,
    names: Names,
    before: Option<&'a Survey>,
    pub(super) survey: Survey,
    queue: VecDeque<Pending>,
    /// New folders that go out as a whole, with something in them: the rest need not be known.
    full: HashSet<PathBuf>,
    buffer: Box<[MaybeUninit<u8>]>,
}

/// More sockets are not told apart: so many are too many already.
const SOCKETS: usize = 1000;

/// What the names in one folder tell.
#[derive(Debug, Default)]
struct Listing {
    folders: Vec<OsString>,
    meant: Vec<(OsString, FileType, Meaning)>,
    /// `.git`, as it is written.
    git: Vec<(OsString, FileType)>,
    others: Vec<OsString>,
    sockets: Vec<OsString>,
    /// Links that mean nothing by their names.
    links: Vec<OsString>,
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

impl<'a> Walk<'a> {
    pub(super) fn new(root: Root<'a>, bounds: Bounds, before: Option<&'a Survey>) -> Self {
        let inside = if root.path == root.workspace { Inside::Plain } else { Inside::Git };
        let mut walk = Self {
            root,
            bounds,
            names: Names::new(),
            before,
            survey: Survey::default(),
            queue: VecDeque::new(),
            full: HashSet::new(),
            buffer: vec![MaybeUninit::uninit(); 32 << 10].into_boxed_slice(),
        };
        walk.queue_one(PathBuf::new(), inside);
        walk
    }

    /// Nearest first: where the bounds end the walk, what lies deep is left out.
    pub(super) fn run(&mut self) {
        while let Some(pending) = self.queue.pop_front() {
            self.bounds.paths += cost(&pending.path);
            if self.bounds.entries == 0 || pending.path.components().count() > self.bounds.depth {
                self.survey.beyond.insert(pending.path);
                continue;
            }
            match self.open(&pending.path) {
                Ok(folder) => {
                    let (listing, taken) = self.list(&folder, &pending);
                    self.look_into(&folder, &pending, listing);
                    self.bounds.paths += taken;
                }
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

    pub(super) fn keep(&mut self, kept: &Kept) {
        if self.survey.items.contains_key(&kept.path) {
            return;
        }
        let Ok((folder, name)) = beneath::open_parent(self.root.folder, &kept.path) else { return };
        let Ok(state) = State::of(folder.as_fd(), Path::new(name)) else { return };
        let from = kept.path.components().count() - 1;
        let matter = Matter::Named { why: kept.why, from, parts: 1 };
        if state.kind != FileType::Directory {
            self.item(folder.as_fd(), Path::new(name), kept.path.clone(), matter);
        } else if !self.survey.folders.keys().any(|known| kept.path.starts_with(known)) {
            self.guard(kept.path.clone(), matter);
        }
    }

    fn look_into(&mut self, folder: &OwnedFd, pending: &Pending, listing: Listing) {
        if listing.is_cut {
            self.survey.beyond.insert(pending.path.clone());
        }
        let path = &pending.path;
        let room = SOCKETS.saturating_sub(self.survey.sockets.len());
        self.survey.sockets.extend(listing.sockets.iter().take(room).map(|name| path.join(name)));
        match pending.inside {
            Inside::Guarded(matter) => {
                if !listing.others.is_empty() {
                    self.full.extend(self.goes_as_a_whole(path, matter));
                }
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

    /// The names, and how many bytes they take from the bounds as long as they are in mind.
    fn list(&mut self, folder: &OwnedFd, pending: &Pending) -> (Listing, usize) {
        let (mut listing, mut taken) = (Listing::default(), 0);
        let whole = match pending.inside {
            Inside::Guarded(matter) => self.goes_as_a_whole(&pending.path, matter),
            _ => None,
        };
        if whole.as_ref().is_some_and(|whole| self.full.contains(whole)) {
            return (listing, taken);
        }
        let (names, left) = (&self.names, &mut self.bounds);
        let read = beneath::entries(folder, &mut self.buffer, |name, kind| {
            let cost = name.len() + OVERHEAD / 4;
            if left.entries == 0 || left.paths < cost {
                listing.is_cut = true;
                return false;
            }
            left.entries -= 1;
            left.paths -= cost;
            taken += cost;
            let is_folder = kind == FileType::Directory;
            if kind == FileType::Socket {
                listing.sockets.push(name.to_owned());
            }
            if matches!(pending.inside, Inside::Guarded(_) | Inside::Hooks | Inside::Git) {
                let list = if is_folder { &mut listing.folders } else { &mut listing.others };
                list.push(name.to_owned());
                return is_folder || whole.is_none();
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
            } else if kind == FileType::Symlink {
                listing.links.push(name.to_owned());
            }
            true
        });
        listing.is_cut |= read.is_err();
        (listing, taken)
    }

    /// The folder at or above `path` that is new and of a name that was nowhere before. It cannot be a copy.
    fn goes_as_a_whole(&self, path: &Path, matter: Matter) -> Option<PathBuf> {
        let Matter::Named { from, parts, .. } = matter else { return None };
        let before = self.before?;
        let whole: PathBuf = path.iter().take(from + parts).collect();
        let name: PathBuf = whole.iter().skip(from).collect();
        let is_new = !before.folders.contains_key(&whole) && !before.did_not_see(&whole) && !before.knows_name(&name);
        is_new.then_some(whole)
    }

    fn plain(&mut self, folder: &OwnedFd, path: &Path, listing: Listing) {
        for (name, kind) in listing.git {
            if kind == FileType::Directory {
                self.queue_one(path.join(&name), Inside::Git);
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
                self.guard(here, matter);
            } else if is_folder {
                self.queue_one(here, Inside::Plain);
            } else if !meaning.is_way || kind == FileType::Symlink {
                self.item(folder.as_fd(), Path::new(&name), here, matter);
            }
        }
        for name in listing.links {
            let Ok(target) = beneath::read_link(folder, Path::new(&name)) else { continue };
            let here = path.join(name);
            if self.survey.out.len() < OUT && leads_out(self.root.path, &here, &target) && self.charge(&here) {
                self.survey.out.insert(here, target);
            }
        }
        self.queue_all(path, &listing.folders, Inside::Plain);
    }

    fn guard(&mut self, path: PathBuf, matter: Matter) {
        if self.charge(&path) {
            self.survey.folders.insert(path.clone(), matter);
            self.queue_one(path, Inside::Guarded(matter));
        }
    }

    fn queue_all(&mut self, path: &Path, names: &[OsString], inside: Inside) {
        for name in names {
            self.queue_one(path.join(name), inside);
        }
    }

    fn queue_one(&mut self, path: PathBuf, inside: Inside) {
        if self.charge(&path) {
            self.queue.push_back(Pending { path, inside });
        }
    }

    /// Takes what a path costs from the bounds; where that is too much, the walk ends, and what holds it was not seen.
    fn charge(&mut self, path: &Path) -> bool {
        if let Some(left) = self.bounds.paths.checked_sub(cost(path)) {
            self.bounds.paths = left;
            return true;
        }
        self.bounds.entries = 0;
        if let Some(folder) = path.parent().filter(|folder| !self.survey.beyond.contains(*folder)) {
            self.survey.beyond.insert(folder.to_owned());
        }
        false
    }

    fn git_dir(&mut self, folder: BorrowedFd<'_>, path: &Path) {
        if !self.charge(path) {
            return;
        }
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
                // Soon, so that nothing of the workspace's own is left out for the sake of others.
                if self.charge(&hooks) {
                    self.queue.push_front(Pending { path: hooks, inside: Inside::Hooks });
                }
            }
            Ok(_) => self.item(folder, Path::new("hooks"), hooks, Matter::Hook),
            Err(_) => {}
        }
    }

    fn item(&mut self, folder: BorrowedFd<'_>, name: &Path, path: PathBuf, matter: Matter) {
        let Ok(state) = State::of(folder, name) else { return };
        if !self.charge(&path) {
            return;
        }
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

/// Twice: what is looked up by its name has its path once more.
fn cost(path: &Path) -> usize {
    2 * path.as_os_str().len() + OVERHEAD
}

/// Whether a link leads out of the root, elsewhere than to the system. Where it leads over other links, these count.
fn leads_out(root: &Path, here: &Path, target: &Path) -> bool {
    let at = root.join(here);
    let mut steps = target.iter().skip_while(|step| *step == OsStr::new("..") || *step == OsStr::new("."));
    let is_plain = target.is_relative() && !steps.any(|step| step == OsStr::new(".."));
    if is_plain && joined(at.parent().unwrap_or(root), target).starts_with(root) {
        return false;
    }
    let target = resolved(&at).map(|resolved| resolved.target);
    target.is_some_and(|target| !target.starts_with(root) && !SYSTEM.iter().any(|system| target.starts_with(system)))
}
