//! A copy of the library in a folder of its own, with its scene.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

/// What the scene's file is called.
pub(crate) const SCENE: &str = "scene.json";
/// Where calls are written down, a line for each.
pub(crate) const CALLS: &str = "calls";
/// The pipe that a held call waits at.
pub(crate) const HOLD: &str = "hold";

/// A library of its own, which plays the scene that it was last given.
#[derive(Debug)]
pub struct Stage {
    folder: TempDir,
}

impl Stage {
    /// A library that plays this scene.
    pub fn new(scene: &Value) -> Self {
        Self::without(&[], scene)
    }

    /// One that lacks some functions, as that of an older driver does.
    pub fn without(functions: &[&str], scene: &Value) -> Self {
        let mut library = fs::read(built()).expect("the library is built with this crate");
        for function in functions {
            let name = [b"\0", function.as_bytes(), b"\0"].concat();
            let found = library.windows(name.len()).position(|window| window == name).expect("it has that function");
            library[found + 1] = b'x';
        }
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("libnvidia-ml.so.1"), library).unwrap();
        let hold = folder.path().join(HOLD);
        rustix::fs::mknodat(rustix::fs::CWD, &hold, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        let stage = Self { folder };
        stage.play(scene);
        stage
    }

    /// Plays another scene from the next call on.
    pub fn play(&self, scene: &Value) {
        let path = self.folder.path().join(SCENE);
        let mut new = tempfile::NamedTempFile::new_in(&self.folder).unwrap();
        new.write_all(scene.to_string().as_bytes()).unwrap();
        new.persist(path).unwrap();
    }

    /// The library's path.
    pub fn library(&self) -> PathBuf {
        self.folder.path().join("libnvidia-ml.so.1")
    }

    /// The names of the functions that were called so far, in their order.
    pub fn calls(&self) -> Vec<String> {
        let calls = fs::read_to_string(self.folder.path().join(CALLS)).unwrap_or_default();
        calls.lines().map(str::to_owned).collect()
    }

    /// How often a function was called so far.
    pub fn calls_of(&self, function: &str) -> usize {
        self.calls().iter().filter(|call| *call == function).count()
    }

    /// Lets the held call come back; waits until there is one.
    pub fn let_go(&self) {
        drop(fs::OpenOptions::new().write(true).open(self.folder.path().join(HOLD)).unwrap());
    }
}

/// The library, as it was built beside the program that runs.
fn built() -> PathBuf {
    let program = std::env::current_exe().unwrap();
    let folder = program.parent().unwrap_or(Path::new("/"));
    let places = ["libnvml_scene.so", "deps/libnvml_scene.so"].map(|name| folder.join(name));
    places.into_iter().find(|place| place.is_file()).expect("it is built with this crate, as a dependency of the tests")
}
