use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

fn opened() -> (tempfile::TempDir, Folder) {
    let root = tempfile::tempdir().unwrap();
    let folder = Folder::private(&root.path().join("p"), &mut Vec::new()).unwrap();
    (root, folder)
}

fn names(folder: &Folder) -> Vec<String> {
    let names = std::fs::read_dir(&folder.path).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}

fn mode(path: &Path) -> u32 {
    path.symlink_metadata().unwrap().permissions().mode() & 0o7777
}

#[test]
fn it_is_this_users_alone() {
    let (root, folder) = opened();
    let path = root.path().join("p");
    assert_eq!(mode(&path), 0o700);
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o775)).unwrap();
    let mut notices = Vec::new();
    Folder::private(&path, &mut notices).unwrap();
    assert_eq!((mode(&path), notices.len()), (0o700, 1));
    folder.update("f", |_| Ok(Some(b"1".to_vec()))).unwrap();
    assert_eq!((mode(&path.join("f")), names(&folder)), (0o600, vec!["f".to_owned()]));
}

#[test]
fn links_are_replaced_and_what_they_point_to_stays() {
    let (root, folder) = opened();
    let secret = root.path().join("secret");
    std::fs::write(&secret, "s").unwrap();
    symlink(&secret, folder.path("f")).unwrap();
    let mut seen = Vec::new();
    let changed = folder.update("f", |found| {
        seen.push(format!("{found:?}"));
        Ok(Some(b"new".to_vec()))
    });
    changed.unwrap();
    assert_eq!(seen, [format!("Link({:?})", secret.display().to_string())]);
    assert!(folder.path("f").symlink_metadata().unwrap().is_file());
    assert_eq!(std::fs::read_to_string(folder.path("f")).unwrap(), "new");
    assert_eq!((std::fs::read_to_string(&secret).unwrap(), names(&folder)), ("s".to_owned(), vec!["f".to_owned()]));

    std::fs::create_dir(root.path().join("elsewhere")).unwrap();
    symlink(root.path().join("elsewhere"), folder.path("d")).unwrap();
    let mut notices = Vec::new();
    let inner = folder.folder("d", &mut notices).unwrap();
    inner.update("f", |_| Ok(Some(Vec::new()))).unwrap();
    assert!(folder.path("d/f").exists() && !root.path().join("elsewhere/f").exists());
    assert!(notices[0].contains("elsewhere") && notices.len() == 1, "{notices:?}");
}

#[test]
fn what_is_neither_file_nor_link_is_refused() {
    let (_root, folder) = opened();
    std::fs::create_dir(folder.path("d")).unwrap();
    std::fs::write(folder.path("f"), "").unwrap();
    rustix::fs::mkfifoat(&folder.fd, "pipe", Mode::RWXU).unwrap();
    for name in ["d", "pipe"] {
        let error = folder.update(name, |_| Ok(Some(Vec::new()))).unwrap_err();
        assert_eq!(error.code(), Code::ProfileInvalid);
        assert!(error.to_string().ends_with(&format!("/p/{name} is no file")), "{error}");
    }
    assert!(folder.folder("f", &mut Vec::new()).unwrap_err().to_string().ends_with("/f is no folder"));
    let large = File::create(folder.path("large")).unwrap();
    large.set_len(MOST + 1).unwrap();
    assert!(folder.update("large", |_| Ok(None)).unwrap_err().to_string().ends_with("is larger than 64 MiB"));
}

#[test]
fn a_change_of_another_in_the_middle_is_not_lost() {
    let (_root, folder) = opened();
    let mut turns = 0;
    let changed = folder.update("f", |found| {
        turns += 1;
        let text = match found {
            Found::File(content) => String::from_utf8(content.clone()).unwrap(),
            _ => String::new(),
        };
        if turns < 3 {
            // As Claude Code writes it: a new file takes the name.
            std::fs::write(folder.path("theirs"), format!("{text}{turns}")).unwrap();
            std::fs::rename(folder.path("theirs"), folder.path("f")).unwrap();
        }
        Ok(Some(format!("{text}+").into_bytes()))
    });
    changed.unwrap();
    assert_eq!((std::fs::read_to_string(folder.path("f")).unwrap().as_str(), turns), ("12+", 3));
    assert_eq!(names(&folder), ["f"]);
}

#[test]
fn many_at_once_all_get_their_line_in() {
    let (_root, folder) = opened();
    let lost = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for id in 0..4 {
            let (folder, lost) = (&folder, &lost);
            scope.spawn(move || {
                for line in 0..10 {
                    let mine = format!("{id}.{line}\n");
                    let done = folder.update("f", |found| match found {
                        Found::File(content) => Ok(Some([content.as_slice(), mine.as_bytes()].concat())),
                        _ => Ok(Some(mine.clone().into_bytes())),
                    });
                    lost.fetch_or(done.is_err(), Ordering::Relaxed);
                }
            });
        }
    });
    let text = std::fs::read_to_string(folder.path("f")).unwrap();
    assert_eq!((text.lines().count(), lost.into_inner()), (40, false), "{text}");
    assert_eq!(names(&folder), ["f"]);
}

#[test]
fn copies_get_numbers() {
    let (_root, folder) = opened();
    assert_eq!([folder.keep("c", b"1").unwrap(), folder.keep("c", b"2").unwrap()], ["c", "c-2"]);
    assert_eq!(std::fs::read(folder.path("c-2")).unwrap(), b"2");
}
