//! Where the kernel and the driver are looked for.

use std::path::{Path, PathBuf};

/// The folders that are read, and NVIDIA's library.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roots {
    /// Normally `/sys`.
    pub sys: PathBuf,
    /// Normally `/proc`.
    pub proc: PathBuf,
    /// Normally `/dev`.
    pub dev: PathBuf,
    /// The names of users: normally `/etc/passwd`.
    pub passwd: PathBuf,
    /// The names of devices: normally `/usr/share/misc/pci.ids`.
    pub pci_ids: PathBuf,
    /// NVIDIA's library, where somebody names one: it is loaded whether or not a device is seen.
    pub nvml: Option<PathBuf>,
}

impl Roots {
    /// Those of this machine.
    pub fn of_machine(nvml: Option<PathBuf>) -> Self {
        Self { nvml, ..Self::below(Path::new("/")) }
    }

    /// All of them below a folder, as they are below `/`.
    pub fn below(root: &Path) -> Self {
        Self {
            sys: root.join("sys"),
            proc: root.join("proc"),
            dev: root.join("dev"),
            passwd: root.join("etc/passwd"),
            pci_ids: root.join("usr/share/misc/pci.ids"),
            nvml: None,
        }
    }
}
