//! Brings files into the page cache before somebody maps them.
//!
//! Asking the kernel to (`WILLNEED`) is not enough: of each such request it takes no more than the disk's own read-ahead
//! window, most often 128 KiB, and says nothing about the rest. So what is not there yet is read.

use std::fs::{self, File};
use std::io::IoSliceMut;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use rustix::fs::Advice;
use rustix::io::{ReadWriteFlags, preadv2};
use tokio_util::sync::CancellationToken;

use crate::files;

/// What is looked at, and read where any of it is missing, at a time.
const PIECE: u64 = 8 << 20;
/// How far apart the bytes are that a piece is looked at by.
const STEP: u64 = 64 << 10;
/// What one call reads: between two of them it can stop.
const BLOCK: usize = 1 << 20;

/// Reads what is not in memory yet of the files, front to back, if all of it fits into the memory that is available.
/// Returns how many bytes that were: none of files that are cached already, which costs next to nothing.
pub(crate) fn read_ahead(files: &[PathBuf], stop: &CancellationToken) -> u64 {
    let opened: Vec<(File, u64)> = files
        .iter()
        .filter_map(|path| {
            let file = files::open(path).ok()?;
            let size = file.metadata().ok()?.len();
            Some((file, size))
        })
        .collect();
    let wanted: u64 = opened.iter().map(|(_, size)| size).sum();
    let available = fs::read_to_string("/proc/meminfo").ok().and_then(|text| available_bytes(&text));
    if available.is_none_or(|available| wanted > available) {
        tracing::debug!(wanted, ?available, "the model does not fit in free memory: it is not read ahead");
        return 0;
    }
    let mut block = vec![0; BLOCK];
    let mut done = 0;
    for (file, size) in &opened {
        // A larger window; without it the same is read, only slower.
        let _ = rustix::fs::fadvise(file, 0, None, Advice::Sequential);
        let mut start = 0;
        while start < *size {
            if stop.is_cancelled() {
                return done;
            }
            let end = (start + PIECE).min(*size);
            if !is_cached(file, start, end) {
                let Some(read) = read(file, start, end, &mut block, stop) else { return done };
                done += read;
            }
            start = end;
        }
    }
    done
}

/// Whether the bytes from `start` to `end` seem to be in memory. Looks from the back: the front of a piece can be there
/// only because the kernel read a little further than it was asked to.
fn is_cached(file: &File, start: u64, end: u64) -> bool {
    let mut offset = end;
    while offset > start {
        // The last byte of the piece, and then one in each step before it.
        if !byte_is_cached(file, offset - 1) {
            return false;
        }
        offset = offset.saturating_sub(STEP);
    }
    true
}

/// Whether a byte can be had without waiting for a disk. A file system that cannot tell says no.
fn byte_is_cached(file: &File, offset: u64) -> bool {
    preadv2(file, &mut [IoSliceMut::new(&mut [0])], offset, ReadWriteFlags::NOWAIT) == Ok(1)
}

/// Reads from `start` to `end`, and returns how much that was; nothing where it cannot go on.
fn read(file: &File, start: u64, end: u64, block: &mut [u8], stop: &CancellationToken) -> Option<u64> {
    let mut offset = start;
    while offset < end {
        if stop.is_cancelled() {
            return None;
        }
        let size = usize::try_from(end - offset).map_or(block.len(), |rest| rest.min(block.len()));
        match file.read_at(block.get_mut(..size)?, offset) {
            // It has become shorter.
            Ok(0) => return None,
            Ok(count) => offset += count as u64,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => {
                tracing::debug!(%error, "a model cannot be read ahead");
                return None;
            }
        }
    }
    Some(end - start)
}

/// `MemAvailable` of `/proc/meminfo`, in bytes.
fn available_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;
    use std::path::Path;
    use std::time::{Duration, Instant};

    use super::*;

    /// Longer than any disk takes.
    const PATIENCE: Duration = Duration::from_secs(20);

    /// Not a whole number of pieces, blocks or pages.
    const SIZE: usize = (20 << 20) + 5;

    /// A file on the disk that the build is on: one in memory cannot be dropped from there.
    fn on_disk() -> (tempfile::TempDir, PathBuf) {
        let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target");
        fs::create_dir_all(&target).unwrap();
        let folder = tempfile::tempdir_in(target).unwrap();
        let path = folder.path().join("m.gguf");
        fs::write(&path, vec![1; SIZE]).unwrap();
        (folder, path)
    }

    /// What is in memory of this much of a file goes. The kernel keeps what somebody looks at in this moment, be it only
    /// to see how much memory is in use: it is asked again then.
    fn forget(file: &File, offset: u64, length: Option<NonZeroU64>) {
        let last = length.map_or(SIZE as u64, |length| offset + length.get()) - 1;
        file.sync_all().unwrap();
        let began = Instant::now();
        loop {
            rustix::fs::fadvise(file, offset, length, Advice::DontNeed).unwrap();
            // The last byte only: looking makes the kernel read what comes behind.
            if !byte_is_cached(file, last) {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "this disk lets nothing be dropped: the test shows nothing");
            std::thread::yield_now();
        }
    }

    /// What is read ahead after this much of the file was dropped. The kernel may keep any of it, however often it is
    /// asked: where it kept all there is nothing to read, and it is done again.
    fn read_after_drop(path: &Path, offset: u64, length: Option<NonZeroU64>) -> u64 {
        let began = Instant::now();
        loop {
            forget(&File::open(path).unwrap(), offset, length);
            match read_ahead(&[path.to_owned()], &CancellationToken::new()) {
                0 => assert!(began.elapsed() < PATIENCE, "nothing is ever read"),
                read => return read,
            }
        }
    }

    /// How many pages are not in memory. From the back, for looking makes the kernel read a little.
    fn missing(file: &File) -> usize {
        let last = SIZE as u64 - 1;
        (0..=last).rev().step_by(4096).filter(|offset| !byte_is_cached(file, *offset)).count()
    }

    #[test]
    fn all_of_a_file_is_in_memory_afterwards() {
        let (_folder, path) = on_disk();
        // Of later pieces the kernel may have read some ahead by itself.
        assert!(read_after_drop(&path, 0, None) >= PIECE);
        // Where the kernel had kept just the bytes that are looked at, a few beside them stay missing.
        let missing = missing(&File::open(&path).unwrap());
        assert!(missing <= SIZE / 4096 / 100, "{missing} pages");
        assert_eq!(read_ahead(&[path], &CancellationToken::new()), 0, "what is there is not read again");
    }

    #[test]
    fn one_piece_that_is_missing_is_read_alone() {
        let (_folder, path) = on_disk();
        read_ahead(std::slice::from_ref(&path), &CancellationToken::new());
        assert_eq!(read_after_drop(&path, PIECE, NonZeroU64::new(PIECE)), PIECE);
    }

    #[test]
    fn who_is_told_to_stop_reads_nothing() {
        let (_folder, path) = on_disk();
        let stop = CancellationToken::new();
        forget(&File::open(&path).unwrap(), 0, None);
        stop.cancel();
        assert_eq!(read_ahead(std::slice::from_ref(&path), &stop), 0);
        assert!(read_after_drop(&path, 0, None) >= PIECE, "another one reads");
    }

    #[test]
    fn free_memory_is_read_from_meminfo() {
        assert_eq!(available_bytes("MemTotal: 9 kB\nMemAvailable:   24 kB\n"), Some(24 * 1024));
        assert_eq!(available_bytes("MemTotal: 9 kB\n"), None);
    }
}
