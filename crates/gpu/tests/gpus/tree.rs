//! A machine's files, below a folder.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use corral_gpu::Roots;
use tempfile::TempDir;

/// What stands for `/`.
pub(crate) struct Tree(TempDir);

impl Tree {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn roots(&self) -> Roots {
        Roots::below(self.0.path())
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    /// Writes a file, with the folders above it.
    pub(crate) fn write(&self, path: &str, text: impl AsRef<[u8]>) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Files in one folder: lines of a name and a value, as `grep -r . FOLDER` shows them.
    pub(crate) fn write_all(&self, folder: &str, files: &str) {
        for line in files.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(": ").unwrap();
            self.write(&format!("{folder}/{name}"), format!("{value}\n"));
        }
    }

    pub(crate) fn link(&self, path: &str, target: impl AsRef<Path>) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target, path).unwrap();
    }

    /// The folder of a device on the bus.
    pub(crate) fn card(&self, address: &str, driver: &str, files: &str) {
        let folder = format!("sys/bus/pci/devices/{address}");
        self.write_all(&folder, files);
        self.link(&format!("{folder}/driver"), format!("../../../bus/pci/drivers/{driver}"));
    }

    /// A process, with its start and what it has open: numbers with their `fdinfo`.
    pub(crate) fn process(&self, pid: u32, parent: u32, program: &str, cgroup: &str, open: &[(u32, &str)]) {
        let folder = format!("proc/{pid}");
        let name = program.rsplit('/').next().unwrap();
        self.write(&format!("{folder}/stat"), format!("{pid} ({name}) S {parent} {}\n", "0 ".repeat(17) + "4711 0 0"));
        self.write(&format!("{folder}/comm"), format!("{name}\n"));
        self.write(&format!("{folder}/cmdline"), format!("{program}\0--port\0"));
        self.write(&format!("{folder}/cgroup"), format!("0::{cgroup}\n"));
        for (number, info) in open {
            self.link(&format!("{folder}/fd/{number}"), "/dev/dri/renderD128");
            self.write(&format!("{folder}/fdinfo/{number}"), info);
        }
    }
}
