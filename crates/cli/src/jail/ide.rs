//! The way from a jail to the user's editor.

use std::net::TcpListener;
use std::path::Path;

use corral_claude::ide::{Announcement, Bridge, Editor};
use corral_claude::profile::Profile;
use corral_core::{Result, Secret};
use corral_daemon::Paths;

use super::new_token;

/// An editor that is announced in the profile.
pub(crate) struct Ide {
    editor: Editor,
    token: Secret,
    announcement: Announcement,
}

/// A bridge that is open, and what says so inside.
pub(super) struct Opened {
    _bridge: Bridge,
    _announcement: Announcement,
}

impl Ide {
    /// The editor that the user has this workspace open in, if there is one.
    pub(crate) fn find(paths: &Paths, profile: &Profile, workspace: &Path) -> Result<Option<Self>> {
        let Some(editor) = Editor::find(&paths.home.join(".claude/ide"), workspace)? else { return Ok(None) };
        let token = new_token()?;
        let announcement = profile.announce(&editor, workspace, &token)?;
        Ok(Some(Self { editor, token, announcement }))
    }

    /// The port of the jail that it is at.
    pub(crate) fn port(&self) -> u16 {
        self.announcement.port()
    }

    /// What the editor is called.
    pub(super) fn name(&self) -> &str {
        self.editor.name()
    }

    /// Opens the way, from the socket that listens in the jail.
    pub(super) fn open(self, listener: TcpListener) -> Result<Opened> {
        let bridge = Bridge::serve(listener, self.editor, self.token)?;
        Ok(Opened { _bridge: bridge, _announcement: self.announcement })
    }
}
