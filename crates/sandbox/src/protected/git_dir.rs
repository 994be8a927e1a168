//! The repository of a workspace that lies outside it: that of a linked worktree or of a submodule.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use super::Notice;
use super::git_config::{self, Entry};
use super::state::path_in;
use crate::beneath;
use crate::shown::shown;
use crate::workspace::{Workspace, open_folder};

/// Longer ones lead nowhere.
const POINTER: usize = 8 << 10;

/// Where `.git` leads, if that is a repository outside which says itself that this workspace is its own.
///
/// An agent may have written the file in an earlier jail: alone it gives no right to anything.
pub(super) fn outside(workspace: &Workspace) -> Result<Option<(PathBuf, OwnedFd)>, Notice> {
    // A folder, a link, or nothing leads nowhere.
    let Ok(pointer) = beneath::read(workspace.folder(), Path::new(".git"), POINTER) else { return Ok(None) };
    let at = workspace.path().join(".git");
    let not_used = |why: &str| Notice::new(&at, format!("{why}; Git will not work in the jail"));
    let Some(target) = pointer.strip_prefix(b"gitdir:").map(<[u8]>::trim_ascii) else {
        return Err(not_used("is a file that does not lead to a repository"));
    };
    let Ok(git_dir) = workspace.path().join(path_in(target)).canonicalize() else {
        return Err(not_used("leads to a repository that is not there"));
    };
    if git_dir.starts_with(workspace.path()) {
        return Ok(None);
    }
    let Ok(folder) = open_folder(&git_dir) else {
        return Err(not_used("leads to a repository that cannot be opened"));
    };
    let main = if is_submodule(&git_dir, &folder, workspace) {
        git_dir.clone()
    } else if let Some(common) = main_of_worktree(&git_dir, &folder, workspace) {
        common
    } else {
        return Err(not_used(&format!("leads to {}, which does not lead back here", shown(&git_dir))));
    };
    if let Some(why) = workspace.refusal(&main) {
        return Err(not_used(&format!("leads to {}, which {why}", shown(&main))));
    }
    if workspace.path().starts_with(&main) {
        return Err(not_used(&format!("leads to {}, which holds this folder and others", shown(&main))));
    }
    let Ok(folder) = open_folder(&main) else {
        return Err(not_used("leads to a repository that cannot be opened"));
    };
    let has = |name: &str| beneath::open(&folder, Path::new(name), rustix::fs::OFlags::PATH).is_ok();
    if !(has("HEAD") && has("objects") && has("refs")) {
        return Err(not_used(&format!("leads to {}, which is no repository", shown(&main))));
    }
    Ok(Some((main, folder)))
}

/// The main repository, if `git_dir` is that of a linked worktree which is the workspace.
fn main_of_worktree(git_dir: &Path, folder: &OwnedFd, workspace: &Workspace) -> Option<PathBuf> {
    let common = beneath::read(folder, Path::new("commondir"), POINTER).ok()?;
    let common = git_dir.join(path_in(common.trim_ascii_end())).canonicalize().ok()?;
    if git_dir.parent()? != common.join("worktrees") {
        return None;
    }
    let back = beneath::read(folder, Path::new("gitdir"), POINTER).ok()?;
    let back = git_dir.join(path_in(back.trim_ascii_end()));
    let is_back = back.file_name() == Some(OsStr::new(".git")) && is_same(back.parent()?, workspace);
    is_back.then_some(common)
}

/// Whether `git_dir` is that of a submodule which is the workspace.
fn is_submodule(git_dir: &Path, folder: &OwnedFd, workspace: &Workspace) -> bool {
    let entries = beneath::read(folder, Path::new("config"), 1 << 20).ok().map(|bytes| git_config::parse(&bytes));
    let Some(Ok(entries)) = entries else { return false };
    // The last one counts.
    let tree = entries.iter().rev().find(|entry| entry.is("core", false, "worktree"));
    let tree = tree.and_then(|Entry { value, .. }| value.as_deref());
    tree.is_some_and(|tree| is_same(&git_dir.join(path_in(tree)), workspace))
}

fn is_same(path: &Path, workspace: &Workspace) -> bool {
    let here = beneath::identity(workspace.folder().as_fd());
    path.canonicalize()
        .ok()
        .and_then(|path| open_folder(&path).ok())
        .is_some_and(|folder| here.is_ok_and(|here| beneath::identity(&folder) == Ok(here)))
}
