//! Opening and reading beneath a folder that someone may change at the same time: by descriptor, through no link.

use std::ffi::OsStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, RawDir, ResolveFlags, Stat, chmodat, fstat, openat2, readlinkat, statat,
};
use rustix::io::{self, Errno};

/// What tells a file from all others while it exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    /// Its number on its disk, which lasts longer than that of the disk.
    pub(crate) fn inode(self) -> u64 {
        self.inode
    }
}

impl From<&Stat> for Identity {
    fn from(stat: &Stat) -> Self {
        Self { device: stat.st_dev, inode: stat.st_ino }
    }
}

/// Which file it is that is open.
pub(crate) fn identity(file: impl AsFd) -> io::Result<Identity> {
    fstat(file).map(|stat| Identity::from(&stat))
}

/// What kind of file it is.
pub(crate) fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// Opens what is at `path` beneath `root`. A link is never followed: with `O_PATH` a link at the end is itself opened.
pub(crate) fn open(root: impl AsFd, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    match open_at_once(root.as_fd(), path, flags) {
        // The kernel takes paths of 4096 bytes; folders may be nested deeper than that.
        Err(Errno::NAMETOOLONG) => open_in_steps(root.as_fd(), path, flags),
        other => other,
    }
}

fn open_at_once(root: BorrowedFd<'_>, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    // Someone else's rename at the same moment may make the kernel ask for another try.
    for _ in 0..8 {
        match openat2(root, path, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
    Err(Errno::AGAIN)
}

fn open_in_steps(root: BorrowedFd<'_>, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Err(Errno::NAMETOOLONG) };
    if parent.as_os_str().is_empty() {
        return Err(Errno::NAMETOOLONG);
    }
    let mut folder = open_at_once(root, Path::new("."), OFlags::PATH | OFlags::DIRECTORY)?;
    for step in parent.components() {
        folder = open_at_once(folder.as_fd(), Path::new(&step), OFlags::PATH | OFlags::DIRECTORY)?;
    }
    open_at_once(folder.as_fd(), Path::new(name), flags)
}

/// The folder that holds what is at `path`, and its name in there.
pub(crate) fn open_parent(root: impl AsFd, path: &Path) -> io::Result<(OwnedFd, &OsStr)> {
    let name = path.file_name().ok_or(Errno::INVAL)?;
    let parent = path.parent().unwrap_or_else(|| Path::new(""));
    Ok((open(root, parent, OFlags::PATH | OFlags::DIRECTORY)?, name))
}

/// A plain file's bytes. [`Errno::FBIG`]: they are more than `most`. [`Errno::INVAL`]: it is no plain file.
pub(crate) fn read(folder: impl AsFd, name: &Path, most: usize) -> io::Result<Vec<u8>> {
    let file = open(folder, name, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
    let stat = fstat(&file)?;
    if kind(&stat) != FileType::RegularFile {
        return Err(Errno::INVAL);
    }
    if usize::try_from(stat.st_size).map_or(true, |size| size > most) {
        return Err(Errno::FBIG);
    }
    let mut bytes = Vec::new();
    let mut buffer = [0; 8192];
    loop {
        match io::read(&file, &mut buffer) {
            Ok(0) => return Ok(bytes),
            Ok(read) => bytes.extend_from_slice(&buffer[..read]),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
        // It may grow while it is read.
        if bytes.len() > most {
            return Err(Errno::FBIG);
        }
    }
}

/// Where a link leads, as it says.
pub(crate) fn read_link(folder: impl AsFd, name: &Path) -> io::Result<PathBuf> {
    let target = readlinkat(folder, name, Vec::new())?;
    Ok(PathBuf::from(OsStr::from_bytes(target.as_bytes())))
}

/// The names in a folder, with their kinds; `buffer` is for use again.
pub(crate) fn entries(
    folder: impl AsFd,
    buffer: &mut [MaybeUninit<u8>],
    mut each: impl FnMut(&OsStr, FileType) -> bool,
) -> io::Result<()> {
    let folder = folder.as_fd();
    let mut read = RawDir::new(folder, buffer);
    while let Some(entry) = read.next() {
        let entry = match entry {
            // It was removed meanwhile.
            Err(Errno::NOENT) => break,
            other => other?,
        };
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let kind = match entry.file_type() {
            // Some file systems do not say it here.
            FileType::Unknown => match statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => kind(&stat),
                Err(_) => continue,
            },
            known => known,
        };
        if !each(OsStr::from_bytes(name.to_bytes()), kind) {
            break;
        }
    }
    Ok(())
}

/// `base` and then `path`, with `.` and `..` taken as they are written, through no link.
pub(crate) fn joined(base: &Path, path: &Path) -> PathBuf {
    let mut all = PathBuf::new();
    for step in base.join(path).components() {
        match step {
            Component::ParentDir => _ = all.pop(),
            Component::CurDir => {}
            other => all.push(other),
        }
    }
    all
}

/// Does something with a file or folder of ours that we have no rights to at the moment, and leaves it as it was.
pub(crate) fn with_rights<T>(file: &OwnedFd, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let mode = Mode::from_raw_mode(fstat(file)?.st_mode);
    let by_number = format!("/proc/self/fd/{}", file.as_raw_fd());
    chmodat(CWD, &by_number, mode | Mode::RWXU, AtFlags::empty())?;
    let result = act();
    chmodat(CWD, &by_number, mode, AtFlags::empty())?;
    result
}

/// Links that the kernel follows in one path.
const LINKS: usize = 40;

/// Where a path ends, and the links on the way there.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Resolved {
    /// Without links, as far as it exists; the rest as it is written.
    pub(crate) target: PathBuf,
    /// By their paths without links, in their order.
    pub(crate) links: Vec<PathBuf>,
}

/// Follows an absolute path as the kernel does, and goes on where nothing is there. None: it goes round in a circle.
pub(crate) fn resolved(path: &Path) -> Option<Resolved> {
    let reversed = |path: &Path| {
        let mut steps: Vec<_> = path.components().map(|step| step.as_os_str().to_owned()).collect();
        steps.reverse();
        steps
    };
    let (mut steps, mut at, mut links) = (reversed(path), PathBuf::from("/"), Vec::new());
    while let Some(step) = steps.pop() {
        match step.as_bytes() {
            b"/" => at = PathBuf::from("/"),
            b"." => {}
            b".." => _ = at.pop(),
            _ => {
                at.push(&step);
                if let Ok(target) = read_link(CWD, &at) {
                    if links.len() == LINKS {
                        return None;
                    }
                    links.push(at.clone());
                    at.pop();
                    steps.extend(reversed(&target));
                }
            }
        }
    }
    Some(Resolved { target: at, links })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use proptest::prelude::*;

    fn folder(path: &Path) -> OwnedFd {
        rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap()
    }

    #[test]
    fn nothing_is_reached_through_a_link_or_outside() {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(home.path().join("in/a")).unwrap();
        std::fs::write(home.path().join("in/a/file"), "x").unwrap();
        std::fs::write(home.path().join("secret"), "x").unwrap();
        symlink("a", home.path().join("in/link")).unwrap();
        let root = folder(&home.path().join("in"));
        assert_eq!(read(&root, Path::new("a/file"), 9).unwrap(), b"x");
        assert_eq!(read(&root, Path::new("link/file"), 9).unwrap_err(), Errno::LOOP);
        assert_eq!(read(&root, Path::new("../secret"), 9).unwrap_err(), Errno::XDEV);
        assert_eq!(read(&root, Path::new("link"), 9).unwrap_err(), Errno::LOOP);
        assert_eq!(read(&root, Path::new("a"), 9).unwrap_err(), Errno::INVAL);
        assert_eq!(read(&root, Path::new("a/file"), 0).unwrap_err(), Errno::FBIG);
        assert_eq!(read_link(&root, Path::new("link")).unwrap(), Path::new("a"));
        let link = open(&root, Path::new("link"), OFlags::PATH).unwrap();
        assert_eq!(kind(&fstat(&link).unwrap()), FileType::Symlink);
    }

    #[test]
    fn a_pipe_does_not_hold_up_who_reads_it() {
        let home = tempfile::tempdir().unwrap();
        let root = folder(home.path());
        rustix::fs::mkfifoat(&root, "pipe", Mode::RWXU).unwrap();
        assert_eq!(read(&root, Path::new("pipe"), 9).unwrap_err(), Errno::INVAL);
    }

    #[test]
    fn folders_nested_beyond_the_longest_path_are_reached() {
        let home = tempfile::tempdir().unwrap();
        let (name, mut path) = ("x".repeat(200), PathBuf::new());
        let mut here = folder(home.path());
        for _ in 0..25 {
            rustix::fs::mkdirat(&here, &name, Mode::RWXU).unwrap();
            here = open(&here, Path::new(&name), OFlags::PATH | OFlags::DIRECTORY).unwrap();
            path.push(&name);
        }
        let root = folder(home.path());
        let there = open(&root, &path, OFlags::PATH | OFlags::DIRECTORY).unwrap();
        assert_eq!(identity(&there).unwrap(), identity(&here).unwrap());
    }

    #[test]
    fn a_path_is_followed_with_all_links_on_the_way() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path().canonicalize().unwrap();
        std::fs::create_dir_all(home.join("a/b")).unwrap();
        symlink("a/b", home.join("to-b")).unwrap();
        symlink(home.join("to-b/../c"), home.join("a/to-c")).unwrap();
        symlink("round", home.join("round")).unwrap();
        let of = |path: &str| resolved(&home.join(path));
        let links = ["a/to-c", "to-b"].map(|link| home.join(link)).to_vec();
        assert_eq!(of("a/./to-c/d"), Some(Resolved { target: home.join("a/c/d"), links }));
        assert_eq!(of("a/b/../x"), Some(Resolved { target: home.join("a/x"), links: Vec::new() }));
        assert_eq!(of("round/x"), None);
    }

    proptest! {
        #[test]
        fn a_joined_path_has_no_dots_left(base in "(/[a.]{1,3}){0,4}", path in "[a./]{0,12}") {
            let all = joined(Path::new(&base), Path::new(&path));
            prop_assert!(all.components().all(|c| !matches!(c, Component::ParentDir | Component::CurDir)));
        }
    }
}
