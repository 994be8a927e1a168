//! What has to be right before Claude Code starts, and what the user should know of it.

use corral_core::{Code, Error, Result};

use crate::program::{INSTALL, Program};
use crate::version::Version;

/// Older ones are refused.
pub const OLDEST: Version = Version(2, 0, 0);
/// The newest that this was tested with.
pub const NEWEST_TESTED: Version = Version(2, 1, 329);
/// With less context than this, Claude Code's own prompt and a few files are all that a conversation holds.
pub const ENOUGH_CONTEXT: u32 = 32_768;

/// Checks the program's version and the tokens of context that one conversation has, where they are known; what the
/// user should know, a sentence each.
pub fn check(program: &Program, context: Option<u32>) -> Result<Vec<String>> {
    let version = program.version;
    if version < OLDEST {
        let message = format!("{} is Claude Code {version}; {OLDEST} is the oldest that does", program.file.display());
        return Err(Error::new(Code::ProgramMissing, message).hint(format!("update it: {INSTALL}")));
    }
    let mut notices = Vec::new();
    if version > NEWEST_TESTED {
        notices.push(format!("Claude Code {version} is newer than the newest tested, {NEWEST_TESTED}"));
    }
    if let Some(context) = context.filter(|&context| context < ENOUGH_CONTEXT) {
        notices.push(format!(
            "a conversation has {context} tokens of context, and Claude Code needs {ENOUGH_CONTEXT} to work well: raise \
             `ctx`, or lower `parallel`, of the model in models.toml"
        ));
    }
    Ok(notices)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::Kind;

    fn program(version: Version) -> Program {
        Program { file: "/c/claude".into(), kind: Kind::Native, version, read_only: Vec::new() }
    }

    #[test]
    fn old_ones_are_refused_and_new_ones_noticed() {
        let error = check(&program(Version(1, 9, 9)), None).unwrap_err();
        assert_eq!(error.code(), Code::ProgramMissing);
        assert_eq!(error.to_string(), "/c/claude is Claude Code 1.9.9; 2.0.0 is the oldest that does");
        assert_eq!(check(&program(OLDEST), None).unwrap(), [""; 0]);
        assert_eq!(check(&program(NEWEST_TESTED), Some(ENOUGH_CONTEXT)).unwrap(), [""; 0]);
        let notices = check(&program(Version(2, 2, 0)), None).unwrap();
        assert_eq!(notices, ["Claude Code 2.2.0 is newer than the newest tested, 2.1.329"]);
    }

    #[test]
    fn a_short_context_is_told_with_what_changes_it() {
        let notices = check(&program(OLDEST), Some(32_767)).unwrap();
        let parts = ["32767 tokens", "32768", "`ctx`", "`parallel`", "models.toml"];
        assert!(notices.len() == 1 && parts.iter().all(|part| notices[0].contains(part)), "{notices:?}");
    }
}
