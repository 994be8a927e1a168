//! Sessions: who asks, told by the token that a request carries.

use std::collections::HashMap;
use std::fmt;

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

/// The tokens of the sessions attached. Only their hashes are kept, so looking one up tells nothing by its timing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SessionTokens(HashMap<[u8; 32], SessionId>);

impl SessionTokens {
    /// Whose token this is.
    pub fn session(&self, token: &str) -> Option<&SessionId> {
        // Most requests come without a session while none is attached.
        if self.0.is_empty() { None } else { self.0.get(&hash(token)) }
    }

    /// Adds a session.
    pub fn insert(&mut self, token: &Secret, session: SessionId) {
        self.0.insert(hash(token.expose()), session);
    }

    /// Removes a session.
    pub fn remove(&mut self, session: &SessionId) {
        self.0.retain(|_, known| known != session);
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
    }

    #[test]
    fn ids_are_checked() {
        assert!(SessionId::new("claude:0190-Ab_c.d").is_ok());
        for bad in ["", "a b", "a/b", "é", &"x".repeat(65)] {
            assert!(SessionId::new(bad).is_err(), "{bad:?}");
        }
    }
}
