//! The folder that a server saves its slots into.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use corral_core::ModelId;

/// Who may write into a model's folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Writer {
    /// This user.
    Own,
    /// Whichever user a container has. Nobody outside of containers gets there, for the folder above is closed.
    Container,
}

/// The folder of one model.
pub(crate) fn of(slots_dir: &Path, model: &ModelId) -> PathBuf {
    slots_dir.join(model.as_str())
}

/// Makes the folder of one model, and the closed folder that it is in.
pub(crate) fn make(slots_dir: &Path, model: &ModelId, writer: Writer) -> io::Result<PathBuf> {
    let path = of(slots_dir, model);
    DirBuilder::new().recursive(true).mode(0o700).create(&path)?;
    fs::set_permissions(slots_dir, Permissions::from_mode(0o700))?;
    let mode = match writer {
        Writer::Own => 0o700,
        // A server opens files by their names: it need not see which there are.
        Writer::Container => 0o733,
    };
    fs::set_permissions(&path, Permissions::from_mode(mode))?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_open_to_containers_is_in_a_closed_folder() {
        let home = tempfile::tempdir().expect("a folder");
        let slots = home.path().join("cache/slots");
        let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
        let model = ModelId::new("m").expect("an id");
        for (writer, expected) in [(Writer::Container, 0o733), (Writer::Own, 0o700)] {
            let path = make(&slots, &model, writer).expect("made");
            assert_eq!((mode(&slots), mode(&path)), (0o700, expected));
        }
    }
}
