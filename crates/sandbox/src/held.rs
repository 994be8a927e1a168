//! A jail's processes as its launcher holds them: bubblewrap, and the jail's first one, with which all others end.

use std::fmt::Write as _;
use std::io;
use std::os::fd::OwnedFd;
use std::process::{Child, ChildStderr};
use std::time::Duration;

use corral_core::{Code, Error, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::processes::{belonging, process, processes};

/// So many processes are named.
const NAMED: usize = 10;

/// bubblewrap, and the first process of the jail, its child.
#[derive(Debug)]
pub(crate) struct Held {
    bwrap: Child,
    first: Option<First>,
    /// It has been waited for long enough.
    is_given_up: bool,
}

#[derive(Debug)]
struct First {
    number: u32,
    pidfd: OwnedFd,
}

impl Held {
    pub(crate) fn new(bwrap: Child) -> Self {
        Self { bwrap, first: None, is_given_up: false }
    }

    /// Takes hold of the jail's first process, whose number bubblewrap has told.
    pub(crate) fn hold(&mut self, number: u32) -> io::Result<()> {
        let pidfd = pidfd_open(pid(number)?, PidfdFlags::empty())?;
        // The number could be another process's by now, but not another's with this parent.
        let parent = process(number).map(|one| one.parent);
        if parent != i32::try_from(self.bwrap.id()).ok() {
            return Err(io::Error::other("the jail's first process has gone"));
        }
        self.first = Some(First { number, pidfd });
        Ok(())
    }

    /// Whether the first process is in hand.
    pub(crate) fn is_complete(&self) -> bool {
        self.first.is_some()
    }

    /// bubblewrap's number.
    pub(crate) fn id(&self) -> u32 {
        self.bwrap.id()
    }

    /// What bubblewrap says, once.
    pub(crate) fn errors(&mut self) -> Option<ChildStderr> {
        self.bwrap.stderr.take()
    }

    /// Ends the jail, and waits until nothing of it runs any more. The kernel kills all others with the first process, and
    /// lets that be reaped when the last of them has gone; bubblewrap reaps it and ends.
    ///
    /// [`Code::JailFailed`] with what still runs, where that takes longer.
    pub(crate) fn end(&mut self, within: Duration) -> Result<()> {
        if self.is_given_up || matches!(self.bwrap.try_wait(), Ok(Some(_))) {
            return Ok(());
        }
        match &self.first {
            // It may have ended by itself. bubblewrap is not killed: with it the news of the others' end would be lost.
            Some(first) => drop(pidfd_send_signal(&first.pidfd, Signal::KILL)),
            // Nothing runs in it yet.
            None => drop(self.bwrap.kill()),
        }
        if self.ends_within(within) && self.bwrap.wait().is_ok() {
            return Ok(());
        }
        self.is_given_up = true;
        let what = format!("the jail does not end: {}", self.still_there());
        Err(Error::new(Code::JailFailed, what)
            .hint("nobody looked at what it has left in the folder: when they have gone, look before you work there"))
    }

    fn ends_within(&self, time: Duration) -> bool {
        let end = pid(self.bwrap.id()).and_then(|pid| Ok(pidfd_open(pid, PidfdFlags::empty())?));
        let (Ok(end), Ok(time)) = (end, Timespec::try_from(time)) else { return false };
        loop {
            match poll(&mut [PollFd::new(&end, PollFlags::IN)], Some(&time)) {
                Err(rustix::io::Errno::INTR) => {}
                ended => return ended.is_ok_and(|ended| ended > 0),
            }
        }
    }

    /// The processes of the jail that live, in words.
    fn still_there(&self) -> String {
        let first = self.first.as_ref().and_then(|first| i32::try_from(first.number).ok());
        let all = first.map(|first| belonging(processes(), first)).unwrap_or_default();
        let mut said = format!("{} of its processes are still there", all.len());
        for (index, one) in all.iter().take(NAMED).enumerate() {
            let name: String = one.name.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
            // A text can always be written to.
            let _ = write!(said, "{} {} ({name})", if index == 0 { ":" } else { "," }, one.id);
        }
        if all.len() > NAMED {
            said.push_str(" and more");
        }
        said
    }
}

fn pid(number: u32) -> io::Result<Pid> {
    let pid = i32::try_from(number).ok().and_then(Pid::from_raw);
    pid.ok_or_else(|| io::Error::other("a process without a number"))
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    use super::*;

    /// What only tests the waiting: a shell in bubblewrap's place that starts a process, tells its number, and then does
    /// this.
    fn stand_in(then: &str) -> (Child, u32) {
        let script = format!("sleep 600 & echo $!; {then}");
        let mut child = Command::new("sh").args(["-c", &script]).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        (child, line.trim().parse().unwrap())
    }

    #[test]
    fn the_end_is_that_of_all() {
        let (bwrap, first) = stand_in("wait");
        let mut held = Held::new(bwrap);
        held.hold(first).unwrap();
        held.end(Duration::from_secs(20)).unwrap();
        // Once is enough.
        held.end(Duration::ZERO).unwrap();
        assert!(process(first).is_none_or(|one| one.is_dead));
    }

    #[test]
    fn what_does_not_end_is_no_end_and_is_named() {
        let (bwrap, first) = stand_in("while :; do sleep 600; done");
        let mut held = Held::new(bwrap);
        held.hold(first).unwrap();
        let error = held.end(Duration::from_millis(50)).unwrap_err();
        assert_eq!(error.code(), Code::JailFailed);
        assert!(error.to_string().contains("the jail does not end"), "{error}");
        // Of one that lives with what it has started.
        let own = held.bwrap.id();
        held.first.as_mut().unwrap().number = own;
        let said = held.still_there();
        assert!(said.contains(&format!(" {own} (sh)")) && said.contains("(sleep)"), "{said}");
        for one in belonging(processes(), i32::try_from(own).unwrap()) {
            let _ = rustix::process::kill_process(Pid::from_raw(one.id).unwrap(), Signal::KILL);
        }
        held.bwrap.wait().unwrap();
    }

    #[test]
    fn only_a_child_of_bubblewraps_is_taken_for_the_first_process() {
        let (bwrap, first) = stand_in("wait");
        let mut held = Held::new(bwrap);
        assert!(held.hold(std::process::id()).is_err() && !held.is_complete());
        held.hold(first).unwrap();
        held.end(Duration::from_secs(20)).unwrap();
    }
}
