//! A terminal with a shell in it, and a person's keys and eyes: tmux.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::{Local, PATIENCE, until};

/// A terminal of its own tmux server, which ends when this is dropped.
#[derive(Debug)]
pub struct Tmux {
    folder: TempDir,
}

impl Tmux {
    /// A shell in the workspace, with the user's environment and the folder of `corral` in its `PATH`.
    #[track_caller]
    pub fn new(local: &Local, columns: u16, rows: u16) -> Self {
        Self::with(local.environment(), &local.workspace(), columns, rows)
    }

    /// A shell in a folder, with this environment and the folder of `corral` in its `PATH`.
    #[track_caller]
    pub fn with(
        environment: impl IntoIterator<Item = (impl AsRef<OsStr>, impl AsRef<OsStr>)>,
        at: &Path,
        columns: u16,
        rows: u16,
    ) -> Self {
        let folder = tempfile::Builder::new().prefix("corral-tmux-").tempdir().expect("a folder");
        let tmux = Self { folder };
        let size = [columns, rows].map(|number| number.to_string());
        let mut command = tmux.command();
        command.env_clear().envs(environment).current_dir(at);
        let programs = crate::parts::corral_binary().parent().expect("a folder");
        command.env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", programs.display())).env("PS1", "$ ");
        command.args([
            "new-session",
            "-d",
            "-x",
            &size[0],
            "-y",
            &size[1],
            "exec env 'PS1=$ ' bash --norc --noprofile",
        ]);
        let done = command.output().unwrap_or_else(|error| panic!("there is no tmux ({error}): scripts/setup.sh test"));
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        tmux.until("a prompt", |screen| screen.trim_end().ends_with('$'));
        tmux
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    fn command(&self) -> Command {
        let mut command = Command::new("tmux");
        command.arg("-S").arg(self.socket()).args(["-f", "/dev/null"]);
        command
    }

    #[track_caller]
    fn run(&self, args: &[&str]) -> String {
        let done = self.command().args(args).output().expect("tmux runs");
        assert!(done.status.success(), "tmux {args:?}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8_lossy(&done.stdout).into_owned()
    }

    /// What the screen shows.
    #[track_caller]
    pub fn screen(&self) -> String {
        self.run(&["capture-pane", "-p"])
    }

    /// Types a text.
    #[track_caller]
    pub fn types(&self, text: &str) {
        self.run(&["send-keys", "-l", "--", text]);
    }

    /// Presses a key, by tmux's name for it.
    #[track_caller]
    pub fn presses(&self, key: &str) {
        self.run(&["send-keys", key]);
    }

    /// Gives the terminal another size.
    #[track_caller]
    pub fn resize(&self, columns: u16, rows: u16) {
        self.run(&["resize-window", "-x", &columns.to_string(), "-y", &rows.to_string()]);
    }

    /// Waits until the screen is as wanted, and returns it.
    #[track_caller]
    pub fn until(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        let mut last = String::new();
        let seen = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            until(PATIENCE, what, || {
                last = self.screen();
                wanted(&last).then(|| last.clone())
            })
        }));
        seen.unwrap_or_else(|_| panic!("{what}: the screen shows\n{last}"))
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        let _ = self.command().arg("kill-server").output();
    }
}
