//! Control groups as files: where the kernel counts a process's memory, of either version.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

/// Where all the files are.
pub(super) const ROOT: &str = "/";

/// The control group that bounds a jail's memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    folder: PathBuf,
    /// Of control groups: 1 or 2.
    version: u8,
}

impl Group {
    /// That in which this process's memory is counted.
    pub(super) fn of(root: &Path, process: u32) -> Option<Self> {
        let text = fs::read_to_string(root.join(format!("proc/{process}/cgroup"))).ok()?;
        // A controller that is bound to version 1 is not there in version 2.
        let one = text.lines().find_map(|line| {
            let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
            controllers.split(',').any(|name| name == "memory").then_some(("memory", path, 1))
        });
        let two = || text.lines().find_map(|line| Some(("", line.strip_prefix("0::")?, 2)));
        let (mount, path, version) = one.or_else(two)?;
        let folder = root.join("sys/fs/cgroup").join(mount).join(path.trim_start_matches('/'));
        Some(Self { folder, version })
    }

    /// Its own name.
    pub(super) fn name(&self) -> Option<&OsStr> {
        self.folder.file_name()
    }

    /// How much memory all in it may take together, in bytes; none where that is not bounded.
    pub fn limit(&self) -> Option<u64> {
        let file = if self.version == 1 { "memory.limit_in_bytes" } else { "memory.max" };
        fs::read_to_string(self.folder.join(file)).ok()?.trim().parse().ok()
    }

    /// How many processes in it the kernel has ended because the bound was reached; none once it has gone.
    pub fn killed(&self) -> Option<u64> {
        let file = if self.version == 1 { "memory.oom_control" } else { "memory.events" };
        let text = fs::read_to_string(self.folder.join(file)).ok()?;
        text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
    }
}

/// A line of `/proc/meminfo`, in bytes.
pub(super) fn bytes_of(meminfo: &str, name: &str) -> Option<u64> {
    let value = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
    value.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}
