//! What a jail shows and allows, as a value.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use crate::memory::MemoryBound;
use crate::protocol::ResourceLimits;

/// Home inside every jail.
pub const HOME: &str = "/home/user";

/// The port of the jail's 127.0.0.1 where the inference gateway answers.
pub const GATEWAY_PORT: u16 = 8080;

/// The port of the jail's 127.0.0.1 where the management API answers.
pub const MANAGEMENT_PORT: u16 = 8081;

/// Folders of the jail's own that are gone at its end.
pub(crate) const TEMPORARY: [&str; 3] = ["/tmp", "/var/tmp", "/dev/shm"];

/// A jail.
#[derive(Debug)]
pub struct Policy {
    /// What of the host's files is shown besides the system's programs, in this order: later ones lie over earlier ones.
    pub binds: Vec<Bind>,
    /// Files with contents of our own, for reading.
    pub files: Vec<DataFile>,
    /// The size of each folder for temporary files, in bytes: `/tmp`, `/var/tmp` and `/dev/shm`.
    pub tmp_bytes: u64,
    /// Ports of the jail's own 127.0.0.1 that are served from outside.
    pub listen: Vec<u16>,
    /// Bounds of what runs.
    pub limits: ResourceLimits,
    /// The bound of the memory of all together, where one is asked for.
    pub memory: Option<MemoryBound>,
}

/// A file or folder of the host's that is shown.
#[derive(Debug)]
pub struct Bind {
    /// What: opened before, so that nobody can put something else in its place.
    pub source: OwnedFd,
    /// Where it is inside.
    pub at: PathBuf,
    /// Whether it can be written.
    pub access: Access,
}

/// What may be done with a bind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reading and running.
    ReadOnly,
    /// Writing as well.
    Writable,
}

/// A file that is made for the jail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataFile {
    /// Where it is inside.
    pub at: PathBuf,
    /// Its bytes.
    pub content: Vec<u8>,
}

impl Default for ResourceLimits {
    fn default() -> Self {
        Self { processes: 4096, data: None, open_files: 65_536 }
    }
}

impl Policy {
    /// A jail that shows the system's programs and nothing else of the host's.
    pub fn empty() -> Self {
        Self {
            binds: Vec::new(),
            files: Vec::new(),
            tmp_bytes: 2 << 30,
            listen: Vec::new(),
            limits: ResourceLimits::default(),
            memory: None,
        }
    }

    /// Shows more.
    #[must_use]
    pub fn with(mut self, source: OwnedFd, at: impl Into<PathBuf>, access: Access) -> Self {
        self.binds.push(Bind { source, at: at.into(), access });
        self
    }

    /// Adds a file of our own.
    #[must_use]
    pub fn with_file(mut self, at: impl Into<PathBuf>, content: impl Into<Vec<u8>>) -> Self {
        self.files.push(DataFile { at: at.into(), content: content.into() });
        self
    }

    /// Folders and files that may be written beneath.
    pub fn writable(&self) -> impl Iterator<Item = &Path> {
        let shown = self.binds.iter().filter(|bind| bind.access == Access::Writable).map(|bind| bind.at.as_path());
        shown.chain(TEMPORARY.map(Path::new))
    }
}
