//! The dashboard's window: a program of its own, so that the web view takes no memory while nobody looks.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use corral_client::Programs;
use corral_core::{Code, Error, Result};
use corral_daemon::Environment;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc::UnboundedSender;

use crate::app::{Message, Said};
use crate::request::Page;

/// How long the window may take to close, or to say that it asks whether it may.
pub(crate) const CLOSES_WITHIN: Duration = Duration::from_secs(3);

/// Most bytes of what a window that failed said.
const SAID: u64 = 4096;

/// With NVIDIA's driver the newer way of `WebKit` to draw can leave a window blank.
const NO_DMABUF: &str = "WEBKIT_DISABLE_DMABUF_RENDERER";

/// The window, open or not.
pub(crate) struct Window {
    env: Environment,
    programs: Programs,
    happened: UnboundedSender<Message>,
    open: Option<Open>,
}

struct Open {
    pages: ChildStdin,
    task: tokio::task::JoinHandle<()>,
}

impl Window {
    /// None is open yet.
    pub(crate) fn new(env: Environment, programs: Programs, happened: UnboundedSender<Message>) -> Self {
        Self { env, programs, happened, open: None }
    }

    /// Opens the window at a page, or brings the open one to the front: where it is, unless a page is named.
    pub(crate) async fn open(&mut self, page: Option<Page>, notice: Option<&str>) -> Result<()> {
        if let Some(open) = self.open.as_mut().filter(|open| !open.task.is_finished()) {
            let notice = notice.map(|notice| format!("notice {notice}\n")).unwrap_or_default();
            let lines = format!("{notice}{}\n", page.map_or("show", Page::name));
            if open.pages.write_all(lines.as_bytes()).await.is_ok() {
                return Ok(());
            }
        }
        let mut command = self.command()?;
        command.args(["--attached", "--page", page.unwrap_or(Page::Models).name()]);
        if let Some(notice) = notice {
            command.args(["--notice", notice]);
        }
        let mut child = command.stdin(Stdio::piped()).spawn().map_err(|error| cannot(&error.to_string()))?;
        let Some(pages) = child.stdin.take() else { return Err(cannot("it has no input")) };
        let happened = self.happened.clone();
        self.open = Some(Open { pages, task: tokio::spawn(watch(child, happened)) });
        Ok(())
    }

    /// Asks for a folder; none where nobody chose one.
    pub(crate) fn choose_folder(&self) -> impl Future<Output = Result<Option<PathBuf>>> + Send + use<> {
        let command = self.command();
        async {
            let mut command = command?;
            let done = command.arg("--choose-folder").stdin(Stdio::null()).output().await;
            let done = done.map_err(|error| cannot(&error.to_string()))?;
            if !done.status.success() {
                return Err(cannot(&last_line(&done.stderr).unwrap_or_else(|| done.status.to_string())));
            }
            let chosen = OsString::from_vec(done.stdout);
            Ok((!chosen.is_empty()).then(|| chosen.into()))
        }
    }

    /// Asks the window to close, as a person does; whether there is one that can be asked. Where something is typed in it
    /// that is not saved, it asks in turn.
    pub(crate) async fn ask_to_close(&mut self) -> bool {
        match self.open.as_mut().filter(|open| !open.task.is_finished()) {
            Some(open) => open.pages.write_all(b"close\n").await.is_ok(),
            None => false,
        }
    }

    /// Closes the window, whatever is typed in it.
    pub(crate) async fn close(&mut self) {
        if let Some(Open { pages, mut task }) = self.open.take() {
            // It closes when nobody can tell it pages any more.
            drop(pages);
            if tokio::time::timeout(CLOSES_WITHIN, &mut task).await.is_err() {
                // The program is killed with the task that waits for it.
                task.abort();
            }
        }
    }

    fn command(&self) -> Result<Command> {
        let mut command = Command::new(self.programs.find("corral-dashboard")?);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        if self.env.get(NO_DMABUF).is_none() && Path::new("/proc/driver/nvidia/version").exists() {
            command.env(NO_DMABUF, "1");
        }
        Ok(command)
    }
}

/// Waits for the window's end, and says why where it failed.
async fn watch(mut child: Child, happened: UnboundedSender<Message>) {
    if let Some(told) = child.stdout.take() {
        let happened = happened.clone();
        tokio::spawn(async move {
            let mut lines = BufReader::new(told).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                tracing::debug!("the dashboard: {line}");
                let said = match line.as_str() {
                    "asks" => Said::Asks,
                    "kept" => Said::Kept,
                    _ => continue,
                };
                let _ = happened.send(Message::Window(said));
            }
        });
    }
    let mut said = Vec::new();
    if let Some(stderr) = child.stderr.take() {
        // Toolkits are talkative: the last of it tells.
        let mut lines = BufReader::new(stderr).split(b'\n');
        while let Ok(Some(line)) = lines.next_segment().await {
            tracing::debug!("the dashboard: {}", String::from_utf8_lossy(&line));
            if !line.trim_ascii().is_empty() {
                said = line;
            }
        }
    }
    let failed = match child.wait().await {
        Ok(status) if status.success() => None,
        Ok(status) => Some(last_line(&said).unwrap_or_else(|| status.to_string())),
        Err(error) => Some(error.to_string()),
    };
    if let Some(failed) = failed {
        let _ = happened.send(Message::Failed(cannot(&failed)));
    }
    let _ = happened.send(Message::Window(Said::Ends));
}

fn cannot(why: &str) -> Error {
    Error::new(Code::ProgramMissing, format!("the dashboard's window cannot be shown: {why}"))
        .hint("`corral dashboard` opens it in your browser")
}

fn last_line(said: &[u8]) -> Option<String> {
    let said = said.len().checked_sub(usize::try_from(SAID).unwrap_or(usize::MAX)).map_or(said, |from| &said[from..]);
    let said = String::from_utf8_lossy(said);
    let line = said.lines().map(str::trim).rfind(|line| !line.is_empty())?;
    // GLib puts the program, the level and the time before what it has to say.
    let rest = line.strip_prefix("** (").and_then(|line| line.split_once(" **: "));
    Some(rest.map_or(line, |(_, rest)| rest.split_once(": ").map_or(rest, |(_, said)| said)).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_what_a_window_says_the_last_line_tells_why() {
        assert_eq!(last_line(b" \n"), None);
        assert_eq!(last_line(b"Gtk-Message: x\nthere is no display\n\n").as_deref(), Some("there is no display"));
        let glib = b"** (corral-dashboard:7): ERROR **: 20:26:38.305: Unable to spawn: no such file";
        assert_eq!(last_line(glib).as_deref(), Some("Unable to spawn: no such file"));
    }
}
