//! `corral claude --terminal`: a window of its own, as the tray opens it.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use corral_claude::terminal::{Invocation, find};
use corral_core::{Code, Error, Result};
use corral_daemon::{Environment, Paths, read_settings};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::args::ClaudeArgs;
use crate::jail::variable;

/// Variables that decide which Corral it is. A terminal that is one program for all its windows has those of its start.
const OURS: [&str; 2] = ["CORRAL_HOME", "CORRAL_CLAUDE"];

/// A terminal that cannot open a window says so within this time.
const PATIENCE: Duration = Duration::from_millis(500);

/// Opens a terminal with the same command in it.
pub(crate) fn open(args: &ClaudeArgs, env: &Environment) -> Result<()> {
    let settings = read_settings(&Paths::resolve(env)?)?;
    let terminal = find(&variable(env), settings.terminal.as_ref())?;
    let folder = args.jail.workspace.clone().unwrap_or_else(|| PathBuf::from("."));
    let folder = folder.canonicalize().map_err(|error| {
        Error::new(Code::WorkspaceInvalid, format!("there is no folder {}", folder.display()))
            .because(error)
            .hint("name another with --workspace")
    })?;
    let program = std::env::current_exe()
        .map_err(|error| Error::new(Code::Io, "this program does not know its own path").because(error))?;
    let name = folder.file_name().unwrap_or(folder.as_os_str()).to_string_lossy();
    let command = command(program, args, &folder, env);
    let Invocation { program, args, folder } = terminal.command(&format!("{name}: local Claude"), &folder, &command);
    let mut window = Command::new(&program);
    window.args(args).current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // It outlives what this was called from.
    window.process_group(0);
    let failed = |what: String| {
        Error::new(Code::ProgramMissing, format!("{} opened no window: {what}", program.display()))
            .hint("name another terminal as `terminal` in settings.toml, or run `claude-local` in one")
    };
    let child = window.spawn().map_err(|error| failed(error.to_string()))?;
    stays(child, PATIENCE).map_err(failed)
}

/// What runs in the window.
fn command(program: PathBuf, args: &ClaudeArgs, folder: &Path, env: &Environment) -> Vec<OsString> {
    let set = OURS.iter().filter_map(|name| Some(format!("{name}={}", env.get(name)?).into()));
    let set: Vec<OsString> = set.collect();
    let mut command = if set.is_empty() { Vec::new() } else { vec!["/usr/bin/env".into()] };
    command.extend(set);
    command.extend([program.into(), "claude".into(), "--hold-on-failure".into()]);
    if let Some(model) = &args.model {
        command.extend(["--model".into(), model.into()]);
    }
    if args.ide {
        command.push("--ide".into());
    }
    command.extend(["--workspace".into(), folder.into()]);
    if !args.arguments.is_empty() {
        command.push("--".into());
        command.extend(args.arguments.iter().cloned());
    }
    command
}

/// Sees that a program does not fail at once. One that hands the window on to another program ends well at once.
pub(super) fn stays(mut child: Child, patience: Duration) -> Result<(), String> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let end = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
    if let (Some(end), Ok(patience)) = (&end, Timespec::try_from(patience)) {
        // Whether it has ended is asked below, however this comes out.
        let _ = poll(&mut [PollFd::new(end, PollFlags::IN)], Some(&patience));
    }
    match child.try_wait() {
        Ok(Some(status)) if !status.success() => Err(format!("it ended with {status}")),
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}
