//! Paths as people see them: names in a hostile folder may hold anything, and a terminal must not obey them.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The path as it is where it is plain text, otherwise escaped and in quotes.
#[allow(clippy::unnecessary_debug_formatting, reason = "it is what escapes")]
pub(crate) fn shown(path: &Path) -> String {
    match path.to_str() {
        Some(text) if is_plain(text) => text.to_owned(),
        _ => format!("{path:?}"),
    }
}

/// Text of unknown origin, escaped where it is not plain.
pub(crate) fn shown_text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if is_plain(text) => text.to_owned(),
        _ => bytes.escape_ascii().to_string(),
    }
}

/// The path as a word for a shell.
pub(crate) fn quoted(path: &Path) -> String {
    let bytes = path.as_os_str().as_bytes();
    match path.to_str() {
        Some(text) if is_plain(text) => format!("'{}'", text.replace('\'', r"'\''")),
        // `$'…'` is understood by bash, zsh and ksh.
        _ => format!("$'{}'", bytes.escape_ascii()),
    }
}

fn is_plain(text: &str) -> bool {
    // What Rust escapes for debugging is what does not print: controls, separators, marks that turn text around.
    text.chars().all(|c| matches!(c, '\'' | '"' | '\\') || c.escape_debug().len() == 1)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn plain_names_stay_and_others_cannot_reach_the_terminal() {
        assert_eq!(shown(Path::new("a b/ü's \"x\"")), "a b/ü's \"x\"");
        assert_eq!(shown(Path::new("a\u{1b}[2Jb\n")), r#""a\u{1b}[2Jb\n""#);
        assert_eq!(shown(Path::new("a\u{202e}b")), "\"a\\u{202e}b\"");
        assert_eq!(shown(Path::new(OsStr::from_bytes(b"a\xffb"))), r#""a\xFFb""#);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn a_shell_reads_the_very_same_bytes(bytes in proptest::collection::vec(1_u8..=255, 1..40)) {
            let script = format!("printf %s {}", quoted(Path::new(OsStr::from_bytes(&bytes))));
            let said = Command::new("bash").arg("-c").arg(&script).output().unwrap();
            prop_assert_eq!(said.stdout, bytes, "{}", script);
        }
    }
}
