//! The index on disk, next to the folders of the models, and what makes it and the files agree.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::disk;
use super::index::{Entry, Index};
use super::name::{self, Stem, TRYING};

/// A model's id never begins with a dot, so no model has this folder.
const INDEX: &str = ".index.json";

/// The slots folder.
#[derive(Debug)]
pub(super) struct Store {
    /// The folder.
    pub(super) root: PathBuf,
    /// In which run of the system this is.
    pub(super) boot: String,
    changing: Mutex<()>,
}

impl Store {
    pub(super) fn new(root: &Path) -> Self {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned();
        Self { root: root.to_owned(), boot, changing: Mutex::default() }
    }

    /// The path of the index.
    pub(super) fn path(&self) -> PathBuf {
        self.root.join(INDEX)
    }

    /// The index as it was last written.
    pub(super) fn read(&self) -> Index {
        fs::read(self.path()).map(|text| Index::parse(&text)).unwrap_or_default()
    }

    /// Changes the index as one.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Index) -> T) -> io::Result<T> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.read();
        let mut index = before.clone();
        let result = change(&mut index);
        if index != before {
            // Written beside its place for this user alone, so it is never half there.
            let mut file = tempfile::Builder::new().prefix(".index-").tempfile_in(&self.root)?;
            file.write_all(&serde_json::to_vec(&index)?)?;
            file.persist(self.path()).map_err(|error| error.error)?;
        }
        Ok(result)
    }

    /// Removes a file, and what is known of it.
    pub(super) fn forget(&self, stem: &Stem, file: &str) -> io::Result<()> {
        let key = stem.key(file);
        disk::remove(&self.root.join(&key));
        self.change(|index| index.files.remove(&key)).map(drop)
    }

    /// Removes what is of no use: files that nothing is known of, files that a server did not survive, files of the
    /// same model in another state; and forgets what is not there any more. Returns what is left of `stem`.
    pub(super) fn tidy(&self, stem: &Stem) -> io::Result<Vec<(u32, Entry)>> {
        let seen = self.files()?;
        self.change(|index| {
            for key in &seen {
                let tried = key.strip_suffix(TRYING);
                if let Some(own) = tried.filter(|own| index.files.remove(*own).is_some()) {
                    tracing::warn!(file = own, "conversations that a server did not survive reading are removed");
                }
                let old = stem.in_folder(key).is_some_and(|file| stem.slot(file).is_none());
                if old || !index.files.contains_key(key) {
                    tracing::debug!(file = key, "a file of no use is removed");
                    disk::remove(&self.root.join(key));
                    index.files.remove(key);
                }
            }
            index.files.retain(|key, _| seen.contains(key));
            let own = |(key, entry): (&String, &Entry)| Some((stem.slot(stem.in_folder(key)?)?, entry.clone()));
            let mut own: Vec<_> = index.files.iter().filter_map(own).collect();
            own.sort_by_key(|(slot, _)| *slot);
            own
        })
    }

    /// Removes the files that have been used least lately, until all of them take `budget` bytes at most.
    pub(super) fn evict(&self, budget: u64) -> io::Result<()> {
        self.change(|index| {
            for key in index.over(budget) {
                tracing::info!(file = key, "conversations are removed to keep to the slot cache's size");
                disk::remove(&self.root.join(&key));
                index.files.remove(&key);
            }
        })
    }

    /// All that is in the folders of models, by what the index calls it. What is beside them is removed.
    fn files(&self) -> io::Result<BTreeSet<String>> {
        let mut files = BTreeSet::new();
        let text = |name: &OsStr| name.to_str().map(str::to_owned);
        for entry in listed(&self.root)? {
            let path = entry.path();
            if !entry.file_type()?.is_dir() {
                if entry.file_name() != INDEX {
                    disk::remove(&path);
                }
                continue;
            }
            for file in listed(&path)? {
                match (text(&entry.file_name()), text(&file.file_name())) {
                    (Some(folder), Some(name)) => {
                        files.insert(name::key(&folder, &name));
                    }
                    _ => disk::remove(&file.path()),
                }
            }
        }
        Ok(files)
    }
}

/// What is in a folder; nothing in one that is not there.
fn listed(folder: &Path) -> io::Result<Vec<fs::DirEntry>> {
    match fs::read_dir(folder) {
        Ok(entries) => entries.collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}
