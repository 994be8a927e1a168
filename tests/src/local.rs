//! `claude-local` and `corral jail` as a user has them: a daemon, a home with a Claude Code of its own, and a folder to
//! work in.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use corral_testkit::SandboxHome;
use serde_json::Value;
use tempfile::TempDir;

use crate::lent_engine::LentEngine;
use crate::user::Ordinary;
use crate::{Daemon, Models, PATIENCE, parts, until};

/// What stands in the files of the user's normal Claude Code, and must not be seen in the jail.
pub const MARK: &str = "of-the-normal-claude-code";

/// Files of a scripted model, in Corral's home.
const SCRIPT: &str = "script.json";
const ASKED: &str = "asked.jsonl";
const READY: &str = "ready";

/// One user's world.
#[derive(Debug)]
pub struct Local {
    /// The daemon that serves the models.
    pub daemon: Daemon,
    /// What the daemon gets to Docker by, where its user may not. Ends after it.
    _engine: Option<LentEngine>,
    root: TempDir,
    /// The user's home as it was.
    before: BTreeMap<PathBuf, Seen>,
}

/// A file or folder: content, number, time of change in nanoseconds, mode.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen(Vec<u8>, u64, (i64, i64), u32);

impl Local {
    /// The tests' own user's.
    #[track_caller]
    pub fn new(models: &Models) -> Self {
        Self::in_home(None, models.home(), None)
    }

    /// Another user's, who is lent the tests' Docker engine.
    #[track_caller]
    pub fn with_docker(user: Ordinary, models: &Models) -> Self {
        Self::in_home(Some(user), models.home(), Some(LentEngine::new()))
    }

    #[track_caller]
    fn in_home(user: Option<Ordinary>, corral: SandboxHome, engine: Option<LentEngine>) -> Self {
        let root = tempfile::Builder::new().prefix("corral-local-").tempdir().expect("a folder");
        let home = root.path().join("home");
        fs::create_dir_all(home.join(".claude")).expect("a folder");
        fs::create_dir(root.path().join("project")).expect("a folder");
        let own = format!("{{\"own\":\"{MARK}\"}}");
        for name in [".claude.json", ".claude/settings.json", ".claude/history.jsonl", ".netrc"] {
            fs::write(home.join(name), &own).expect("a file");
        }
        if let Some(user) = &user {
            user.give(root.path());
        }
        let before = seen(&home);
        let home = home.to_str().expect("a plain path").to_owned();
        let host = engine.as_ref().map(LentEngine::host);
        let mut env = vec![("HOME", &*home)];
        env.extend(host.as_deref().map(|host| ("DOCKER_HOST", host)));
        let daemon = Daemon::start_as(user, corral, &env);
        Self { daemon, _engine: engine, root, before }
    }

    /// The tests' own user's, with models `a` and `b` that are both `scripted-answer`, which is this program. They answer
    /// what [`Local::script`] says, once that is said, and load until [`Local::let_load`] where they are to wait.
    #[track_caller]
    pub fn scripted(program: &str, waits: bool) -> Self {
        Self::scripted_as(None, program, waits)
    }

    /// The same of another user.
    #[track_caller]
    pub fn scripted_as(user: Option<Ordinary>, program: &str, waits: bool) -> Self {
        let program = user.as_ref().map_or_else(|| program.into(), |user| user.bring(Path::new(program)));
        let home = SandboxHome::new();
        let at = |name: &str| home.path().join(name).display().to_string();
        fs::write(at(SCRIPT), r#"[[{"type":"text","text":"hello"}]]"#).expect("a file");
        let mut args = vec!["--script".to_owned(), at(SCRIPT), "--seen".to_owned(), at(ASKED)];
        if waits {
            args.extend(["--ready".to_owned(), at(READY)]);
        }
        let line = format!("args = {args:?}\n");
        Models::program(&program).tiny_with("a", &line).tiny_with("b", &line).write(&home);
        Self::in_home(user, home, None)
    }

    /// What a scripted model that is not loaded yet will answer.
    pub fn script(&self, answers: &Value) {
        fs::write(self.daemon.home().path().join(SCRIPT), answers.to_string()).expect("a file");
    }

    /// What a scripted model was asked so far.
    pub fn asked(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.daemon.home().path().join(ASKED)).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
    }

    /// Lets a scripted model that waits load.
    pub fn let_load(&self) {
        fs::write(self.daemon.home().path().join(READY), "").expect("a file");
    }

    /// The user's home.
    pub fn home(&self) -> PathBuf {
        self.root.path().join("home")
    }

    /// A folder beside the home that holds the workspace.
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// The folder to work in, which is called `project`.
    pub fn workspace(&self) -> PathBuf {
        self.root.path().join("project")
    }

    /// The profile.
    pub fn profile(&self) -> PathBuf {
        self.daemon.home().path().join("claude-local")
    }

    /// Another folder, the user's own, beside the workspace.
    pub fn folder(&self, name: impl AsRef<OsStr>) -> PathBuf {
        let path = self.root.path().join(name.as_ref());
        fs::create_dir(&path).expect("a folder");
        if let Some(user) = self.daemon.user() {
            user.give(&path);
        }
        path
    }

    /// `corral` or `claude-local`, in the workspace, with this user's environment.
    pub fn command(&self, program: &str) -> Command {
        let beside = || parts::corral_binary().with_file_name(program);
        let mut command = self.daemon.user().map_or_else(|| Command::new(beside()), |user| user.command(program));
        command.env_clear().envs(self.environment()).current_dir(self.workspace());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// The user's environment.
    pub fn environment(&self) -> Vec<(&'static str, PathBuf)> {
        let claude = self.daemon.user().map_or_else(parts::claude, |user| user.program("claude"));
        vec![
            ("CORRAL_HOME", self.daemon.home().path().to_owned()),
            ("HOME", self.home()),
            ("CORRAL_CLAUDE", claude),
            ("PATH", "/usr/local/bin:/usr/bin:/bin".into()),
            ("LANG", "C.UTF-8".into()),
            ("TERM", "xterm-256color".into()),
        ]
    }

    /// Runs `claude-local`, whose arguments for Claude Code follow `--`.
    #[track_caller]
    pub fn claude(&self, args: &[&str]) -> Ran {
        Ran::of(self.command("claude-local").args(args))
    }

    /// Runs a shell's script in the jail.
    #[track_caller]
    pub fn jail(&self, script: &str) -> Ran {
        Ran::of(self.command("corral").args(["jail", "--", "sh", "-c", script]))
    }

    /// Checks that nothing of the user's home is other than it was, and that nothing is new in it.
    #[track_caller]
    pub fn assert_home_is_as_it_was(&self) {
        assert_eq!(seen(&self.home()), self.before);
    }

    /// Waits until no session is left.
    #[track_caller]
    pub fn until_no_session(&self) {
        self.daemon.api().until(PATIENCE, "no session is left", |status| status.sessions.is_empty());
    }
}

fn seen(folder: &Path) -> BTreeMap<PathBuf, Seen> {
    let mut all = BTreeMap::new();
    let mut left = vec![folder.to_owned()];
    while let Some(path) = left.pop() {
        let about = path.symlink_metadata().expect("it is there");
        if about.is_dir() {
            left.extend(fs::read_dir(&path).expect("a folder").map(|entry| entry.expect("an entry").path()));
        }
        let content = if about.is_file() { fs::read(&path).expect("a file") } else { Vec::new() };
        all.insert(path, Seen(content, about.ino(), (about.mtime(), about.mtime_nsec()), about.mode()));
    }
    all
}

/// A command that has ended.
#[derive(Debug, Clone)]
pub struct Ran {
    /// Its exit code; none where a signal ended it.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What it said.
    pub stderr: String,
}

impl Ran {
    /// Runs a command to its end, which must come.
    #[track_caller]
    pub fn of(command: &mut Command) -> Self {
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self::end(child)
    }

    /// Waits for the end of one that was started.
    #[track_caller]
    pub fn end(mut child: Child) -> Self {
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            until(2 * PATIENCE, "it ends", || child.try_wait().expect("a child can be waited for"));
        }));
        let _ = child.kill();
        let Output { status, stdout, stderr } = child.wait_with_output().expect("its output");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let ran = Self { code: status.code(), stdout: text(stdout), stderr: text(stderr) };
        assert!(ended.is_ok(), "it does not end: {ran:?}");
        ran
    }

    /// What it printed; it must have gone well.
    #[track_caller]
    pub fn good(self) -> String {
        assert_eq!(self.code, Some(0), "{self:#?}");
        self.stdout
    }

    /// What `claude -p --output-format json` says; it must have gone well.
    #[track_caller]
    pub fn said(self) -> Value {
        let said: Value = serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:#?}"));
        assert_eq!((&said["is_error"], self.code), (&false.into(), Some(0)), "{said:#}\n{}", self.stderr);
        said
    }

    /// Checks that it was refused with this code, and that what was said has each of these parts; there must be a hint.
    #[track_caller]
    pub fn refused(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:#?}");
        let said = self.stderr.starts_with("error: ") && self.stderr.contains("\nhint: ");
        assert!(said && parts.iter().all(|part| self.stderr.contains(part)), "{parts:?} and a hint: {self:#?}");
        assert_eq!(self.stdout, "");
    }
}
