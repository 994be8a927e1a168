//! Which of all that counts is bound in the jail, and which only compared afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use corral_core::{Code, Error, Result};
use rustix::fs::{FileType, OFlags, fstat};
use rustix::io::{self, Errno};

use super::leads::own_git_dir;
use super::names::{self, Is, is_of_tools};
use super::state::Matter;
use super::survey::{Kept, Rank, Root, Survey, is_git};
use super::{Kind, Notice, Pin, Protected};
use crate::audit::Bound;
use crate::beneath::{self, Identity};
use crate::shown::shown;

/// More mounts would make the start of a jail slow.
const MOST: usize = 160;

/// What counts most is bound whatever it costs, as far as a process may have so many files open.
const MOST_AT_TOP: usize = 400;

/// Repositories deeper than this are not pinned, only looked at.
const DEPTH: usize = 4;

/// What is bound.
#[derive(Debug, Default)]
pub(super) struct Chosen {
    pub(super) pins: Vec<Pin>,
    pub(super) protected: Vec<Protected>,
    pub(super) bound: Vec<Bound>,
}

/// Chooses what to bind and opens it.
///
/// [`Code::WorkspaceInvalid`]: what counts most cannot be bound.
pub(super) fn chosen(root: Root<'_>, survey: &Survey, kept: &[Kept], notices: &mut Vec<Notice>) -> Result<Chosen> {
    let (mut bound, mut pinned, mut left) = (BTreeMap::new(), BTreeSet::new(), 0);
    for (rank, path) in wanted(root, survey, kept) {
        if path.ancestors().any(|upper| bound.contains_key(upper)) {
            continue;
        }
        if bound.len() + pinned.len() >= if rank == Rank::First { MOST_AT_TOP } else { MOST } {
            if rank == Rank::First {
                let message = format!("{} has too much that is to be protected in the jail", shown(root.path));
                return Err(Error::new(Code::WorkspaceInvalid, message)
                    .hint("its configuration of Git names very many files; take some of that out"));
            }
            left += 1;
            continue;
        }
        match open(root, &path) {
            Ok(Some(opened)) => {
                pinned.extend(path.ancestors().skip(1).filter(|up| !up.as_os_str().is_empty()).map(Path::to_owned));
                bound.insert(path, opened);
            }
            Err(error) if rank == Rank::First => {
                let message = format!("{} cannot be protected in the jail", shown(&root.path.join(&path)));
                return Err(Error::new(Code::WorkspaceInvalid, message)
                    .hint("`ls -la` shows what is wrong; what runs by itself must be readable or not be there")
                    .because(error));
            }
            Ok(None) | Err(_) => {}
        }
    }
    if left > 0 {
        let text =
            format!("has very many repositories or links: {left} files that run by themselves are not protected");
        notices.push(Notice::new(root.path, format!("{text}, only looked at when the jail ends")));
    }
    let mut chosen = Chosen::default();
    // Sorted: a folder comes before those in it, and shuts them as well.
    let mut last: Option<PathBuf> = None;
    for (path, (protected, identity)) in bound {
        if last.as_ref().is_some_and(|upper| path.starts_with(upper)) {
            continue;
        }
        chosen.bound.push(Bound { path: path.clone(), identity });
        chosen.protected.push(protected);
        last = Some(path);
    }
    for path in pinned {
        if let Ok(folder) = beneath::open(root.folder, &path, OFlags::PATH | OFlags::DIRECTORY) {
            chosen.pins.push(Pin { relative: path, folder });
        }
    }
    Ok(chosen)
}

/// What is to be bound, that which counts most first: someone may have made very much of the rest in an earlier jail.
fn wanted(root: Root<'_>, survey: &Survey, kept: &[Kept]) -> Vec<(Rank, PathBuf)> {
    let mut wanted: Vec<(Rank, PathBuf)> = kept.iter().map(|kept| (kept.rank, kept.path.clone())).collect();
    let own = own_git_dir(root, survey);
    if root.path == root.workspace {
        // Asked for by their names, not taken from the survey, which may have been too much for its bounds.
        let fits = |path: &Path, is: Is| {
            let is_folder = beneath::open(root.folder, path, OFlags::PATH | OFlags::DIRECTORY).is_ok();
            is == Is::Folder || !is_folder
        };
        wanted.extend(names::exact().filter(|(path, is)| fits(path, *is)).map(|(path, _)| (Rank::First, path)));
    }
    let items = survey.items.iter().map(|(path, item)| (path, item.matter));
    for (path, matter) in items.chain(survey.folders.iter().map(|(path, matter)| (path, *matter))) {
        if is_at_top(path, matter) {
            wanted.push((Rank::Near, path.clone()));
        }
    }
    for git_dir in survey.git_dirs.iter().chain(&own).filter(|path| is_pinned(root, path)) {
        let is_own = own.as_ref() == Some(git_dir);
        let rank = if is_own { Rank::First } else { Rank::Rest };
        wanted.extend(["config.worktree", "hooks"].map(|name| (rank, git_dir.join(name))));
        // `git submodule update` writes the submodule's configuration each time, and fails where it cannot.
        if is_own || !(is_in_own(root, git_dir) && git_dir.iter().any(|step| step == "modules")) {
            wanted.push((rank, git_dir.join("config")));
        }
    }
    wanted.sort_by_cached_key(|(rank, path)| (*rank, path.components().count(), path.clone()));
    wanted
}

/// Whether a name stands at the root itself, where it is most likely obeyed.
pub(super) fn is_at_top(path: &Path, matter: Matter) -> bool {
    match matter {
        Matter::Named { from, parts, .. } => from == 0 && path.components().count() == parts,
        Matter::Pointer => path.components().count() == 1,
        _ => false,
    }
}

/// Whether a repository's files are bound.
pub(super) fn is_pinned(root: Root<'_>, git_dir: &Path) -> bool {
    let is_near = git_dir.components().count() <= DEPTH + 1 && !is_of_tools(git_dir);
    is_near || is_in_own(root, git_dir)
}

/// Whether it is, or lies in, the workspace's own repository, as that of a submodule does.
fn is_in_own(root: Root<'_>, git_dir: &Path) -> bool {
    root.path != root.workspace || git_dir.iter().next().is_some_and(is_git)
}

fn open(root: Root<'_>, path: &Path) -> io::Result<Option<(Protected, Identity)>> {
    let file = match beneath::open(root.folder, path, OFlags::PATH) {
        Ok(file) => file,
        // It is not there, or only by a link, which is followed to where it leads.
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
        Err(error) => return Err(error),
    };
    let stat = fstat(file.as_fd())?;
    let kind = match beneath::kind(&stat) {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Folder,
        // A link cannot be bound: what is done through it is done elsewhere.
        _ => return Ok(None),
    };
    Ok(Some((Protected { relative: path.to_owned(), file, kind }, Identity::from(&stat))))
}
