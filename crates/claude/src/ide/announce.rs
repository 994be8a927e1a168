//! What tells Claude Code in the jail of the bridge: a file in its profile, as an editor would write it.

use std::fs::File;
use std::path::Path;

use corral_core::{Code, Error, Result, Secret};
use serde_json::json;

use super::{Editor, IDE_PORTS, port_of};
use crate::folder::{Folder, Held, Stamp};
use crate::profile::Profile;

/// So often another name is tried where another session takes what was just written for left over.
const TRIES: u32 = 16;

/// A session's announcement, which is gone when this is dropped.
#[derive(Debug)]
pub struct Announcement {
    folder: Folder,
    name: String,
    stamp: Stamp,
    port: u16,
    /// Locked, so that other sessions see that it is in use.
    _held: File,
}

impl Announcement {
    /// The port of the jail's 127.0.0.1 that it names.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Announcement {
    fn drop(&mut self) {
        // What the jail has put in its place is removed by the next session, as all that nobody holds.
        if self.folder.is_still(&self.name, &self.stamp) {
            let _ = self.folder.remove(&self.name);
        }
    }
}

impl Profile {
    /// Announces an editor to a session in this workspace, whose bridge wants this token; removes what sessions that
    /// were killed have left. The profile is [prepared](Profile::prepare).
    pub fn announce(&self, editor: &Editor, workspace: &Path, token: &Secret) -> Result<Announcement> {
        // Links are removed in silence: nothing in this folder is the user's.
        let mut notices = Vec::new();
        let home = Folder::private(self.folder(), &mut notices)?;
        let folder = home.folder(".claude", &mut notices)?.folder("ide", &mut notices)?;
        for name in folder.names()? {
            if !matches!(folder.hold(&name), Held::Others) {
                // What cannot be removed is in nobody's way.
                let _ = folder.remove(&name);
            }
        }
        let content = json!({
            // Claude Code removes what is of no process that it sees: 1 is there in each jail.
            "pid": 1,
            "workspaceFolders": [workspace.to_string_lossy()],
            "ideName": editor.name(),
            "transport": "ws",
            "authToken": token.expose(),
        });
        for _ in 0..TRIES {
            let names = IDE_PORTS.map(|port| format!("{port}.lock"));
            let (name, stamp) = folder.write_new(names, content.to_string().as_bytes())?;
            if let (Held::Ours(held), Some(port)) = (folder.hold(&name), port_of(&name))
                && folder.is_still(&name, &stamp)
            {
                return Ok(Announcement { folder, name, stamp, port, _held: held });
            }
        }
        let message = format!("{} changes all the time", folder.path("").display());
        Err(Error::new(Code::ProfileInvalid, message).hint("leave `--ide` out to go on without the editor"))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use serde_json::Value;

    use super::*;

    #[test]
    fn an_announcement_is_private_lasts_as_long_as_it_is_held_and_others_stay() {
        let root = tempfile::tempdir().unwrap();
        let profile = Profile::new(root.path().join("profile"));
        let editor = Editor::new("Editor", 1234, Secret::new("the-editors"), Path::new("/w"));
        let announce = || profile.announce(&editor, Path::new("/w"), &Secret::new("the-sessions")).unwrap();
        let at = |name: &str| root.path().join("profile/.claude/ide").join(name);
        let first = announce();
        assert_eq!(first.port(), 8082);
        let written: Value = serde_json::from_slice(&std::fs::read(at("8082.lock")).unwrap()).unwrap();
        let expected = json!({
            "pid": 1,
            "workspaceFolders": ["/w"],
            "ideName": "Editor",
            "transport": "ws",
            "authToken": "the-sessions",
        });
        assert_eq!(written, expected);
        assert_eq!(at("8082.lock").metadata().unwrap().permissions().mode() & 0o777, 0o600);

        let second = announce();
        assert_eq!(second.port(), 8083);
        drop(first);
        assert!(!at("8082.lock").exists() && at("8083.lock").exists());
    }

    #[test]
    fn what_is_left_over_is_removed_and_what_is_planted_leads_nowhere() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("profile/.claude/ide");
        std::fs::create_dir_all(folder.join("8083.lock")).unwrap();
        let secret = root.path().join("secret");
        std::fs::write(&secret, "kept").unwrap();
        symlink(&secret, folder.join("8082.lock")).unwrap();
        std::fs::write(folder.join("9000.lock"), "{}").unwrap();
        let profile = Profile::new(root.path().join("profile"));
        let editor = Editor::new("Editor", 1234, Secret::new("the-editors"), Path::new("/w"));
        let announced = profile.announce(&editor, Path::new("/w"), &Secret::new("the-sessions")).unwrap();
        assert_eq!(announced.port(), 8082);
        assert!(folder.join("8082.lock").symlink_metadata().unwrap().is_file());
        assert!(!folder.join("9000.lock").exists());

        // The jail exchanges it for a link while it is in use.
        std::fs::remove_file(folder.join("8082.lock")).unwrap();
        symlink(&secret, folder.join("8082.lock")).unwrap();
        drop(announced);
        assert_eq!(std::fs::read_to_string(&secret).unwrap(), "kept");
    }
}
