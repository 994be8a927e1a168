//! An ordinary user, where the tests are run by root.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::parts;

/// The user's number and its group's: nobody's on a machine of today.
const ID: &str = "12345";

/// A user who may do nothing, with programs where that user can run them.
#[derive(Debug)]
pub struct Ordinary {
    programs: TempDir,
}

impl Ordinary {
    /// None where the tests' own user is one already. The programs that the tests stand on may lie where only root gets.
    pub fn of_root() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let programs = tempfile::Builder::new().prefix("corral-programs-").tempdir().expect("a folder");
        run(Command::new("chmod").arg("755").arg(programs.path()));
        let corral = parts::corral_binary();
        let user = Self { programs };
        user.bring(corral);
        user.bring(&corral.with_file_name("claude-local"));
        user.bring(&parts::claude());
        Some(user)
    }

    /// Shows a program or folder to the user, beside the others: by another name for the same where that can be.
    pub fn bring(&self, path: &Path) -> PathBuf {
        // Another process copies: a program that is open for writing cannot be run, nor where it was inherited.
        let copied = |how: &str| Command::new("cp").args([how, "--"]).arg(path).arg(self.programs.path()).output();
        if !copied("-al").expect("`cp` runs").status.success() {
            run(Command::new("cp").args(["-a", "--"]).arg(path).arg(self.programs.path()));
        }
        self.program(path.file_name().and_then(|name| name.to_str()).expect("a name"))
    }

    /// Where a program is that was brought.
    pub fn program(&self, name: &str) -> PathBuf {
        self.programs.path().join(name)
    }

    /// A command that runs a program that was brought.
    pub fn command(&self, name: &str) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", ID, "--regid", ID, "--clear-groups", "--"]).arg(self.program(name));
        command
    }

    /// Makes a folder and all in it the user's own.
    #[track_caller]
    pub fn give(&self, path: &Path) {
        run(Command::new("chown").args(["-R", &format!("{ID}:{ID}"), "--"]).arg(path));
    }
}

#[track_caller]
fn run(command: &mut Command) {
    let done = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
}
