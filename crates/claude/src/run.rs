//! Running a program for what it prints.

use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal};

/// The first 4 KiB of what it prints; it has a home of its own in `scratch`, and nothing of the environment.
pub(crate) fn output(words: &[PathBuf], scratch: &Path, patience: Duration) -> io::Result<String> {
    let home = tempfile::tempdir_in(scratch)?;
    let [program, args @ ..] = words else { return Err(io::ErrorKind::InvalidInput.into()) };
    let mut command = Command::new(program);
    command.args(args).env_clear().current_dir(home.path()).process_group(0);
    command.env("HOME", home.path()).env("PATH", "/usr/local/bin:/usr/bin:/bin").env("LANG", "C.UTF-8");
    command.env("DISABLE_AUTOUPDATER", "1").env("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn()?;
    let ended = ends(&child, patience);
    if let Some(group) = Pid::from_raw(child.id().cast_signed()) {
        // It may have left others behind, which are in its group.
        let _ = rustix::process::kill_process_group(group, Signal::KILL);
    }
    let read = read(&mut child);
    let status = child.wait()?;
    if !ended? {
        return Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("it does not end within {} s", patience.as_secs()),
        ));
    }
    if !status.success() {
        return Err(io::Error::other(format!("it ended with {status}")));
    }
    read
}

/// Waits for its end; it stays to be waited for, so that its number is not another's yet.
fn ends(child: &Child, patience: Duration) -> io::Result<bool> {
    let pid = Pid::from_raw(child.id().cast_signed()).ok_or(io::ErrorKind::InvalidData)?;
    let fd = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
    let patience = Timespec::try_from(patience).map_err(io::Error::other)?;
    let mut fds = [PollFd::new(&fd, PollFlags::IN)];
    Ok(rustix::io::retry_on_intr(|| poll(&mut fds, Some(&patience)))? > 0)
}

/// What is in the pipe; whoever holds its other end is not waited for.
fn read(child: &mut Child) -> io::Result<String> {
    let Some(mut pipe) = child.stdout.take() else { return Ok(String::new()) };
    rustix::io::ioctl_fionbio(&pipe, true)?;
    let mut text = [0; 4096];
    let length = pipe.read(&mut text)?;
    Ok(String::from_utf8_lossy(&text[..length]).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, patience: Duration) -> io::Result<String> {
        let scratch = tempfile::tempdir().unwrap();
        let argv = ["/bin/sh", "-c", script].map(PathBuf::from);
        output(&argv, scratch.path(), patience)
    }

    #[test]
    fn it_has_a_home_of_its_own_and_nothing_of_the_environment() {
        let script =
            "test \"$HOME\" = \"$(pwd)\" && tr '\\0' '\\n' </proc/$$/environ | cut -d= -f1 | sort | tr '\\n' ' '";
        let expected = "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC DISABLE_AUTOUPDATER HOME LANG PATH ";
        assert_eq!(sh(script, Duration::from_mins(1)).unwrap(), expected);
    }

    #[test]
    fn one_that_does_not_end_is_ended() {
        let error = sh("sleep 1000", Duration::from_millis(50)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn one_that_leaves_another_with_its_output_is_not_waited_for() {
        assert_eq!(sh("sleep 1000 & echo 1", Duration::from_mins(1)).unwrap(), "1\n");
        assert!(sh("exit 3", Duration::from_mins(1)).unwrap_err().to_string().contains('3'));
    }
}
