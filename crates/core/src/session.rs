//! Sessions: who asks, told by the token that a request carries.

use std::collections::{HashMap, VecDeque};
use std::fmt::{self, Write as _};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::id::Secret;

/// A session's id: letters, digits, `-`, `_`, `.` and `:`, 1 to 64 of them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct SessionId(String);

/// Why a text is no [`SessionId`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a session's id is 1 to 64 letters, digits, `-`, `_`, `.` or `:`")]
pub struct InvalidSessionId;

impl SessionId {
    /// Checks and wraps a text.
    pub fn new(text: impl Into<String>) -> Result<Self, InvalidSessionId> {
        let text = text.into();
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':');
        if (1..=64).contains(&text.len()) && text.bytes().all(fits) { Ok(Self(text)) } else { Err(InvalidSessionId) }
    }

    /// The id of the session with this token. Whoever comes with it again, at a later daemon too, is the same session, and
    /// has one row in the ledger. It says nothing of the token, nor is it the hash that [`SessionTokens`] looks for.
    pub fn of(token: &Secret) -> Self {
        let digest = Sha256::new().chain_update("the session of ").chain_update(token.expose()).finalize();
        let mut text = String::with_capacity(32);
        for byte in &digest[..16] {
            // A text can always be written to.
            let _ = write!(text, "{byte:02x}");
        }
        Self(text)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for SessionId {
    type Error = InvalidSessionId;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::new(text)
    }
}

impl From<SessionId> for String {
    fn from(id: SessionId) -> Self {
        id.0
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What people are told of a session.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct About {
    /// What they know it by.
    pub label: Option<String>,
    /// The folder that it works in, where that is known.
    pub workspace: Option<String>,
    /// The model that it asks for, where it was begun with one.
    pub model: Option<String>,
}

impl About {
    /// A session of which nothing but a label is known.
    pub fn label(label: Option<String>) -> Self {
        Self { label, ..Self::default() }
    }
}

/// The longest label of a session, in characters.
pub const MAX_LABEL: usize = 200;

/// Whether a text has the form of a session's token: 256 bits, as 64 small hexadecimal digits.
pub fn is_token(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// So many sessions that have ended are remembered.
const ENDED: usize = 1024;

/// The tokens of the sessions attached. Only their hashes are kept, so looking one up tells nothing by its timing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SessionTokens {
    attached: HashMap<[u8; 32], SessionId>,
    /// A token does not gain rights by its session's end.
    ended: VecDeque<[u8; 32]>,
}

impl SessionTokens {
    /// Whose token this is.
    pub fn session(&self, token: &str) -> Option<&SessionId> {
        // Most requests come without a session while none is attached.
        if self.attached.is_empty() { None } else { self.attached.get(&hash(token)) }
    }

    /// Whether this is, or was, the token of a session.
    pub fn is_known(&self, token: &str) -> bool {
        let hash = hash(token);
        self.attached.contains_key(&hash) || self.ended.contains(&hash)
    }

    /// Adds a session.
    pub fn insert(&mut self, token: &Secret, session: SessionId) {
        self.attached.insert(hash(token.expose()), session);
    }

    /// Ends a session.
    pub fn remove(&mut self, session: &SessionId) {
        self.ended.extend(self.attached.extract_if(|_, known| known == session).map(|(hash, _)| hash));
        while self.ended.len() > ENDED {
            self.ended.pop_front();
        }
    }
}

fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_leads_to_its_session_until_that_ends() {
        let (a, b) = (SessionId::new("a").expect("an id"), SessionId::new("b").expect("an id"));
        let mut tokens = SessionTokens::default();
        tokens.insert(&Secret::new("one"), a.clone());
        tokens.insert(&Secret::new("two"), b.clone());
        assert_eq!((tokens.session("one"), tokens.session("two"), tokens.session("three")), (Some(&a), Some(&b), None));
        tokens.remove(&a);
        assert_eq!((tokens.session("one"), tokens.session("two")), (None, Some(&b)));
        let known = ["one", "two", "three"].map(|token| tokens.is_known(token));
        assert_eq!(known, [true, true, false], "one that has ended is remembered");
    }

    #[test]
    fn tokens_have_one_form() {
        assert!(is_token(&"0a".repeat(32)));
        for bad in ["", "0a", &"0A".repeat(32), &"0g".repeat(32), &"0a".repeat(33), &"é".repeat(32)] {
            assert!(!is_token(bad), "{bad:?}");
        }
    }

    #[test]
    fn ids_are_checked() {
        assert!(SessionId::new("claude:0190-Ab_c.d").is_ok());
        for bad in ["", "a b", "a/b", "é", &"x".repeat(65)] {
            assert!(SessionId::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_token_has_one_id_that_says_nothing_of_it() {
        let (one, other) = (Secret::new("0a".repeat(32)), Secret::new("0b".repeat(32)));
        let id = SessionId::of(&one);
        assert_eq!((SessionId::new(id.as_str()), SessionId::of(&one)), (Ok(id.clone()), id.clone()));
        assert_ne!(SessionId::of(&other), id);
        let digits = hash(one.expose()).map(|byte| format!("{byte:02x}"));
        let hashed = digits.concat();
        assert!(!hashed.contains(id.as_str()) && !one.expose().contains(id.as_str()), "{id}");
    }
}
