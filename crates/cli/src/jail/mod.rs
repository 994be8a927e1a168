//! What `corral jail` and `corral claude` have in common: from the folder to work in to the look at what was left there.

mod explain;
mod ide;
mod link;
mod mark;

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use corral_core::session::About;
use corral_core::{Code, Error, Result, Secret};
use corral_daemon::jails::Ended;
use corral_daemon::{Environment, Paths};
use corral_sandbox::audit::{Outcome, Record, Report, Snapshot};
use corral_sandbox::memory::{MemoryBound, Unbounded, buses, gib};
use corral_sandbox::protected::{Pin, Protected, Protection};
use corral_sandbox::protocol::{Ending, ResourceLimits};
use corral_sandbox::support::{Support, probe};
use corral_sandbox::workspace::{Workspace, homes};
use corral_sandbox::{Access, GATEWAY_PORT, HOME, Jail, MANAGEMENT_PORT, Main, Policy};
use jiff::Timestamp;
use rustix::fs::{CWD, Mode, OFlags, access, openat};
use rustix::process::geteuid;

pub(crate) use self::explain::explain;
pub(crate) use self::ide::Ide;
use self::ide::Opened;
use self::link::Link;
use self::mark::Mark;
use crate::args::{JailOptions, Network};
use crate::exit;
use crate::output::{complain, remark};

/// A jail that is about to be built.
pub(crate) struct Plan {
    pub(crate) paths: Paths,
    pub(crate) workspace: Workspace,
    pub(crate) network: Network,
    bwrap: PathBuf,
    /// `PATH`.
    programs: OsString,
    protection: Protection,
    policy: Policy,
    ide: Option<Ide>,
    /// Of jails whose launchers were killed.
    left: Vec<(Mark, Record)>,
    /// The model that what runs in it asks for, where that was named.
    pub(crate) model: Option<String>,
    /// Claude Code is what runs in it.
    pub(crate) claude: bool,
}

impl Plan {
    /// Looks at the machine and the folder. `profile` is there, and is home inside.
    pub(crate) fn new(options: &JailOptions, paths: Paths, env: &Environment) -> Result<Self> {
        let programs = OsString::from(env.get("PATH").unwrap_or_default());
        let bwrap = find_bwrap(&programs)?;
        let workspace = open_workspace(options, &paths)?;
        let protection = Protection::of(&workspace, Timestamp::now())?;
        let mut policy = Policy::empty().with(open_profile(&paths.profile)?, HOME, Access::Writable);
        policy.memory = MemoryBound::of_this_machine(buses(variable(env), geteuid().is_root()));
        let network = options.network;
        let left = Mark::left(&paths.jail_marks, &workspace);
        let (ide, model, claude) = (None, None, false);
        Ok(Self { paths, workspace, network, bwrap, programs, protection, policy, ide, left, model, claude })
    }

    /// Shows a file or folder of the host's at a place inside, for reading.
    pub(crate) fn show(&mut self, path: &Path, at: &Path) -> Result<()> {
        let opened = openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
            .map_err(|error| Error::new(Code::Io, format!("{} cannot be opened", path.display())).because(error))?;
        self.with(|policy| policy.with(opened, at, Access::ReadOnly));
        Ok(())
    }

    /// Lets the jail reach the user's editor, through what passes.
    pub(crate) fn reach(&mut self, ide: Ide) {
        self.ide = Some(ide);
    }

    /// The port that the editor is at inside.
    pub(crate) fn ide_port(&self) -> Option<u16> {
        self.ide.as_ref().map(Ide::port)
    }

    /// Adds a file of our own.
    pub(crate) fn file(&mut self, at: &str, content: Vec<u8>) {
        self.with(|policy| policy.with_file(at, content));
    }

    fn with(&mut self, change: impl FnOnce(Policy) -> Policy) {
        let policy = std::mem::replace(&mut self.policy, Policy::empty());
        self.policy = change(policy);
    }

    /// What there is to say before the start.
    pub(crate) fn remarks(&self) -> impl Iterator<Item = String> {
        let left = self.left.iter().flat_map(|(_, earlier)| mark::sentences(earlier, &self.protection.snapshot));
        left.chain(self.protection.notices.iter().map(ToString::to_string))
    }

    /// The jail, in plain words.
    pub(crate) fn explain(&self) -> String {
        explain(self, &self.support())
    }

    fn support(&self) -> Support {
        probe(&self.programs, self.policy.memory.as_ref())
    }

    /// Runs a command in the jail, and looks at what it has left when it has ended.
    pub(crate) fn run(
        self,
        command: Vec<OsString>,
        environment: Vec<(OsString, OsString)>,
        token: &Secret,
    ) -> Result<Ending> {
        let directory = self.workspace.path().as_os_str().to_owned();
        let label = label(&command, self.workspace.path());
        let (mut jail, aftermath) = self.build(label, token)?;
        // Of what is so each time, `corral doctor` tells.
        if let Err(late @ Unbounded::NoAnswer) = &jail.memory {
            remark(&format!("the jail's memory has no bound this time: {late}"));
        }
        let ending = jail.attend(Main { command, environment, directory });
        let killed = jail.killed_for_memory();
        // All that ran in it has ended before its workspace is looked at.
        let closed = jail.close();
        if let Some((count, bound)) = killed {
            remark(&out_of_memory(count, bound));
        }
        if let Err(error) = closed {
            ending.as_ref().err().into_iter().for_each(complain);
            return Err(error);
        }
        let left = match aftermath.look() {
            Ok(report) => {
                report.sentences().iter().for_each(|sentence| remark(sentence));
                left_over(&report)
            }
            Err(error) => Err(error),
        };
        with_what_it_left(ending, left)
    }

    /// Builds the jail; in the list of sessions it has this label. What comes after its end is not done by itself.
    pub(crate) fn build(self, label: String, token: &Secret) -> Result<(Jail, Aftermath)> {
        let Self { paths, workspace, network, bwrap, programs, protection, mut policy, ide, left, model, claude } =
            self;
        let Protection { pins, protected, sockets, git_dir, snapshot, .. } = protection;
        if let Some(outside) = git_dir {
            policy = policy.with(outside.folder, &outside.path, Access::Writable);
            policy = onto_themselves(policy, &outside.path, outside.pins, outside.protected);
            policy = hidden(policy, &outside.path, outside.sockets)?;
        }
        let folder = workspace.folder().try_clone_to_owned();
        let folder = folder.map_err(|error| Error::new(Code::Io, "the folder cannot be kept open").because(error))?;
        policy = policy.with(folder, workspace.path(), Access::Writable);
        policy = onto_themselves(policy, workspace.path(), pins, protected);
        policy = hidden(policy, workspace.path(), sockets)?;
        policy.limits = ResourceLimits::default();
        if network == Network::Local {
            policy.listen = vec![GATEWAY_PORT, MANAGEMENT_PORT];
        }
        policy.listen.extend(ide.as_ref().map(Ide::port));
        let mark = Mark::leave(&paths.jail_marks, &workspace, &snapshot)?;
        let mut jail = match Jail::start(&bwrap, &policy) {
            Ok(jail) => jail,
            Err(error) => {
                mark.lift();
                // What is wrong with the machine says more than what went wrong this time.
                return Err(probe(&programs, None).jail().err().unwrap_or(error));
            }
        };
        drop(policy);
        // It was told before this.
        for (mark, _) in left {
            mark.lift();
        }
        // It was asked for last, and the daemon has no use for it.
        let listener = ide.is_some().then(|| jail.listeners.pop()).flatten();
        let ide = ide.zip(listener).map(|(ide, listener)| ide.open(listener)).transpose()?;
        let ended =
            Ended { claude, label: Some(label.clone()), workspace: shown(workspace.path()), ..Ended::default() };
        let about = About { label: Some(label), workspace: Some(ended.workspace.clone()), model };
        let link =
            (network == Network::Local).then(|| Link::new(&paths, token, about, std::mem::take(&mut jail.listeners)));
        Ok((jail, Aftermath { paths, workspace, snapshot, mark, ended, link, _ide: ide }))
    }
}

/// What is kept of a jail for its end, and its way to the daemon.
pub(crate) struct Aftermath {
    paths: Paths,
    workspace: Workspace,
    snapshot: Snapshot,
    mark: Mark,
    /// What the daemon is told of the jail's end.
    ended: Ended,
    link: Option<Link>,
    _ide: Option<Opened>,
}

impl Aftermath {
    /// Looks at what was left in the workspace, and tells the daemon where that is worth a word. The jail has ended.
    pub(crate) fn look(self) -> Result<Report> {
        let Self { paths, workspace, snapshot, mark, ended, link, _ide: ide } = self;
        if link.as_ref().is_some_and(Link::was_ended) {
            remark("this session was ended from the dashboard, or by `DELETE /sessions`");
        }
        drop((link, ide));
        let report = snapshot.audit(&workspace, &paths.quarantine, Timestamp::now())?;
        mark.lift();
        if !report.findings.is_empty() {
            with_findings(ended, &report).tell(&paths);
        }
        Ok(report)
    }
}

/// How many files an audit found, and where they are.
fn with_findings(ended: Ended, report: &Report) -> Ended {
    let count = |of: fn(&Outcome) -> bool| report.findings.iter().filter(|finding| of(&finding.outcome)).count();
    Ended {
        moved: count(|outcome| matches!(outcome, Outcome::Moved { .. })),
        renamed: count(|outcome| matches!(outcome, Outcome::Renamed { .. })),
        left: count(|outcome| matches!(outcome, Outcome::Left { .. })),
        folder: report.folder.as_deref().map(shown),
        ..ended
    }
}

/// The folder to work in: none of Corral's own, and nobody's home.
pub(crate) fn open_workspace(options: &JailOptions, paths: &Paths) -> Result<Workspace> {
    let folder = options.workspace.clone().unwrap_or_else(|| PathBuf::from("."));
    let own = [&paths.profile, &paths.config_dir, &paths.data_dir, &paths.state_dir, &paths.run_dir, &paths.slots_dir];
    // Where there is no such file, accounts are not known here, and `HOME` is all that says whose home is where.
    let accounts = fs::read("/etc/passwd").unwrap_or_default();
    Workspace::open(&folder, &paths.home, &own.map(Clone::clone))?.outside(&homes(&accounts, geteuid().as_raw()))
}

/// The bubblewrap to use. Whether it works shows when it is used, which takes less time than trying it out before.
fn find_bwrap(programs: &OsStr) -> Result<PathBuf> {
    let usual = Path::new("/usr/bin/bwrap");
    match access(usual, rustix::fs::Access::EXEC_OK) {
        Ok(()) => Ok(usual.to_owned()),
        Err(_) => Ok(probe(programs, None).jail()?.path),
    }
}

fn onto_themselves(mut policy: Policy, root: &Path, pins: Vec<Pin>, protected: Vec<Protected>) -> Policy {
    for pin in pins {
        policy = policy.with(pin.folder, root.join(pin.relative), Access::Writable);
    }
    for item in protected {
        policy = policy.with(item.file, root.join(item.relative), Access::ReadOnly);
    }
    policy
}

/// Puts what nobody listens at over sockets of programs outside: no other mount keeps a socket from being connected to.
fn hidden(mut policy: Policy, root: &Path, sockets: Vec<PathBuf>) -> Result<Policy> {
    for socket in sockets {
        let nothing = openat(CWD, "/dev/null", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
            .map_err(|error| Error::new(Code::Io, "/dev/null cannot be opened").because(error))?;
        policy = policy.with(nothing, root.join(socket), Access::ReadOnly);
    }
    Ok(policy)
}

/// How the session is called where sessions are listed.
fn label(command: &[OsString], workspace: &Path) -> String {
    let program = command.first().map(Path::new).and_then(Path::file_name).unwrap_or(OsStr::new("a command"));
    label_of(program, workspace)
}

/// The same for something of this name.
pub(crate) fn label_of(program: &OsStr, workspace: &Path) -> String {
    let folder = workspace.file_name().unwrap_or(OsStr::new("/"));
    let label = format!("{} in {}", program.to_string_lossy(), folder.to_string_lossy());
    label.chars().map(visible).take(200).collect()
}

/// A path for people to read, in one line.
fn shown(path: &Path) -> String {
    path.to_string_lossy().chars().map(visible).collect()
}

fn visible(letter: char) -> char {
    if letter.is_control() { '\u{fffd}' } else { letter }
}

/// What is said where the kernel has ended so many processes for reaching this bound.
fn out_of_memory(count: u64, bound: u64) -> String {
    let processes = if count == 1 { "a process was".to_owned() } else { format!("{count} processes were") };
    format!("out of memory: {processes} killed, because the jail may take {} at most", gib(bound))
}

/// An error where something is still in the workspace that would run by itself.
pub(crate) fn left_over(report: &Report) -> Result<()> {
    let count = with_findings(Ended::default(), report).left;
    if count == 0 {
        return Ok(());
    }
    let what = if count == 1 { "a file is".to_owned() } else { format!("{count} files are") };
    let message = format!("{what} still in the workspace that would run outside the jail by itself");
    Err(Error::new(Code::WorkspaceInvalid, message)
        .hint("look at it before you work there with Git or an editor; it is named above"))
}

/// How a command ended, unless it went well and what it left did not. Its own failure says more than the other one.
fn with_what_it_left(ending: Result<Ending>, left: Result<()>) -> Result<Ending> {
    match (ending, left) {
        (ending, Ok(())) => ending,
        (Ok(ending), Err(error)) if ending.exit_code() == exit::DONE => Err(error),
        (ending, Err(error)) => {
            complain(&error);
            ending
        }
    }
}

/// The profile's folder, made where it is missing. A link in its place is none of ours.
fn open_profile(path: &Path) -> Result<OwnedFd> {
    let unusable = |error: std::io::Error| {
        Error::new(Code::ProfileInvalid, format!("the profile {} cannot be used", path.display()))
            .because(error)
            .hint("it has to be a folder of yours, and no link")
    };
    match fs::DirBuilder::new().recursive(true).mode(0o700).create(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(unusable(error)),
        _ => {}
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(CWD, path, flags, Mode::empty()).map_err(|error| unusable(error.into()))
}

/// A token for a session.
pub(crate) fn new_token() -> Result<Secret> {
    let mut bytes = [0_u8; 32];
    getrandom::fill(&mut bytes)
        .map_err(|error| Error::new(Code::Internal, "the system gives no random bytes").because(error))?;
    Ok(Secret::new(bytes.iter().fold(String::new(), |mut text, byte| {
        // A text can always be written to.
        let _ = write!(text, "{byte:02x}");
        text
    })))
}

/// The variables of the user, for those who ask for single ones.
pub(crate) fn variable(env: &Environment) -> impl Fn(&str) -> Option<OsString> + '_ {
    |name| env.get(name).map(OsString::from)
}

#[cfg(test)]
mod tests {
    use corral_sandbox::audit::{Change, Finding};

    use super::*;

    fn report(outcomes: impl IntoIterator<Item = Outcome>) -> Report {
        let finding =
            |outcome| Finding { path: "/w/.envrc".into(), change: Change::New, why: "run".to_owned(), outcome };
        Report { findings: outcomes.into_iter().map(finding).collect(), ..Report::default() }
    }

    #[test]
    fn only_what_could_not_be_taken_out_is_left_over() {
        let moved = || Outcome::Moved { to: "/q".into() };
        let left = || Outcome::Left { why: "it is stuck".to_owned() };
        left_over(&report([])).unwrap();
        left_over(&report([moved(), Outcome::Renamed { to: "/w/x".into(), why: String::new() }])).unwrap();
        let error = left_over(&report([moved(), left(), left()])).unwrap_err();
        assert_eq!(error.code(), Code::WorkspaceInvalid);
        assert!(error.to_string().starts_with("2 files are still in the workspace"), "{error}");
        let renamed = Outcome::Renamed { to: "/w/x".into(), why: String::new() };
        let Ended { moved, renamed, left, .. } =
            with_findings(Ended::default(), &report([moved(), renamed, left(), left()]));
        assert_eq!((moved, renamed, left), (1, 1, 2));
    }

    #[test]
    fn a_command_that_went_well_ends_with_what_it_left() {
        let left = || Err(Error::new(Code::WorkspaceInvalid, "it cannot be looked through"));
        let ended = |ending: Result<Ending>, left| with_what_it_left(ending, left).map(Ending::exit_code);
        assert_eq!(ended(Ok(Ending::Code(0)), Ok(())).unwrap(), 0);
        assert_eq!(exit::of(ended(Ok(Ending::Code(0)), left()).unwrap_err().code()), exit::CONFIG);
        assert_eq!(ended(Ok(Ending::Code(3)), left()).unwrap(), 3);
        let broken = Error::new(Code::JailFailed, "the jail has broken down");
        assert_eq!(ended(Err(broken), left()).unwrap_err().code(), Code::JailFailed);
    }
}
