//! The host's memory: what can be had of it without swapping.

use std::fs;
use std::path::{Path, PathBuf};

use corral_core::fit::Memory;
use corral_core::launch::Runtime;

/// What a server in this runtime can have. `given_back` is what the one that runs gives back, in bytes.
pub(super) fn memory(root: &Path, runtime: Runtime, given_back: u64) -> Option<Memory> {
    let meminfo = fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let (total, free) = (bytes_of(&meminfo, "MemTotal:")?, bytes_of(&meminfo, "MemAvailable:")?);
    let host = Memory { name: "this machine".to_owned(), total, free, given_back, ..Memory::default() };
    // A container of Docker's is not in this program's group.
    let bound = if runtime == Runtime::Process { tightest(root) } else { None };
    Some(match bound {
        Some((limit, left)) if limit < total => Memory {
            name: "the container or control group that Corral runs in".to_owned(),
            total: limit,
            free: left.min(free),
            ..host
        },
        _ => host,
    })
}

/// A line of `/proc/meminfo`, in bytes.
fn bytes_of(meminfo: &str, name: &str) -> Option<u64> {
    let value = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
    value.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Of the control groups that this process is in, one within the other, the bound that leaves the least: its limit, and
/// what is left of it, in bytes.
fn tightest(root: &Path) -> Option<(u64, u64)> {
    let text = fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    // A controller that is bound to version 1 is not there in version 2.
    let one = text.lines().find_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        controllers.split(',').any(|name| name == "memory").then_some(("memory", path, &ONE))
    });
    let two = || text.lines().find_map(|line| Some(("", line.strip_prefix("0::")?, &TWO)));
    let (mount, path, files) = one.or_else(two)?;
    let mount = root.join("sys/fs/cgroup").join(mount);
    let own = mount.join(path.trim_start_matches('/'));
    // In a container the path can be that of the outside, where nothing is mounted: its root is the container's own.
    let groups = own.ancestors().take_while(|folder| folder.starts_with(&mount)).map(Path::to_owned);
    groups.filter_map(|group| files.room(&group)).min_by_key(|(_, room)| *room)
}

/// What the files of a control group are called.
struct Files {
    limit: &'static str,
    used: &'static str,
    /// What of that is given back where it is needed: lines of `memory.stat`.
    cached: [&'static str; 2],
}

const ONE: Files = Files {
    limit: "memory.limit_in_bytes",
    used: "memory.usage_in_bytes",
    cached: ["total_inactive_file ", "total_active_file "],
};

const TWO: Files = Files { limit: "memory.max", used: "memory.current", cached: ["inactive_file ", "active_file "] };

impl Files {
    fn room(&self, group: &Path) -> Option<(u64, u64)> {
        let number = |file: &str| fs::read_to_string(group.join(file)).ok()?.trim().parse::<u64>().ok();
        let limit = number(self.limit)?;
        let stat = fs::read_to_string(group.join(PathBuf::from("memory.stat"))).unwrap_or_default();
        let line = |name: &str| stat.lines().find_map(|line| line.strip_prefix(name)?.parse::<u64>().ok());
        let cached: u64 = self.cached.iter().filter_map(|name| line(name)).sum();
        let used = number(self.used)?.saturating_sub(cached);
        Some((limit, limit.saturating_sub(used)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn tree(cgroup: &str, files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("proc/meminfo", "MemTotal:       16777216 kB\nMemFree: 1 kB\nMemAvailable:   12582912 kB\n");
        write("proc/self/cgroup", cgroup);
        for (path, text) in files {
            write(&format!("sys/fs/cgroup/{path}"), text);
        }
        root
    }

    fn told(root: &tempfile::TempDir, runtime: Runtime) -> (u64, u64) {
        let memory = memory(root.path(), runtime, 0).unwrap();
        (memory.total / GIB, memory.free / GIB)
    }

    #[test]
    fn it_is_what_can_be_had_without_swapping() {
        let root = tree("0::/user.slice\n", &[("user.slice/memory.max", "max\n")]);
        assert_eq!(told(&root, Runtime::Process), (16, 12));
        assert_eq!(memory(root.path(), Runtime::Docker, 7).unwrap().given_back, 7);
        assert_eq!(memory(Path::new("/nothing"), Runtime::Docker, 0), None);
    }

    #[test]
    fn the_tightest_bound_of_all_groups_counts_for_a_child_process() {
        let files = [
            ("a/memory.max", "4294967296"),
            ("a/memory.current", "3221225472"),
            ("a/memory.stat", "anon 1\ninactive_file 1073741824\nactive_file 1073741824\n"),
            ("a/b/memory.max", "8589934592"),
            ("a/b/memory.current", "0"),
        ];
        let root = tree("0::/a/b\n", &files);
        assert_eq!(told(&root, Runtime::Process), (4, 3), "what is cached is given back");
        assert_eq!(told(&root, Runtime::Docker), (16, 12), "a container is not in that group");
    }

    #[test]
    fn the_first_version_of_control_groups_is_read_too() {
        let files = [("memory/memory.limit_in_bytes", "2147483648"), ("memory/memory.usage_in_bytes", "1073741824")];
        // The path is that of the outside, of which there is nothing to be seen.
        let root = tree("4:memory:/docker/8f31\n0::/\n", &files);
        assert_eq!(told(&root, Runtime::Process), (2, 1));
        let unbounded = tree("4:memory:/\n0::/\n", &[("memory/memory.limit_in_bytes", "9223372036854771712")]);
        assert_eq!(told(&unbounded, Runtime::Process), (16, 12));
    }
}
