//! `settings.toml`: changed key by key.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use corral_core::configuration::SettingsFile;
use corral_core::settings::{Settings, TerminalSetting};
use corral_core::{Code, Error, Result};
use serde_json::{Map, Value};
use toml_edit::DocumentMut;

use super::edit::{set, value_of};
use super::write::{is_writable, replace};
use crate::paths::Paths;
use crate::settings_file::read_settings;

/// So many copies of broken files are kept.
const COPIES: u32 = 100;

/// The settings, and what is wrong with them.
pub(super) fn read(paths: &Paths) -> SettingsFile {
    let (settings, problem) = match read_settings(paths) {
        Ok(settings) => (settings, None),
        Err(error) => (Settings::default(), Some(error.body())),
    };
    SettingsFile {
        path: paths.settings.display().to_string(),
        settings,
        problem,
        writable: is_writable(&paths.settings),
    }
}

/// Writes what differs.
pub(super) fn put(paths: &Paths, wanted: &Settings) -> Result<SettingsFile> {
    check(wanted)?;
    let path = &paths.settings;
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(Error::new(Code::Io, format!("cannot read {}", path.display())).because(error)),
    };
    let usable = read_settings(paths).ok().zip(String::from_utf8(bytes.clone()).ok());
    let Some((there, text)) = usable else {
        let copy = keep_copy(path, &bytes)?;
        replace(path, changed("", &Settings::default(), wanted)?.as_bytes())?;
        let message = format!("{} could not be read; it was kept as {}", path.display(), copy.display());
        tracing::warn!("{message}");
        let problem = Error::new(Code::CatalogInvalid, message).hint("take over from it what you miss");
        return Ok(SettingsFile { problem: Some(problem.body()), ..read(paths) });
    };
    let new = changed(&text, &there, wanted)?;
    if new != text {
        replace(path, new.as_bytes())?;
    }
    Ok(read(paths))
}

/// What no file could give back.
fn check(wanted: &Settings) -> Result<()> {
    let words = match &wanted.terminal {
        None => return Ok(()),
        Some(TerminalSetting::Name(name)) => std::slice::from_ref(name),
        Some(TerminalSetting::Command(words)) => words,
    };
    if words.first().is_some_and(|program| !program.is_empty()) && words.iter().all(|word| !word.contains('\0')) {
        return Ok(());
    }
    let hint = "a name, a path, or a list of a program and its options; leave it out for the desktop's";
    Err(Error::new(Code::InvalidRequest, "`terminal` names no program").hint(hint))
}

/// The text with the keys set in which `wanted` differs from what is `there`.
fn changed(text: &str, there: &Settings, wanted: &Settings) -> Result<String> {
    let defect = |error: &dyn std::error::Error| Error::new(Code::Internal, format!("no settings file: {error}"));
    let mut document: DocumentMut = text.parse().map_err(|error: toml_edit::TomlError| defect(&error))?;
    let (there, wanted) = (keys(there), keys(wanted));
    for key in there.keys().chain(wanted.keys()) {
        if there.get(key) != wanted.get(key) {
            set(document.as_table_mut(), key, wanted.get(key).and_then(value_of));
        }
    }
    Ok(document.to_string())
}

fn keys(settings: &Settings) -> Map<String, Value> {
    match serde_json::to_value(settings) {
        Ok(Value::Object(keys)) => keys,
        _ => Map::new(),
    }
}

/// Keeps what is in the file beside it, under a name that is free.
fn keep_copy(path: &Path, bytes: &[u8]) -> Result<PathBuf> {
    let failed = |error: io::Error| {
        Error::new(Code::Io, format!("cannot keep a copy of {}", path.display()))
            .because(error)
            .hint("nothing was changed; see to the permissions of its folder")
    };
    for number in 1..=COPIES {
        let mut name = path.as_os_str().to_owned();
        name.push(if number == 1 { ".broken".to_owned() } else { format!(".broken-{number}") });
        let copy = PathBuf::from(name);
        match fs::OpenOptions::new().write(true).create_new(true).open(&copy) {
            Ok(mut file) => {
                io::Write::write_all(&mut file, bytes).map_err(failed)?;
                return Ok(copy);
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Err(failed(io::Error::other(format!("there are {COPIES} copies already"))))
}

#[cfg(test)]
mod tests {
    use corral_core::settings::{Notifications, OnQuit};

    use super::*;

    fn home() -> (tempfile::TempDir, Paths) {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().display().to_string();
        let paths = Paths::resolve(&[("CORRAL_HOME", home)].into_iter().collect()).unwrap();
        fs::create_dir_all(&paths.config_dir).unwrap();
        (folder, paths)
    }

    #[test]
    fn only_what_changed_is_written_and_comments_stay() {
        let (_folder, paths) = home();
        let text = "# mine\non_quit = \"stop\"  # for now\n\n# the terminal\nterminal = \"kitty\"\n# the end\n";
        fs::write(&paths.settings, text).unwrap();
        let there = read(&paths);
        assert!(there.writable && there.problem.is_none());
        assert_eq!(put(&paths, &there.settings).unwrap(), there);
        assert_eq!(fs::read_to_string(&paths.settings).unwrap(), text, "nothing to write");
        let wanted = Settings { on_quit: OnQuit::Keep, notifications: Notifications::None, ..there.settings };
        assert_eq!(put(&paths, &wanted).unwrap().settings, wanted);
        let expected = "# mine\non_quit = \"keep\"  # for now\n\n# the terminal\nterminal = \"kitty\"\nnotifications = \"none\"\n# the end\n";
        assert_eq!(fs::read_to_string(&paths.settings).unwrap(), expected);
        let wanted = Settings { terminal: None, restore_last: false, ..wanted };
        assert_eq!(put(&paths, &wanted).unwrap().settings, wanted);
        let words = ["xterm", "-T", "a \"title\"", "-e"].map(str::to_owned).to_vec();
        let wanted = Settings { terminal: Some(TerminalSetting::Command(words)), ..wanted };
        assert_eq!(put(&paths, &wanted).unwrap().settings, wanted);
    }

    #[test]
    fn a_broken_file_is_kept_beside_and_said() {
        let (_folder, paths) = home();
        for (number, text) in [&b"on_quit = \"kepe\"\n"[..], b"= 1\n", b"# \xff\n"].into_iter().enumerate() {
            fs::write(&paths.settings, text).unwrap();
            let there = read(&paths);
            assert_eq!(there.settings, Settings::default(), "the defaults are in force");
            assert!(there.problem.is_some());
            let wanted = Settings { on_quit: OnQuit::Keep, ..Settings::default() };
            let now = put(&paths, &wanted).unwrap();
            let name = if number == 0 {
                "settings.toml.broken".to_owned()
            } else {
                format!("settings.toml.broken-{}", number + 1)
            };
            assert!(now.problem.unwrap().message.contains(&name));
            assert_eq!(fs::read(paths.config_dir.join(name)).unwrap(), text);
            assert_eq!((read(&paths).settings, read(&paths).problem), (wanted, None));
        }
    }

    #[test]
    fn what_is_no_terminal_is_refused_before_anything_is_written() {
        let (_folder, paths) = home();
        let [name, command] = [TerminalSetting::Name(String::new()), TerminalSetting::Command(Vec::new())];
        for terminal in [name, command, TerminalSetting::Name("a\0b".to_owned())] {
            let wanted = Settings { terminal: Some(terminal), ..Settings::default() };
            assert_eq!(put(&paths, &wanted).unwrap_err().code(), Code::InvalidRequest);
        }
        assert!(!paths.settings.exists());
    }
}
