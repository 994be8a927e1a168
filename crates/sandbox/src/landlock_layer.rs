//! Landlock: a second wall behind the jail's mounts. Should a mount be more open than the policy meant, or a way around
//! it be found, the kernel still asks where a file lies before it is written.

use std::path::{Path, PathBuf};

use corral_core::{Code, Error, Result};
use landlock::{
    ABI, Access, AccessFs, BitFlags, LandlockStatus, PathFd, RestrictionStatus, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, RulesetStatus, Scope, path_beneath_rules,
};

/// What is asked for: the newest that these rules were tested with. Kernels that know less enforce what they know.
///
/// Rules of ports are left out on purpose: the network namespace is empty, and programs in the jail may listen.
const ASKED_FOR: ABI = ABI::V7;

/// Devices that programs read, write and control. Those that the jail lacks are left out.
const DEVICES: [&str; 8] =
    ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty", "/dev/ptmx", "/dev/pts"];
/// Memory that is shared by name is a folder of files.
const SHARED_MEMORY: &str = "/dev/shm";

/// Confines the calling thread, and all that it starts from now on: everything may be read and executed, but only what
/// lies beneath `writable`, the usual devices and the shared memory may be written, made, removed, renamed or
/// controlled. From ABI 6 on, sockets with abstract names and processes outside cannot be reached either.
///
/// Answers the number of the ABI whose rules are in force, none where the kernel has no Landlock. Each of `writable`
/// has to exist.
pub fn restrict(writable: &[PathBuf]) -> Result<Option<u8>> {
    for path in writable {
        PathFd::new(path).map_err(|error| {
            let message = format!("{} is to be writable in the jail but cannot be opened", path.display());
            Error::new(Code::JailFailed, message).because(error)
        })?;
    }
    let status = confine(writable).map_err(|error| {
        Error::new(Code::JailFailed, "the kernel does not take the jail's Landlock rules").because(error)
    })?;
    Ok(in_force(&status))
}

fn confine(writable: &[PathBuf]) -> Result<RestrictionStatus, RulesetError> {
    let all = AccessFs::from_all(ASKED_FOR);
    let control: BitFlags<AccessFs> = AccessFs::ReadFile | AccessFs::ReadDir | AccessFs::WriteFile | AccessFs::IoctlDev;
    let writable = writable.iter().map(PathBuf::as_path).chain([Path::new(SHARED_MEMORY)]);
    Ruleset::default()
        .handle_access(all)?
        .scope(Scope::from_all(ASKED_FOR))?
        .create()?
        .add_rules(path_beneath_rules(["/"], AccessFs::from_read(ASKED_FOR)))?
        .add_rules(path_beneath_rules(writable, all))?
        .add_rules(path_beneath_rules(DEVICES, control))?
        .restrict_self()
}

fn in_force(status: &RestrictionStatus) -> Option<u8> {
    match (&status.ruleset, status.landlock) {
        (RulesetStatus::NotEnforced, _) => None,
        (_, LandlockStatus::Available { effective_abi, .. }) => Some(effective_abi.min(ASKED_FOR) as u8),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File, OpenOptions};
    use std::io::{self, ErrorKind, Write};
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
    use std::process::{Command, Stdio};

    use rustix::process::{Pid, test_kill_process};
    use tempfile::TempDir;

    use super::*;

    /// Two folders: one that may be written, and one that may not.
    struct Folders {
        open: TempDir,
        shut: TempDir,
    }

    impl Folders {
        fn new() -> Self {
            let folders = Self { open: TempDir::new().unwrap(), shut: TempDir::new().unwrap() };
            for folder in [&folders.open, &folders.shut] {
                fs::write(folder.path().join("file"), "text").unwrap();
                fs::create_dir(folder.path().join("folder")).unwrap();
            }
            folders
        }

        fn open(&self, name: &str) -> PathBuf {
            self.open.path().join(name)
        }

        fn shut(&self, name: &str) -> PathBuf {
            self.shut.path().join(name)
        }

        /// What it answers in a free thread, and in a confined one with the ABI in force there.
        fn without_and_with<T: Send>(&self, run: impl Fn() -> T + Sync) -> (T, T, Option<u8>) {
            std::thread::scope(|scope| {
                let without = scope.spawn(&run).join().unwrap();
                let confined = || {
                    let abi = restrict(&[self.open.path().to_owned()]).unwrap();
                    (run(), abi)
                };
                let (with, abi) = scope.spawn(confined).join().unwrap();
                (without, with, abi)
            })
        }
    }

    /// Runs the test where the kernel has at least this ABI.
    fn has(abi: Option<u8>, at_least: u8) -> bool {
        let enough = abi >= Some(at_least);
        if !enough {
            println!("left out: Landlock's ABI is {abi:?} here, not {at_least}");
        }
        enough
    }

    fn refused<T>(outcome: io::Result<T>) -> Option<ErrorKind> {
        outcome.err().map(|error| error.kind())
    }

    const NO: Option<ErrorKind> = Some(ErrorKind::PermissionDenied);

    #[test]
    fn files_are_written_beneath_the_writable_folders_only() {
        let folders = Folders::new();
        let append = |path: &Path| OpenOptions::new().append(true).open(path)?.write_all(b"more");
        let change = |in_folder: &dyn Fn(&str) -> PathBuf| {
            [
                refused(append(&in_folder("file"))),
                refused(fs::write(in_folder("new"), "text").and_then(|()| fs::remove_file(in_folder("new")))),
                refused(fs::create_dir(in_folder("new")).and_then(|()| fs::remove_dir(in_folder("new")))),
                refused(fs::rename(in_folder("file"), in_folder("moved")))
                    .or_else(|| refused(fs::rename(in_folder("moved"), in_folder("file")))),
                refused(std::os::unix::fs::symlink("file", in_folder("link")))
                    .or_else(|| refused(fs::remove_file(in_folder("link")))),
            ]
        };
        let (without, with, abi) =
            folders.without_and_with(|| (change(&|name| folders.open(name)), change(&|name| folders.shut(name))));
        assert_eq!(without, ([None; 5], [None; 5]));
        if has(abi, 1) {
            assert_eq!(with, ([None; 5], [NO; 5]));
        }
    }

    #[test]
    fn a_single_file_can_be_writable() {
        let folders = Folders::new();
        let run = || {
            let abi = restrict(&[folders.shut("file")]).unwrap();
            let write = |path| refused(OpenOptions::new().append(true).open(path));
            (write(folders.shut("file")), write(folders.open("file")), abi)
        };
        let (itself, other, abi) = std::thread::scope(|scope| scope.spawn(run).join().unwrap());
        assert_eq!(itself, None);
        if has(abi, 1) {
            assert_eq!(other, NO);
        }
    }

    #[test]
    fn everything_can_be_read_and_executed() {
        let folders = Folders::new();
        let copy = folders.open("copy");
        // Not copied from here: a process that another test starts meanwhile would hold it open and make it "busy".
        assert!(Command::new("/bin/cp").arg("/bin/echo").arg(&copy).status().unwrap().success());
        let (_, with, _) = folders.without_and_with(|| {
            let run = |program: &Path| Command::new(program).arg("a").output().unwrap().stdout;
            (fs::read_to_string(folders.shut("file")).unwrap(), run(Path::new("/bin/echo")), run(&copy))
        });
        assert_eq!(with, ("text".to_owned(), b"a\n".to_vec(), b"a\n".to_vec()));
    }

    #[test]
    fn files_move_between_writable_folders_but_not_out_of_them() {
        let folders = Folders::new();
        let there_and_back = |there: PathBuf| {
            refused(fs::rename(folders.open("file"), &there))
                .or_else(|| refused(fs::rename(&there, folders.open("file"))))
        };
        let (without, with, abi) = folders.without_and_with(|| {
            [there_and_back(folders.open("folder/file")), there_and_back(folders.shut("folder/file"))]
        });
        assert_eq!(without, [None; 2]);
        if has(abi, 2) {
            assert_eq!(with[0], None);
            assert!(matches!(with[1], Some(ErrorKind::PermissionDenied | ErrorKind::CrossesDevices)), "{with:?}");
        }
    }

    #[test]
    fn a_file_cannot_be_cut_short_by_its_name() {
        let folders = Folders::new();
        let cut = |path: &Path| refused(OpenOptions::new().write(true).truncate(true).open(path));
        let (without, with, abi) =
            folders.without_and_with(|| [cut(&folders.open("file")), cut(&folders.shut("file"))]);
        assert_eq!(without, [None; 2]);
        if has(abi, 3) {
            assert_eq!(with, [None, NO]);
        }
    }

    #[test]
    fn the_usual_devices_work() {
        let folders = Folders::new();
        let (without, with, _) = folders.without_and_with(|| {
            let null = File::create("/dev/null").and_then(|mut null| null.write_all(b"text"));
            let terminal = OpenOptions::new().read(true).write(true).open("/dev/ptmx");
            let terminal = terminal.and_then(|terminal| Ok(rustix::pty::unlockpt(&terminal)?));
            let shared = Path::new(SHARED_MEMORY).join(format!("corral-test-{:?}", std::thread::current().id()));
            let memory = fs::write(&shared, "text").and_then(|()| fs::remove_file(&shared));
            (refused(null), refused(terminal), refused(memory))
        });
        assert_eq!((without, with), ((None, None, None), (None, None, None)));
    }

    #[test]
    fn abstract_sockets_outside_cannot_be_reached() {
        let folders = Folders::new();
        let name =
            |of: &str| SocketAddr::from_abstract_name(format!("{}/{of}", folders.open.path().display())).unwrap();
        let _outside = UnixListener::bind_addr(&name("outside")).unwrap();
        let (without, with, abi) = folders.without_and_with(|| {
            let inside = UnixListener::bind_addr(&name("inside")).unwrap();
            let reached = [name("outside"), name("inside")].map(|name| refused(UnixStream::connect_addr(&name)));
            drop(inside);
            reached
        });
        assert_eq!(without, [None; 2]);
        if has(abi, 6) {
            assert_eq!(with, [NO, None]);
        }
    }

    #[test]
    fn processes_outside_cannot_be_signalled() {
        let folders = Folders::new();
        let start = || Command::new("/bin/cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let mut outside = start();
        let (without, with, abi) = folders.without_and_with(|| {
            let mut inside = start();
            let reached = [&outside, &inside]
                .map(|child| refused(test_kill_process(Pid::from_child(child)).map_err(io::Error::from)));
            inside.kill().unwrap();
            inside.wait().unwrap();
            reached
        });
        outside.kill().unwrap();
        outside.wait().unwrap();
        assert_eq!(without, [None; 2]);
        if has(abi, 6) {
            assert_eq!(with, [NO, None]);
        }
    }

    #[test]
    fn what_is_in_force_is_said() {
        let folders = Folders::new();
        let ((), (), abi) = folders.without_and_with(|| ());
        assert!(abi.is_none_or(|abi| (1..=ASKED_FOR as u8).contains(&abi)), "{abi:?}");
        println!("Landlock's ABI in force: {abi:?}");
    }

    #[test]
    fn a_writable_folder_that_is_missing_is_an_error() {
        let folders = Folders::new();
        let missing = folders.open("missing");
        let error = std::thread::scope(|scope| scope.spawn(|| restrict(&[missing]).unwrap_err()).join().unwrap());
        assert_eq!(error.code(), Code::JailFailed);
        assert!(error.to_string().contains("missing is to be writable"), "{error}");
    }
}
