//! What the attempts are made in: an ordinary user with a home, secrets, a workspace and a `corral`.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, lchown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use corral_tests::parts::corral_binary;
use tempfile::{NamedTempFile, TempDir};

/// Who runs all of it where the tests run as root: nobody on this machine.
pub(crate) const ORDINARY: u32 = 12345;

/// What every secret in a world says.
pub(crate) const SECRET: &str = "the-secret-of-the-host";

/// Where the script's descriptor 9 is opened before it runs, inherited like any other by who calls Corral.
const WITH_DESCRIPTOR_9: &str = "exec 9<\"$0\" && exec \"$@\"";

/// How long an attempt may take, in seconds.
const BOUND: &str = "60";

/// What the worlds of one group share.
#[derive(Debug)]
pub(crate) struct Base {
    folder: TempDir,
    elsewhere: [NamedTempFile; 3],
    as_root: bool,
}

impl Base {
    pub(crate) fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("corral-escape-").tempdir_in("/tmp").expect("a folder");
        let elsewhere = ["/tmp", "/var/tmp", "/dev/shm"].map(|at| {
            let file = tempfile::Builder::new().prefix("corral-escape-").tempfile_in(at).expect("a file");
            fs::write(&file, SECRET).expect("a file");
            mode(file.path(), 0o644);
            file
        });
        let base = Self { folder, elsewhere, as_root: rustix::process::geteuid().is_root() };
        mode(base.folder.path(), 0o755);
        fs::create_dir(base.folder.path().join("bin")).expect("a folder");
        // Not copied from here: what another test starts meanwhile would hold it open, and make it "busy".
        let copied = Command::new("cp").arg(corral_binary()).arg(base.corral()).status().expect("cp runs");
        assert!(copied.success(), "corral can be copied");
        base.own(&base.folder.path().join("bin"));
        base
    }

    /// The tests run as root, so that what only root may do can be a control.
    pub(crate) fn as_root(&self) -> bool {
        self.as_root
    }

    fn corral(&self) -> PathBuf {
        self.folder.path().join("bin/corral")
    }

    /// A folder for what is more than one world's.
    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.folder.path().join(relative)
    }

    /// Gives a tree to the ordinary user.
    pub(crate) fn own(&self, path: &Path) {
        if self.as_root {
            lchown(path, Some(ORDINARY), Some(ORDINARY)).expect("root may do that");
            if fs::symlink_metadata(path).expect("it is there").is_dir() {
                fs::read_dir(path).expect("a folder").for_each(|entry| self.own(&entry.expect("an entry").path()));
            }
        }
    }
}

/// One user's world, new for each attempt.
#[derive(Debug)]
pub(crate) struct World<'a> {
    pub(crate) base: &'a Base,
    folder: TempDir,
    corral_home: PathBuf,
    constants: Vec<(String, String)>,
}

impl<'a> World<'a> {
    pub(crate) fn new(base: &'a Base) -> Self {
        let folder = TempDir::new_in(base.folder.path()).expect("a folder");
        mode(folder.path(), 0o755);
        let mut world = Self { base, corral_home: folder.path().join("corral"), folder, constants: Vec::new() };
        for (path, text) in [
            ("home/.ssh/id_ed25519", SECRET),
            ("home/.claude/.credentials.json", SECRET),
            ("home/.claude.json", SECRET),
            ("corral/config/models.toml", "schema = 1\n# the-secret-of-the-host\n"),
            ("corral/run/token", SECRET),
            ("runtime/secret", SECRET),
            ("work/README", "a project\n"),
        ] {
            world.write(path, text);
        }
        mode(&world.path("corral/run"), 0o700);
        mode(&world.path("runtime"), 0o700);
        std::os::unix::fs::symlink(world.path("home/.ssh/id_ed25519"), world.path("work/leads-out")).expect("a link");
        world.give();
        for (name, path) in [("HOME", "home"), ("WORK", "work"), ("CORRAL_HOME", "corral"), ("RUNTIME", "runtime")] {
            let path = world.path(path).display().to_string();
            world.set(name, &path);
        }
        world.set("SECRET", SECRET);
        world.set("BINARY", &base.corral().display().to_string());
        for (name, file) in ["TMP_FILE", "VAR_TMP_FILE", "SHM_FILE"].iter().zip(&base.elsewhere) {
            world.set(name, &file.path().display().to_string());
        }
        world
    }

    /// Its folder, for a process that goes on in it.
    pub(crate) fn keep(self) -> TempDir {
        self.folder
    }

    /// A constant of the scripts, a text.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.define(name, &format!("{value:?}"));
    }

    /// The same, as Python has it.
    pub(crate) fn define(&mut self, name: &str, value: &str) {
        self.constants.push((name.to_owned(), value.to_owned()));
    }

    /// Uses another home of Corral's, that of a daemon which runs.
    pub(crate) fn use_corral_home(&mut self, path: &Path) {
        path.clone_into(&mut self.corral_home);
        self.set("CORRAL_HOME", &path.display().to_string());
    }

    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.folder.path().join(relative)
    }

    pub(crate) fn work(&self, relative: &str) -> PathBuf {
        self.path("work").join(relative)
    }

    /// Writes a file, with the folders on the way to it.
    pub(crate) fn write(&self, relative: &str, text: &str) {
        let path = self.path(relative);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, text).expect("a file");
    }

    /// Gives all that was written to the user.
    pub(crate) fn give(&self) {
        self.base.own(self.folder.path());
    }

    /// The definitions that a script begins with.
    pub(crate) fn definitions(&self) -> String {
        self.constants.iter().fold(String::new(), |text, (name, value)| text + &format!("{name} = {value}\n"))
    }

    /// `corral` with arguments, as words of a command line.
    pub(crate) fn corral(&self, arguments: &[&str]) -> Vec<String> {
        [&[&*self.base.corral().display().to_string()], arguments].concat().into_iter().map(str::to_owned).collect()
    }

    /// A command of the ordinary user, in the environment of someone with secrets.
    pub(crate) fn command(&self, words: &[String]) -> Command {
        self.run_as(words, self.base.as_root, &["timeout", "--foreground", "--kill-after=5", BOUND])
    }

    /// The same for as long as it takes.
    pub(crate) fn command_without_bound(&self, words: &[String]) -> Command {
        self.run_as(words, self.base.as_root, &["env"])
    }

    /// The same as whoever runs the tests.
    pub(crate) fn command_as_tester(&self, words: &[String]) -> Command {
        self.run_as(words, false, &["timeout", "--foreground", "--kill-after=5", BOUND])
    }

    fn run_as(&self, words: &[String], drop: bool, before: &[&str]) -> Command {
        let user = ORDINARY.to_string();
        let mut all: Vec<_> = before[1..].iter().map(|&word| word.to_owned()).collect();
        if drop {
            all.extend(["setpriv", "--reuid", &user, "--regid", &user, "--clear-groups", "--"].map(str::to_owned));
        }
        all.extend(["/bin/sh", "-c", WITH_DESCRIPTOR_9].map(str::to_owned));
        all.push(self.path("home/.ssh/id_ed25519").display().to_string());
        all.extend(words.iter().cloned());
        let mut command = Command::new(before[0]);
        command.args(all);
        command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin").env("LANG", "C.UTF-8");
        command.env("HOME", self.path("home")).env("CORRAL_HOME", &self.corral_home);
        command.env("XDG_RUNTIME_DIR", self.path("runtime")).env("SSH_AUTH_SOCK", self.path("runtime/agent"));
        command.env("CALLER_SECRET", SECRET).current_dir(self.path("home")).stdin(Stdio::null());
        command
    }
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("permissions");
}

/// Whether something is there, a link that leads nowhere too.
pub(crate) fn is_there(path: &Path) -> bool {
    match fs::symlink_metadata(path) {
        Ok(_) => true,
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => panic!("{}: {error}", path.display()),
    }
}
