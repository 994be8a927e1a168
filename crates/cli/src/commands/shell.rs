//! `corral shell`

use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use corral_core::{Code, Error, Result};
use corral_daemon::{Environment, Paths};
use corral_sandbox::shell::{Finish, Summary};
use jiff::tz::TimeZone;
use serde::Serialize;

use super::Outcome;
use crate::args::{Network, ShellArgs};
use crate::exit;
use crate::output::{BUSY, DIM, Output, remark};
use crate::shell::{Asking, End, Info, Name, end, from_input, line, list, run};
use crate::table::{Cell, table};

/// The sessions, for programs.
#[derive(Serialize)]
struct Sessions {
    sessions: Vec<Info>,
}

/// What came of an end, for programs.
#[derive(Serialize)]
struct Ended {
    found: Vec<String>,
}

/// Runs a command in a session, lists the sessions, or ends one.
pub(crate) fn shell(args: ShellArgs, env: &Environment, out: &mut Output) -> Outcome {
    let paths = Paths::resolve(env)?;
    if let Some(name) = args.end {
        let found = end(&paths, &Name::new(&name)?)?;
        if out.json {
            out.json(&Ended { found })?;
        } else {
            for sentence in found {
                remark(&sentence);
            }
        }
        return Ok(exit::DONE);
    }
    let Some(name) = args.session else {
        let sessions = list(&paths)?;
        if out.json {
            out.json(&Sessions { sessions })?;
        } else if sessions.is_empty() {
            remark("there is no session");
        } else {
            out.text(&rendered(&sessions, out))?;
        }
        return Ok(exit::DONE);
    };
    let name = Name::new(&name)?;
    let workspace = args.workspace.as_deref().map(absolute).transpose()?;
    let command = if args.command.is_empty() { from_input()? } else { line(&args.command) }.into_vec();
    let (network, timeout, max_output) = (args.network, args.timeout, args.max_output);
    match run(&paths, &Asking { name, workspace, network, timeout, max_output, command })? {
        End::NotBegun(code) => Ok(code),
        End::Over(summary) => Ok(told(summary, args.timeout)),
    }
}

/// As the session knows its own folder.
fn absolute(folder: &Path) -> Result<PathBuf> {
    folder.canonicalize().map_err(|error| {
        Error::new(Code::WorkspaceInvalid, format!("the folder {} cannot be used", folder.display())).because(error)
    })
}

/// Says what the outputs do not; the exit code.
fn told(summary: Summary, timeout: Option<u64>) -> u8 {
    for (dropped, what) in [(summary.stdout_dropped, "output"), (summary.stderr_dropped, "error output")] {
        if dropped > 0 {
            remark(&format!("{dropped} bytes more of its {what} were dropped"));
        }
    }
    match summary.ending {
        Finish::Ended(ending) => ending.exit_code(),
        Finish::TimedOut | Finish::Cancelled => {
            let after = timeout.map_or_else(String::new, |seconds| format!(" after {seconds} s"));
            remark(&format!("the command was killed{after}; the session is as it was before"));
            exit::TIMED_OUT
        }
    }
}

fn rendered(sessions: &[Info], out: &Output) -> String {
    let heads = ["NAME", "WORKSPACE", "NETWORK", "SINCE", ""];
    let mut rows = vec![heads.map(|head| Cell::new(head).style(DIM)).to_vec()];
    rows.extend(sessions.iter().map(|session| {
        let network = match session.network {
            Network::Local => "local",
            Network::None => "none",
        };
        let busy = if session.busy { Cell::new("busy").style(BUSY) } else { Cell::new("") };
        let since = session.since.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M").to_string();
        [Cell::new(&session.name), Cell::new(&session.workspace), Cell::new(network), Cell::new(since), busy].to_vec()
    }));
    table(&rows, out.paint)
}
