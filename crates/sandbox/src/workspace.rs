//! The folder that is given to the jail to work in.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use corral_core::{Code, Error, Result};
use rustix::fs::{Access, AtFlags, CWD, Mode, OFlags, ResolveFlags, accessat, openat2};
use rustix::io::Errno;

use crate::shown::shown;

/// The folder to work in, held open: what is mounted is this folder, whatever becomes of its path.
#[derive(Debug)]
pub struct Workspace {
    path: PathBuf,
    folder: OwnedFd,
    limits: Limits,
}

impl Workspace {
    /// Opens a folder. `home` is the user's; `forbidden` are folders that a jail must not change: Corral's own.
    ///
    /// [`Code::WorkspaceInvalid`]: it is missing, no folder, cannot be read and written, or is too much to give away.
    pub fn open(path: &Path, home: &Path, forbidden: &[PathBuf]) -> Result<Self> {
        let canonical = path.canonicalize().map_err(|error| cannot_open(path, &error))?;
        // By its canonical path it is opened without any link: what was looked at is what is opened.
        let folder = open_folder(&canonical).map_err(|error| cannot_open(path, &error.into()))?;
        let forbidden = forbidden.iter().map(|path| Place::of(path)).collect();
        let limits = Limits { home: Place::of(home), others: Vec::new(), forbidden };
        if let Some(why) = limits.refusal(&Place::of(&canonical)) {
            return Err(too_much(&canonical, &why));
        }
        match accessat(&folder, ".", Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK, AtFlags::empty()) {
            Ok(()) => Ok(Self { path: canonical, folder, limits }),
            Err(Errno::ROFS) => Err(invalid(format!("{} is on a disk that cannot be written", shown(&canonical)))
                .hint("the agent works on files: copy the folder to a disk that can be written, or mount this one so")),
            Err(error) => Err(cannot_open(&canonical, &error.into())),
        }
    }

    /// The same workspace, unless it is too much for these homes' sake as well.
    ///
    /// [`Code::WorkspaceInvalid`] if it is.
    pub fn outside(mut self, homes: &[PathBuf]) -> Result<Self> {
        self.limits.others = homes.iter().map(|home| Place::of(home)).collect();
        match self.limits.refusal(&Place::of(&self.path)) {
            Some(why) => Err(too_much(&self.path, &why)),
            None => Ok(self),
        }
    }

    /// Where it is, without links. It has the same path inside the jail.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder itself.
    pub fn folder(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }

    /// The user's home, without links.
    pub(crate) fn home(&self) -> &Path {
        &self.limits.home.path
    }

    /// What else is too much to give away, seen from here.
    pub(crate) fn refusal(&self, path: &Path) -> Option<String> {
        self.limits.refusal(&Place::of(path))
    }
}

/// The homes of people, by the lines of passwd(5): of root, of this user, and of those whose numbers are not the system's.
pub fn homes(accounts: &[u8], user: u32) -> Vec<PathBuf> {
    /// `nobody`, whose home is none.
    const NOBODY: u32 = 65_534;
    /// Where login.defs(5) has ordinary users begin.
    const FIRST: u32 = 1000;
    let of_line = |line: &[u8]| {
        let mut fields = line.split(|byte| *byte == b':').skip(2);
        let number: u32 = str::from_utf8(fields.next()?).ok()?.parse().ok()?;
        let home = fields.nth(2).filter(|home| home.starts_with(b"/") && home.len() > 1)?;
        let counts = number == user || number == 0 || (number >= FIRST && number != NOBODY);
        counts.then(|| PathBuf::from(OsStr::from_bytes(home)))
    };
    accounts.split(|byte| *byte == b'\n').filter_map(of_line).collect()
}

/// A folder by its canonical path, for use as a place to start from.
pub(crate) fn open_folder(canonical: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat2(CWD, canonical, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS)
}

fn invalid(message: String) -> Error {
    Error::new(Code::WorkspaceInvalid, message)
}

fn too_much(path: &Path, why: &str) -> Error {
    invalid(format!("{} {why}", shown(path)))
        .hint("choose a folder that holds one project: the agent reads all in it and can change nearly all of it")
}

fn cannot_open(path: &Path, error: &io::Error) -> Error {
    let path = shown(path);
    match error.kind() {
        io::ErrorKind::NotFound => invalid(format!("there is no folder {path}"))
            .hint("make the folder first, or name another with --workspace"),
        io::ErrorKind::NotADirectory => {
            invalid(format!("{path} is not a folder")).hint("name the folder that it is in")
        }
        io::ErrorKind::PermissionDenied => invalid(format!("{path} cannot be read and written by you"))
            .hint("the jail runs as you and has no more rights: `ls -ld` shows whose the folder is"),
        _ => invalid(format!("{path} cannot be opened: {error}")).hint("name another folder with --workspace"),
    }
}

/// A path and which folders lie on it, nearest first: the same folder may be mounted in two places.
#[derive(Debug)]
struct Place {
    path: PathBuf,
    line: Vec<Option<(u64, u64)>>,
}

/// How one place lies to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Relation {
    Same,
    Above,
    Within,
}

impl Place {
    fn of(path: &Path) -> Self {
        let path = canonical_as_far_as_it_exists(path);
        let line = path.ancestors().map(|path| path.metadata().ok().map(|stat| (stat.dev(), stat.ino()))).collect();
        Self { path, line }
    }

    fn lies_to(&self, other: &Self) -> Option<Relation> {
        let is_on = |one: &Self, line: &[Option<(u64, u64)>]| {
            one.line.first().is_some_and(|here| here.is_some() && line.contains(here))
        };
        if self.path == other.path || is_on(self, &other.line[..other.line.len().min(1)]) {
            Some(Relation::Same)
        } else if other.path.starts_with(&self.path) || is_on(self, &other.line) {
            Some(Relation::Above)
        } else if self.path.starts_with(&other.path) || is_on(other, &self.line) {
            Some(Relation::Within)
        } else {
            None
        }
    }
}

fn canonical_as_far_as_it_exists(path: &Path) -> PathBuf {
    let found = path.ancestors().find_map(|upper| Some((upper, upper.canonicalize().ok()?)));
    match found {
        Some((upper, canonical)) => match path.strip_prefix(upper) {
            Ok(rest) if !rest.as_os_str().is_empty() => canonical.join(rest),
            _ => canonical,
        },
        None => path.to_owned(),
    }
}

/// What must not be given away.
#[derive(Debug)]
struct Limits {
    home: Place,
    /// Homes of accounts of this machine.
    others: Vec<Place>,
    forbidden: Vec<Place>,
}

impl Limits {
    /// Why this place is too much, as the end of a sentence.
    fn refusal(&self, place: &Place) -> Option<String> {
        if place.path.as_os_str().as_bytes() == b"/" {
            return Some("is the whole machine".to_owned());
        }
        match place.lies_to(&self.home) {
            Some(Relation::Same) => return Some("is your home, with all your keys and settings".to_owned()),
            Some(Relation::Above) => return Some("holds your home, with all your keys and settings".to_owned()),
            Some(Relation::Within) | None => {}
        }
        for home in &self.others {
            match place.lies_to(home) {
                Some(Relation::Same) => return Some("is the home of an account of this machine".to_owned()),
                Some(Relation::Above) => return Some(format!("holds the home {}", shown(&home.path))),
                Some(Relation::Within) | None => {}
            }
        }
        for own in &self.forbidden {
            let how = match place.lies_to(own) {
                Some(Relation::Same) => "is".to_owned(),
                Some(Relation::Above) => "holds".to_owned(),
                Some(Relation::Within) => "lies in".to_owned(),
                None => continue,
            };
            return Some(format!("{how} a folder of Corral's own, {}", shown(&own.path)));
        }
        let homes = std::iter::once(&self.home).chain(&self.others);
        let of_home =
            homes.flat_map(|home| OF_HOME.iter().map(move |(name, reach, what)| (home.path.join(name), *reach, *what)));
        let of_system = OF_SYSTEM.iter().map(|(path, reach)| (PathBuf::from(path), *reach, "a folder of the system"));
        for (path, reach, what) in of_system.chain(of_home) {
            // Beneath a folder that is refused only itself nothing is lost by not looking closer.
            let relation = match reach {
                Reach::Itself if path != place.path => None,
                Reach::Itself => Some(Relation::Same),
                Reach::Beneath => place.lies_to(&Place::of(&path)),
            };
            match relation {
                Some(Relation::Same) => return Some(format!("is {what}")),
                Some(Relation::Within) => return Some(format!("lies in {}, {what}", shown(&path))),
                Some(Relation::Above) => return Some(format!("holds {}, {what}", shown(&path))),
                None => {}
            }
        }
        None
    }
}

/// How much of a folder is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// The folder; one in it may be a project.
    Itself,
    /// All that is beneath it too.
    Beneath,
}

/// Folders that belong to the system or to everybody.
const OF_SYSTEM: &[(&str, Reach)] = &[
    ("/bin", Reach::Beneath),
    ("/boot", Reach::Beneath),
    ("/dev", Reach::Beneath),
    ("/efi", Reach::Beneath),
    ("/etc", Reach::Beneath),
    ("/gnu", Reach::Beneath),
    ("/home", Reach::Itself),
    ("/lib", Reach::Beneath),
    ("/lib32", Reach::Beneath),
    ("/lib64", Reach::Beneath),
    ("/libx32", Reach::Beneath),
    ("/lost+found", Reach::Beneath),
    ("/media", Reach::Itself),
    ("/nix", Reach::Beneath),
    ("/opt", Reach::Itself),
    ("/proc", Reach::Beneath),
    ("/root", Reach::Itself),
    ("/run", Reach::Itself),
    ("/run/user", Reach::Beneath),
    ("/sbin", Reach::Beneath),
    ("/snap", Reach::Beneath),
    ("/sys", Reach::Beneath),
    ("/tmp", Reach::Itself),
    ("/usr", Reach::Beneath),
    ("/var", Reach::Itself),
    ("/var/cache", Reach::Beneath),
    ("/var/lib", Reach::Itself),
    ("/var/log", Reach::Beneath),
    ("/var/spool", Reach::Beneath),
    ("/var/tmp", Reach::Itself),
];

/// Folders in a home that hold keys, or what is run by itself.
const OF_HOME: &[(&str, Reach, &str)] = &[
    (".aws", Reach::Beneath, "with keys in it"),
    (".cache", Reach::Itself, "where programs keep what they run again"),
    (".claude", Reach::Beneath, "the settings of your own Claude Code"),
    (".config", Reach::Itself, "the settings of your programs"),
    (".config/autostart", Reach::Beneath, "what is started with your desktop"),
    (".config/systemd", Reach::Beneath, "what is started with your session"),
    (".docker", Reach::Beneath, "with keys in it"),
    (".gnupg", Reach::Beneath, "with keys in it"),
    (".kube", Reach::Beneath, "with keys in it"),
    (".local", Reach::Itself, "where your programs are"),
    (".local/bin", Reach::Beneath, "where your programs are"),
    (".local/share", Reach::Itself, "where programs keep what they run"),
    (".mozilla", Reach::Beneath, "with passwords in it"),
    (".password-store", Reach::Beneath, "with passwords in it"),
    (".ssh", Reach::Beneath, "with keys in it"),
];

#[cfg(test)]
#[path = "workspace_tests.rs"]
mod tests;
