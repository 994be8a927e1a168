//! The process that holds a session: it builds the jail, serves one command at a time, and looks at what is left at
//! the end.

use std::collections::VecDeque;
use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use corral_claude::environment::bare;
use corral_core::{Code, Error, Result};
use corral_daemon::{Environment, Paths};
use corral_sandbox::shell::{Finish, RunLimits, Shell};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::stdio::{dup2_stderr, dup2_stdout};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::audience::Asker;
use super::door::{Door, Job};
use super::place::{Held, Name, Place};
use super::{Info, READY, Said, TAKEN, Wanted};
use crate::args::HoldArgs;
use crate::commands::Outcome;
use crate::exit;
use crate::jail::{Aftermath, Plan, label_of, left_over, new_token, variable};
use crate::output::{complain, remark};

/// How long answers may take at the end to be read by those who wait for them.
const FAREWELL: Duration = Duration::from_secs(2);

/// Holds a session until it is ended. Until it stands, errors and remarks are for whoever started this process.
pub(crate) fn hold(args: &HoldArgs, env: &Environment) -> Outcome {
    // Where it leads a group already, somebody has started it by hand, and it ends with their terminal.
    let _ = rustix::process::setsid();
    let paths = Paths::resolve(env)?;
    let name = Name::new(&args.session)?;
    let Some((held, listener)) = Place::open(&paths.shells)?.hold(&name)? else {
        writeln!(io::stdout(), "{TAKEN}")?;
        return Ok(exit::DONE);
    };
    let (stop, stopped) = UnixStream::pair()?;
    stop.set_nonblocking(true)?;
    for signal in [SIGTERM, SIGINT, SIGHUP] {
        signal_hook::low_level::pipe::register(signal, stop.try_clone()?)?;
    }
    if held.was_lost {
        remark(&format!(
            "the session {name} was lost, with its state and all that ran in it, when its process was killed; this is \
             a new one. What it has left in its folder was not looked at"
        ));
    }
    let plan = Plan::new(&args.jail, paths.clone(), env)?;
    plan.remarks().for_each(|text| remark(&text));
    let workspace = plan.workspace.path().to_owned();
    let info = Info {
        name: name.to_string(),
        workspace: workspace.to_string_lossy().into_owned(),
        network: plan.network,
        since: jiff::Timestamp::now(),
        busy: false,
        pid: std::process::id(),
    };
    let token = new_token()?;
    let (jail, aftermath) = plan.build(label_of(format!("shell {name}").as_ref(), &workspace), &token)?;
    let shell = Shell::start(jail, bare(token.expose(), &variable(env)), workspace.clone().into());
    let (door, jobs) = Door::open(listener, info, stop)?;
    leave(&paths, &name)?;
    let session = Session { held, shell, aftermath, door, jobs, stopped, workspace, waiting: VecDeque::new() };
    session.serve();
    Ok(exit::DONE)
}

/// Lets go of whoever started this process.
fn leave(paths: &Paths, name: &Name) -> Result<()> {
    let log = paths.shell_logs.join(format!("{name}.log"));
    let go = || -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&paths.shell_logs)?;
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&log)?;
        std::env::set_current_dir("/")?;
        dup2_stderr(&file)?;
        writeln!(io::stdout(), "{READY}")?;
        dup2_stdout(&file)?;
        Ok(())
    };
    go().map_err(|error| Error::new(Code::Io, format!("the session cannot go on in {}", log.display())).because(error))
}

struct Session {
    held: Held,
    shell: Shell,
    aftermath: Aftermath,
    door: Door,
    jobs: Receiver<Job>,
    /// Readable where the session is to end.
    stopped: UnixStream,
    workspace: std::path::PathBuf,
    /// Whoever waits for a command.
    waiting: VecDeque<(UnixStream, Wanted, Vec<u8>)>,
}

impl Session {
    fn serve(mut self) {
        remark(&format!("{} the session {} has begun", jiff::Timestamp::now(), self.held.name));
        let mut writing: Vec<JoinHandle<()>> = Vec::new();
        let mut enders = Vec::new();
        let why = loop {
            match self.next(&mut enders) {
                Ok(true) => {}
                Ok(false) => break None,
                Err(error) => break Some(error),
            }
            while let Some((connection, wanted, command)) = self.waiting.pop_front() {
                writing.retain(|one| !one.is_finished());
                writing.extend(self.run(connection, &wanted, command));
                if !self.shell.stands() || self.is_stopped() {
                    break;
                }
            }
        };
        // A command may have come while the end was on its way.
        self.take_jobs(&mut enders);
        if let Some(error) = &why {
            complain(error);
        }
        let Self { held, shell, aftermath, door, waiting, .. } = self;
        let name = held.name.clone();
        for (connection, ..) in waiting {
            let _ = super::frame::send(&connection, &Said::Failed(over(&name).body()));
        }
        drop(door);
        // Only when nothing of it runs any more is there something to look at.
        let (sentences, failed) = match shell.close().and_then(|()| aftermath.look()) {
            Ok(report) => (report.sentences(), left_over(&report).err()),
            Err(error) => (Vec::new(), Some(error)),
        };
        for sentence in &sentences {
            remark(sentence);
        }
        failed.iter().for_each(complain);
        remark(&format!("{} the session {name} has ended", jiff::Timestamp::now()));
        drop(held);
        let ended = Said::Ended { sentences, failed: failed.map(|error| error.body()) };
        for connection in enders {
            let _ = super::frame::send(&connection, &ended);
        }
        let until = Instant::now() + FAREWELL;
        while writing.iter().any(|one| !one.is_finished()) && Instant::now() < until {
            thread::park_timeout(Duration::from_millis(5));
        }
    }

    /// Waits for something to do. False where the session is to end.
    fn next(&mut self, enders: &mut Vec<UnixStream>) -> Result<bool> {
        let [job, jail, stop] = {
            let woken = self.door.woken();
            let mut all = [woken, self.shell.as_fd(), self.stopped.as_fd()];
            let mut all = all.each_mut().map(|one| PollFd::from_borrowed_fd(*one, PollFlags::IN));
            match poll(&mut all, None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => {
                    return Err(Error::new(Code::Internal, "the session cannot wait").because(io::Error::from(error)));
                }
            }
            all.each_ref().map(|one| !one.revents().is_empty())
        };
        if job {
            self.take_jobs(enders);
        }
        if jail && !self.shell.look() {
            return Err(Error::new(Code::JailFailed, "the jail has broken down"));
        }
        Ok(!stop && enders.is_empty())
    }

    fn take_jobs(&mut self, enders: &mut Vec<UnixStream>) {
        self.door.wake_taken();
        while let Ok(job) = self.jobs.try_recv() {
            match job {
                Job::Run(connection, wanted, command) => self.waiting.push_back((connection, wanted, command)),
                Job::End(connection) => enders.push(connection),
            }
        }
    }

    fn is_stopped(&self) -> bool {
        has_come(&self.stopped)
    }

    /// Runs a command for somebody; the thread that tells them.
    fn run(&mut self, connection: UnixStream, wanted: &Wanted, command: Vec<u8>) -> Option<JoinHandle<()>> {
        // One who has left while others were served has nothing run for them.
        if has_come(&connection) {
            return None;
        }
        if let Err(error) = self.suits(wanted) {
            let _ = super::frame::send(&connection, &Said::Failed(error.body()));
            return None;
        }
        let (mut asker, writing) = Asker::new(connection, self.stopped.as_fd()).ok()?;
        asker.say(&Said::Begins);
        let timeout = wanted.timeout_s.map(Duration::from_secs);
        let limits = RunLimits { timeout, output_bytes: wanted.output_bytes };
        self.door.busy.store(true, Ordering::Relaxed);
        let outcome = self.shell.run_for(&std::ffi::OsString::from_vec(command), limits, &mut asker);
        self.door.busy.store(false, Ordering::Relaxed);
        asker.say(&match outcome {
            Ok(summary) if summary.ending == Finish::Cancelled => Said::Failed(over(&self.held.name).body()),
            Ok(summary) => Said::Over(summary),
            Err(error) => {
                complain(&error);
                Said::Failed(error.body())
            }
        });
        Some(writing)
    }

    /// Whether the session is of the kind that is asked for.
    fn suits(&self, wanted: &Wanted) -> Result<()> {
        let other = |what: String| {
            let message = format!("the session {} {what}", self.held.name);
            Err(Error::new(Code::InvalidRequest, message).hint("take another name, or end it with --end"))
        };
        if wanted.workspace.as_ref().is_some_and(|folder| **folder != *self.workspace.as_os_str()) {
            return other(format!("works in {}", self.workspace.display()));
        }
        if wanted.network.is_some_and(|network| network != self.door.info.network) {
            return other("was begun with another --network".to_owned());
        }
        Ok(())
    }
}

/// What those are told whose command ends with the session.
fn over(name: &Name) -> Error {
    Error::new(Code::JailFailed, format!("the session {name} was ended")).hint("the next command begins a new one")
}

fn has_come(connection: &UnixStream) -> bool {
    let mut one = [PollFd::new(connection, PollFlags::IN)];
    // What cannot be looked at is as good as gone.
    poll(&mut one, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).map_or(true, |ready| ready > 0)
}
