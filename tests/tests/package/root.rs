//! A root of its own above this machine's: what is installed there is nowhere else, and gone with it.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use corral_tests::local::Ran;
use tempfile::TempDir;

/// Where it shows what is other in it than on this machine.
pub(crate) const CHANGES: &str = "/run/changes";

/// Gone when dropped, with what runs in it.
pub(crate) struct Root {
    holder: Child,
    // Below which it is mounted, for nobody else to see.
    _base: TempDir,
}

impl Root {
    /// Makes one in which these folders are this machine's own.
    #[track_caller]
    pub(crate) fn start(shared: &[&Path]) -> Self {
        assert!(rustix::process::geteuid().is_root(), "to install a package, these tests have to be run by root");
        let base = tempfile::Builder::new().prefix("corral-root-").tempdir().unwrap();
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/package/root.sh");
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", script]).arg(base.path()).args(shared);
        let mut holder = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut said = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut said).unwrap();
        assert_eq!(said, "ready\n", "no root of its own can be made: see above");
        Self { holder, _base: base }
    }

    /// A program in it, with nothing but these variables.
    fn command(&self, program: &str, args: &[&str], env: &[(&str, &str)]) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--mount", "--wd=/", "--target", &self.holder.id().to_string(), "--"]);
        command.arg(program).args(args).env_clear().envs(env.iter().copied());
        command.envs([("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"), ("LANG", "C.UTF-8")]);
        command
    }

    /// Runs one to its end.
    #[track_caller]
    pub(crate) fn run(&self, program: &str, args: &[&str]) -> Ran {
        self.run_in(program, args, &[])
    }

    /// The same with variables.
    #[track_caller]
    pub(crate) fn run_in(&self, program: &str, args: &[&str], env: &[(&str, &str)]) -> Ran {
        ran(self.command(program, args, env))
    }

    /// Starts one.
    pub(crate) fn start_program(&self, program: &str, args: &[&str], env: &[(&str, &str)]) -> Child {
        self.command(program, args, env).stdin(Stdio::null()).spawn().unwrap()
    }

    /// Has `apt-get` do something, which must go well.
    #[track_caller]
    pub(crate) fn apt(&self, args: &[&str]) {
        let usual = ["-q", "-y", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=60"];
        let env = [("DEBIAN_FRONTEND", "noninteractive")];
        self.run_in("apt-get", &[&usual, args].concat(), &env).good();
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        // What still runs in there keeps its files.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// Runs a command to its end, whatever it prints; it must come in five minutes.
#[track_caller]
pub(crate) fn ran(mut command: Command) -> Ran {
    // By way of files, since what is printed may be more than a pipe holds.
    let (out, err) = (tempfile::NamedTempFile::new().unwrap(), tempfile::NamedTempFile::new().unwrap());
    command.stdin(Stdio::null()).stdout(out.reopen().unwrap()).stderr(err.reopen().unwrap());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let status =
        corral_tests::until(Duration::from_mins(5), &format!("{command:?} ends"), || child.try_wait().unwrap());
    let text =
        |file: &tempfile::NamedTempFile| String::from_utf8_lossy(&std::fs::read(file.path()).unwrap()).into_owned();
    Ran { code: status.code(), stdout: text(&out), stderr: text(&err) }
}
