//! Asking a session's holder, and starting one where there is none.

use std::ffi::{OsStr, OsString};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use close_fds::CloseFdsBuilder;
use corral_core::{Code, Error, Result};
use corral_daemon::Paths;
use corral_sandbox::shell::Summary;

use super::frame::{Kind, frame, message, read, read_message, send};
use super::place::{Name, Place};
use super::{Asked, Info, READY, Said, TAKEN, Wanted};
use crate::args::Network;
use crate::output::{Failed, remark};

/// How long a holder that begins or ends is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often it is looked for.
const AGAIN: Duration = Duration::from_millis(20);

/// How long a holder may take to say what it is.
const ANSWER: Duration = Duration::from_secs(5);

/// A command for a session.
pub(crate) struct Asking {
    /// Which session.
    pub(crate) name: Name,
    /// Its folder: the one that a session must have that is there, and gets that is not.
    pub(crate) workspace: Option<PathBuf>,
    /// The same for its network.
    pub(crate) network: Option<Network>,
    /// How long the command may take, in seconds.
    pub(crate) timeout: Option<u64>,
    /// Bytes that are passed on of each output.
    pub(crate) max_output: u64,
    /// The command, in bash's language.
    pub(crate) command: Vec<u8>,
}

/// How the asking went.
pub(crate) enum End {
    /// The command is over.
    Over(Summary),
    /// There is no session: its holder ended with this code, and has said why.
    NotBegun(u8),
}

/// Runs a command in a session, with the outputs of this process, and begins the session where there is none.
pub(crate) fn run(paths: &Paths, asking: &Asking) -> Result<End, Failed> {
    let place = Place::open(&paths.shells)?;
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(connection) = place.connect(&asking.name)? {
            if let Some(summary) = ask(connection, asking)? {
                return Ok(End::Over(summary));
            }
        } else if !place.is_held(&asking.name)? {
            match begin(asking)? {
                None => continue,
                Some(code) => return Ok(End::NotBegun(code)),
            }
        }
        // A holder is about to begin, or to end.
        if Instant::now() >= until {
            let message = format!("the session {} neither begins nor ends", asking.name);
            return Err(Error::new(Code::JailFailed, message).hint("its log may say why; try again").into());
        }
        thread::park_timeout(AGAIN);
    }
}

/// None where the holder has gone before the command began.
fn ask(mut connection: UnixStream, asking: &Asking) -> Result<Option<Summary>, Failed> {
    let gone = |error: io::Error| lost(&asking.name).because(error);
    let workspace = asking.workspace.clone().map(PathBuf::into_os_string);
    let wanted =
        Wanted { workspace, network: asking.network, timeout_s: asking.timeout, output_bytes: asking.max_output };
    let request = [message(&Asked::Run(wanted)), frame(Kind::Command, &asking.command)].concat();
    if connection.write_all(&request).is_err() {
        return Ok(None);
    }
    let mut begun = false;
    loop {
        let (kind, payload) = match read(&mut connection) {
            Ok(Some(frame)) => frame,
            Ok(None) | Err(_) if !begun => return Ok(None),
            Ok(None) => return Err(lost(&asking.name).into()),
            Err(error) => return Err(gone(error).into()),
        };
        match kind {
            Kind::Output => pass_on(io::stdout(), &payload)?,
            Kind::Error => pass_on(io::stderr(), &payload)?,
            Kind::Command => {}
            Kind::Message => match serde_json::from_slice(&payload).map_err(|error| gone(error.into()))? {
                Said::Begins => begun = true,
                Said::Over(summary) => return Ok(Some(summary)),
                Said::Failed(error) => return Err(Error::from(error).into()),
                Said::Info(_) | Said::Ended { .. } => {}
            },
        }
    }
}

fn pass_on(mut to: impl Write, piece: &[u8]) -> io::Result<()> {
    to.write_all(piece)?;
    to.flush()
}

fn lost(name: &Name) -> Error {
    Error::new(Code::JailFailed, format!("the session {name} has ended while the command ran"))
        .hint("its state is lost; the next command begins a new one")
}

/// Starts a holder. None once the session stands, or another process has it; else the code that the holder ended with.
fn begin(asking: &Asking) -> Result<Option<u8>, Failed> {
    let failed = |error: io::Error| Error::new(Code::Io, "the session's process cannot be started").because(error);
    // It outlives this process, and what happens to be open in that.
    CloseFdsBuilder::new().cloexecfrom(3);
    let mut command = Command::new("/proc/self/exe");
    command.arg("hold-shell").arg("--session").arg(asking.name.to_string());
    if let Some(workspace) = &asking.workspace {
        command.arg("--workspace").arg(workspace);
    }
    if asking.network == Some(Network::None) {
        command.args(["--network", "none"]);
    }
    // Its error output is this process's until the session stands.
    let mut holder = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().map_err(failed)?;
    let mut said = String::new();
    if let Some(output) = holder.stdout.take() {
        BufReader::new(output).read_line(&mut said).map_err(failed)?;
    }
    match said.trim_end() {
        READY | TAKEN => Ok(None),
        _ => {
            let status = holder.wait().map_err(failed)?;
            let code = status.code().and_then(|code| u8::try_from(code).ok()).filter(|code| *code > 0);
            Ok(Some(code.unwrap_or(crate::exit::CONFIG)))
        }
    }
}

/// What there is of sessions.
pub(crate) fn list(paths: &Paths) -> Result<Vec<Info>> {
    let place = Place::open(&paths.shells)?;
    let mut all = Vec::new();
    for name in place.names() {
        // One that has just ended, or was killed, is none; what the latter has left goes.
        let Some(mut connection) = place.connect(&name)? else {
            place.is_held(&name)?;
            continue;
        };
        let asked = connection.set_read_timeout(Some(ANSWER)).and_then(|()| send(&connection, &Asked::Info));
        if let Ok(Some(Said::Info(info))) = asked.and_then(|()| read_message(&mut connection)) {
            all.push(info);
        }
    }
    Ok(all)
}

/// Ends a session, and returns the sentences about what was found in its folder.
pub(crate) fn end(paths: &Paths, name: &Name) -> Result<Vec<String>> {
    let place = Place::open(&paths.shells)?;
    let none = || {
        Error::new(Code::NotFound, format!("there is no session {name}"))
            .hint("`corral shell --list` shows those that are there")
    };
    let mut connection = place.connect(name)?.ok_or_else(none)?;
    send(&connection, &Asked::End).map_err(|_| none())?;
    let answer = read_message(&mut connection);
    match answer.map_err(|error| lost(name).because(error))? {
        Some(Said::Ended { sentences, failed: None }) => Ok(sentences),
        Some(Said::Ended { sentences, failed: Some(error) }) => {
            for sentence in &sentences {
                remark(sentence);
            }
            Err(error.into())
        }
        Some(Said::Failed(error)) => Err(error.into()),
        _ => Err(none()),
    }
}

/// The words of a command line as bash reads them: one is a line as it is, several are a program and its arguments.
pub(crate) fn line(words: &[OsString]) -> OsString {
    if let [line] = words {
        return line.clone();
    }
    let quoted: Vec<OsString> = words.iter().map(|word| quote(word)).collect();
    quoted.join(OsStr::new(" "))
}

/// Left as it is where that means the same, so that aliases and `NAME=value` work.
fn quote(word: &OsStr) -> OsString {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_./,:=@%+".contains(byte);
    let bytes = word.as_encoded_bytes();
    if !bytes.is_empty() && bytes.iter().all(is_plain) {
        return word.to_owned();
    }
    let mut quoted = OsString::from("'");
    for (index, part) in split(bytes).into_iter().enumerate() {
        if index > 0 {
            quoted.push("'\\''");
        }
        quoted.push(part);
    }
    quoted.push("'");
    quoted
}

fn split(bytes: &[u8]) -> Vec<OsString> {
    bytes.split(|byte| *byte == b'\'').map(|part| OsString::from_vec(part.to_vec())).collect()
}

/// A command that comes on standard input.
pub(crate) fn from_input() -> Result<OsString> {
    let mut text = Vec::new();
    io::stdin()
        .lock()
        .read_to_end(&mut text)
        .map_err(|error| Error::new(Code::Io, "the command cannot be read from standard input").because(error))?;
    Ok(OsString::from_vec(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_word_is_a_line_and_several_are_kept_apart() {
        let of = |words: &[&str]| line(&words.iter().map(OsString::from).collect::<Vec<_>>());
        assert_eq!(of(&["cd a && ls *"]), "cd a && ls *");
        assert_eq!(of(&["echo", "a  b", "it's", "*", "", "x=1"]), "echo 'a  b' 'it'\\''s' '*' '' x=1");
    }
}
