//! Copying and removing what may be hostile: bounded, through no link.

use std::ffi::{OsStr, OsString};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, fchmod, mkdirat, openat, statat, symlinkat, unlinkat};
use rustix::io::{Errno, Result, read, write};

use crate::beneath::{self, with_rights};

/// Folders within folders.
const DEPTH: usize = 64;

/// How much more may be copied.
pub(super) struct Left {
    bytes: usize,
    entries: usize,
}

impl Default for Left {
    fn default() -> Self {
        Self { bytes: 64 << 20, entries: 20_000 }
    }
}

/// Copies files, folders and links; pipes, sockets and devices are left out.
pub(super) fn copy(
    from: BorrowedFd<'_>,
    name: &OsStr,
    to: BorrowedFd<'_>,
    to_name: &OsStr,
    left: &mut Left,
    depth: usize,
) -> Result<()> {
    left.entries = left.entries.checked_sub(1).ok_or(Errno::FBIG)?;
    let stat = statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let mode = Mode::from_raw_mode(stat.st_mode & 0o777);
    match beneath::kind(&stat) {
        FileType::Symlink => symlinkat(beneath::read_link(from, Path::new(name))?, to, to_name),
        FileType::RegularFile => {
            let file = open_to_read(from, name, OFlags::NONBLOCK)?;
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let copied = openat(to, to_name, flags, Mode::RUSR | Mode::WUSR)?;
            copy_bytes(&file, &copied, left)?;
            fchmod(&copied, mode)
        }
        FileType::Directory if depth < DEPTH => {
            let folder = open_to_read(from, name, OFlags::DIRECTORY)?;
            mkdirat(to, to_name, Mode::RWXU)?;
            let copied = beneath::open(to, Path::new(to_name), OFlags::RDONLY | OFlags::DIRECTORY)?;
            for entry in names(&folder)? {
                copy(folder.as_fd(), &entry, copied.as_fd(), &entry, left, depth + 1)?;
            }
            fchmod(&copied, mode)
        }
        FileType::Directory => Err(Errno::FBIG),
        _ => Ok(()),
    }
}

/// Removes a file, or a folder with all that is in it.
pub(super) fn remove(from: BorrowedFd<'_>, name: &OsStr, depth: usize) -> Result<()> {
    let stat = statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if beneath::kind(&stat) != FileType::Directory {
        return unlinkat(from, name, AtFlags::empty());
    }
    if depth >= DEPTH {
        return Err(Errno::FBIG);
    }
    let folder = open_to_read(from, name, OFlags::DIRECTORY)?;
    let empty = || names(&folder)?.iter().try_for_each(|entry| remove(folder.as_fd(), entry, depth + 1));
    match empty() {
        Err(Errno::ACCESS) => with_rights(&folder, empty)?,
        other => other?,
    }
    unlinkat(from, name, AtFlags::REMOVEDIR)
}

fn open_to_read(from: BorrowedFd<'_>, name: &OsStr, flags: OFlags) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NOCTTY | flags;
    match beneath::open(from, Path::new(name), flags) {
        Err(Errno::ACCESS) => {
            let closed = beneath::open(from, Path::new(name), OFlags::PATH)?;
            with_rights(&closed, || beneath::open(from, Path::new(name), flags))
        }
        other => other,
    }
}

fn names(folder: &OwnedFd) -> Result<Vec<OsString>> {
    let mut names = Vec::new();
    // It may have been read before.
    rustix::fs::seek(folder, rustix::fs::SeekFrom::Start(0))?;
    beneath::entries(folder, &mut [MaybeUninit::uninit(); 8 << 10], |name, _| {
        names.push(name.to_owned());
        true
    })?;
    Ok(names)
}

fn copy_bytes(from: &OwnedFd, to: &OwnedFd, left: &mut Left) -> Result<()> {
    let mut buffer = [0; 16 << 10];
    loop {
        let got = match read(from, &mut buffer) {
            Ok(0) => return Ok(()),
            Ok(got) => got,
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error),
        };
        left.bytes = left.bytes.checked_sub(got).ok_or(Errno::FBIG)?;
        let mut rest = &buffer[..got];
        while !rest.is_empty() {
            match write(to, rest) {
                Ok(written) => rest = &rest[written..],
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
    }
}
