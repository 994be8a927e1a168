//! What a jail has left: its launcher says it when the jail has ended, and the daemon tells people.

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use corral_core::snapshot::NoticeLevel;
use corral_core::{Code, Error};
use serde::{Deserialize, Serialize};

use super::with_address;
use crate::paths::Paths;

/// How long the daemon may take to take the message. Whoever has ended a session does not wait for more.
const PATIENCE: Duration = Duration::from_secs(1);

/// A jail that has ended, with files in its workspace that would have run later outside by themselves. It names none of
/// them: their names were chosen in the jail.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Ended {
    /// Whether Claude Code ran in it.
    pub claude: bool,
    /// What people know its session by.
    pub label: Option<String>,
    /// The folder that it worked in.
    pub workspace: String,
    /// How many files were moved out.
    pub moved: usize,
    /// How many could only be renamed, such that nothing obeys them.
    pub renamed: usize,
    /// How many are still there as they were.
    pub left: usize,
    /// Where those are that were moved; none where none was.
    pub folder: Option<String>,
}

impl Ended {
    /// Tells the daemon of this home, if one runs. What is told was told at the terminal before, so nothing is lost
    /// where it cannot be told here, too.
    pub fn tell(&self, paths: &Paths) {
        let send = || -> io::Result<()> {
            let mut line = serde_json::to_vec(&serde_json::json!({ "ended": self }))?;
            line.push(b'\n');
            let mut stream = with_address(&paths.jails, |path| UnixStream::connect(path))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            stream.write_all(&line)
        };
        if let Err(error) = send() {
            tracing::debug!(%error, "no daemon was told what a jail has left");
        }
    }

    /// How it is told to people, and what they can do about it.
    pub(super) fn notice(&self) -> (NoticeLevel, Error) {
        let whose = match &self.label {
            _ if self.claude => "Claude's session".to_owned(),
            Some(label) => format!("The session \u{201c}{}\u{201d}", plain(label)),
            None => "A jail".to_owned(),
        };
        let (workspace, folder) = (plain(&self.workspace), self.folder.as_deref().map(plain));
        let mut parts = Vec::new();
        if self.left > 0 {
            parts.push(format!("{} STILL in {workspace}", files(self.left, "is", "are")));
        }
        if self.moved > 0 {
            let to = folder.as_ref().map_or_else(String::new, |folder| format!(" to {folder}"));
            parts.push(format!("{} moved out of {workspace}{to}", files(self.moved, "was", "were")));
        }
        if self.renamed > 0 {
            parts.push(format!("{} renamed in {workspace}", files(self.renamed, "was", "were")));
        }
        let (level, what) = match self.left {
            0 => (NoticeLevel::Warning, "files in quarantine"),
            _ => (NoticeLevel::Error, "files that are not safe to work with"),
        };
        let message =
            format!("{whose} ended with {what}: outside the jail they would run by themselves; {}", parts.join(", "));
        let manifest =
            folder.map_or_else(String::new, |folder| format!("; {folder}/manifest.json says where each was"));
        let hint = match self.left {
            0 => format!("look at each before you bring it back{manifest}"),
            _ => format!(
                "look at them before you work there with Git or an editor; what the session said last names them{manifest}"
            ),
        };
        (level, Error::new(Code::WorkspaceInvalid, message).hint(hint))
    }
}

fn files(count: usize, is: &str, are: &str) -> String {
    if count == 1 { format!("1 file {is}") } else { format!("{count} files {are}") }
}

/// The text in one line.
fn plain(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(ended: &Ended) -> (NoticeLevel, String, String) {
        let (level, error) = ended.notice();
        (level, error.to_string(), error.body().hint.unwrap())
    }

    #[test]
    fn people_are_told_how_many_where_and_what_to_do() {
        let claude = Ended {
            claude: true,
            label: Some("claude in p".to_owned()),
            workspace: "/w/p".to_owned(),
            moved: 3,
            folder: Some("/q/1".to_owned()),
            ..Ended::default()
        };
        let (level, message, hint) = told(&claude);
        assert_eq!(level, NoticeLevel::Warning);
        let expected = "Claude's session ended with files in quarantine: outside the jail they would run by themselves; \
                        3 files were moved out of /w/p to /q/1";
        assert_eq!(message, expected);
        assert_eq!(hint, "look at each before you bring it back; /q/1/manifest.json says where each was");
        let shell =
            Ended { claude: false, label: Some("sh in\n p".to_owned()), moved: 1, renamed: 2, ..claude.clone() };
        let (_, message, _) = told(&shell);
        assert!(
            message.starts_with("The session \u{201c}sh in\u{fffd} p\u{201d} ended with files in quarantine"),
            "{message}"
        );
        assert!(message.ends_with("1 file was moved out of /w/p to /q/1, 2 files were renamed in /w/p"), "{message}");
        let (level, message, hint) = told(&Ended { moved: 0, left: 1, folder: None, ..claude });
        assert_eq!(level, NoticeLevel::Error);
        assert!(message.contains("not safe") && message.ends_with("1 file is STILL in /w/p"), "{message}");
        assert!(hint.starts_with("look at them before you work there with Git"), "{hint}");
    }
}
