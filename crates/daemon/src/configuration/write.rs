//! Files of a person's, replaced whole or not at all.

use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use corral_core::{Code, Error, Result};
use rustix::fs::{Access, access};

/// Links that the kernel follows in one path; more of them are a circle.
const MOST_LINKS: usize = 40;

/// Puts new content in the place of a file, or of the one that a link there leads to. Its mode stays.
pub(crate) fn replace(path: &Path, content: &[u8]) -> Result<()> {
    let replace = || -> io::Result<()> {
        let target = target_of(path)?;
        let folder = target.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(folder)?;
        let before = permissions(&target)?;
        for place in [before.as_ref(), permissions(folder)?.as_ref()].into_iter().flatten() {
            // The folder's writer may replace the file all the same, but its owner has said that it is to stay.
            if place.readonly() {
                return Err(io::ErrorKind::PermissionDenied.into());
            }
        }
        let mut file = tempfile::Builder::new().prefix(".corral-").tempfile_in(folder)?;
        file.write_all(content)?;
        if let Some(permissions) = before {
            file.as_file().set_permissions(Permissions::from_mode(permissions.mode() & 0o7777))?;
        }
        // A power cut must leave the old file or the new one.
        file.as_file().sync_all()?;
        file.persist(target).map_err(|error| error.error)?;
        Ok(())
    };
    replace().map_err(|error| {
        Error::new(Code::Io, format!("cannot write {}", path.display()))
            .because(error)
            .hint("nothing was changed; see to the permissions of the file and of its folder")
    })
}

/// Whether [`replace`] would be let, as far as that can be told.
pub(super) fn is_writable(path: &Path) -> bool {
    let Ok(target) = target_of(path) else { return false };
    let may = |place: &Path| {
        access(place, Access::WRITE_OK).is_ok() && !matches!(permissions(place), Ok(Some(found)) if found.readonly())
    };
    let folder = target.ancestors().skip(1).find(|folder| folder.exists());
    folder.is_some_and(may) && (!target.exists() || may(&target))
}

fn permissions(path: &Path) -> io::Result<Option<Permissions>> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(Some(metadata.permissions())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Where a path leads to by links, there or not.
fn target_of(path: &Path) -> io::Result<PathBuf> {
    let mut target = path.to_owned();
    for _ in 0..MOST_LINKS {
        match fs::read_link(&target) {
            Ok(next) => target = target.parent().unwrap_or(Path::new("/")).join(next),
            Err(_) => return Ok(target),
        }
    }
    Err(rustix::io::Errno::LOOP.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_behind_links_is_replaced_and_keeps_its_mode() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("dotfiles")).unwrap();
        fs::write(at("dotfiles/real.toml"), "old").unwrap();
        fs::set_permissions(at("dotfiles/real.toml"), Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink("dotfiles/real.toml", at("one")).unwrap();
        std::os::unix::fs::symlink(at("one"), at("two")).unwrap();
        replace(&at("two"), b"new").unwrap();
        assert_eq!(fs::read_to_string(at("dotfiles/real.toml")).unwrap(), "new");
        assert!(at("two").is_symlink() && at("one").is_symlink());
        assert_eq!(fs::metadata(at("two")).unwrap().permissions().mode() & 0o7777, 0o640);
        assert_eq!(fs::read_dir(at("dotfiles")).unwrap().count(), 1, "nothing is left beside it");
        // A link to nothing yet, and a circle.
        std::os::unix::fs::symlink("made.toml", at("early")).unwrap();
        replace(&at("early"), b"made").unwrap();
        assert_eq!(fs::read_to_string(at("made.toml")).unwrap(), "made");
        std::os::unix::fs::symlink("circle", at("circle")).unwrap();
        assert_eq!(replace(&at("circle"), b"x").unwrap_err().code(), Code::Io);
        assert!(!is_writable(&at("circle")) && is_writable(&at("two")));
    }

    #[test]
    fn what_is_read_only_stays() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "old").unwrap();
        for place in [file.as_path(), folder.path()] {
            let before = fs::metadata(place).unwrap().permissions();
            let mut closed = before.clone();
            closed.set_readonly(true);
            fs::set_permissions(place, closed).unwrap();
            assert!(!is_writable(&file));
            let error = replace(&file, b"new").unwrap_err();
            assert!(error.body().hint.unwrap().contains("nothing was changed"), "{error}");
            fs::set_permissions(place, before).unwrap();
        }
        assert_eq!(fs::read_to_string(&file).unwrap(), "old");
        assert!(is_writable(&file) && is_writable(&folder.path().join("new/folder/file")));
    }
}
