//! The folders in which a local Claude was opened, the last one first.

use std::fs;
use std::path::{Path, PathBuf};

use corral_core::{Code, Error, Result};

use crate::paths::Paths;
use crate::runtime_files::{private_dir, write_private};

/// How many are remembered.
const REMEMBERED: usize = 20;

/// The folders that are still there; none where nothing is remembered, or what is cannot be read.
pub fn recent_folders(paths: &Paths) -> Vec<PathBuf> {
    read(paths).into_iter().filter(|folder| folder.is_dir()).collect()
}

/// Remembers that one was opened in this folder. A path that is no text is not remembered.
pub fn remember_folder(paths: &Paths, folder: &Path) -> Result<()> {
    if folder.to_str().is_none() {
        return Ok(());
    }
    let mut folders = read(paths);
    folders.retain(|known| known != folder);
    folders.insert(0, folder.to_owned());
    folders.truncate(REMEMBERED);
    private_dir(&paths.state_dir)?;
    let text = serde_json::to_vec(&folders)
        .map_err(|error| Error::new(Code::Internal, "the folders cannot be written").because(error))?;
    // Two at once: the last one wins, and the file is whole.
    write_private(&paths.folders, &text)
}

fn read(paths: &Paths) -> Vec<PathBuf> {
    fs::read(&paths.folders).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_one_comes_first_once_and_what_is_gone_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().join("home").display().to_string();
        let paths = Paths::resolve(&[("CORRAL_HOME", home)].into_iter().collect()).unwrap();
        assert!(recent_folders(&paths).is_empty());
        let [a, b, gone] = ["a", "b", "gone"].map(|name| folder.path().join(name));
        for made in [&a, &b, &gone] {
            fs::create_dir(made).unwrap();
            remember_folder(&paths, made).unwrap();
        }
        remember_folder(&paths, &a).unwrap();
        fs::remove_dir(&gone).unwrap();
        assert_eq!(recent_folders(&paths), [a.clone(), b.clone()]);
        for number in 0..30 {
            remember_folder(&paths, &folder.path().join(number.to_string())).unwrap();
        }
        assert_eq!(read(&paths).len(), REMEMBERED);
        fs::write(&paths.folders, "{").unwrap();
        assert!(recent_folders(&paths).is_empty());
        remember_folder(&paths, &b).unwrap();
        assert_eq!(recent_folders(&paths), [b], "a broken file is in nobody's way");
    }
}
