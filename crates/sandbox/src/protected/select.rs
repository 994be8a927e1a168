//! Which of all that counts is bound in the jail, and which only compared afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, fstat, openat};

use super::git_config;
use super::names::is_of_tools;
use super::state::{Matter, path_in};
use super::survey::{Kept, Root, Survey, is_git};
use super::{Kind, Notice, Pin, Protected};
use crate::audit::Bound;
use crate::beneath::{self, Identity, joined};
use crate::workspace::Workspace;

/// More mounts would make the start of a jail slow.
const MOST: usize = 160;

/// Repositories deeper than this are not pinned, only looked at.
const DEPTH: usize = 4;

/// What is bound.
#[derive(Debug, Default)]
pub(super) struct Chosen {
    pub(super) pins: Vec<Pin>,
    pub(super) protected: Vec<Protected>,
    pub(super) bound: Vec<Bound>,
}

/// Paths beneath the root that are obeyed because a configuration names them, or because a link leads there.
pub(super) fn kept(root: Root<'_>, survey: &Survey, workspace: &Workspace) -> Vec<Kept> {
    let mut kept = BTreeMap::new();
    for (path, item) in &survey.items {
        let at = root.path.join(path);
        if item.matter == Matter::Config && path.parent().is_some_and(|git_dir| is_pinned(root, git_dir)) {
            for (target, why) in named_in(root, path, workspace) {
                kept.extend(within(root, &target).map(|path| (path, why)));
            }
        } else if let (Matter::Named { why, .. }, Some(target), true) =
            (item.matter, &item.state.target, is_at_top(path, item.matter))
        {
            let target = at.parent().map(|parent| joined(parent, target));
            kept.extend(target.and_then(|target| within(root, &target)).map(|path| (path, why)));
        }
    }
    let is_known =
        |path: &Path| survey.items.contains_key(path) || path.ancestors().any(|up| survey.folders.contains_key(up));
    kept.retain(|path, _| !path.as_os_str().is_empty() && !is_known(path));
    kept.into_iter().map(|(path, why)| Kept { path, why }).collect()
}

/// What hooks and further configurations a configuration names, by absolute paths.
fn named_in(root: Root<'_>, config: &Path, workspace: &Workspace) -> Vec<(PathBuf, &'static str)> {
    let bytes = beneath::read(root.folder, config, 1 << 20).unwrap_or_default();
    let entries = git_config::parse(&bytes).unwrap_or_default();
    let at = root.path.join(config);
    let git_dir = at.parent().unwrap_or(root.path);
    let mut tree =
        if git_dir.file_name().is_some_and(is_git) { git_dir.parent().unwrap_or(git_dir) } else { git_dir }.to_owned();
    if root.path != root.workspace {
        root.workspace.clone_into(&mut tree);
    }
    let mut named = Vec::new();
    for entry in entries {
        let Some(value) = &entry.value else { continue };
        let value = match value.strip_prefix(b"~/") {
            Some(rest) => workspace.home().join(path_in(rest)),
            None => path_in(value).to_owned(),
        };
        if entry.is("core", false, "worktree") {
            tree = joined(git_dir, &value);
        } else if entry.is("core", false, "hookspath") {
            named.push((joined(&tree, &value), "where this repository's hooks are: they run at a commit"));
        } else if entry.is("include", false, "path") || entry.is("includeif", true, "path") {
            named.push((joined(git_dir, &value), "part of this repository's configuration: programs that Git starts"));
        }
    }
    named
}

/// A path beneath the root, without links as far as it exists.
fn within(root: Root<'_>, target: &Path) -> Option<PathBuf> {
    let real = openat(rustix::fs::CWD, target, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok().and_then(|file| {
        rustix::fs::readlinkat(rustix::fs::CWD, format!("/proc/self/fd/{}", file.as_raw_fd()), Vec::new()).ok()
    });
    let target = real.map_or_else(|| target.to_owned(), |real| path_in(real.as_bytes()).to_owned());
    target.strip_prefix(root.path).ok().map(Path::to_owned)
}

/// Chooses what to bind and opens it.
pub(super) fn chosen(root: Root<'_>, survey: &Survey, kept: &[Kept], notices: &mut Vec<Notice>) -> Chosen {
    let mut wanted: Vec<PathBuf> = Vec::new();
    wanted
        .extend(survey.items.iter().filter(|(path, item)| is_at_top(path, item.matter)).map(|(path, _)| path.clone()));
    wanted
        .extend(survey.folders.iter().filter(|(path, matter)| is_at_top(path, **matter)).map(|(path, _)| path.clone()));
    wanted.extend(kept.iter().map(|kept| kept.path.clone()));
    for git_dir in survey.git_dirs.iter().filter(|path| is_pinned(root, path)) {
        wanted.extend(["config.worktree", "hooks"].map(|name| git_dir.join(name)));
        // `git submodule update` writes the submodule's configuration each time, and fails where it cannot.
        if !(is_own(root, git_dir) && git_dir.iter().any(|step| step == "modules")) {
            wanted.push(git_dir.join("config"));
        }
    }
    wanted.sort_by_key(|path| path.components().count());
    let mut chosen = Chosen::default();
    let mut pinned = BTreeSet::new();
    for (done, path) in wanted.iter().enumerate() {
        let is_in_another = chosen.protected.iter().any(|other| path.starts_with(&other.relative));
        if is_in_another {
            continue;
        }
        if chosen.protected.len() + pinned.len() >= MOST {
            let text = format!("has very many repositories: {} files of Git's are not protected", wanted.len() - done);
            notices.push(Notice::new(root.path, format!("{text}, only looked at when the jail ends")));
            break;
        }
        if let Some((protected, identity)) = open(root, path) {
            pinned.extend(path.ancestors().skip(1).filter(|up| !up.as_os_str().is_empty()).map(Path::to_owned));
            chosen.bound.push(Bound { path: path.clone(), identity });
            chosen.protected.push(protected);
        }
    }
    // Sorted: a folder comes before those in it.
    for path in pinned {
        if let Ok(folder) = beneath::open(root.folder, &path, OFlags::PATH | OFlags::DIRECTORY) {
            chosen.pins.push(Pin { relative: path, folder });
        }
    }
    chosen
}

/// Whether a name stands at the root itself, where it is most likely obeyed.
fn is_at_top(path: &Path, matter: Matter) -> bool {
    match matter {
        Matter::Named { from, parts, .. } => from == 0 && path.components().count() == parts,
        Matter::Pointer => path.components().count() == 1,
        _ => false,
    }
}

/// Whether a repository's files are bound.
fn is_pinned(root: Root<'_>, git_dir: &Path) -> bool {
    let is_near = git_dir.components().count() <= DEPTH + 1 && !is_of_tools(git_dir);
    is_near || is_own(root, git_dir)
}

/// Whether it is, or lies in, the workspace's own repository, as that of a submodule does.
fn is_own(root: Root<'_>, git_dir: &Path) -> bool {
    root.path != root.workspace || git_dir.iter().next().is_some_and(is_git)
}

fn open(root: Root<'_>, path: &Path) -> Option<(Protected, Identity)> {
    let file = beneath::open(root.folder, path, OFlags::PATH).ok()?;
    let stat = fstat(file.as_fd()).ok()?;
    let kind = match beneath::kind(&stat) {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Folder,
        // A link cannot be bound: what is done through it is done elsewhere.
        _ => return None,
    };
    Some((Protected { relative: path.to_owned(), file, kind }, Identity::from(&stat)))
}
