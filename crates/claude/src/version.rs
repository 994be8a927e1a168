//! Claude Code's version.

use std::fmt;
use std::str::FromStr;

/// Major, minor and patch; whatever follows them is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u32, pub u32, pub u32);

/// Why a text is no [`Version`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidVersion;

impl FromStr for Version {
    type Err = InvalidVersion;

    /// Reads `2.1.329`, also with ` (Claude Code)` or `-beta.1` behind it.
    fn from_str(text: &str) -> Result<Self, InvalidVersion> {
        let text = text.trim_start();
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let mut numbers = text[..end].split('.').map(|number| number.parse().ok());
        match (numbers.next(), numbers.next(), numbers.next(), numbers.next()) {
            (Some(Some(major)), Some(Some(minor)), Some(Some(patch)), None) => Ok(Self(major, minor, patch)),
            _ => Err(InvalidVersion),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_and_compared_as_numbers() {
        for text in ["2.1.329", "2.1.329 (Claude Code)\n", " 2.1.329-beta.1"] {
            assert_eq!(text.parse(), Ok(Version(2, 1, 329)), "{text}");
        }
        for text in ["", "2.1", "2.1.3.4", "v2.1.3", "2..1", "2.1.99999999999", "claude 2.1.3", "-1.2.3"] {
            assert_eq!(text.parse::<Version>(), Err(InvalidVersion), "{text}");
        }
        assert!(Version(2, 1, 329) > Version(2, 1, 99) && Version(10, 0, 0) > Version(9, 9, 9));
        assert_eq!(Version(2, 0, 1).to_string(), "2.0.1");
    }
}
