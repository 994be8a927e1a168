//! Models in several files: `…-00002-of-00003.gguf`, as llama.cpp names their parts.

use std::path::{Path, PathBuf};

/// The name of one part, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartName {
    prefix: String,
    /// Its number, from 1.
    pub index: u32,
    /// The number of all parts.
    pub count: u32,
}

impl PartName {
    /// Takes a file's name apart; none where it is no part.
    pub fn of(file: &Path) -> Option<Self> {
        let stem = file.file_name()?.to_str()?.strip_suffix(".gguf")?;
        let (rest, count) = stem.rsplit_once("-of-")?;
        let (prefix, index) = rest.rsplit_once('-')?;
        let number = |digits: &str| -> Option<u32> {
            let padded = digits.len() == 5 && digits.bytes().all(|byte| byte.is_ascii_digit());
            padded.then(|| digits.parse().ok()).flatten()
        };
        let name = Self { prefix: prefix.to_owned(), index: number(index)?, count: number(count)? };
        (1..=name.count).contains(&name.index).then_some(name)
    }

    /// The path of another part of the same model, next to `file`.
    pub fn part(&self, file: &Path, index: u32) -> PathBuf {
        file.with_file_name(format!("{}-{index:05}-of-{:05}.gguf", self.prefix, self.count))
    }
}

/// All files of the model that `file` begins, that one included.
///
/// A model in several files is named by its first, for instance `m-00001-of-00003.gguf`; `llama-server` finds the
/// others by their names, as this does.
pub fn parts(file: &Path) -> Vec<PathBuf> {
    match PartName::of(file) {
        Some(name) if name.index == 1 => (1..=name.count).map(|index| name.part(file, index)).collect(),
        _ => vec![file.to_owned()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_recognised_by_their_names() {
        let names = |first: &str| parts(Path::new(first)).iter().map(|p| p.display().to_string()).collect::<Vec<_>>();
        assert_eq!(
            names("/m/a-Q4-00001-of-00002.gguf"),
            ["/m/a-Q4-00001-of-00002.gguf", "/m/a-Q4-00002-of-00002.gguf"]
        );
        for whole in ["/m/a.gguf", "/m/a-00001-of-00001.gguf", "/m/a-00002-of-00003.gguf", "/m/a-1-of-2.gguf"] {
            assert_eq!(names(whole), [whole]);
        }
        assert_eq!(PartName::of(Path::new("m-00003-of-00002.gguf")), None);
        assert_eq!(PartName::of(Path::new("m-+0001-of-00002.gguf")), None);
    }
}
