//! A command of a shell, from its start to its end.

use std::io::{self, PipeReader, Read};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use corral_core::{Code, Error, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, ioctl_fionbio, ioctl_fionread};
use signal_hook::consts::SIGKILL;

use super::{Audience, Finish, LEFT, RunLimits, Shell, Stream, Summary};
use crate::launch::broken;
use crate::protocol::{Ending, Event};

/// So much is read from a pipe at once, in bytes.
const PIECE: usize = 64 << 10;

/// How long what was killed may take to be gone.
const KILLED: Duration = Duration::from_secs(10);

/// A command that runs.
pub(super) struct Running<'a> {
    shell: &'a mut Shell,
    id: u64,
    outputs: [Output; 2],
    deadline: Option<Instant>,
    /// Why it was killed, and when it has to be gone.
    killed: Option<(Finish, Instant)>,
}

/// One of its outputs.
struct Output {
    stream: Stream,
    /// None once nobody has its other end open.
    pipe: Option<PipeReader>,
    /// So many bytes more are passed on.
    room: u64,
    dropped: u64,
}

/// What there is to do.
struct Due {
    event: bool,
    output: [bool; 2],
    left: bool,
}

impl<'a> Running<'a> {
    pub(super) fn new(shell: &'a mut Shell, id: u64, pipes: [PipeReader; 2], limits: RunLimits) -> Self {
        let [output, error] = pipes;
        let of = |stream, pipe| Output { stream, pipe: Some(pipe), room: limits.output_bytes, dropped: 0 };
        let outputs = [of(Stream::Output, output), of(Stream::Error, error)];
        // One that is beyond the clock is none.
        let deadline = limits.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        Self { shell, id, outputs, deadline, killed: None }
    }

    pub(super) fn until_it_ends(mut self, audience: &mut dyn Audience) -> Result<Summary> {
        for output in &self.outputs {
            output.unblock().map_err(broken)?;
        }
        loop {
            let due = self.wait(audience).map_err(broken)?;
            for (output, is_due) in self.outputs.iter_mut().zip(due.output) {
                if is_due {
                    output.take(PIECE, audience).map_err(broken)?;
                }
            }
            if due.event
                && let Some(ending) = self.hear()?
            {
                return self.finish(ending, audience);
            }
            let now = Instant::now();
            match self.killed {
                None if due.left => self.kill(Finish::Cancelled)?,
                None if self.deadline.is_some_and(|deadline| now >= deadline) => self.kill(Finish::TimedOut)?,
                Some((_, gone)) if now >= gone => {
                    self.shell.stands = false;
                    return Err(Error::new(Code::JailFailed, "a command that was killed does not end"));
                }
                _ => {}
            }
        }
    }

    fn wait(&self, audience: &dyn Audience) -> io::Result<Due> {
        let mut all = vec![PollFd::new(&self.shell.jail, PollFlags::IN)];
        let mut places = [None; 2];
        for (output, place) in self.outputs.iter().zip(&mut places) {
            if let Some(pipe) = &output.pipe {
                *place = Some(all.len());
                all.push(PollFd::new(pipe, PollFlags::IN));
            }
        }
        let others = all.len();
        if self.killed.is_none() {
            all.extend(audience.leaves().into_iter().map(|one| PollFd::from_borrowed_fd(one, PollFlags::IN)));
        }
        let until = self.killed.map_or(self.deadline, |(_, gone)| Some(gone));
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        // Rounded up, so that it is not looked at too early, again and again.
        let left = left.map(|left| left + Duration::from_millis(1));
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        match poll(&mut all, left.as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(Due { event: false, output: [false; 2], left: false }),
            Err(error) => return Err(error.into()),
        }
        let came = |at: usize| all.get(at).is_some_and(|one| !one.revents().is_empty());
        let left = (others..all.len()).any(came);
        Ok(Due { event: came(0), output: places.map(|place| place.is_some_and(came)), left })
    }

    fn kill(&mut self, why: Finish) -> Result<()> {
        self.killed = Some((why, Instant::now() + KILLED));
        let asked = self.shell.jail.end(self.id);
        self.shell.stands &= asked.is_ok();
        asked
    }

    /// Hears what has become of it.
    fn hear(&mut self) -> Result<Option<Ending>> {
        let heard = self.listen();
        self.shell.stands &= heard.is_ok();
        match heard? {
            Heard::Nothing => Ok(None),
            Heard::Ended(ending) => Ok(Some(ending)),
            Heard::NotStarted(why) => {
                let message = format!("the command did not start: {why}");
                Err(Error::new(Code::JailFailed, message).hint("processes in the background may be too many"))
            }
        }
    }

    fn listen(&mut self) -> Result<Heard> {
        let channel = self.shell.jail.channel();
        let goes_on = channel.read().map_err(broken)?;
        while let Some(event) = channel.parse().map_err(broken)? {
            match event {
                Event::Ended { id, ending } if id == self.id => return Ok(Heard::Ended(ending)),
                Event::NotStarted { id, why, .. } if id == self.id => return Ok(Heard::NotStarted(why)),
                _ => {}
            }
        }
        if goes_on { Ok(Heard::Nothing) } else { Err(broken(io::ErrorKind::UnexpectedEof.into())) }
    }

    /// Takes what it wrote before its end; what goes on to write is read by nobody.
    fn finish(self, ending: Ending, audience: &mut dyn Audience) -> Result<Summary> {
        let Self { shell, outputs, killed, .. } = self;
        let [mut output, mut error] = outputs;
        for one in [&mut output, &mut error] {
            one.drain(audience).map_err(broken)?;
            if let Some(pipe) = one.pipe.take() {
                read_on(pipe, &shell.left);
            }
        }
        // It may have ended just before it was killed.
        let ending = match killed {
            Some((why, _)) if ending == Ending::Signal(SIGKILL) => why,
            _ => Finish::Ended(ending),
        };
        Ok(Summary { ending, stdout_dropped: output.dropped, stderr_dropped: error.dropped })
    }
}

enum Heard {
    Nothing,
    Ended(Ending),
    NotStarted(String),
}

impl Output {
    /// A command can read from its own output, and so take away what was there a moment ago.
    fn unblock(&self) -> io::Result<()> {
        self.pipe.as_ref().map_or(Ok(()), |pipe| Ok(ioctl_fionbio(pipe, true)?))
    }

    /// Takes a piece of at most so many bytes; how many there were.
    fn take(&mut self, most: usize, audience: &mut dyn Audience) -> io::Result<usize> {
        let Some(pipe) = &mut self.pipe else { return Ok(0) };
        let mut piece = vec![0; most];
        let read = match pipe.read(&mut piece) {
            Ok(0) => {
                self.pipe = None;
                return Ok(0);
            }
            Ok(read) => read,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                return Ok(0);
            }
            Err(error) => return Err(error),
        };
        let kept = usize::try_from(self.room).map_or(read, |room| room.min(read));
        self.room -= kept as u64;
        self.dropped += (read - kept) as u64;
        if let Some(piece) = piece.get(..kept).filter(|piece| !piece.is_empty()) {
            audience.hear(self.stream, piece);
        }
        Ok(read)
    }

    /// Takes what is there now, and not what comes meanwhile from processes in the background, which may be endless.
    fn drain(&mut self, audience: &mut dyn Audience) -> io::Result<()> {
        let there = self.pipe.as_ref().map_or(Ok(0), ioctl_fionread)?;
        let mut there = usize::try_from(there).unwrap_or(usize::MAX);
        while there > 0 {
            let read = self.take(PIECE.min(there), audience)?;
            if read == 0 {
                return Ok(());
            }
            there -= read;
        }
        let Some(pipe) = &self.pipe else { return Ok(()) };
        let mut end = [PollFd::new(pipe, PollFlags::IN)];
        let ready = poll(&mut end, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
        if ready.is_ok() && end[0].revents() == PollFlags::HUP {
            self.pipe = None;
        }
        Ok(())
    }
}

/// Reads a pipe of a process in the background, which would be ended by a signal if nobody did.
fn read_on(mut pipe: PipeReader, left: &Arc<()>) {
    if Arc::strong_count(left) > LEFT || ioctl_fionbio(&pipe, false).is_err() {
        return;
    }
    let counted = Arc::clone(left);
    let reading = thread::Builder::new().stack_size(64 << 10).spawn(move || {
        // Its end is all that matters.
        let _ = io::copy(&mut pipe, &mut io::sink());
        drop(counted);
    });
    if let Err(error) = reading {
        tracing::debug!("what runs in the background is not read: {error}");
    }
}
