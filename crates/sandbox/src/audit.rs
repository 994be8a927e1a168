//! After a jail: what is new or changed in its workspace that could run later outside is moved out of the way.

mod copy;
mod quarantine;
mod record;
mod report;

use std::collections::BTreeSet;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use corral_core::{Code, Error, Result};
use jiff::Timestamp;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, openat, statat};

use self::quarantine::Quarantine;
pub use self::record::Record;
pub use self::report::{Change, Finding, Outcome, Report};
use crate::beneath::{self, Identity, joined};
use crate::protected::Notice;
use crate::protected::leads;
use crate::protected::names::{Exact, is_of_tools};
use crate::protected::state::{Item, Matter, path_in};
use crate::protected::survey::{Bounds, Kept, Root, Survey};
use crate::shown::{shown, shown_text};
use crate::workspace::Workspace;

/// Links that are named in a report.
const LINKS: usize = 5;

/// What was in a workspace, and in its repository outside, before the start.
#[derive(Debug)]
pub struct Snapshot {
    parts: Vec<Part>,
    taken: Timestamp,
}

/// The workspace, or its repository outside.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) folder: OwnedFd,
    pub(crate) path: PathBuf,
    pub(crate) survey: Survey,
    pub(crate) kept: Vec<Kept>,
    pub(crate) bound: Vec<Bound>,
}

/// Something that is shown read-only in the jail.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) path: PathBuf,
    pub(crate) identity: Identity,
}

/// Something to be moved out.
struct Suspect {
    path: PathBuf,
    change: Change,
    why: String,
}

impl Snapshot {
    pub(crate) fn new(parts: Vec<Part>, taken: Timestamp) -> Self {
        Self { parts, taken }
    }

    /// Compares with what is there now, when nothing runs in the jail any more, and moves out what must not stay, into
    /// a new folder in `quarantine`. It is taken for granted that what was to be bound read-only was so.
    ///
    /// [`Code::WorkspaceInvalid`]: the workspace cannot be looked through.
    pub fn audit(&self, workspace: &Workspace, quarantine: &Path, now: Timestamp) -> Result<Report> {
        let (mut now_there, mut others) = (Vec::new(), Vec::new());
        // First what is outside: it may name what is in the workspace.
        for part in self.parts.iter().rev() {
            let root = Root { folder: part.folder.as_fd(), path: &part.path, workspace: workspace.path() };
            let leads = |now: &Survey| leads::leads(root, now, Some(&part.survey), workspace.home());
            let survey = Survey::of(root, Bounds::END, Some(&part.survey), |now| {
                [part.kept.clone(), leads::beneath_root(root, &[leads(now), others.clone()].concat())].concat()
            });
            others = leads(&survey.0);
            now_there.insert(0, survey.0);
        }
        if now_there.iter().any(|survey| survey.closed.contains(Path::new(""))) {
            let message = format!("{} cannot be looked through after the jail has ended", shown(workspace.path()));
            return Err(Error::new(Code::WorkspaceInvalid, message)
                .hint("do not work in it with Git or an editor before you have looked at it yourself"));
        }
        let repositories: BTreeSet<PathBuf> =
            self.parts.iter().zip(&now_there).fold(BTreeSet::new(), |mut all, (part, now)| {
                all.extend(now.git_dirs.iter().map(|path| joined(&part.path, path)));
                all
            });
        let exact = Exact::new();
        let mut report = Report::default();
        let mut quarantine = Quarantine::new(quarantine, now);
        for (number, (part, now)) in self.parts.iter().zip(&now_there).enumerate() {
            let mut suspects = self.suspects(part, now, &repositories);
            // What is most likely obeyed goes first, whatever else there is.
            suspects.sort_by_cached_key(|suspect| {
                (!exact.holds(&suspect.path), suspect.path.components().count(), suspect.path.clone())
            });
            let name = if number == 0 { "workspace" } else { "repository" };
            for Suspect { path, change, why } in suspects {
                let outcome = quarantine.take(part.folder.as_fd(), &part.path, &path, name);
                report.findings.push(Finding { path: joined(&part.path, &path), change, why, outcome });
            }
            report.notices.extend(unseen(part, now));
            report.notices.extend(leading_out(part, now));
        }
        report.folder = quarantine.finish(&report.findings);
        Ok(report)
    }

    fn suspects(&self, part: &Part, now: &Survey, repositories: &BTreeSet<PathBuf>) -> Vec<Suspect> {
        let mut suspects = Vec::new();
        let mut whole: Vec<&Path> = Vec::new();
        for (path, matter) in &now.folders {
            let is_new = !part.survey.folders.contains_key(path) && !part.survey.did_not_see(path);
            let mut within = now.items.range(path.clone()..).take_while(|(item, _)| item.starts_with(path)).peekable();
            let is_empty = within.peek().is_none();
            let is_known = within.any(|(path, item)| part.is_copy(path, item));
            let is_in_another = whole.iter().any(|upper| path.starts_with(upper));
            if !is_new || is_empty || is_known || is_in_another || part.is_guarded(path) {
                continue;
            }
            if let Matter::Named { why, .. } = matter {
                whole.push(path);
                suspects.push(Suspect { path: path.clone(), change: Change::New, why: (*why).to_owned() });
            }
        }
        for (path, item) in &now.items {
            let before = part.survey.items.get(path);
            let is_same = match before {
                // What a configuration names may lead elsewhere now.
                Some(before) => !item.differs_from(before) && !item.means_more(before),
                // What was never looked at counts only if the kernel says that it was touched since.
                None => part.is_copy(path, item) || (part.survey.did_not_see(path) && !self.is_later(item)),
            };
            let was_out_of_reach =
                part.was_out_of_reach(path, item, before) && !before.is_some_and(|before| item.means_more(before));
            if is_same || was_out_of_reach || whole.iter().any(|upper| path.starts_with(upper)) {
                continue;
            }
            if let Some(why) = why(part, path, item, before, repositories) {
                let change = if before.is_some() { Change::Changed } else { Change::New };
                suspects.push(Suspect { path: path.clone(), change, why });
            }
        }
        suspects
    }

    fn is_later(&self, item: &Item) -> bool {
        // The times of files come from a clock that lags a little.
        item.state.changed.0 >= self.taken.as_second() - 1
    }
}

impl Part {
    /// Whether the jail could not write at `path`, since the very thing that was shown read-only is still in its place.
    /// When a user's program outside puts a new file there, the kernel takes the protection away.
    fn is_guarded(&self, path: &Path) -> bool {
        self.bound.iter().filter(|bound| path.starts_with(&bound.path)).any(|bound| {
            let there = beneath::open_parent(&self.folder, &bound.path)
                .and_then(|(parent, name)| statat(parent, name, AtFlags::SYMLINK_NOFOLLOW));
            there.is_ok_and(|stat| Identity::from(&stat) == bound.identity)
        })
    }

    /// Whether it was there before, by the same name in another folder, as in a new worktree or clone. What comes
    /// nearer to the top, or out of a folder that tools fill, is obeyed where it was not before.
    fn is_copy(&self, path: &Path, item: &Item) -> bool {
        let steps = path.components().count();
        self.survey.by_name(path, item.matter).any(|(original, known)| {
            item.is_copy_of(known) && original.components().count() <= steps && !is_of_tools(original)
        })
    }

    fn was_out_of_reach(&self, path: &Path, item: &Item, before: Option<&Item>) -> bool {
        // By another name of the same file its contents could be written.
        let has_other_names = item.state.links > 1 || before.is_some_and(|before| before.state.links > 1);
        !has_other_names && self.is_guarded(path)
    }
}

/// Why something new or changed must not stay, as an end of "… is"; none if it may.
fn why(
    part: &Part,
    path: &Path,
    item: &Item,
    before: Option<&Item>,
    repositories: &BTreeSet<PathBuf>,
) -> Option<String> {
    let at = joined(&part.path, path);
    let anew = item.says_anew(before);
    let listed = |lines: &[&[u8]]| lines.iter().take(3).map(|line| shown_text(line)).collect::<Vec<_>>().join(", ");
    match item.matter {
        Matter::Named { why, .. } => Some(why.to_owned()),
        Matter::Hook if item.state.can_run() => Some("a hook: Git runs it".to_owned()),
        Matter::Hook => None,
        Matter::Config => match anew.as_deref() {
            None => Some("a configuration of Git's that cannot be read and so not be judged".to_owned()),
            Some([]) => None,
            Some(lines) => Some(format!("a configuration of Git's that may run programs: {}", listed(lines))),
        },
        Matter::Pointer => {
            let is_fine = says(item).is_some_and(|target| leads_to_known(at.parent(), target, repositories));
            (!is_fine).then(|| "obeyed by Git: it leads to a repository that is not in the workspace".to_owned())
        }
        Matter::Common => {
            let git_dir = at.parent()?;
            let is_fine = says(item).is_some_and(|target| {
                git_dir.parent() == Some(&joined(git_dir, target).join("worktrees"))
                    && leads_to_known(Some(git_dir), target, repositories)
            });
            (!is_fine).then(|| "obeyed by Git: it leads to the configuration of another repository".to_owned())
        }
        Matter::Steps => match anew.as_deref() {
            Some([]) => None,
            lines => Some(format!("what Git does when a rebase goes on: {}", listed(lines.unwrap_or_default()))),
        },
        Matter::Strategy | Matter::Options => match anew.as_deref() {
            Some([]) => None,
            lines => Some(format!("the program that Git merges with: {}", listed(lines.unwrap_or_default()))),
        },
    }
}

fn says(item: &Item) -> Option<&Path> {
    item.says.as_ref().and_then(|says| says.first()).map(|line| path_in(line))
}

/// Whether `target` is a repository that was looked at, and is so by its very path: links could lead elsewhere later.
fn leads_to_known(from: Option<&Path>, target: &Path, repositories: &BTreeSet<PathBuf>) -> bool {
    let Some(from) = from else { return false };
    let target = joined(from, target);
    let Ok(folder) = openat(CWD, &target, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) else {
        return false;
    };
    let real = beneath::read_link(CWD, Path::new(&format!("/proc/self/fd/{}", folder.as_raw_fd())));
    real.is_ok_and(|real| real == target) && repositories.contains(&target)
}

/// New links that lead elsewhere; nothing obeys them, but who writes to one writes there.
fn leading_out(part: &Part, now: &Survey) -> Option<Notice> {
    let is_new = |path: &Path, target: &Path| {
        part.survey.out.get(path).is_none_or(|before| before != target) && !part.survey.did_not_see(path)
    };
    let new: Vec<_> = now.out.iter().filter(|(path, target)| is_new(path, target)).collect();
    if new.is_empty() {
        return None;
    }
    let named = new.iter().take(LINKS).map(|(path, target)| format!("{} to {}", shown(path), shown(target)));
    let named = named.collect::<Vec<_>>().join(", ");
    let more = if new.len() > LINKS { format!(", and {} more", new.len() - LINKS) } else { String::new() };
    let text =
        format!("has new links that lead out of it: {named}{more}. They were left; what is written to them goes there");
    Some(Notice::new(&part.path, text))
}

/// What could not be looked at.
fn unseen(part: &Part, now: &Survey) -> Option<Notice> {
    let mut unseen: Vec<_> = now.beyond.difference(&part.survey.beyond).chain(&now.closed).collect();
    unseen.sort();
    let first = unseen.first()?;
    let text = format!(
        "could not be looked through in all: {} folders are too deep, too many or closed, as {}; look at them yourself",
        unseen.len(),
        shown(first)
    );
    Some(Notice::new(&part.path, text))
}

#[cfg(test)]
#[path = "audit_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "audit_led_tests.rs"]
mod led_tests;
