//! Corral's other programs, as one of them finds and starts them.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use corral_api::dto::ErrorAnswer;
use corral_core::{Code, Error, Result};

/// Where packages put programs that people do not call.
const PRIVATE: &str = "/usr/lib/corral";

/// Where Corral's programs are.
#[derive(Debug, Clone)]
pub struct Programs {
    folder: PathBuf,
}

impl Programs {
    /// Those beside the running program.
    pub fn beside_this() -> Result<Self> {
        let own = std::env::current_exe()
            .map_err(|error| Error::new(Code::Io, "this program does not know its own path").because(error))?;
        Ok(Self { folder: own.parent().unwrap_or(Path::new("/")).to_owned() })
    }

    /// The folder of the running program.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The path of one: beside the running program, or where packages put those that people do not call; for one of
    /// these, where they put the others.
    pub fn find(&self, name: &str) -> Result<PathBuf> {
        let from_here = ["", "../lib/corral", "../../bin"].map(|folder| self.folder.join(folder).join(name));
        let mut places = from_here.into_iter().chain([Path::new(PRIVATE).join(name)]);
        places.find(|place| place.is_file()).ok_or_else(|| {
            Error::new(Code::ProgramMissing, format!("there is no {name} in {}", self.folder.display()))
                .hint("install Corral again")
        })
    }

    /// Opens a terminal with a local Claude in the folder. Waits until the terminal has started.
    pub fn open_claude(&self, folder: &Path) -> Result<()> {
        let failed = |why: &str| {
            Error::new(Code::ProgramMissing, format!("the local Claude cannot be opened: {why}"))
                .hint("`claude-local` in a terminal says more")
        };
        let mut command = Command::new(self.find("corral")?);
        command.args(["--json", "claude", "--terminal", "--workspace"]).arg(folder).stdin(Stdio::null());
        let done = command.output().map_err(|error| failed(&error.to_string()))?;
        if done.status.success() {
            return Ok(());
        }
        match serde_json::from_slice::<ErrorAnswer>(&done.stdout) {
            Ok(answer) => Err(answer.error.into()),
            Err(_) => Err(failed(&done.status.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_beside_and_in_the_private_folder() {
        let root = tempfile::tempdir().unwrap();
        let (bin, lib) = (root.path().join("bin"), root.path().join("lib/corral"));
        for folder in [&bin, &lib] {
            std::fs::create_dir_all(folder).unwrap();
        }
        std::fs::write(bin.join("corral"), "").unwrap();
        std::fs::write(lib.join("corral-dashboard"), "").unwrap();
        let programs = Programs { folder: bin.clone() };
        assert_eq!(programs.find("corral").unwrap(), bin.join("corral"));
        assert_eq!(programs.find("corral-dashboard").unwrap().canonicalize().unwrap(), lib.join("corral-dashboard"));
        let from_there = Programs { folder: lib.clone() };
        assert_eq!(from_there.find("corral").unwrap().canonicalize().unwrap(), bin.join("corral"));
        assert_eq!(programs.find("corral-nothing").unwrap_err().code(), Code::ProgramMissing);
    }

    #[test]
    fn why_a_terminal_did_not_open_is_told_as_the_command_tells_it() {
        use std::os::unix::fs::PermissionsExt;
        let root = tempfile::tempdir().unwrap();
        let program = root.path().join("corral");
        let script = "#!/bin/sh\n[ \"$5\" = /good ] && exit 0\n\
                      echo '{\"error\":{\"code\":\"workspace_invalid\",\"message\":\"no\",\"hint\":\"yes\"}}'\nexit 78\n";
        std::fs::write(&program, script).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let programs = Programs { folder: root.path().to_owned() };
        programs.open_claude(Path::new("/good")).unwrap();
        let error = programs.open_claude(Path::new("/bad")).unwrap_err().body();
        assert_eq!((error.code, error.message.as_str()), (Code::WorkspaceInvalid, "no"));
    }
}
