//! Where output goes: results to stdout, complaints to stderr, colours to terminals only.

use std::io::{self, BufWriter, Stdout, Write};

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use corral_core::{Error, ErrorBody};
use serde::Serialize;

/// Why a command did not end well.
#[derive(Debug)]
pub(crate) enum Failed {
    /// Something a person should read.
    Told(Error),
    /// Stdout takes no more.
    Output(io::Error),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Told(error)
    }
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

/// Stdout, buffered.
#[derive(Debug)]
pub(crate) struct Output {
    writer: BufWriter<Stdout>,
    /// Whether the reader is a program.
    pub(crate) json: bool,
    /// How styles are written.
    pub(crate) paint: Paint,
}

impl Output {
    /// Stdout of this process.
    pub(crate) fn stdout(json: bool) -> Self {
        let paint = Paint(AutoStream::choice(&io::stdout()) != ColorChoice::Never);
        Self { writer: BufWriter::new(io::stdout()), json, paint }
    }

    /// Writes a text as it is.
    pub(crate) fn text(&mut self, text: &str) -> io::Result<()> {
        self.writer.write_all(text.as_bytes())
    }

    /// Writes a line.
    pub(crate) fn line(&mut self, text: &str) -> io::Result<()> {
        self.text(text)?;
        self.writer.write_all(b"\n")
    }

    /// Writes a JSON text that came as bytes, on a line of its own.
    pub(crate) fn raw(&mut self, json: &[u8]) -> io::Result<()> {
        self.writer.write_all(json)?;
        self.writer.write_all(b"\n")
    }

    /// Writes a value as one line of JSON.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut self.writer, value)?;
        self.writer.write_all(b"\n")
    }

    /// Sends everything on its way.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

/// Whether styles are written at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Paint(pub(crate) bool);

/// Headings and what matters less.
pub(crate) const DIM: Style = Style::new().dimmed();
/// What the eye should find first.
pub(crate) const BOLD: Style = Style::new().bold();
/// As it should be.
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
/// Under way, or not quite right.
pub(crate) const BUSY: Style = AnsiColor::Yellow.on_default();
/// Wrong.
pub(crate) const BAD: Style = AnsiColor::Red.on_default().bold();

impl Paint {
    /// The text in a style.
    pub(crate) fn paint(self, style: Style, text: &str) -> String {
        if self.0 && !style.is_plain() { format!("{style}{text}{style:#}") } else { text.to_owned() }
    }
}

/// An error as people read it: what happened, the log, what to do.
pub(crate) fn error_text(error: &ErrorBody, paint: Paint) -> String {
    let mut lines = vec![format!("{} {}", paint.paint(BAD, "error:"), visible(&error.message))];
    lines.extend(error.log.iter().map(|line| format!("  {} {}", paint.paint(DIM, "log:"), visible(line))));
    lines.extend(error.hint.iter().map(|hint| format!("{} {}", paint.paint(BOLD, "hint:"), visible(hint))));
    lines.join("\n") + "\n"
}

/// Writes an error to stderr.
pub(crate) fn complain(error: &Error) {
    let paint = Paint(AutoStream::choice(&io::stderr()) != ColorChoice::Never);
    // Where stderr is gone, the exit code still tells.
    let _ = io::stderr().lock().write_all(error_text(&error.body(), paint).as_bytes());
}

/// Writes a remark to stderr, next to a result on stdout.
pub(crate) fn remark(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", visible(text));
}

/// The text with control characters escaped: logs and files may hold what would confuse a terminal.
pub(crate) fn visible(text: &str) -> String {
    let harmless = |c: char| !c.is_control() || c == '\t';
    if text.chars().all(harmless) {
        return text.to_owned();
    }
    text.chars().map(|c| if harmless(c) { c.to_string() } else { c.escape_default().to_string() }).collect()
}

#[cfg(test)]
mod tests {
    use corral_core::Code;

    use super::*;

    #[test]
    fn an_error_says_what_why_and_what_to_do() {
        let error = Error::new(Code::OutOfMemory, "b could not be loaded: no memory")
            .log(["cudaMalloc failed".to_owned(), "\u{1b}[31mexiting".to_owned()])
            .hint("lower `ctx`");
        let told = "error: b could not be loaded: no memory\n  log: cudaMalloc failed\n  log: \\u{1b}[31mexiting\n\
                    hint: lower `ctx`\n";
        assert_eq!(error_text(&error.body(), Paint(false)), told);
    }

    #[test]
    fn colours_are_written_only_where_they_are_wanted() {
        let error = Error::new(Code::Io, "no").body();
        assert_eq!(error_text(&error, Paint(false)), "error: no\n");
        assert_eq!(error_text(&error, Paint(true)), "\u{1b}[1m\u{1b}[31merror:\u{1b}[0m no\n");
    }
}
