//! Which browser `scripts/chromium.sh` takes, on machines that stand-ins make up: their programs are all that is in PATH.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "test code: a panic is how it fails")]

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use corral_tests::local::Ran;
use tempfile::TempDir;

/// What the script is written in.
const TOOLS: [&str; 16] = [
    "bash", "env", "dirname", "readlink", "head", "tr", "grep", "sed", "timeout", "id", "cut", "getent", "mktemp",
    "rm", "tail", "touch",
];

/// A browser that runs.
const RUNS: &str = "echo Chromium 1";

struct Machine(TempDir);

impl Machine {
    fn new() -> Self {
        let machine = Self(tempfile::tempdir().unwrap());
        fs::create_dir(machine.at("bin")).unwrap();
        let path = std::env::var("PATH").unwrap();
        for tool in TOOLS {
            let found = std::env::split_paths(&path).map(|folder| folder.join(tool)).find(|file| file.exists());
            symlink(found.unwrap_or_else(|| panic!("{tool}")), machine.at("bin").join(tool)).unwrap();
        }
        machine.has("sudo", "[ \"$1\" = -n ] && shift; exec \"$@\"")
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A program that is this script; `$M` is the machine's folder.
    fn has(self, name: &str, script: &str) -> Self {
        let path = self.at("bin").join(name);
        fs::write(&path, format!("#!/bin/sh\nM='{}'\n{script}\n", self.0.path().display())).unwrap();
        fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
        self
    }

    /// An apt whose Chromium is of this version, and which installs it such that it is this script.
    fn apt(self, version: &str, installs: &str) -> Self {
        let install = format!(
            "echo \"$@\" >>$M/apt; case \"$*\" in *install*chromium*) printf '#!/bin/sh\\n{installs}\\n' >$M/bin/chromium; \
             /bin/chmod +x $M/bin/chromium;; esac"
        );
        self.has("apt-cache", &format!("echo 'chromium:'; echo '  Candidate: {version}'"))
            .has("apt-get", &install)
            .has("dpkg-query", "exit 1")
    }

    /// A Playwright that fetches a browser that is this script.
    fn playwright(self, brings: &str) -> Self {
        let fetch = format!(
            "echo \"$@\" >>$M/npx; case \"$*\" in *'install chromium') printf '#!/bin/sh\\n{brings}\\n' >$M/own; \
             /bin/chmod +x $M/own;; esac"
        );
        self.has("node", "echo $M/own").has("npm", "").has("npx", &fetch)
    }

    fn run(&self, named: Option<&str>) -> Ran {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/chromium.sh");
        let mut command = Command::new(self.at("bin/bash"));
        command.arg(script).env_clear().env("PATH", self.at("bin")).env("HOME", self.0.path());
        command.env("CARGO_HOME", self.0.path()).envs(named.map(|named| ("CORRAL_TEST_CHROMIUM", named)));
        Ran::of(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()))
    }

    #[track_caller]
    fn takes(&self, path: &str) {
        assert_eq!(self.run(None).good(), format!("{}\n", self.at(path).display()));
    }

    #[track_caller]
    fn refuses(&self, named: Option<&str>, said: &str) {
        let ran = self.run(named);
        assert!(ran.code == Some(1) && ran.stderr.contains(said), "{said}: {ran:#?}");
        assert!(ran.stdout.is_empty() && ran.stderr.contains("CORRAL_TEST_CHROMIUM"), "{ran:#?}");
    }

    fn log(&self, name: &str) -> String {
        fs::read_to_string(self.at(name)).unwrap_or_default()
    }
}

#[test]
fn one_that_is_here_and_runs_is_taken_and_a_snap_is_passed_over() {
    Machine::new().has("chromium", RUNS).has("google-chrome", RUNS).takes("bin/chromium");
    let ubuntu = Machine::new().has("chromium-browser", "exec /snap/bin/chromium \"$@\"");
    ubuntu.has("google-chrome", "echo Google Chrome 1").takes("bin/google-chrome");
    let linked = Machine::new().has("snap", RUNS).has("google-chrome-stable", RUNS);
    symlink(linked.at("bin/snap"), linked.at("bin/chromium")).unwrap();
    linked.takes("bin/google-chrome-stable");
    Machine::new().has("chromium", "exit 1").has("google-chrome", RUNS).takes("bin/google-chrome");
    let named = Machine::new().has("mine", RUNS).has("chromium", RUNS);
    let mine = named.at("bin/mine").display().to_string();
    assert_eq!(named.run(Some(&mine)).good(), format!("{mine}\n"));
    named.refuses(Some("/nonexistent/chromium"), "/nonexistent/chromium cannot be driven");
}

#[test]
fn else_the_system_s_package_is_installed_where_it_is_no_snap() {
    let debian = Machine::new().apt("156.0-1~deb12u1", RUNS).playwright(RUNS);
    debian.takes("bin/chromium");
    assert!(debian.log("apt").contains("install --no-install-recommends chromium"), "{}", debian.log("apt"));
    assert_eq!(debian.log("npx"), "");
    for candidate in ["2:1snap1-0ubuntu2", "(none)"] {
        let ubuntu = Machine::new().apt(candidate, RUNS).playwright(RUNS);
        ubuntu.takes("own");
        assert_eq!((ubuntu.log("apt").as_str(), ubuntu.log("npx").lines().count()), ("", 1), "{candidate}");
        // Once fetched, it is there.
        ubuntu.takes("own");
        assert_eq!(ubuntu.log("npx").lines().count(), 1);
    }
}

#[test]
fn where_there_is_none_and_none_can_be_had_that_is_said_with_what_to_do() {
    Machine::new().refuses(None, "there is no Chromium that the tests can drive");
    let broken = Machine::new().apt("(none)", RUNS).playwright("exit 1");
    broken.refuses(None, "Playwright brought none");
    assert!(broken.log("npx").contains("install-deps chromium"), "what it lacks is asked for: {}", broken.log("npx"));
}
