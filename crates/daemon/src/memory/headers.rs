//! What the headers of model files say, read when somebody asks and again when a file has changed.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use corral_core::fit::Architecture;
use corral_core::gguf;
use corral_engine::files::read_model;

use super::lock;

/// So many models are remembered, some kilobytes each; beyond that it is begun anew.
const MOST: usize = 4096;

/// What a file was when it was read.
type Version = (u64, u64, i64, i64);

/// The figures of models, by their files.
#[derive(Debug, Default)]
pub(super) struct Headers(HashMap<PathBuf, (Vec<Version>, Option<Arc<Architecture>>)>);

/// The figures of a model, and its size in bytes with all parts. None where a file is not there, cannot be made sense of,
/// or would have to be read though `may_read` says no. Files are read while nobody waits for the lock.
pub(super) fn of(headers: &Mutex<Headers>, file: &Path, may_read: bool) -> Option<(Arc<Architecture>, u64)> {
    let version = |file: &PathBuf| {
        let meta = fs::metadata(file).ok().filter(fs::Metadata::is_file)?;
        Some((meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec()))
    };
    let versions: Vec<Version> = gguf::parts(file).iter().map(version).collect::<Option<_>>()?;
    let bytes = versions.iter().map(|(_, bytes, ..)| bytes).sum();
    if let Some((_, known)) = lock(headers).0.get(file).filter(|(read, _)| *read == versions) {
        return Some((known.clone()?, bytes));
    }
    if !may_read {
        return None;
    }
    let figures = read_model(file).and_then(|model| Architecture::of(&model));
    let figures = figures.inspect_err(|error| tracing::debug!(%error, "no verdict on a model")).ok().map(Arc::new);
    let mut headers = lock(headers);
    if headers.0.len() >= MOST {
        headers.0.clear();
    }
    headers.0.insert(file.to_owned(), (versions, figures.clone()));
    Some((figures?, bytes))
}

#[cfg(test)]
mod tests {
    use corral_testkit::TinyModel;
    use corral_testkit::gguf::not_a_gguf;

    use super::*;

    #[test]
    fn a_file_is_read_once_and_again_when_it_has_changed() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("m.gguf");
        let headers = Mutex::new(Headers::default());
        let of = |file: &Path, may_read| of(&headers, file, may_read);
        assert_eq!(of(&file, true), None, "it is not there");
        TinyModel::new(1).write(&file).unwrap();
        assert_eq!(of(&file, false), None, "it may not be read");
        let (first, bytes) = of(&file, true).unwrap();
        assert_eq!((first.name.as_str(), bytes), ("llama", fs::metadata(&file).unwrap().len()));
        let (again, _) = of(&file, false).unwrap();
        assert!(Arc::ptr_eq(&first, &again));
        let other = folder.path().join("other.gguf");
        not_a_gguf(&other).unwrap();
        fs::rename(&other, &file).unwrap();
        assert_eq!(of(&file, false), None);
        assert_eq!(of(&file, true), None, "it is no model any more");
    }
}
