//! `llama-server`'s output, line by line: JSON lines, the plain form with a letter for the level, or anything else.

use corral_core::ModelId;
use corral_core::log::{LogLevel, LogRecord};
use jiff::Timestamp;
use serde::Deserialize;

/// The longest line that is kept, in bytes; what is longer is cut.
pub const MAX_LINE: usize = 8 * 1024;
/// The longest line that is collected before it is read: JSON is longer than the text within.
const MAX_RAW_LINE: usize = 8 * MAX_LINE;
/// The most lines that explain an error.
const MAX_RELEVANT: usize = 10;

/// One line, without colours and without the prefix that says its level.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// How grave.
    pub level: LogLevel,
    /// The text.
    pub msg: String,
}

impl Line {
    /// The line as a record of `model`'s log.
    pub fn record(self, ts: Timestamp, model: &ModelId) -> LogRecord {
        LogRecord { ts, level: self.level, model: model.clone(), msg: self.msg }
    }
}

/// Reads one line of output. One JSON record can hold several lines of text; an empty line is none.
pub fn parse(raw: &str) -> Vec<Line> {
    let raw = strip_ansi(raw);
    let raw = raw.trim_end();
    if raw.starts_with('{')
        && let Ok(record) = serde_json::from_str::<JsonRecord>(raw)
    {
        return match record.msg {
            Some(msg) if record.kind == "log" => {
                let level = record.level.as_deref().map_or(LogLevel::Info, named_level);
                strip_ansi(&msg).lines().filter_map(|text| line(level, text)).collect()
            }
            // A record of numbers, for instance `fit_memory_breakdown`.
            _ => line(LogLevel::Debug, raw).into_iter().collect(),
        };
    }
    let (level, text) = prefixed(raw).unwrap_or_else(|| (guessed_level(raw), raw));
    line(level, text).into_iter().collect()
}

/// Puts a stream of bytes together into lines, the endless ones cut.
#[derive(Debug, Default)]
pub struct Splitter {
    pending: Vec<u8>,
}

impl Splitter {
    /// Takes the next bytes, and hands every line that they complete to `each`.
    pub fn push(&mut self, bytes: &[u8], mut each: impl FnMut(&str)) {
        let mut parts = bytes.split(|byte| *byte == b'\n');
        // `split` yields at least one part; the last one has no end yet.
        let last = parts.next_back().unwrap_or_default();
        for part in parts {
            self.extend(part);
            each(&String::from_utf8_lossy(&self.pending));
            self.pending.clear();
        }
        self.extend(last);
    }

    /// Hands the last line to `each` where the stream ended within one.
    pub fn end(&mut self, mut each: impl FnMut(&str)) {
        if !self.pending.is_empty() {
            each(&String::from_utf8_lossy(&self.pending));
            self.pending.clear();
        }
    }

    fn extend(&mut self, bytes: &[u8]) {
        let room = MAX_RAW_LINE.saturating_sub(self.pending.len());
        self.pending.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
    }
}

/// The lines that explain why a server ended, oldest first: errors and warnings where there are some, else the last.
pub fn relevant(lines: &[Line]) -> Vec<String> {
    let grave: Vec<&Line> = lines.iter().filter(|line| line.level >= LogLevel::Warn && !is_noise(&line.msg)).collect();
    let pool = if grave.is_empty() { lines.iter().collect() } else { grave };
    let mut picked: Vec<String> = Vec::new();
    for line in pool {
        // llama.cpp tries a load twice and then says everything twice.
        if !picked.contains(&line.msg) {
            picked.push(line.msg.clone());
        }
    }
    picked.split_off(picked.len().saturating_sub(MAX_RELEVANT))
}

/// What every start warns of, whatever comes after.
fn is_noise(msg: &str) -> bool {
    msg.contains("no API key is set") || msg.contains("environment variable is set, but will be overwritten")
}

#[derive(Deserialize)]
struct JsonRecord {
    #[serde(rename = "type", default)]
    kind: String,
    level: Option<String>,
    msg: Option<String>,
}

fn line(level: LogLevel, text: &str) -> Option<Line> {
    let text = text.trim_end();
    (!text.trim().is_empty()).then(|| Line { level, msg: cut(text) })
}

fn cut(text: &str) -> String {
    if text.len() <= MAX_LINE {
        return text.to_owned();
    }
    let end = (0..=MAX_LINE - '…'.len_utf8()).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
    format!("{}…", text.get(..end).unwrap_or_default())
}

fn named_level(name: &str) -> LogLevel {
    match name {
        "error" | "fatal" => LogLevel::Error,
        "warn" | "warning" => LogLevel::Warn,
        "debug" | "trace" => LogLevel::Debug,
        _ => LogLevel::Info,
    }
}

/// `0.00.025.659 E text`, or `E text` where the server prints no time.
fn prefixed(raw: &str) -> Option<(LogLevel, &str)> {
    let (first, rest) = raw.split_once(' ')?;
    let is_time = first.contains('.') && first.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let (letter, text) = if is_time { rest.split_once(' ')? } else { (first, rest) };
    let level = match letter {
        "D" | "T" => LogLevel::Debug,
        "I" => LogLevel::Info,
        "W" => LogLevel::Warn,
        "E" => LogLevel::Error,
        _ => return None,
    };
    Some((level, text))
}

/// The level of a line that names none: what a shell, a loader or an older server prints.
fn guessed_level(raw: &str) -> LogLevel {
    let lower = raw.to_ascii_lowercase();
    if ["error", "failed", "fatal", "terminate called", "what():", "abort"].iter().any(|word| lower.contains(word)) {
        LogLevel::Error
    } else if lower.contains("warn") {
        LogLevel::Warn
    } else {
        LogLevel::Info
    }
}

/// Drops terminal escape sequences and other control characters, tabs and line ends excepted.
fn strip_ansi(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(char) = chars.next() {
        if char == '\u{1b}' {
            match chars.next() {
                // A control sequence ends with a byte from `@` to `~`.
                Some('[') => {
                    chars.find(|char| ('@'..='~').contains(char));
                }
                // An operating system command ends with a bell or an escape.
                Some(']') if chars.find(|char| matches!(char, '\u{7}' | '\u{1b}')) == Some('\u{1b}') => {
                    chars.next_if_eq(&'\\');
                }
                _ => {}
            }
        } else if !char.is_control() || matches!(char, '\n' | '\t') {
            plain.push(char);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(raw: &str) -> Vec<(LogLevel, String)> {
        parse(raw).into_iter().map(|line| (line.level, line.msg)).collect()
    }

    #[test]
    fn every_form_of_line_is_read() {
        let table: [(&str, &[(LogLevel, &str)]); 14] = [
            (
                r#"{"type":"log","time":20838,"level":"error","msg":"srv    load_model: failed to load, '/m'\n"}"#,
                &[(LogLevel::Error, "srv    load_model: failed to load, '/m'")],
            ),
            (
                r#"{"type":"log","time":1,"level":"info","msg":"a\nb\n"}"#,
                &[(LogLevel::Info, "a"), (LogLevel::Info, "b")],
            ),
            (r#"{"type":"log","time":1,"level":"info","msg":"\n"}"#, &[]),
            (
                r#"{"type":"fit_memory_breakdown","data":{"unit":"MiB"}}"#,
                &[(LogLevel::Debug, r#"{"type":"fit_memory_breakdown","data":{"unit":"MiB"}}"#)],
            ),
            ("0.00.025.659 E gguf_init: invalid magic", &[(LogLevel::Error, "gguf_init: invalid magic")]),
            ("0.00.001.640 I srv  main: hello", &[(LogLevel::Info, "srv  main: hello")]),
            ("0.00.032.766 W srv  main: hm", &[(LogLevel::Warn, "srv  main: hm")]),
            ("D fine print", &[(LogLevel::Debug, "fine print")]),
            ("error: invalid argument: --x", &[(LogLevel::Error, "error: invalid argument: --x")]),
            ("warning: no usable GPU found", &[(LogLevel::Warn, "warning: no usable GPU found")]),
            ("\u{1b}[0m0.00.001.640 \u{1b}[32mI \u{1b}[0msrv  main: hello\r", &[(LogLevel::Info, "srv  main: hello")]),
            ("\u{1b}]0;title\u{7}text \u{8}here\ttab", &[(LogLevel::Info, "text here\ttab")]),
            ("{ not json", &[(LogLevel::Info, "{ not json")]),
            ("   ", &[]),
        ];
        for (raw, expected) in table {
            let expected: Vec<_> = expected.iter().map(|(level, msg)| (*level, (*msg).to_owned())).collect();
            assert_eq!(lines(raw), expected, "{raw:?}");
        }
    }

    #[test]
    fn a_long_line_is_cut_between_characters() {
        let read = parse(&"é".repeat(MAX_LINE));
        assert!(read[0].msg.len() <= MAX_LINE && read[0].msg.ends_with("é…"), "{}", read[0].msg.len());
        assert_eq!(parse(&"x".repeat(MAX_LINE))[0].msg.len(), MAX_LINE, "a line of just that length stays whole");
    }

    #[test]
    fn bytes_become_lines_wherever_they_are_cut() {
        let mut all = Vec::new();
        let mut splitter = Splitter::default();
        for bytes in [&b"on"[..], b"e\ntwo\n\nth", b"ree\nfo", b"ur"] {
            splitter.push(bytes, |line| all.push(line.to_owned()));
        }
        assert_eq!(all, ["one", "two", "", "three"]);
        splitter.end(|line| all.push(line.to_owned()));
        splitter.end(|_| panic!("the end comes once"));
        assert_eq!(all[4], "four");
    }

    #[test]
    fn an_endless_line_does_not_eat_the_memory() {
        let mut splitter = Splitter::default();
        for _ in 0..100 {
            splitter.push(&[b'x'; MAX_LINE], |_| panic!("no line ended"));
        }
        let mut length = 0;
        splitter.push(b"\n", |line| length = line.len());
        assert_eq!(length, MAX_RAW_LINE);
    }

    #[test]
    fn errors_explain_before_anything_else() {
        let line = |level, msg: &str| Line { level, msg: msg.to_owned() };
        let mut all = vec![
            line(LogLevel::Info, "hello"),
            line(LogLevel::Warn, "security: no API key is set and CORS allows all origins"),
            line(LogLevel::Error, "bad"),
            line(LogLevel::Error, "bad"),
            line(LogLevel::Info, "cleaning up"),
        ];
        assert_eq!(relevant(&all), ["bad"]);
        all.retain(|line| line.level == LogLevel::Info);
        assert_eq!(relevant(&all), ["hello", "cleaning up"]);
        let many: Vec<Line> = (0..50).map(|n| line(LogLevel::Info, &n.to_string())).collect();
        assert_eq!(relevant(&many), (40..50).map(|n| n.to_string()).collect::<Vec<_>>());
    }
}
