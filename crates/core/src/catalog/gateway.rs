//! What only `[gateway]` has: the policy of switching, and sizes.

use serde_json::{Value, json};

use super::AutoSwitch;
use super::reader::{Node, Reader, Setting};
use super::values::text;

impl Setting for AutoSwitch {
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        match node.get_ref().as_str() {
            Some("always") => Some(Self::Always),
            Some("sessions") => Some(Self::Sessions),
            Some("never") => Some(Self::Never),
            _ => {
                reader.expected(node, "\"always\", \"sessions\" or \"never\"");
                None
            }
        }
    }

    fn schema() -> Value {
        json!({ "enum": ["always", "sessions", "never"] })
    }
}

/// The units of a size in bytes.
const UNITS: [(&str, u64); 9] = [
    ("B", 1),
    ("KB", 1000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// A size in bytes, written as `8 GiB` or `500MB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size(pub(super) u64);

impl Size {
    fn of(text: &str) -> Option<Self> {
        let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
        let unit = unit.strip_prefix(' ').unwrap_or(unit);
        let (_, bytes) = UNITS.iter().find(|(name, _)| *name == unit)?;
        digits.parse::<u64>().ok()?.checked_mul(*bytes).map(Self)
    }
}

impl Setting for Size {
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let expected = "a size such as \"8 GiB\" or \"500 MB\"";
        text(node, reader, |text| Self::of(text).is_some(), expected).and_then(Self::of)
    }

    fn schema() -> Value {
        json!({ "type": "string", "pattern": "^[0-9]+ ?([KMGT]i?)?B$" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let table = [("0 B", 0), ("8 GiB", 8 << 30), ("500MB", 500_000_000), ("3 TiB", 3 << 40), ("1KB", 1000)];
        for (text, bytes) in table {
            assert_eq!(Size::of(text), Some(Size(bytes)), "{text}");
        }
        for bad in ["", "8", "GiB", "8  GiB", "8 gib", "-1 GB", "1.5 GB", "99999999999 TiB", "8 GiB "] {
            assert_eq!(Size::of(bad), None, "{bad:?}");
        }
    }
}
