//! For tests: a home with a workspace in it, Git without the user's settings, and a jail that is nothing but its binds.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use jiff::Timestamp;
use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};

use crate::audit::{Outcome, Report};
use crate::protected::{Pin, Protected, Protection};
use crate::workspace::Workspace;

pub(crate) struct Bed {
    folder: tempfile::TempDir,
    pub(crate) workspace: Workspace,
}

impl Bed {
    /// Its workspace is `home/project`, empty.
    pub(crate) fn new() -> Self {
        Self::made(|_| {})
    }

    /// The same after `make` has filled the home.
    pub(crate) fn made(make: impl FnOnce(&Path)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().canonicalize().unwrap().join("home");
        fs::create_dir_all(home.join("project")).unwrap();
        make(&home);
        let workspace = Workspace::open(&home.join("project"), &home, &[]).unwrap();
        Self { folder, workspace }
    }

    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.workspace.path().join(name)
    }

    pub(crate) fn quarantine(&self) -> PathBuf {
        self.folder.path().join("quarantine")
    }

    /// Writes a file, with the folders that it is in.
    pub(crate) fn write(&self, name: impl AsRef<Path>, content: impl AsRef<[u8]>) {
        put(&self.path(name), content);
    }

    pub(crate) fn write_program(&self, name: impl AsRef<Path>) {
        self.write(&name, "#!/bin/sh\ntouch ran\n");
        fs::set_permissions(self.path(name), PermissionsExt::from_mode(0o755)).unwrap();
    }

    pub(crate) fn git(&self, args: &[&str]) {
        git(self.workspace.path(), args);
    }

    pub(crate) fn protection(&self) -> Protection {
        Protection::of(&self.workspace, Timestamp::now()).unwrap()
    }

    pub(crate) fn audit(&self, before: &Protection) -> Report {
        before.snapshot.audit(&self.workspace, &self.quarantine(), Timestamp::now()).unwrap()
    }

    /// What is found after `act`, by paths beneath the workspace; each must have been moved out.
    pub(crate) fn found_after(&self, act: impl FnOnce()) -> Vec<String> {
        let before = self.protection();
        act();
        let report = self.audit(&before);
        let found = report.findings.iter().map(|finding| {
            assert!(matches!(finding.outcome, Outcome::Moved { .. }), "{finding}");
            assert!(finding.path.symlink_metadata().is_err(), "{finding}");
            finding.path.strip_prefix(self.workspace.path()).unwrap().to_string_lossy().into_owned()
        });
        let found = found.collect();
        assert!(self.audit(&before).findings.is_empty(), "what was moved out is gone");
        found
    }

    /// Runs a script in a jail with these binds, as another user than root.
    pub(crate) fn jailed(&self, protection: &Protection, script: &str) -> Output {
        let mut bwrap = Bwrap::new();
        bwrap.arg("--bind").arg(self.workspace.path()).arg(self.workspace.path());
        bwrap.binds(self.workspace.path(), &protection.pins, &protection.protected);
        if let Some(git_dir) = &protection.git_dir {
            bwrap.bind("--bind-fd", &git_dir.folder, &git_dir.path);
            bwrap.binds(&git_dir.path, &git_dir.pins, &git_dir.protected);
        }
        bwrap.arg("--chdir").arg(self.workspace.path());
        bwrap.run(script)
    }
}

struct Bwrap {
    args: Vec<OsString>,
    passed: Vec<OwnedFd>,
}

impl Bwrap {
    fn new() -> Self {
        let mut bwrap = Self { args: Vec::new(), passed: Vec::new() };
        for arg in ["--unshare-all", "--die-with-parent", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"] {
            bwrap.arg(arg);
        }
        for folder in ["/usr", "/bin", "/lib", "/lib64", "/etc"] {
            bwrap.arg("--ro-bind-try").arg(folder).arg(folder);
        }
        bwrap
    }

    fn arg(&mut self, arg: impl AsRef<OsStr>) -> &mut Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    fn bind(&mut self, how: &str, file: &OwnedFd, at: &Path) {
        let passed = fcntl_dupfd_cloexec(file, 10).unwrap();
        fcntl_setfd(&passed, FdFlags::empty()).unwrap();
        self.arg(how).arg(passed.as_raw_fd().to_string()).arg(at);
        self.passed.push(passed);
    }

    fn binds(&mut self, root: &Path, pins: &[Pin], protected: &[Protected]) {
        for pin in pins {
            self.bind("--bind-fd", &pin.folder, &root.join(&pin.relative));
        }
        for item in protected {
            self.bind("--ro-bind-fd", &item.file, &root.join(&item.relative));
        }
    }

    fn run(&self, script: &str) -> Output {
        let mut command = Command::new("bwrap");
        command.args(&self.args).args(["--", "bash", "-c", script]);
        quiet(&mut command).output().unwrap()
    }
}

pub(crate) fn put(path: &Path, content: impl AsRef<[u8]>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

pub(crate) fn git(folder: &Path, args: &[&str]) {
    let mut command = Command::new("git");
    let said = quiet(command.current_dir(folder).args(args)).output().unwrap();
    assert!(said.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&said.stderr));
}

/// Git takes nothing from the user or the system.
fn quiet(command: &mut Command) -> &mut Command {
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", "/nonexistent");
    for (name, value) in [("GIT_CONFIG_NOSYSTEM", "1"), ("GIT_CONFIG_COUNT", "3"), ("GIT_TERMINAL_PROMPT", "0")] {
        command.env(name, value);
    }
    let settings = [("user.name", "a"), ("user.email", "b"), ("protocol.file.allow", "always")];
    for (number, (key, value)) in settings.into_iter().enumerate() {
        command.env(format!("GIT_CONFIG_KEY_{number}"), key).env(format!("GIT_CONFIG_VALUE_{number}"), value);
    }
    command
}
