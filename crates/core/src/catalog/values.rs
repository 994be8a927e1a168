//! Plain values: numbers, texts, paths, durations, addresses.

use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use toml::de::DeValue;

use super::reader::{Node, Reader, Setting};
use crate::launch::Runtime;

/// The text of a string that `fits`, or the complaint that `expected` was expected.
pub(super) fn text<'a>(
    node: &'a Node<'_>,
    reader: &mut Reader<'_>,
    fits: impl Fn(&str) -> bool,
    expected: &str,
) -> Option<&'a str> {
    match node.get_ref() {
        DeValue::String(text) if fits(text) => Some(text),
        _ => {
            reader.expected(node, expected);
            None
        }
    }
}

impl Setting for String {
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        text(node, reader, |_| true, "a string").map(str::to_owned)
    }

    fn schema() -> Value {
        json!({ "type": "string" })
    }
}

impl Setting for bool {
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let flag = node.get_ref().as_bool();
        if flag.is_none() {
            reader.expected(node, "true or false");
        }
        flag
    }

    fn schema() -> Value {
        json!({ "type": "boolean" })
    }
}

/// A whole number within bounds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Int<const MIN: u32, const MAX: u32>(pub(super) u32);

impl<const MIN: u32, const MAX: u32> Int<MIN, MAX> {
    /// The number, where the value is one within the bounds.
    pub(super) fn of(value: &DeValue<'_>) -> Option<u32> {
        let integer = value.as_integer()?;
        let number = u32::from_str_radix(integer.as_str(), integer.radix()).ok()?;
        (MIN..=MAX).contains(&number).then_some(number)
    }
}

impl<const MIN: u32, const MAX: u32> Setting for Int<MIN, MAX> {
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let number = Self::of(node.get_ref());
        if number.is_none() {
            reader.expected(node, &format!("a whole number from {MIN} to {MAX}"));
        }
        number.map(Self)
    }

    fn schema() -> Value {
        json!({ "type": "integer", "minimum": MIN, "maximum": MAX })
    }
}

/// Any finite number; whole ones count too.
pub(super) fn number(value: &DeValue<'_>) -> Option<f64> {
    let number = match value {
        DeValue::Integer(integer) => f64::from(i32::from_str_radix(integer.as_str(), integer.radix()).ok()?),
        DeValue::Float(float) => float.as_str().parse().ok()?,
        _ => return None,
    };
    number.is_finite().then_some(number)
}

/// A number within bounds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Number<const MIN: i32, const MAX: i32>(pub(super) f64);

impl<const MIN: i32, const MAX: i32> Setting for Number<MIN, MAX> {
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let bounds = f64::from(MIN)..=f64::from(MAX);
        let number = number(node.get_ref()).filter(|number| bounds.contains(number));
        if number.is_none() {
            reader.expected(node, &format!("a number from {MIN} to {MAX}"));
        }
        number.map(Self)
    }

    fn schema() -> Value {
        json!({ "type": "number", "minimum": MIN, "maximum": MAX })
    }
}

/// A text on one line that is not blank.
#[derive(Debug, Clone)]
pub(super) struct Line(pub(super) String);

impl Setting for Line {
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        text(node, reader, is_line, "a text on one line").map(|text| Self(text.to_owned()))
    }

    fn schema() -> Value {
        json!({ "type": "string", "minLength": 1 })
    }
}

fn is_line(text: &str) -> bool {
    !text.trim().is_empty() && !text.chars().any(char::is_control)
}

/// `~/` and what is behind it, or the path as it is.
fn expand(path: &str, home: &Path) -> PathBuf {
    match path.strip_prefix("~/") {
        Some(rest) => home.join(rest),
        None if path == "~" => home.to_owned(),
        None => PathBuf::from(path),
    }
}

fn is_anchored(path: &str) -> bool {
    is_line(path) && (path.starts_with('/') || path.starts_with("~/") || path == "~")
}

/// The path of a file, relative to a folder that is known later.
#[derive(Debug, Clone)]
pub(super) struct FilePath(String);

impl FilePath {
    /// The absolute path.
    pub(super) fn below(&self, folder: &Path, home: &Path) -> PathBuf {
        folder.join(expand(&self.0, home))
    }
}

impl Setting for FilePath {
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let fits = |path: &str| is_line(path) && (!path.starts_with('~') || is_anchored(path));
        let expected = "a path: absolute, from `~/`, or relative to `models_dir`";
        text(node, reader, fits, expected).map(|path| Self(path.to_owned()))
    }

    fn schema() -> Value {
        json!({ "type": "string", "minLength": 1 })
    }
}

/// A folder, absolute or from `~/`.
#[derive(Debug, Clone)]
pub(super) struct Folder(String);

impl Folder {
    /// The absolute path.
    pub(super) fn absolute(&self, home: &Path) -> PathBuf {
        expand(&self.0, home)
    }
}

impl Setting for Folder {
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let expected = "a folder: absolute, or from `~/`";
        text(node, reader, is_anchored, expected).map(|path| Self(path.to_owned()))
    }

    fn schema() -> Value {
        json!({ "type": "string", "pattern": "^(/|~$|~/)" })
    }
}

/// A program: a name to look up in `PATH`, or an absolute path.
#[derive(Debug, Clone)]
pub(super) struct Program(String);

impl Program {
    /// The name, or the absolute path.
    pub(super) fn expanded(&self, home: &Path) -> PathBuf {
        expand(&self.0, home)
    }
}

impl Setting for Program {
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let fits = |path: &str| is_anchored(path) || (is_line(path) && !path.contains('/') && !path.starts_with('~'));
        let expected = "a program: a name found in `PATH`, or a path that is absolute or from `~/`";
        text(node, reader, fits, expected).map(|path| Self(path.to_owned()))
    }

    fn schema() -> Value {
        json!({ "type": "string", "pattern": "^(/|~/|[^/~][^/]*$)" })
    }
}

/// The reference of a container image.
#[derive(Debug, Clone)]
pub(super) struct Image(pub(super) String);

impl Setting for Image {
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        // The engine judges the rest; a leading dash could pass for an option.
        let fits = |image: &str| is_line(image) && !image.contains(char::is_whitespace) && !image.starts_with('-');
        text(node, reader, fits, "the reference of an image").map(|image| Self(image.to_owned()))
    }

    fn schema() -> Value {
        json!({ "type": "string", "pattern": "^[^-\\s]\\S*$" })
    }
}

/// A loopback address with a port; port 0 is any free one.
#[derive(Debug, Clone)]
pub(super) struct Loopback {
    pub(super) address: SocketAddr,
    pub(super) span: Range<usize>,
}

impl Setting for Loopback {
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let parsed = node.get_ref().as_str().and_then(|text| text.parse::<SocketAddr>().ok());
        match parsed {
            Some(address) if address.ip().is_loopback() => Some(Self { address, span: node.span() }),
            Some(address) => {
                let what = format!("{} is not a loopback address: Corral serves this machine only", address.ip());
                reader.problem(node.span(), &what);
                None
            }
            None => {
                reader.expected(node, "a loopback address with a port");
                None
            }
        }
    }

    fn schema() -> Value {
        json!({ "type": "string", "pattern": "^(127\\.[0-9.]+|\\[[0-9a-fA-F:.]+\\]):[0-9]{1,5}$" })
    }
}

/// The units of a duration from the longest to the shortest, in milliseconds.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];
const LONGEST: u64 = 365 * 86_400_000;
const DURATION_PATTERN: &str = "^(?=.)([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?$";

/// Parses `90s`, `1h30m` or `250ms`: each unit at most once, the longest first, a year at most.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let (mut rest, mut total, mut units) = (text, 0_u64, UNITS.as_slice());
    while !rest.is_empty() {
        let (digits, behind) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?);
        let (name, behind) = behind.split_at(behind.find(|c: char| c.is_ascii_digit()).unwrap_or(behind.len()));
        let at = units.iter().position(|(unit, _)| *unit == name)?;
        let (_, length) = units.get(at)?;
        total = total.checked_add(digits.parse::<u64>().ok()?.checked_mul(*length)?)?;
        units = units.get(at + 1..)?;
        rest = behind;
    }
    (!text.is_empty() && total <= LONGEST).then(|| Duration::from_millis(total))
}

/// A duration of at least some seconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Period<const MIN: u64>(pub(super) Duration);

impl<const MIN: u64> Setting for Period<MIN> {
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let least = if MIN == 0 { String::new() } else { format!(" of at least {MIN}s") };
        let fits = |text: &str| duration(text).is_some_and(|period| period >= Duration::from_secs(MIN));
        let expected = format!("a duration{least} such as \"90s\", \"5m\" or \"1h30m\"");
        text(node, reader, fits, &expected).and_then(duration).map(Self)
    }

    fn schema() -> Value {
        json!({ "type": "string", "pattern": DURATION_PATTERN })
    }
}

/// How long a model may idle; `"never"` undoes what `[defaults]` says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Idle(pub(super) Option<Duration>);

impl Setting for Idle {
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let at_least = |text: &str| duration(text).filter(|idle| *idle >= Duration::from_secs(1));
        let fits = |text: &str| text == "never" || at_least(text).is_some();
        let expected = "\"never\", or a duration of at least 1s such as \"90s\", \"5m\" or \"1h30m\"";
        text(node, reader, fits, expected).map(|text| Self(at_least(text)))
    }

    fn schema() -> Value {
        json!({ "anyOf": [{ "const": "never" }, { "type": "string", "pattern": DURATION_PATTERN }] })
    }
}

impl Setting for Runtime {
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        match node.get_ref().as_str() {
            Some("docker") => Some(Self::Docker),
            Some("process") => Some(Self::Process),
            _ => {
                reader.expected(node, "\"docker\" or \"process\"");
                None
            }
        }
    }

    fn schema() -> Value {
        json!({ "enum": ["docker", "process"] })
    }
}
