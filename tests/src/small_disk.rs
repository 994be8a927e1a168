//! A file system with little room, for what happens when there is none left.

use std::path::{Path, PathBuf};
use std::process::Command;

use corral_testkit::SandboxHome;

/// A small file system in memory, mounted on a folder until this is dropped.
#[derive(Debug)]
pub struct SmallDisk {
    folder: PathBuf,
    home: PathBuf,
}

impl SmallDisk {
    /// Mounts one with room for so many bytes on a folder of a home. None where that takes rights that this user does not
    /// have: then it says so, loudly.
    #[track_caller]
    pub fn on(home: &SandboxHome, folder: &Path, bytes: usize) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("NOT TESTED, as only root can mount a small file system: what happens when a disk is full");
            return None;
        }
        let options = format!("size={bytes},mode=0700");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "corral-test"]).arg(folder).status();
        assert!(mounted.expect("`mount` runs").success(), "a small file system can be mounted on {}", folder.display());
        Some(Self { folder: folder.to_owned(), home: home.path().to_owned() })
    }

    /// Fills it to the last byte, and returns the file that does so.
    pub fn fill(&self) -> PathBuf {
        let path = self.folder.join("filling");
        let mut file = std::fs::File::create(&path).expect("a file");
        // Ever smaller pieces, until not even one byte fits.
        for size in [1 << 16, 1 << 12, 1] {
            while std::io::Write::write(&mut file, &vec![0; size]).is_ok_and(|written| written == size) {}
        }
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: what still has files open there ends in a moment.
        let _ = Command::new("umount").arg("-l").arg(&self.folder).status();
        // As long as it was mounted, the home could not be removed.
        let _ = std::fs::remove_dir_all(&self.home);
    }
}
