//! What in a workspace could run later outside: found before the start, so that it is shown read-only in the jail.
//!
//! What is not there yet cannot be protected: [`Snapshot`] finds it when the jail has ended.

mod git_config;
mod git_dir;
pub(crate) mod leads;
pub(crate) mod names;
mod select;
pub(crate) mod state;
pub(crate) mod survey;
mod walk;

use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use corral_core::{Code, Error, Result};
use jiff::Timestamp;

use self::survey::{Bounds, Kept, Root, Survey};
use crate::audit::{Part, Snapshot};
use crate::beneath::joined;
use crate::shown::shown;
use crate::workspace::Workspace;

/// What an item is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A file.
    File,
    /// A folder, with all that is in it.
    Folder,
}

/// Something to be bound onto itself, read-only.
#[derive(Debug)]
pub struct Protected {
    /// Where it is, beneath its workspace or [`GitDir`].
    pub relative: PathBuf,
    /// The thing itself, no link (`O_PATH`).
    pub file: OwnedFd,
    /// What it is.
    pub kind: Kind,
}

/// A folder to be bound onto itself, writable, so that it cannot be renamed away with what is protected in it.
#[derive(Debug)]
pub struct Pin {
    /// Where it is, beneath its workspace or [`GitDir`].
    pub relative: PathBuf,
    /// The folder itself (`O_PATH`).
    pub folder: OwnedFd,
}

/// A repository outside the workspace that belongs to it. It is to be bound, writable, at its own path.
#[derive(Debug)]
pub struct GitDir {
    /// Where it is, without links; inside the jail the same.
    pub path: PathBuf,
    /// The folder itself (`O_PATH`).
    pub folder: OwnedFd,
    /// To be bound writable, in this order, before `protected`.
    pub pins: Vec<Pin>,
    /// To be bound read-only.
    pub protected: Vec<Protected>,
    /// Sockets, as [`Protection::sockets`].
    pub sockets: Vec<PathBuf>,
}

/// Something that the user should know of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// What it is about.
    pub path: PathBuf,
    /// What is to be said of it, as a sentence that goes on after its path.
    pub text: String,
}

impl Notice {
    pub(crate) fn new(path: &Path, text: impl Into<String>) -> Self {
        Self { path: path.to_owned(), text: text.into() }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", shown(&self.path), self.text)
    }
}

/// What a jail has to know of its workspace before it starts.
#[derive(Debug)]
pub struct Protection {
    /// To be bound writable over the workspace, in this order, before `protected`.
    pub pins: Vec<Pin>,
    /// To be bound read-only over the workspace.
    pub protected: Vec<Protected>,
    /// Sockets, beneath the workspace, over each of which something else is to be bound: whoever listens is outside.
    pub sockets: Vec<PathBuf>,
    /// The repository, where it lies outside.
    pub git_dir: Option<GitDir>,
    /// What could not be done.
    pub notices: Vec<Notice>,
    /// What was there, for the look at the end.
    pub snapshot: Snapshot,
}

impl Protection {
    /// Looks through the workspace. `now` is the time by the clock of the file system: the machine's.
    ///
    /// [`Code::WorkspaceInvalid`]: it cannot be read, or has too many sockets in it to be hidden.
    pub fn of(workspace: &Workspace, now: Timestamp) -> Result<Self> {
        let mut notices = Vec::new();
        let outside = git_dir::outside(workspace).unwrap_or_else(|notice| {
            notices.push(notice);
            None
        });
        let mut parts = Vec::new();
        // First what is outside: it may name what is in the workspace.
        let mut leads = Vec::new();
        let git_dir = match outside {
            Some((path, folder)) => {
                let root = Root { folder: folder.as_fd(), path: &path, workspace: workspace.path() };
                let (pins, protected, part) = part(root, workspace, &[], &mut notices)?;
                leads = self::leads::leads(root, &part.survey, None, workspace.home());
                let sockets = sockets(&part)?;
                parts.push(part);
                Some(GitDir { path, folder, pins, protected, sockets })
            }
            None => None,
        };
        let inside = Root { folder: workspace.folder(), path: workspace.path(), workspace: workspace.path() };
        let (pins, protected, part) = part(inside, workspace, &leads, &mut notices)?;
        let sockets = sockets(&part)?;
        parts.insert(0, part);
        Ok(Self { pins, protected, sockets, git_dir, notices, snapshot: Snapshot::new(parts, now) })
    }
}

/// More sockets than so many are not hidden one by one: each costs bubblewrap a look through all mounts.
const SOCKETS: usize = 128;

fn sockets(part: &Part) -> Result<Vec<PathBuf>> {
    let count = part.survey.sockets.len();
    if count > SOCKETS {
        let what = format!("{} has more than {SOCKETS} sockets in it, which are to be hidden", shown(&part.path));
        return Err(Error::new(Code::WorkspaceInvalid, what)
            .hint("`find . -type s` in it shows them: remove those that no program uses any more"));
    }
    Ok(part.survey.sockets.iter().cloned().collect())
}

/// What is to be done about one root; `others` lead there from elsewhere, by absolute paths.
fn part(
    root: Root<'_>,
    workspace: &Workspace,
    others: &[Kept],
    notices: &mut Vec<Notice>,
) -> Result<(Vec<Pin>, Vec<Protected>, Part)> {
    let unreadable = |error: std::io::Error| {
        Error::new(Code::WorkspaceInvalid, format!("{} cannot be read", shown(root.path)))
            .hint("`ls -la` in it shows what is wrong")
            .because(error)
    };
    let folder = root.folder.try_clone_to_owned().map_err(unreadable)?;
    let (survey, kept) = Survey::of(root, Bounds::START, None, |survey| {
        let all = [leads::leads(root, survey, None, workspace.home()), others.to_vec()].concat();
        leads::beneath_root(root, &all)
    });
    if survey.closed.contains(Path::new("")) {
        return Err(unreadable(std::io::ErrorKind::PermissionDenied.into()));
    }
    let own = leads::own_git_dir(root, &survey).into_iter().flat_map(|own| [own.join("hooks"), own]);
    if let Some(unseen) = own.chain([PathBuf::new()]).find(|path| survey.beyond.contains(path)) {
        let message = format!("{} has too many files", shown(&joined(root.path, &unseen)));
        return Err(Error::new(
            Code::WorkspaceInvalid,
            format!("{message} to look for what runs by itself among them"),
        )
        .hint("move some of them into a folder of their own"));
    }
    if !survey.beyond.is_empty() {
        let text =
            format!("is large: {} folders in it were not looked through for what runs by itself", survey.beyond.len());
        notices.push(Notice::new(root.path, text));
    }
    let chosen = select::chosen(root, &survey, &kept, notices)?;
    let part = Part { folder, path: root.path.to_owned(), survey, kept, bound: chosen.bound };
    Ok((chosen.pins, chosen.protected, part))
}

#[cfg(test)]
#[path = "protected_tests.rs"]
mod tests;
