//! What a file is called: for which model, which model file, which configuration, which slot.

use std::fmt::Write as _;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use corral_core::launch::LaunchSpec;
use corral_core::{ConfigHash, ModelId, gguf};
use jiff::Timestamp;
use sha2::{Digest, Sha256};

/// Ends the name of a file that llama-server is being asked to read.
pub(super) const TRYING: &str = ".trying";

/// Which model file it is, all its parts and the projector included, without having read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fingerprint {
    /// 16 hexadecimal digits.
    pub(super) digest: String,
    /// When anything about it last changed; nobody can set that back.
    pub(super) changed_at: Timestamp,
}

impl Fingerprint {
    /// Looks at the files. The error comes with the file it is about.
    pub(super) fn of(spec: &LaunchSpec) -> Result<Self, (PathBuf, io::Error)> {
        let mut digest = Sha256::new();
        let mut changed_at = Timestamp::MIN;
        for path in gguf::parts(&spec.file).into_iter().chain(spec.mmproj.clone()) {
            let looked = fs::metadata(&path).and_then(|file| Ok((file, fs::symlink_metadata(&path)?)));
            let (file, link) = looked.map_err(|error| (path.clone(), error))?;
            digest.update(path.as_os_str().as_encoded_bytes());
            digest.update([0]);
            for number in [file.mtime(), file.mtime_nsec(), file.ctime(), file.ctime_nsec()] {
                digest.update(number.to_le_bytes());
            }
            for number in [file.len(), file.ino()] {
                digest.update(number.to_le_bytes());
            }
            // A link that was made to point elsewhere is new itself, however old the file there is.
            changed_at = changed_at.max(changed(&file)).max(changed(&link));
        }
        let digest = digest.finalize().iter().take(8).fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        });
        Ok(Self { digest, changed_at })
    }
}

fn changed(file: &Metadata) -> Timestamp {
    let nanoseconds = i32::try_from(file.ctime_nsec()).unwrap_or_default();
    // A time that no calendar has counts as just now: nothing is kept of such a file.
    Timestamp::new(file.ctime(), nanoseconds).unwrap_or(Timestamp::MAX)
}

/// What the names of all files of one model file in one configuration begin with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stem {
    model: ModelId,
    text: String,
}

impl Stem {
    pub(super) fn new(model: &ModelId, file: &Fingerprint, config: &ConfigHash) -> Self {
        Self { model: model.clone(), text: format!("{model}-{}-{config}-", file.digest) }
    }

    /// The name of a slot's file.
    pub(super) fn file(&self, slot: u32) -> String {
        format!("{}{slot}.kv", self.text)
    }

    /// Which slot a file of this stem is of; none where it is of another.
    pub(super) fn slot(&self, file: &str) -> Option<u32> {
        let slot = file.strip_prefix(&self.text)?.strip_suffix(".kv")?.parse().ok()?;
        (self.file(slot) == file).then_some(slot)
    }

    /// What the index calls a file of this model's folder.
    pub(super) fn key(&self, file: &str) -> String {
        key(self.model.as_str(), file)
    }

    /// The file that the index calls `key`, where it is in this model's folder.
    pub(super) fn in_folder<'a>(&self, key: &'a str) -> Option<&'a str> {
        key.strip_prefix(self.model.as_str())?.strip_prefix('/')
    }
}

/// What the index calls a file of a model's folder.
pub(super) fn key(folder: &str, file: &str) -> String {
    format!("{folder}/{file}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::path::Path;

    fn stem(model: &str) -> Stem {
        let file = Fingerprint { digest: "0123456789abcdef".to_owned(), changed_at: Timestamp::MIN };
        Stem::new(&ModelId::new(model).expect("an id"), &file, &ConfigHash("fedcba9876543210".to_owned()))
    }

    #[test]
    fn a_name_says_model_file_configuration_and_slot() {
        let stem = stem("glm-4.7");
        let name = stem.file(12);
        assert_eq!(name, "glm-4.7-0123456789abcdef-fedcba9876543210-12.kv");
        assert_eq!(stem.slot(&name), Some(12));
        assert_eq!(stem.in_folder(&stem.key(&name)), Some(name.as_str()));
        for other in ["glm-4.7-0123456789abcdef-fedcba9876543210-012.kv", "glm-4.7-12.kv", "x.kv", "12.kv.trying"] {
            assert_eq!(stem.slot(other), None, "{other}");
        }
        assert_eq!(self::stem("glm-4").in_folder(&stem.key(&name)), None, "of another model");
        assert_eq!(self::stem("glm-4").slot(&name), None);
    }

    #[test]
    fn any_change_of_any_file_makes_another_fingerprint() {
        let dir = tempfile::tempdir().expect("a folder");
        let [one, two, projector] =
            ["m-00001-of-00002.gguf", "m-00002-of-00002.gguf", "mm.gguf"].map(|name| dir.path().join(name));
        for path in [&one, &two, &projector] {
            fs::write(path, "abc").expect("written");
        }
        let mut spec = LaunchSpec { file: one.clone(), ..corral_testkit::launch_spec("m") };
        let look = |spec: &LaunchSpec| Fingerprint::of(spec).expect("files");
        let mut seen = vec![look(&spec)];
        assert_eq!(look(&spec), seen[0]);
        let mut changed = |what: &str, spec: &LaunchSpec| {
            let now = look(spec);
            assert!(!seen.contains(&now), "{what}");
            seen.push(now);
        };
        fs::write(&two, "abcd").expect("written");
        changed("the size of a part", &spec);
        let modified = fs::metadata(&two).and_then(|file| file.modified()).expect("a time");
        fs::write(dir.path().join("new"), "efgh").expect("written");
        File::open(dir.path().join("new")).and_then(|file| file.set_modified(modified)).expect("a time");
        fs::rename(dir.path().join("new"), &two).expect("replaced");
        changed("a part of the same size and time", &spec);
        spec.mmproj = Some(projector);
        changed("a projector", &spec);
        let link = dir.path().join("link.gguf");
        std::os::unix::fs::symlink(&one, &link).expect("a link");
        spec.file = link;
        changed("another path", &spec);
        spec.file = Path::new("/nowhere.gguf").to_owned();
        assert_eq!(Fingerprint::of(&spec).expect_err("no file").0, Path::new("/nowhere.gguf"));
    }

    #[test]
    fn a_link_that_points_elsewhere_now_has_changed() {
        let dir = tempfile::tempdir().expect("a folder");
        let [old, link] = ["old.gguf", "link.gguf"].map(|name| dir.path().join(name));
        fs::write(&old, "abc").expect("written");
        let spec = |file: &Path| LaunchSpec { file: file.to_owned(), ..corral_testkit::launch_spec("m") };
        let before = Fingerprint::of(&spec(&old)).expect("a file").changed_at;
        // The kernel's clock for files stands still for some milliseconds at a time.
        let later = || {
            let _ = fs::remove_file(&link);
            std::os::unix::fs::symlink(&old, &link).expect("a link");
            Fingerprint::of(&spec(&link)).expect("a file").changed_at > before
        };
        let began = std::time::Instant::now();
        while !later() {
            assert!(began.elapsed().as_secs() < 5, "a new link counts as a change");
        }
    }
}
