//! The user's terminal, and how each of them is told what to run.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use corral_core::settings::TerminalSetting;
use corral_core::{Code, Error, Result};

use crate::{Variables, lookup};

/// A terminal that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terminal {
    program: PathBuf,
    args: Vec<OsString>,
}

/// What has to be started to have a window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invocation {
    /// The terminal's program.
    pub program: PathBuf,
    /// Its arguments; never a text that a shell reads.
    pub args: Vec<OsString>,
    /// The folder to start it in: some terminals know no other way to be told.
    pub folder: PathBuf,
}

/// The terminals that are known, by name, in the order in which they are tried; the command follows what is here.
///
/// Sources: their manual pages; for `xdg-terminal-exec`, which has had these options since 0.11,
/// <https://github.com/Vladimir-csp/xdg-terminal-exec>
const KNOWN: &[(&str, &[&str])] = &[
    ("gnome-terminal", &["--title={title}", "--working-directory={folder}", "--"]),
    ("ptyxis", &["--new-window", "--title={title}", "--working-directory={folder}", "--"]),
    ("konsole", &["--workdir", "{folder}", "-p", "tabtitle={title}", "-e"]),
    ("kgx", &["--title={title}", "--working-directory={folder}", "--"]),
    ("kitty", &["--title={title}", "--directory={folder}"]),
    ("alacritty", &["--title", "{title}", "--working-directory", "{folder}", "-e"]),
    ("wezterm", &["start", "--cwd", "{folder}", "--"]),
    ("foot", &["--title={title}", "--working-directory={folder}"]),
    ("ghostty", &["--title={title}", "--working-directory={folder}", "-e"]),
    ("xfce4-terminal", &["--title={title}", "--working-directory={folder}", "-x"]),
    ("tilix", &["--title={title}", "--working-directory={folder}", "-e"]),
    ("xterm", &["-T", "{title}", "-e"]),
];

/// Starts the one that the user has chosen for the whole desktop.
const XDG: (&str, &[&str]) = ("xdg-terminal-exec", &["--title={title}", "--dir={folder}"]);

/// What Debian asks of every terminal: <https://www.debian.org/doc/debian-policy/ch-customized-programs.html>
const DEBIAN: (&str, &[&str]) = ("x-terminal-emulator", &["-T", "{title}", "-e"]);

/// What of a terminal that is not known can be relied on.
const UNKNOWN: &[&str] = &["-e"];

/// Finds the terminal: the one of the settings, then that of the desktop, of `TERMINAL`, of the system, and then
/// whichever there is.
pub fn find(variables: &Variables<'_>, setting: Option<&TerminalSetting>) -> Result<Terminal> {
    let path = variables("PATH").unwrap_or_default();
    if let Some(setting) = setting {
        return chosen(&path, setting);
    }
    let named = variables("TERMINAL").filter(|name| !name.is_empty());
    let by_name = |&(name, args): &(&str, &[&str])| Some(Terminal::new(first(&path, OsStr::new(name))?, args));
    by_name(&XDG)
        .or_else(|| first(&path, &named?).map(Terminal::of))
        .or_else(|| first(&path, OsStr::new(DEBIAN.0)).map(Terminal::of_debian))
        .or_else(|| KNOWN.iter().find_map(by_name))
        .ok_or_else(|| {
            Error::new(Code::ProgramMissing, "no terminal was found")
                .hint("install one, or name yours as `terminal` in settings.toml")
        })
}

fn chosen(path: &OsStr, setting: &TerminalSetting) -> Result<Terminal> {
    let (name, args) = match setting {
        TerminalSetting::Name(name) => (name, None),
        TerminalSetting::Command(words) => match words.split_first() {
            Some((name, args)) => (name, Some(args)),
            None => return Err(missing("`terminal` in settings.toml is empty")),
        },
    };
    let program = first(path, OsStr::new(name));
    let program =
        program.ok_or_else(|| missing(format!("`terminal` in settings.toml is `{name}`, which is not there")))?;
    Ok(match args {
        Some(args) => Terminal::new(program, args),
        None => Terminal::of(program),
    })
}

fn missing(message: impl Into<String>) -> Error {
    Error::new(Code::ProgramMissing, message)
        .hint("name a program in PATH, an absolute path, or a list of the program and its options; or leave it out")
}

/// A program by its absolute path, or the first of `PATH` by its name.
fn first(path: &OsStr, name: &OsStr) -> Option<PathBuf> {
    let named = Path::new(name);
    if named.is_absolute() {
        return lookup::is_program(named).then(|| named.to_owned());
    }
    let name = name.to_str().filter(|name| !name.is_empty() && !name.contains('/'))?;
    lookup::on_path(path, name).next()
}

impl Terminal {
    fn new(program: PathBuf, args: &[impl AsRef<str>]) -> Self {
        Self { program, args: args.iter().map(|arg| arg.as_ref().into()).collect() }
    }

    /// By what its file is called.
    fn of(program: PathBuf) -> Self {
        let args = known(&program).unwrap_or(UNKNOWN);
        Self::new(program, args)
    }

    /// The system's, which is a link: to a terminal that is known, or to one that does what Debian asks.
    fn of_debian(program: PathBuf) -> Self {
        let real = program.canonicalize().unwrap_or_else(|_| program.clone());
        let args = known(&real).unwrap_or(DEBIAN.1);
        Self::new(program, args)
    }

    /// Its program.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// What opens a window that runs `command` in `folder`. `command` has to begin with an absolute path: that cannot be
    /// mistaken for an option.
    pub fn command(&self, title: &str, folder: &Path, command: &[OsString]) -> Invocation {
        let title: String = title.chars().filter(|c| !c.is_control()).collect();
        let fill = |arg: &OsString| {
            let text = arg.to_str().unwrap_or_default();
            if let Some(before) = text.strip_suffix("{folder}") {
                let mut arg = OsString::from(before);
                arg.push(folder);
                return arg;
            }
            text.strip_suffix("{title}").map_or_else(|| arg.clone(), |before| format!("{before}{title}").into())
        };
        let args = self.args.iter().map(fill).chain(command.iter().cloned()).collect();
        Invocation { program: self.program.clone(), args, folder: folder.to_owned() }
    }
}

fn known(program: &Path) -> Option<&'static [&'static str]> {
    let name = program.file_name()?;
    let mut all = KNOWN.iter().chain([&XDG, &DEBIAN]);
    all.find(|(known, _)| name == *known).map(|(_, args)| *args)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    /// A `PATH` of two folders, the second with these programs.
    struct Programs(tempfile::TempDir);

    impl Programs {
        fn new(names: &[&str]) -> Self {
            let root = tempfile::tempdir().unwrap();
            for name in names {
                let path = root.path().join(name);
                std::fs::write(&path, "").unwrap();
                std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
            }
            Self(root)
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn find(&self, terminal: &str, setting: Option<&TerminalSetting>) -> Result<Terminal> {
            let path = std::env::join_paths([Path::new("/nowhere"), Path::new("."), self.0.path()]).unwrap();
            let variables = |name: &str| match name {
                "PATH" => Some(path.clone()),
                "TERMINAL" => Some(terminal.into()),
                _ => None,
            };
            find(&variables, setting)
        }

        fn found(&self, terminal: &str, setting: Option<&TerminalSetting>) -> String {
            let found = self.find(terminal, setting).unwrap();
            found.program().strip_prefix(self.0.path()).unwrap().display().to_string()
        }
    }

    fn args(terminal: &Terminal) -> String {
        let run = ["/bin/claude-local", "--workspace", "/w/a b"].map(OsString::from);
        let command = terminal.command("Local\u{1b} Claude", Path::new("/w/a b"), &run);
        assert_eq!(command.folder, Path::new("/w/a b"));
        let args: Vec<_> = command.args.iter().map(|arg| arg.to_str().unwrap()).collect();
        args.join("|").strip_suffix("/bin/claude-local|--workspace|/w/a b").unwrap().to_owned()
    }

    #[test]
    fn each_is_told_in_its_own_way() {
        let expected = [
            ("gnome-terminal", "--title=Local Claude|--working-directory=/w/a b|--|"),
            ("ptyxis", "--new-window|--title=Local Claude|--working-directory=/w/a b|--|"),
            ("konsole", "--workdir|/w/a b|-p|tabtitle=Local Claude|-e|"),
            ("kgx", "--title=Local Claude|--working-directory=/w/a b|--|"),
            ("kitty", "--title=Local Claude|--directory=/w/a b|"),
            ("alacritty", "--title|Local Claude|--working-directory|/w/a b|-e|"),
            ("wezterm", "start|--cwd|/w/a b|--|"),
            ("foot", "--title=Local Claude|--working-directory=/w/a b|"),
            ("ghostty", "--title=Local Claude|--working-directory=/w/a b|-e|"),
            ("xfce4-terminal", "--title=Local Claude|--working-directory=/w/a b|-x|"),
            ("tilix", "--title=Local Claude|--working-directory=/w/a b|-e|"),
            ("xterm", "-T|Local Claude|-e|"),
        ];
        assert_eq!(expected.map(|(name, _)| name).as_slice(), KNOWN.iter().map(|(name, _)| *name).collect::<Vec<_>>());
        for (name, told) in expected {
            let terminal = Programs::new(&[name]).find("", None).unwrap();
            assert_eq!((name, args(&terminal).as_str()), (name, told));
        }
        let xdg = Programs::new(&["xdg-terminal-exec"]).find("", None).unwrap();
        assert_eq!(args(&xdg), "--title=Local Claude|--dir=/w/a b|");
        let debian = Programs::new(&["x-terminal-emulator"]).find("", None).unwrap();
        assert_eq!(args(&debian), "-T|Local Claude|-e|");
        let unknown = Programs::new(&["st"]).find("st", None).unwrap();
        assert_eq!(args(&unknown), "-e|");
    }

    #[test]
    fn the_first_of_the_order_is_taken() {
        let mut names: Vec<_> = KNOWN.iter().map(|(name, _)| *name).collect();
        names.extend(["xdg-terminal-exec", "x-terminal-emulator", "st"]);
        let all = Programs::new(&names);
        let setting = TerminalSetting::Name("foot".to_owned());
        assert_eq!(all.found("st", Some(&setting)), "foot");
        for (terminal, first) in [("st", "xdg-terminal-exec"), ("st", "st"), ("gone", "x-terminal-emulator")] {
            assert_eq!(all.found(terminal, None), first);
            std::fs::remove_file(all.path(first)).unwrap();
        }
        for (name, _) in KNOWN {
            assert_eq!(all.found("", None), *name);
            std::fs::remove_file(all.path(name)).unwrap();
        }
        let error = all.find("", None).unwrap_err();
        assert_eq!((error.code(), error.to_string().as_str()), (Code::ProgramMissing, "no terminal was found"));
    }

    #[test]
    fn the_systems_own_is_told_as_what_it_really_is() {
        let programs = Programs::new(&["kitty", "kitty.wrapper"]);
        let link = programs.path("x-terminal-emulator");
        symlink(programs.path("kitty"), &link).unwrap();
        let found = programs.find("", None).unwrap();
        assert_eq!(
            (found.program(), args(&found).as_str()),
            (link.as_path(), "--title=Local Claude|--directory=/w/a b|")
        );
        std::fs::remove_file(&link).unwrap();
        symlink(programs.path("kitty.wrapper"), &link).unwrap();
        assert_eq!(args(&programs.find("", None).unwrap()), "-T|Local Claude|-e|");
    }

    #[test]
    fn the_settings_can_name_one_by_path_or_with_options_and_a_mistake_is_told() {
        let programs = Programs::new(&["kitty", "xterm"]);
        let kitty = programs.path("kitty").to_str().unwrap().to_owned();
        let by_path = programs.find("", Some(&TerminalSetting::Name(kitty))).unwrap();
        assert_eq!(args(&by_path), "--title=Local Claude|--directory=/w/a b|");
        let words = ["xterm", "-fa", "Mono", "-T", "{title}", "-e"].map(str::to_owned);
        let with_options = programs.find("", Some(&TerminalSetting::Command(words.into()))).unwrap();
        assert_eq!(args(&with_options), "-fa|Mono|-T|Local Claude|-e|");
        for setting in [
            TerminalSetting::Name("gone".to_owned()),
            TerminalSetting::Name(String::new()),
            TerminalSetting::Name("../xterm".to_owned()),
            TerminalSetting::Name("xterm -e".to_owned()),
            TerminalSetting::Command(Vec::new()),
        ] {
            let error = programs.find("xterm", Some(&setting)).unwrap_err();
            assert_eq!(error.code(), Code::ProgramMissing, "{setting:?}");
            assert!(error.to_string().starts_with("`terminal` in settings.toml is "), "{error}");
        }
    }
}
