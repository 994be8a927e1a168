use std::net::TcpListener;
use std::os::unix::fs::symlink;

use proptest::prelude::*;
use serde_json::json;

use super::*;

/// A folder with files of editors, and a port that answers.
struct Editors {
    folder: tempfile::TempDir,
    listener: TcpListener,
}

impl Editors {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        Self { folder: tempfile::tempdir().unwrap(), listener }
    }

    fn port(&self) -> u16 {
        self.listener.local_addr().unwrap().port()
    }

    fn path(&self, port: u16) -> PathBuf {
        self.folder.path().join(format!("{port}.lock"))
    }

    fn write(&self, change: impl FnOnce(&mut serde_json::Value)) {
        let mut lock = json!({
            "pid": std::process::id(),
            "workspaceFolders": ["/home/u/project"],
            "ideName": "Visual Studio Code",
            "transport": "ws",
            "authToken": "5f1c",
            "runningInWindows": false,
        });
        change(&mut lock);
        std::fs::write(self.path(self.port()), lock.to_string()).unwrap();
    }

    fn find(&self, workspace: &str) -> Option<String> {
        Editor::find(self.folder.path(), Path::new(workspace)).unwrap().map(|editor| editor.name)
    }
}

#[test]
fn an_editor_near_the_workspace_is_found() {
    let editors = Editors::new();
    assert_eq!(editors.find("/home/u/project"), None);
    editors.write(|_| {});
    for near in ["/home/u/project", "/home/u/project/crates/a", "/home/u"] {
        assert_eq!(editors.find(near).as_deref(), Some("Visual Studio Code"), "{near}");
    }
    for far in ["/home/u/project-b", "/home/u/other", "/v"] {
        assert_eq!(editors.find(far), None, "{far}");
    }
    let none = Editor::find(&editors.folder.path().join("none"), Path::new("/w")).unwrap();
    assert!(none.is_none());
}

#[test]
fn what_is_not_as_it_should_be_is_no_editor() {
    type Change = fn(&mut serde_json::Value);
    let changes: [Change; 9] = [
        |lock| lock["transport"] = "sse".into(),
        |lock| lock["authToken"] = "".into(),
        |lock| lock["authToken"] = "a\r\nb".into(),
        |lock| lock["authToken"] = 7.into(),
        |lock| lock["workspaceFolders"] = json!([]),
        |lock| lock["workspaceFolders"] = json!([""]),
        |lock| lock["pid"] = i32::MAX.into(),
        |lock| lock["pid"] = 0.into(),
        |lock| lock["ideName"] = "x".repeat(100_000).into(),
    ];
    let editors = Editors::new();
    for (index, change) in changes.into_iter().enumerate() {
        editors.write(change);
        assert_eq!(editors.find("/home/u/project"), None, "{index}");
    }
    editors.write(|_| {});
    let path = editors.path(editors.port());
    let moved = editors.folder.path().join("moved");
    std::fs::rename(&path, &moved).unwrap();
    symlink(&moved, &path).unwrap();
    assert_eq!(editors.find("/home/u/project"), None, "a link");
    std::fs::remove_file(&path).unwrap();
    rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    assert_eq!(editors.find("/home/u/project"), None, "a pipe");
    std::fs::remove_file(&path).unwrap();
    std::fs::rename(&moved, &path).unwrap();
    assert!(editors.find("/home/u/project").is_some(), "nothing else was wrong");
}

#[test]
fn the_newest_that_answers_is_taken() {
    let (editors, newer) = (Editors::new(), TcpListener::bind("127.0.0.1:0").unwrap());
    editors.write(|_| {});
    let port = newer.local_addr().unwrap().port();
    let lock = std::fs::read_to_string(editors.path(editors.port())).unwrap().replace("Visual Studio Code", "newer");
    std::fs::write(editors.path(port), lock).unwrap();
    let later = SystemTime::now() + Duration::from_mins(1);
    File::open(editors.path(port)).unwrap().set_modified(later).unwrap();
    assert_eq!(editors.find("/home/u/project").as_deref(), Some("newer"));
    drop(newer);
    assert_eq!(editors.find("/home/u/project").as_deref(), Some("Visual Studio Code"));
}

#[test]
fn ports_are_in_the_names() {
    assert_eq!(port_of("8082.lock"), Some(8082));
    for name in ["", ".lock", "0.lock", "08082.lock", "+1.lock", "65536.lock", "8082", "8082.lock.lock", "a.lock"] {
        assert_eq!(port_of(name), None, "{name}");
    }
}

proptest! {
    #[test]
    fn whatever_is_in_a_file_is_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let editors = Editors::new();
        std::fs::write(editors.path(editors.port()), bytes).unwrap();
        prop_assert_eq!(editors.find("/home/u/project"), None);
    }
}
