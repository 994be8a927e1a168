//! What an audit found and did, for people.

use std::fmt;
use std::path::PathBuf;

use crate::protected::Notice;
use crate::shown::{quoted, shown};

/// Findings that are told one by one.
pub(super) const MOST: usize = 40;

/// What an audit found and did.
#[derive(Debug, Default)]
pub struct Report {
    /// What was moved out, or should have been.
    pub findings: Vec<Finding>,
    /// What could not be looked at.
    pub notices: Vec<Notice>,
    /// The folder that this audit's findings are in, with a `manifest.json`; none where nothing was moved.
    pub folder: Option<PathBuf>,
}

/// Something that could run later outside the jail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Where it was.
    pub path: PathBuf,
    /// Whether it was there before.
    pub change: Change,
    /// What obeys it, as the end of a sentence that begins with "it is".
    pub why: String,
    /// What was done.
    pub outcome: Outcome,
}

/// What became of something while the jail ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It was not there before.
    New,
    /// It was there and is another now.
    Changed,
}

/// What was done with a [`Finding`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is out of the workspace.
    Moved {
        /// Where it is now.
        to: PathBuf,
    },
    /// It could not be moved out; it has another name now, by which nothing obeys it.
    Renamed {
        /// Where it is now.
        to: PathBuf,
        /// Why it is still in the workspace.
        why: String,
    },
    /// It is still where it was.
    Left {
        /// Why.
        why: String,
    },
}

impl Finding {
    /// A command for a shell that puts it back.
    pub fn command_to_restore(&self) -> Option<String> {
        match &self.outcome {
            Outcome::Moved { to } | Outcome::Renamed { to, .. } => {
                Some(format!("mv -nT -- {} {}", quoted(to), quoted(&self.path)))
            }
            Outcome::Left { .. } => None,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let change = match self.change {
            Change::New => "new",
            Change::Changed => "changed",
        };
        write!(f, "{} is {change}; it is {}. ", shown(&self.path), self.why)?;
        match &self.outcome {
            Outcome::Moved { to } => write!(f, "It was moved to {}.", shown(to)),
            Outcome::Renamed { to, why } => write!(f, "It was renamed to {}, since {why}.", shown(to)),
            Outcome::Left { why } => write!(f, "It IS STILL THERE, since {why}: look at it before you work here."),
        }
    }
}

impl Report {
    /// Whether there is nothing to say.
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty() && self.notices.is_empty()
    }

    /// All that is to be said, a paragraph each.
    pub fn sentences(&self) -> Vec<String> {
        let mut all = Vec::new();
        if !self.findings.is_empty() {
            all.push(
                "What is new or changed in the workspace and would run later outside the jail, by itself, \
                 was moved out. Look at it before you bring it back."
                    .to_owned(),
            );
        }
        // What is still there is the most urgent.
        let mut findings: Vec<_> = self.findings.iter().collect();
        findings.sort_by_key(|finding| match finding.outcome {
            Outcome::Left { .. } => 0,
            Outcome::Renamed { .. } => 1,
            Outcome::Moved { .. } => 2,
        });
        for finding in findings.iter().take(MOST) {
            all.push(finding.to_string());
            all.extend(finding.command_to_restore().map(|command| format!("To bring it back: {command}")));
        }
        if findings.len() > MOST {
            let left = findings.iter().skip(MOST).filter(|finding| matches!(finding.outcome, Outcome::Left { .. }));
            let left = match left.count() {
                0 => String::new(),
                left => format!(", of which {left} ARE STILL THERE"),
            };
            let list =
                self.folder.as_ref().map(|folder| format!("; {} lists all", shown(&folder.join("manifest.json"))));
            all.push(format!("And {} more{left}{}.", findings.len() - MOST, list.unwrap_or_default()));
        }
        all.extend(self.notices.iter().map(ToString::to_string));
        all
    }
}
