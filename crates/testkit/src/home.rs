//! A home of its own for one test.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::gguf::TinyModel;

/// A temporary folder laid out as `CORRAL_HOME` wants it; gone when dropped.
#[derive(Debug)]
pub struct SandboxHome {
    dir: tempfile::TempDir,
}

impl Default for SandboxHome {
    fn default() -> Self {
        Self::new()
    }
}

impl SandboxHome {
    /// A fresh home with empty folders.
    pub fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("corral-home-").tempdir().expect("a temporary folder");
        let home = Self { dir };
        for folder in [home.config(), home.models(), home.slots(), home.state(), home.run()] {
            fs::create_dir_all(&folder).expect("a folder in the temporary folder");
        }
        fs::set_permissions(home.run(), fs::Permissions::from_mode(0o700)).expect("permissions of run/");
        home
    }

    /// The value for `CORRAL_HOME`.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// `config/`: `models.toml` and `settings.toml`.
    pub fn config(&self) -> PathBuf {
        self.path().join("config")
    }

    /// `data/models/`: the models folder.
    pub fn models(&self) -> PathBuf {
        self.path().join("data/models")
    }

    /// `cache/slots/`: saved KV slots.
    pub fn slots(&self) -> PathBuf {
        self.path().join("cache/slots")
    }

    /// `state/`: logs.
    pub fn state(&self) -> PathBuf {
        self.path().join("state")
    }

    /// `run/`: token, socket, lock; mode 0700.
    pub fn run(&self) -> PathBuf {
        self.path().join("run")
    }

    /// `config/models.toml`, there or not.
    pub fn catalog(&self) -> PathBuf {
        self.config().join("models.toml")
    }

    /// Writes `config/models.toml` as an editor does, by rename, and returns its path.
    pub fn write_catalog(&self, text: &str) -> PathBuf {
        let path = self.catalog();
        let new = path.with_extension("toml.new");
        fs::write(&new, text).expect("the catalog can be written");
        fs::rename(&new, &path).expect("the catalog can be put in place");
        path
    }

    /// Writes a model file into the models folder and returns its path.
    pub fn write_model(&self, file_name: &str, model: &TinyModel) -> PathBuf {
        let path = self.models().join(file_name);
        model.write(&path).expect("the model can be written");
        path
    }
}
