//! Whether the desktop starts Corral's tray at login: an entry in the user's autostart folder.
//!
//! The forms are those of the Desktop Entry and the Desktop Application Autostart specifications of freedesktop.org.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use corral_core::machine::AutostartState;
use corral_core::{Code, Error, Result};

use crate::configuration::replace;
use crate::paths::Paths;

/// The program that the desktop is to start, beside this one.
const PROGRAM: &str = "corral-tray";

/// Where packages put programs that people do not call.
const PRIVATE: &str = "/usr/lib/corral";

/// The key by which GNOME switches an entry off.
const GNOME: &str = "X-GNOME-Autostart-enabled";

/// The entry of this user.
#[derive(Debug, Clone)]
pub struct Autostart {
    entry: PathBuf,
    program: PathBuf,
}

impl Autostart {
    /// That of this home, for the programs that lie in `beside`, or where packages put those that people do not call.
    pub fn new(paths: &Paths, beside: &Path) -> Self {
        let usual = beside.join(PROGRAM);
        // The entry is read by people, and by desktops that look whether the program is there.
        let lib = beside.parent().map(|prefix| prefix.join("lib/corral").join(PROGRAM));
        let places = [Some(usual.clone()), lib, Some(Path::new(PRIVATE).join(PROGRAM))];
        let program = places.into_iter().flatten().find(|place| place.is_file()).unwrap_or(usual);
        Self { entry: paths.autostart.clone(), program }
    }

    /// Whether it is on.
    pub fn state(&self) -> Result<AutostartState> {
        let text = self.text()?;
        let enabled = text.as_deref().is_some_and(is_enabled);
        let written = text.as_deref().and_then(|text| value(text, "Exec")).map(str::to_owned);
        let command = written.or_else(|| self.program.is_file().then(|| exec(&self.program).ok()).flatten());
        Ok(AutostartState { enabled, path: self.entry.display().to_string(), command })
    }

    /// Turns it on or off. What somebody else has written into the entry stays.
    pub fn set(&self, enabled: bool) -> Result<AutostartState> {
        let text = self.text()?;
        if enabled {
            if !self.program.is_file() {
                let message = format!("there is no {} to start at login", self.program.display());
                return Err(Error::new(Code::ProgramMissing, message)
                    .hint("install Corral's tray program beside `corral`, or start `corral serve` by other means"));
            }
            let exec = exec(&self.program)?;
            let text = match text.filter(|text| group(text).is_some()) {
                Some(mut text) => {
                    set(&mut text, "Exec", &exec);
                    for (key, on) in [("Hidden", "false"), (GNOME, "true")] {
                        if value(&text, key).is_some() {
                            set(&mut text, key, on);
                        }
                    }
                    text
                }
                None => entry(&exec),
            };
            replace(&self.entry, text.as_bytes())?;
        } else if let Some(mut text) = text {
            let is_link = self.entry.is_symlink();
            // Of our own there is nothing to keep.
            if !is_link && value(&text, "Exec").is_none_or(|exec| text == entry(exec)) {
                fs::remove_file(&self.entry).map_err(|error| self.failed("remove", error))?;
            } else if is_enabled(&text) {
                set(&mut text, "Hidden", "true");
                replace(&self.entry, text.as_bytes())?;
            }
        }
        self.state()
    }

    /// The entry; none where there is none.
    fn text(&self) -> Result<Option<String>> {
        match fs::read_to_string(&self.entry) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.failed("read", error)),
        }
    }

    fn failed(&self, what: &str, error: io::Error) -> Error {
        Error::new(Code::Io, format!("cannot {what} {}", self.entry.display()))
            .because(error)
            .hint("see to the file and its permissions")
    }
}

/// An entry of our own.
fn entry(exec: &str) -> String {
    format!(
        "[Desktop Entry]\nType=Application\nName=Corral\nComment=Language models on your own GPU\nExec={exec}\n\
         Icon=corral\nTerminal=false\n{GNOME}=true\n"
    )
}

/// The command of an entry, for a program by its absolute path.
fn exec(program: &Path) -> Result<String> {
    let unusable = || {
        let message = format!("the path {} cannot be written into an autostart entry", program.display());
        Error::new(Code::Io, message).hint("move Corral to a folder whose path is plain text")
    };
    let path = program.to_str().filter(|path| !path.contains(char::is_control)).ok_or_else(unusable)?;
    let mut quoted = String::from("\"");
    for letter in path.chars() {
        match letter {
            // Once for the quotes, and the backslash of that once more for the value.
            '"' | '`' | '$' => {
                let _ = write!(quoted, "\\\\{letter}");
            }
            '\\' => quoted.push_str("\\\\\\\\"),
            '%' => quoted.push_str("%%"),
            letter => quoted.push(letter),
        }
    }
    quoted.push_str("\" --hidden");
    Ok(quoted)
}

fn is_enabled(text: &str) -> bool {
    let is = |key: &str, what: &str| value(text, key).is_some_and(|value| value.eq_ignore_ascii_case(what));
    group(text).is_some() && !is("Hidden", "true") && !is(GNOME, "false")
}

/// The lines of the group `[Desktop Entry]`, as a range of the text: from behind its head to the next group.
fn group(text: &str) -> Option<std::ops::Range<usize>> {
    let mut at = 0;
    let mut start = None;
    for line in text.split_inclusive('\n') {
        if line.trim_end().starts_with('[') {
            if let Some(start) = start {
                return Some(start..at);
            }
            if line.trim_end() == "[Desktop Entry]" {
                start = Some(at + line.len());
            }
        }
        at += line.len();
    }
    start.map(|start| start..text.len())
}

/// Where a key's line is, and its value.
fn find<'a>(text: &'a str, key: &str) -> Option<(std::ops::Range<usize>, &'a str)> {
    let group = group(text)?;
    let mut at = group.start;
    for line in text[group].split_inclusive('\n') {
        if let Some((name, value)) = line.split_once('=')
            && name.trim() == key
        {
            return Some((at..at + line.trim_end_matches(['\n', '\r']).len(), value.trim()));
        }
        at += line.len();
    }
    None
}

fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    find(text, key).map(|(_, value)| value)
}

/// Sets a key where it stands, or as the first one.
fn set(text: &mut String, key: &str, value: &str) {
    let line = format!("{key}={value}");
    if let Some(place) = find(text, key).map(|(place, _)| place) {
        text.replace_range(place, &line);
    } else if let Some(group) = group(text) {
        let ended = text[..group.start].ends_with('\n');
        text.insert_str(group.start, &if ended { format!("{line}\n") } else { format!("\n{line}\n") });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Home {
        folder: tempfile::TempDir,
        autostart: Autostart,
    }

    fn home() -> Home {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().display().to_string();
        let paths = Paths::resolve(&[("CORRAL_HOME", root)].into_iter().collect()).unwrap();
        assert_eq!(paths.autostart, folder.path().join("config/autostart/corral.desktop"));
        fs::write(folder.path().join(PROGRAM), "").unwrap();
        let autostart = Autostart::new(&paths, folder.path());
        Home { folder, autostart }
    }

    impl Home {
        fn text(&self) -> String {
            fs::read_to_string(&self.autostart.entry).unwrap()
        }

        fn write(&self, text: &str) {
            fs::create_dir_all(self.autostart.entry.parent().unwrap()).unwrap();
            fs::write(&self.autostart.entry, text).unwrap();
        }

        fn is_on(&self) -> bool {
            self.autostart.state().unwrap().enabled
        }
    }

    #[test]
    fn on_makes_an_entry_and_off_takes_it_away() {
        let home = home();
        assert!(!home.is_on());
        assert!(!home.autostart.set(false).unwrap().enabled && !home.autostart.entry.exists());
        let on = home.autostart.set(true).unwrap();
        let command = format!("\"{}/corral-tray\" --hidden", home.folder.path().display());
        assert_eq!((on.enabled, on.command.as_ref()), (true, Some(&command)));
        assert!(home.text().contains(&format!("\nExec={command}\n")), "{}", home.text());
        assert_eq!(home.autostart.set(true).unwrap(), on, "twice is no more");
        assert!(!home.autostart.set(false).unwrap().enabled && !home.autostart.entry.exists());
    }

    #[test]
    fn entries_that_are_switched_off_are_off_and_foreign_edits_stay() {
        let home = home();
        let text = |more: &str| {
            format!(
                "# mine\n[Desktop Entry]\nType=Application\nName=C\nExec=/old/corral-tray\n{more}\n[Desktop Action x]\nHidden=true\n"
            )
        };
        for off in ["Hidden=true", "X-GNOME-Autostart-enabled=false", "Hidden = True"] {
            home.write(&text(&format!("X-Own=1\n{off}\n")));
            assert!(!home.is_on(), "{off}");
            assert!(home.autostart.set(true).unwrap().enabled);
            let now = home.text();
            assert!(now.starts_with("# mine\n") && now.contains("\nX-Own=1\n") && !now.contains("/old/"), "{now}");
            assert!(now.ends_with("[Desktop Action x]\nHidden=true\n"), "{now}");
            assert!(!home.autostart.set(false).unwrap().enabled);
            assert!(home.text().contains("\nX-Own=1\n"), "what somebody else has written stays");
        }
        home.write(&text(""));
        assert!(home.is_on());
        for broken in ["", "no entry", "[Other]\nExec=x\n"] {
            home.write(broken);
            assert!(!home.is_on(), "{broken:?}");
            assert!(home.autostart.set(true).unwrap().enabled);
        }
        fs::remove_file(&home.autostart.entry).unwrap();
        fs::create_dir(&home.autostart.entry).unwrap();
        assert_eq!(home.autostart.state().unwrap_err().code(), Code::Io);
    }

    #[test]
    fn a_link_is_kept_and_its_file_too() {
        let home = home();
        home.write("");
        fs::remove_file(&home.autostart.entry).unwrap();
        let real = home.folder.path().join("real.desktop");
        std::os::unix::fs::symlink(&real, &home.autostart.entry).unwrap();
        assert!(home.autostart.set(true).unwrap().enabled && real.is_file());
        assert!(!home.autostart.set(false).unwrap().enabled);
        assert!(home.autostart.entry.is_symlink() && fs::read_to_string(&real).unwrap().contains("Hidden=true"));
    }

    #[test]
    fn without_the_program_it_cannot_be_turned_on() {
        let home = home();
        fs::remove_file(home.folder.path().join(PROGRAM)).unwrap();
        assert_eq!(home.autostart.set(true).unwrap_err().code(), Code::ProgramMissing);
        assert_eq!(home.autostart.state().unwrap().command, None);
        assert!(!home.autostart.entry.exists());
    }

    #[test]
    fn odd_paths_are_escaped() {
        let of = |path: &str| exec(Path::new(path)).unwrap();
        assert_eq!(of("/a b/c"), "\"/a b/c\" --hidden");
        assert_eq!(of("/50%/c"), "\"/50%%/c\" --hidden");
        assert_eq!(of("/a\"`$\\c"), "\"/a\\\\\"\\\\`\\\\$\\\\\\\\c\" --hidden");
        assert!(exec(Path::new("/a\nHidden=true")).is_err());
    }
}
