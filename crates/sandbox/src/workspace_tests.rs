use std::ffi::OsStr;
use std::fs::{create_dir, create_dir_all, set_permissions, write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

use proptest::prelude::*;

use super::*;

struct Bed {
    folder: tempfile::TempDir,
}

impl Bed {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        create_dir_all(folder.path().join("home/project")).unwrap();
        create_dir_all(folder.path().join("home/.config/corral/x")).unwrap();
        create_dir_all(folder.path().join("home/.ssh")).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().canonicalize().unwrap().join(name)
    }

    fn open(&self, path: impl AsRef<Path>) -> Result<Workspace> {
        let forbidden = [self.path("home/.config/corral"), self.path("home/.claude-local/not/there/yet")];
        Workspace::open(&self.path(".").join(path), &self.path("home"), &forbidden)
    }

    fn refused(&self, path: impl AsRef<Path>) -> String {
        let error = self.open(path).unwrap_err();
        assert_eq!(error.code(), Code::WorkspaceInvalid);
        assert!(error.body().hint.is_some(), "{error}");
        error.to_string()
    }
}

#[test]
fn a_project_in_the_home_is_opened_by_its_true_path() {
    let bed = Bed::new();
    symlink("home/project", bed.path("link")).unwrap();
    let workspace = bed.open("link/../project/.").unwrap();
    assert_eq!(workspace.path(), bed.path("home/project"));
    std::fs::rename(bed.path("home/project"), bed.path("home/moved")).unwrap();
    write(bed.path("home/moved/file"), "x").unwrap();
    crate::beneath::read(workspace.folder(), Path::new("file"), 1).unwrap();
}

#[test]
fn what_is_no_folder_is_refused() {
    let bed = Bed::new();
    write(bed.path("home/file"), "").unwrap();
    symlink("nowhere", bed.path("home/dangling")).unwrap();
    assert!(bed.refused("home/missing").contains("there is no folder"));
    assert!(bed.refused("home/dangling").contains("there is no folder"));
    assert!(bed.refused("home/file").contains("is not a folder"));
    assert!(bed.refused("home/file/x").contains("is not a folder"));
}

#[test]
fn what_is_too_much_is_refused() {
    let bed = Bed::new();
    create_dir_all(bed.path("home/.ssh/project")).unwrap();
    create_dir_all(bed.path("home/.config/nvim")).unwrap();
    assert!(bed.refused("/").contains("whole machine"));
    assert!(bed.refused("home").contains("is your home"));
    assert!(bed.refused("home/project/..").contains("is your home"));
    assert!(bed.refused("").contains("holds your home"));
    assert!(bed.refused("home/.ssh/project").contains("with keys in it"));
    assert!(bed.refused("home/.config").contains("Corral's own"));
    for system in [
        "/usr",
        "/usr/share",
        "/etc",
        "/proc",
        "/proc/self",
        "/sys",
        "/dev/shm",
        "/run",
        "/var",
        "/bin",
        "/lib",
        "/opt",
    ] {
        if Path::new(system).is_dir() {
            assert!(bed.refused(system).contains(" a folder of the system"), "{system}");
        }
    }
    bed.open("home/.config/nvim").unwrap();
}

#[test]
fn what_is_corrals_own_is_refused_with_what_holds_it_and_what_it_holds() {
    let bed = Bed::new();
    create_dir_all(bed.path("home/.claude-local/not")).unwrap();
    assert!(bed.refused("home/.config/corral").contains("is a folder of Corral's own"));
    assert!(bed.refused("home/.config/corral/x").contains("lies in a folder of Corral's own"));
    assert!(bed.refused("home/.claude-local").contains("holds a folder of Corral's own"));
    create_dir(bed.path("home/.config/corral-notes")).unwrap();
    bed.open("home/.config/corral-notes").unwrap();
}

#[test]
fn homes_are_those_of_people() {
    let accounts = b"root:x:0:0:root:/root:/bin/sh\nwww:x:33:33::/srv/www:/bin/sh\nann:x:1000:1000:,,,:/home/ann:/bin/sh\n\
        nobody:x:65534:65534::/nonexistent:/bin/false\nown:x:12:12::/home/own:\nbroken:x\n+\nroot2:x:0:0::/:\nlast:x:1001:1001:\xff:/home/\xff";
    let paths = homes(accounts, 12);
    let names: Vec<_> = paths.iter().map(|path| path.as_os_str().as_bytes()).collect();
    assert_eq!(names, [&b"/root"[..], b"/home/ann", b"/home/own", b"/home/\xff"]);
}

#[test]
fn the_homes_of_accounts_are_refused_wherever_home_says_it_is() {
    let bed = Bed::new();
    create_dir_all(bed.path("ann/.ssh")).unwrap();
    create_dir_all(bed.path("ann/project")).unwrap();
    let others = [bed.path("ann"), bed.path("not-there")];
    let refused = |path: &str| {
        let error = bed.open(path).unwrap().outside(&others).unwrap_err();
        assert_eq!(error.code(), Code::WorkspaceInvalid);
        assert!(error.body().hint.is_some());
        error.to_string()
    };
    assert!(refused("ann").contains("is the home of an account"), "{}", refused("ann"));
    assert!(refused("ann/.ssh").contains("with keys in it"));
    symlink("ann", bed.path("link")).unwrap();
    assert!(refused("link/.").contains("is the home of an account"));
    bed.open("ann/project").unwrap().outside(&others).unwrap();
    bed.open("home/project").unwrap().outside(&others).unwrap();
    create_dir_all(bed.path("homes/bob")).unwrap();
    let error = bed.open("homes").unwrap().outside(&[bed.path("homes/bob")]).unwrap_err();
    assert!(error.to_string().contains("holds the home"), "{error}");
}

#[test]
fn any_bytes_may_be_in_its_path() {
    let bed = Bed::new();
    for name in [&b"a b"[..], b"'\"$(x)", b"new\nline", b"\xff\xfe", b"-rf", "ü\u{202e}".as_bytes()] {
        let path = bed.path("home").join(OsStr::from_bytes(name));
        create_dir(&path).unwrap();
        assert_eq!(bed.open(&path).unwrap().path(), path);
    }
}

/// Runs a test of this program again, by its name, in a user namespace without rights.
fn again_without_rights(test: &str, bind: &[&str], path: &Path) -> String {
    let program = std::env::current_exe().unwrap();
    let mut bwrap = Command::new("bwrap");
    bwrap.args(["--dev-bind", "/", "/", "--unshare-user", "--uid", "1234"]).args(bind);
    bwrap.arg("--").arg(program).args(["--exact", "--nocapture", test]).env("WORKSPACE_TO_OPEN", path);
    let said = bwrap.output().unwrap();
    let said = String::from_utf8_lossy(&said.stdout).into_owned() + &String::from_utf8_lossy(&said.stderr);
    let line = said.lines().find_map(|line| line.split_once("OPENED: "));
    line.unwrap_or_else(|| panic!("it did not run: {said}")).1.to_owned()
}

#[test]
fn opens_what_it_is_told() {
    // The tests below run this one again, in a namespace of its own.
    let Some(path) = std::env::var_os("WORKSPACE_TO_OPEN").map(PathBuf::from) else { return };
    let home = path.parent().unwrap();
    let opened = Workspace::open(&path, home, &[]);
    println!("OPENED: {}", opened.map_or_else(|error| error.to_string(), |_| "yes".to_owned()));
}

#[test]
fn a_disk_that_cannot_be_written_is_refused_and_said_so() {
    let bed = Bed::new();
    let path = bed.path("home/project");
    let own = path.to_str().unwrap();
    let test = "workspace::tests::opens_what_it_is_told";
    assert_eq!(again_without_rights(test, &["--bind", own, own], &path), "yes");
    assert!(again_without_rights(test, &["--ro-bind", own, own], &path).contains("a disk that cannot be written"));
}

#[test]
fn a_folder_that_is_closed_to_the_user_is_refused() {
    let bed = Bed::new();
    let path = bed.path("home/project");
    let test = "workspace::tests::opens_what_it_is_told";
    for (mode, is_open) in [(0o700, true), (0o500, false), (0o300, false), (0o600, false)] {
        set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        let said = again_without_rights(test, &[], &path);
        assert_eq!(said == "yes", is_open, "{mode:o}: {said}");
        assert!(is_open || said.contains("cannot be read and written"), "{said}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_path_is_opened_or_refused(name in proptest::collection::vec(1_u8..=255, 0..300)) {
        let bed = Bed::new();
        drop(bed.open(OsStr::from_bytes(&name)));
        drop(bed.open(Path::new("home/project").join(OsStr::from_bytes(&name))));
    }
}
