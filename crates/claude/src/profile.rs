//! The profile: the folder that Claude Code in the jail has as its home, apart from that of the user's normal one.

use std::path::{Path, PathBuf};

use corral_core::{Code, Error, Result};
use jiff::Timestamp;
use serde_json::json;

use crate::folder::{Folder, Found, removed};
use crate::json::Object;

/// The profile folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    folder: PathBuf,
}

/// A profile that Claude Code can start in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    /// What the user should know, a sentence each.
    pub notices: Vec<String>,
}

const SWITCH: &str = include_str!("switch.md");
/// What `switch.md` was in earlier versions: a file that is one of these is brought up to date.
const EARLIER: [&str; 0] = [];

impl Profile {
    /// The profile in this folder, which need not be there yet.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// The folder that is the home in the jail.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Makes what is missing for a run in this workspace, and keeps all that is there.
    ///
    /// `workspace_inside` is the workspace's path in the jail, `now` names the copy of a file that cannot be read.
    pub fn prepare(&self, workspace_inside: &Path, now: Timestamp) -> Result<Prepared> {
        let mut notices = Vec::new();
        let home = Folder::private(&self.folder, &mut notices)?;
        let config = home.folder(".claude", &mut notices)?;
        update(&config, "settings.json", now, &mut notices, |settings| {
            settings.as_ref().map_or_else(|| Ok(Some(first_settings()?)), |_| Ok(None))
        })?;
        // Claude Code compares paths as text, and writes none of them with a slash at its end.
        let workspace: PathBuf = workspace_inside.components().collect();
        update(&home, ".claude.json", now, &mut notices, |state| {
            let mut state = state.unwrap_or_default();
            Ok(complete(&mut state, &workspace.to_string_lossy())?.then_some(state))
        })?;
        write_command(&config.folder("commands", &mut notices)?, &mut notices)?;
        Ok(Prepared { notices })
    }
}

/// The settings of a new profile; from then on they are the user's.
fn first_settings() -> serde_json::Result<Object> {
    let mut settings = Object::default();
    settings.add("theme", "dark")?;
    settings.add("includeCoAuthoredBy", false)?;
    settings.add("disableDeepLinkRegistration", "disable")?;
    let permissions = json!({ "defaultMode": "plan", "disableAutoMode": "disable", "deny": ["WebFetch", "WebSearch"] });
    settings.add("permissions", permissions)?;
    Ok(settings)
}

/// Adds what spares the user the dialogs of a first start; says whether anything was missing.
fn complete(state: &mut Object, workspace: &str) -> serde_json::Result<bool> {
    let onboarded = state.add("hasCompletedOnboarding", true)?;
    let nudged = state.add("hasSeenAutoDefaultNudge", true)?;
    let ide = state.add("autoInstallIdeExtension", false)?;
    // In the jail an editor shows no differences; with "auto" they would be asked of it, and shown nowhere.
    let shown = state.add("diffTool", "terminal")?;
    let trusted = state.object("projects")?.object(workspace)?.add("hasTrustDialogAccepted", true)?;
    Ok(onboarded || nudged || ide || shown || trusted)
}

/// Changes a file of JSON. `change` is given nothing where there is no file, or none that can be read.
fn update(
    folder: &Folder,
    name: &str,
    now: Timestamp,
    notices: &mut Vec<String>,
    mut change: impl FnMut(Option<Object>) -> serde_json::Result<Option<Object>>,
) -> Result<()> {
    let path = folder.path(name);
    let mut told = Vec::new();
    folder.update(name, |found| {
        told.clear();
        let mut text_of = |object| change(object).and_then(|new| new.map(|new| new.write()).transpose());
        let made = match found {
            Found::File(content) if !content.trim_ascii().is_empty() => match Object::read(content)
                .and_then(|o| text_of(Some(o)))
            {
                Ok(made) => return Ok(made),
                Err(error) => {
                    // It may cite what it found.
                    let why: String = error.to_string().chars().take(200).collect();
                    let copy = folder.keep(&format!("{name}.broken-{}", now.strftime("%Y%m%dT%H%M%SZ")), content)?;
                    told.push(format!(
                        "{} is broken ({why}): it was made afresh, {copy} is the old one",
                        path.display()
                    ));
                    text_of(None)
                }
            },
            Found::Link(target) => {
                told.push(removed(&path, target));
                text_of(None)
            }
            Found::File(_) | Found::Nothing => text_of(None),
        };
        made.map_err(|error| Error::new(Code::Internal, format!("{} cannot be made", path.display())).because(error))
    })?;
    notices.append(&mut told);
    Ok(())
}

/// Writes the command `/switch`, unless the user has one of his own.
fn write_command(commands: &Folder, notices: &mut Vec<String>) -> Result<()> {
    let name = "switch.md";
    let mut told = None;
    commands.update(name, |found| {
        told = if let Found::Link(target) = found { Some(removed(&commands.path(name), target)) } else { None };
        let ours = match found {
            Found::File(content) => EARLIER.iter().any(|earlier| earlier.as_bytes() == content),
            Found::Link(_) | Found::Nothing => true,
        };
        Ok(ours.then(|| SWITCH.as_bytes().to_vec()))
    })?;
    notices.extend(told);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};

    use serde_json::Value;

    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    struct Home {
        _root: tempfile::TempDir,
        profile: Profile,
    }

    impl Home {
        fn new() -> Self {
            let root = tempfile::tempdir().unwrap();
            Self { profile: Profile::new(root.path().join("claude-local")), _root: root }
        }

        fn prepare(&self, workspace: &str) -> Vec<String> {
            self.profile.prepare(Path::new(workspace), NOW).unwrap().notices
        }

        fn path(&self, name: &str) -> PathBuf {
            self.profile.folder().join(name)
        }

        fn text(&self, name: &str) -> String {
            std::fs::read_to_string(self.path(name)).unwrap()
        }

        fn write(&self, name: &str, text: &str) {
            let folder = self.path(name).parent().unwrap().to_owned();
            std::fs::DirBuilder::new().mode(0o700).recursive(true).create(folder).unwrap();
            std::fs::write(self.path(name), text).unwrap();
        }
    }

    #[test]
    fn a_new_profile_is_whole_and_this_users_alone() {
        let home = Home::new();
        assert_eq!(home.prepare("/home/user/work/"), [""; 0]);
        let settings: Value = serde_json::from_str(&home.text(".claude/settings.json")).unwrap();
        let expected = json!({
            "theme": "dark",
            "includeCoAuthoredBy": false,
            "disableDeepLinkRegistration": "disable",
            "permissions": { "defaultMode": "plan", "disableAutoMode": "disable", "deny": ["WebFetch", "WebSearch"] },
        });
        assert_eq!(settings, expected);
        let state: Value = serde_json::from_str(&home.text(".claude.json")).unwrap();
        let expected = json!({
            "hasCompletedOnboarding": true,
            "hasSeenAutoDefaultNudge": true,
            "autoInstallIdeExtension": false,
            "diffTool": "terminal",
            "projects": { "/home/user/work": { "hasTrustDialogAccepted": true } },
        });
        assert_eq!(state, expected);
        assert_eq!(home.text(".claude/commands/switch.md"), SWITCH);
        let mode = |name: &str| home.path(name).metadata().unwrap().permissions().mode() & 0o7777;
        assert_eq!([mode(""), mode(".claude"), mode(".claude/commands")], [0o700; 3]);
        let files = [".claude.json", ".claude/settings.json", ".claude/commands/switch.md"];
        assert_eq!(files.map(mode), [0o600; 3]);
    }

    #[test]
    fn what_the_user_changed_stays() {
        let home = Home::new();
        let settings = "{ \"permissions\": {\"defaultMode\":\"default\"},\n\t\"own\": 1e400 }";
        home.write(".claude/settings.json", settings);
        home.write(".claude/commands/switch.md", "mine");
        let state = "{\n  \"projects\": {\n    \"/w\": {\n      \"hasTrustDialogAccepted\": false\n    }\n  },\n  \
                     \"hasCompletedOnboarding\": false\n}\n";
        home.write(".claude.json", state);
        assert_eq!(home.prepare("/w"), [""; 0]);
        assert_eq!(
            (home.text(".claude/settings.json").as_str(), home.text(".claude/commands/switch.md").as_str()),
            (settings, "mine")
        );
        let added = "\"hasCompletedOnboarding\": false,\n  \"hasSeenAutoDefaultNudge\": true,\n  \
                     \"autoInstallIdeExtension\": false,\n  \"diffTool\": \"terminal\"\n}";
        let expected = state.replace("\"hasCompletedOnboarding\": false\n}", added);
        assert_eq!(home.text(".claude.json"), expected);
    }

    #[test]
    fn a_second_run_writes_nothing_and_another_workspace_is_added() {
        let home = Home::new();
        home.prepare("/w");
        let files = [".claude.json", ".claude/settings.json", ".claude/commands/switch.md"];
        let inodes = || files.map(|name| std::os::unix::fs::MetadataExt::ino(&home.path(name).metadata().unwrap()));
        let before = inodes();
        assert_eq!((home.prepare("/w"), inodes()), (Vec::new(), before));
        home.prepare("/v");
        let state: Value = serde_json::from_str(&home.text(".claude.json")).unwrap();
        assert_eq!(state["projects"].as_object().unwrap().keys().collect::<Vec<_>>(), ["/w", "/v"]);
    }

    #[test]
    fn two_runs_at_once_both_get_their_trust() {
        let home = Home::new();
        std::thread::scope(|scope| {
            for id in 0..8 {
                let home = &home;
                scope.spawn(move || home.prepare(&format!("/w{id}")));
            }
        });
        let state: Value = serde_json::from_str(&home.text(".claude.json")).unwrap();
        assert_eq!(state["projects"].as_object().unwrap().len(), 8, "{state}");
    }

    #[test]
    fn what_is_broken_is_kept_and_made_afresh() {
        let home = Home::new();
        home.write(".claude/settings.json", "{\"permissions\": ");
        home.write(".claude.json", "{\"projects\": []}");
        let notices = home.prepare("/w");
        let copy = ".claude/settings.json.broken-19700101T000000Z";
        assert_eq!(home.text(copy), "{\"permissions\": ");
        assert_eq!(home.text(".claude.json.broken-19700101T000000Z"), "{\"projects\": []}");
        assert!(notices.len() == 2 && notices[0].contains("settings.json.broken-19700101T000000Z"), "{notices:?}");
        assert!(home.text(".claude/settings.json").contains("\"plan\""));
        assert!(home.text(".claude.json").contains("\"/w\""));
        assert_eq!(home.prepare("/w"), [""; 0]);
        // One that is empty holds nothing to keep.
        home.write(".claude.json", "\n");
        assert_eq!(home.prepare("/w"), [""; 0]);
        assert!(home.text(".claude.json").contains("\"/w\""));
    }

    #[test]
    fn planted_links_lead_nowhere() {
        let home = Home::new();
        let elsewhere = tempfile::tempdir().unwrap();
        let secret = elsewhere.path().join("secret");
        std::fs::write(&secret, "{}").unwrap();
        home.prepare("/w");
        for name in [".claude.json", ".claude/settings.json", ".claude/commands/switch.md"] {
            std::fs::remove_file(home.path(name)).unwrap();
            symlink(&secret, home.path(name)).unwrap();
            let notices = home.prepare("/w");
            assert!(notices.len() == 1 && notices[0].contains(secret.to_str().unwrap()), "{notices:?}");
            assert!(home.path(name).symlink_metadata().unwrap().is_file());
        }
        for name in [".claude/commands", ".claude"] {
            std::fs::remove_dir_all(home.path(name)).unwrap();
            symlink(elsewhere.path(), home.path(name)).unwrap();
            assert_eq!(home.prepare("/w").len(), 1);
            assert!(home.path(name).symlink_metadata().unwrap().is_dir());
        }
        assert_eq!(std::fs::read_to_string(&secret).unwrap(), "{}");
        assert_eq!(std::fs::read_dir(elsewhere.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_cannot_be_mended_is_refused() {
        let home = Home::new();
        std::fs::create_dir_all(home.path(".claude.json")).unwrap();
        let error = home.profile.prepare(Path::new("/w"), NOW).unwrap_err();
        assert_eq!(error.code(), Code::ProfileInvalid);
        assert!(error.to_string().contains("/.claude.json is no file"), "{error}");
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = Profile::new(file.path()).prepare(Path::new("/w"), NOW).unwrap_err();
        assert_eq!(error.code(), Code::ProfileInvalid);
    }
}
