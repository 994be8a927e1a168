//! Which files may be spoken of.

use std::path::{Component, Path, PathBuf};

/// The files of a workspace.
#[derive(Debug, Clone)]
pub struct Scope {
    workspace: PathBuf,
    real: fn(&Path) -> Option<PathBuf>,
}

impl Scope {
    /// The files beneath this folder, a path without links. `real` says where a path that is there leads.
    pub fn new(workspace: impl Into<PathBuf>, real: fn(&Path) -> Option<PathBuf>) -> Self {
        Self { workspace: workspace.into(), real }
    }

    /// Whether a path is beneath the folder, and leads to nothing that is not.
    pub fn holds(&self, path: &str) -> bool {
        let is_plain = |part: Component<'_>| matches!(part, Component::RootDir | Component::Normal(_));
        let named = Path::new(path);
        if path.contains('\0') || !named.components().all(is_plain) || !named.starts_with(&self.workspace) {
            return false;
        }
        // What is not there leads where its folder does.
        let leads = named.ancestors().find_map(self.real);
        leads.is_none_or(|to| to.starts_with(&self.workspace))
    }

    /// Whether the path in a `file:` address is held, once it is decoded: how editors write them.
    pub fn holds_uri(&self, uri: &str) -> bool {
        path_in(uri).and_then(decoded).is_some_and(|path| self.holds(&path))
    }

    /// The same for an address that was written by somebody who is not trusted, in whichever way it is read.
    pub fn holds_strictly(&self, uri: &str) -> bool {
        // Claude Code writes paths into addresses as they are, and not all editors decode them.
        self.holds_uri(uri) && path_in(uri).is_some_and(|path| self.holds(path))
    }
}

fn path_in(uri: &str) -> Option<&str> {
    uri.strip_prefix("file://").filter(|path| path.starts_with('/') && !path.contains(['?', '#', '\\']))
}

fn decoded(path: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let (digits, after) = rest.split_first_chunk::<2>()?;
        let digit = |at: usize| char::from(digits[at]).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        bytes.push(digit(0)? * 16 + digit(1)?);
        rest = after;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nothing_is_there(_: &Path) -> Option<PathBuf> {
        None
    }

    /// `/w/link` leads out, all else where it says.
    fn with_a_link(path: &Path) -> Option<PathBuf> {
        match path.strip_prefix("/w/link") {
            Ok(rest) if rest.as_os_str().is_empty() => Some("/home/u/.ssh".into()),
            Ok(_) => None,
            Err(_) => Some(path.to_owned()),
        }
    }

    #[test]
    fn files_of_the_workspace_are_held_and_no_others() {
        let scope = Scope::new("/w", nothing_is_there);
        for path in ["/w", "/w/a", "/w/a b/c%20d.rs", "/w//a/./b", "/w/..a"] {
            assert!(scope.holds(path), "{path}");
        }
        for path in ["", "w/a", "/", "/wa", "/v/a", "/w/../v/a", "/w/a/..", "../w/a", "/w/a\0b", "~/w"] {
            assert!(!scope.holds(path), "{path}");
        }
    }

    #[test]
    fn addresses_are_held_however_they_are_read() {
        let scope = Scope::new("/w", nothing_is_there);
        for uri in ["file:///w/a.rs", "file:///w/a b.rs", "file:///w/%C3%A4.rs"] {
            assert!(scope.holds_strictly(uri), "{uri}");
        }
        let outside = [
            "/w/a.rs",
            "file:/w/a",
            "file://w/a",
            "file://host/w/a",
            "http:///w/a",
            "untitled:/w/a",
            "file:///v/a",
            "file:///w/../v/a",
            "file:///w/%2e%2e/v/a",
            "file:///w/%2E./v/a",
            "file:///w/..%2fv",
            "file:///w/%",
            "file:///w/%f",
            "file:///w/%zz",
            "file:///w/%ff",
            "file:///w/%00",
            "file:///w\\..\\v",
            "file:///w/a?b",
            "file:///w#/a",
            "",
        ];
        for uri in outside {
            assert!(!scope.holds_strictly(uri), "{uri}");
        }
        let spaced = Scope::new("/my work", nothing_is_there);
        assert!(spaced.holds_uri("file:///my%20work/a") && !spaced.holds_strictly("file:///my%20work/a"));
    }

    #[test]
    fn links_out_of_the_workspace_are_not_held() {
        let scope = Scope::new("/w", with_a_link);
        assert!(scope.holds("/w/a"));
        for path in ["/w/link", "/w/link/id_ed25519", "/w/link/new/file"] {
            assert!(!scope.holds(path), "{path}");
        }
    }
}
