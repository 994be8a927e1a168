use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::judge::{Facts, Found, Said, judge};
use super::look::{Machine, look};
use super::*;

/// The parts of bubblewrap's help that matter, as version 0.8 of Debian prints them.
const HELP: &str = "usage: bwrap [OPTIONS...] [--] COMMAND [ARGS...]

    --help                       Print this help
    --args FD                    Parse NUL-separated args from FD
    --disable-userns             Disable further use of user namespaces inside sandbox
    --assert-userns-disabled     Fail unless further use of user namespace inside sandbox is disabled
    --bind-fd FD DEST            Bind open directory or path fd on DEST
    --ro-bind-fd FD DEST         Bind open directory or path fd read-only on DEST
    --ro-bind-data FD DEST       Copy from FD to file which is readonly bind-mounted on DEST
    --as-pid-1                   Do not install a reaper process with PID=1";

const DEBIAN: &str = "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nVERSION_ID=\"12\"\nID=debian\n";

fn said(success: bool, text: &str) -> Said {
    Said { success, text: text.to_owned() }
}

/// A machine on which all is well but for what the trial says.
fn facts(trial: Said) -> Facts {
    Facts {
        bwrap: Some(Found {
            path: PathBuf::from("/usr/bin/bwrap"),
            version: said(true, "bubblewrap 0.8.0"),
            help: said(true, HELP),
            trial,
        }),
        os_release: DEBIAN.to_owned(),
        apparmor_restricts: None,
        userns_clone: Some("1\n".to_owned()),
        max_user_namespaces: Some("96365\n".to_owned()),
        seccomp_actions: "kill_process kill_thread trap errno user_notif trace log allow\n".to_owned(),
        landlock: Some(7),
        memory: Ok(1 << 30),
    }
}

/// The message and the hint of what is in the way.
fn refused(facts: Facts) -> (String, String) {
    let error = judge(facts).jail().unwrap_err();
    assert_eq!(error.code(), Code::JailUnavailable);
    (error.to_string(), error.body().hint.unwrap())
}

#[test]
fn where_the_trial_succeeds_there_is_a_jail() {
    let support = judge(facts(said(true, "")));
    let bwrap = Bwrap { path: PathBuf::from("/usr/bin/bwrap"), version: "0.8.0".to_owned() };
    let wanted =
        Support { bwrap: Some(bwrap.clone()), obstacle: None, landlock: Some(7), seccomp: true, memory: Ok(1 << 30) };
    assert_eq!(support, wanted);
    assert_eq!(support.jail().unwrap(), bwrap);

    // What the kernel is set to says nothing against what worked: root may, and so may a profile's program.
    let mut restricted = facts(said(true, ""));
    restricted.apparmor_restricts = Some("1\n".to_owned());
    restricted.userns_clone = Some("0\n".to_owned());
    assert_eq!(judge(restricted).obstacle, None);
}

#[test]
fn a_missing_bubblewrap_is_installed_as_the_distribution_does() {
    let cases = [
        (DEBIAN, "sudo apt install bubblewrap"),
        ("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n", "sudo apt install bubblewrap"),
        ("NAME=\"Fedora Linux\"\nID=fedora\n", "sudo dnf install bubblewrap"),
        ("ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n", "sudo dnf install bubblewrap"),
        ("ID=arch\n", "sudo pacman -S bubblewrap"),
        ("ID=endeavouros\nID_LIKE='arch'\n", "sudo pacman -S bubblewrap"),
        ("ID=\"opensuse-tumbleweed\"\nID_LIKE=\"opensuse suse\"\n", "sudo zypper install bubblewrap"),
        ("ID=nixos\n", "install your distribution's package `bubblewrap`"),
        ("", "install your distribution's package `bubblewrap`"),
    ];
    for (os_release, mend) in cases {
        let facts = Facts { bwrap: None, os_release: os_release.to_owned(), ..facts(said(true, "")) };
        let (message, hint) = refused(facts);
        assert_eq!(message, "bubblewrap, which makes the jail, is not installed");
        assert_eq!(hint, mend, "{os_release}");
    }
}

#[test]
fn a_bubblewrap_that_is_too_old_is_told_by_its_options() {
    let mut old = facts(said(false, "bwrap: Unknown option --disable-userns"));
    let found = old.bwrap.as_mut().unwrap();
    found.version.text = "bubblewrap 0.6.1".to_owned();
    found.help.text = HELP
        .lines()
        .filter(|line| !line.contains("userns") && !line.contains("bind-fd"))
        // A mention is no description.
        .chain(["    --other    Goes with --disable-userns"])
        .fold(String::new(), |help, line| help + line + "\n");
    let lacks = vec!["--assert-userns-disabled", "--bind-fd", "--disable-userns", "--ro-bind-fd"];
    let install = Some("sudo apt install bubblewrap");
    assert_eq!(judge(old.clone()).obstacle, Some(Obstacle::TooOld { lacks, install }));
    let (message, hint) = refused(old);
    assert!(
        message.starts_with("/usr/bin/bwrap (version 0.6.1) does not know --assert-userns-disabled, "),
        "{message}"
    );
    assert!(hint.ends_with("sudo apt install bubblewrap"), "{hint}");
}

#[test]
fn apparmor_is_recognised_and_its_profile_printed() {
    let texts = [
        "bwrap: setting up uid map: Permission denied",
        "bwrap: loopback: Failed RTM_NEWADDR: Operation not permitted",
    ];
    for text in texts {
        let mut ubuntu = facts(said(false, text));
        ubuntu.apparmor_restricts = Some("1\n".to_owned());
        assert_eq!(judge(ubuntu.clone()).obstacle, Some(Obstacle::AppArmor));
        let (message, hint) = refused(ubuntu.clone());
        assert_eq!(message, "AppArmor does not let /usr/bin/bwrap make user namespaces");
        assert_eq!(
            hint,
            "allow it, and load the permission:
sudo tee /etc/apparmor.d/bwrap <<'END'
abi <abi/4.0>,
include <tunables/global>
profile bwrap /usr/bin/bwrap flags=(unconfined) {
  userns,
  include if exists <local/bwrap>
}
END
sudo apparmor_parser -r /etc/apparmor.d/bwrap"
        );

        // The same words where AppArmor restricts nothing have another cause.
        ubuntu.apparmor_restricts = Some("0\n".to_owned());
        assert!(matches!(judge(ubuntu).obstacle, Some(Obstacle::Failed { .. })));
    }
}

#[test]
fn the_kernels_switches_are_named_with_their_mend() {
    let text = "bwrap: No permissions to create new namespace, likely because the kernel does not allow \
                non-privileged user namespaces.";
    let mut for_root = facts(said(false, text));
    for_root.userns_clone = Some("0\n".to_owned());
    assert_eq!(judge(for_root.clone()).obstacle, Some(Obstacle::NamespacesForRoot));
    let (message, hint) = refused(for_root);
    assert!(message.ends_with("kernel.unprivileged_userns_clone is 0"), "{message}");
    assert!(hint.starts_with("echo kernel.unprivileged_userns_clone=1 | sudo tee /etc/sysctl.d/"), "{hint}");

    let mut none = facts(said(false, "bwrap: Creating new namespace failed: No space left on device"));
    none.max_user_namespaces = Some("0\n".to_owned());
    none.userns_clone = Some("0\n".to_owned());
    assert_eq!(judge(none.clone()).obstacle, Some(Obstacle::NoNamespaces));
    let (message, hint) = refused(none);
    assert!(message.ends_with("user.max_user_namespaces is 0"), "{message}");
    assert!(hint.starts_with("echo user.max_user_namespaces=15000 | sudo tee /etc/sysctl.d/"), "{hint}");
}

#[test]
fn another_failure_is_quoted() {
    let (message, hint) =
        refused(facts(said(false, "bwrap: Can't mount proc on /newroot/proc: Operation not permitted")));
    let wanted = "/usr/bin/bwrap cannot make a jail here: Can't mount proc on /newroot/proc: Operation not permitted";
    assert_eq!(message, wanted);
    assert!(hint.contains("within a container"), "{hint}");

    let mut other = facts(said(true, ""));
    other.bwrap.as_mut().unwrap().version = said(false, "Exec format error (os error 8)");
    assert_eq!(refused(other).0, "/usr/bin/bwrap cannot make a jail here: Exec format error (os error 8)");
}

#[test]
fn a_kernel_without_seccomp_is_not_enough_but_one_without_landlock_is() {
    let bare = Facts { seccomp_actions: String::new(), landlock: None, ..facts(said(true, "")) };
    assert_eq!(judge(bare.clone()).obstacle, Some(Obstacle::NoSeccomp));
    assert!(refused(bare).1.contains("CONFIG_SECCOMP_FILTER"));
    let support = judge(Facts { landlock: None, ..facts(said(true, "")) });
    assert_eq!((support.landlock, support.obstacle), (None, None));
}

/// A machine in a folder: its `bin/bwrap` is a script, and its `/proc` has what a test puts there.
struct Fake(TempDir);

impl Fake {
    fn new(script: &str) -> Self {
        let fake = Self(TempDir::new().unwrap());
        fs::create_dir(fake.path("bin")).unwrap();
        // Not written from here: a process that another test starts meanwhile would hold it open and make it "busy".
        let write = "printf '#!/bin/sh\\n%s\\n' \"$1\" >\"$2\" && chmod 755 \"$2\"";
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", write, "sh", script]).arg(fake.path("bin/bwrap"));
        assert!(shell.status().unwrap().success());
        fake.write("etc/os-release", DEBIAN);
        fake.write("proc/sys/kernel/seccomp/actions_avail", "errno allow\n");
        fake
    }

    fn path(&self, file: &str) -> PathBuf {
        self.0.path().join(file)
    }

    fn write(&self, file: &str, text: &str) {
        fs::create_dir_all(self.path(file).parent().unwrap()).unwrap();
        fs::write(self.path(file), text).unwrap();
    }

    fn support(&self, usual: &Path, patience: Duration) -> Support {
        let path = std::env::join_paths([self.path("nothing"), self.path("bin")]).unwrap();
        judge(look(&Machine { root: self.0.path(), usual, path: &path, patience, memory: None }))
    }
}

const PATIENCE: Duration = Duration::from_mins(1);

#[test]
fn the_distributions_bubblewrap_comes_before_that_of_the_path() {
    let fake = Fake::new("echo 'bubblewrap 9.9'");
    fs::create_dir(fake.path("usual")).unwrap();
    fs::hard_link(fake.path("bin/bwrap"), fake.path("usual/bwrap")).unwrap();
    let found = |usual: &str| fake.support(&fake.path(usual), PATIENCE).bwrap.unwrap();
    assert_eq!(found("usual/bwrap"), Bwrap { path: fake.path("usual/bwrap"), version: "9.9".to_owned() });
    assert_eq!(found("missing"), Bwrap { path: fake.path("bin/bwrap"), version: "9.9".to_owned() });
    // Neither a folder nor what may not be run is a program.
    assert_eq!(found("usual").path, fake.path("bin/bwrap"));
    fs::remove_file(fake.path("usual/bwrap")).unwrap();
    fake.write("usual/bwrap", "no program");
    assert_eq!(found("usual/bwrap").path, fake.path("bin/bwrap"));
}

#[test]
fn what_it_says_and_the_files_of_the_machine_come_together() {
    let fake = Fake::new(&format!(
        "case $1 in\n--version) echo bubblewrap 0.9.0;;\n--help) /bin/cat <<'END'\n{HELP}\nEND\n;;\n\
         *) echo 'bwrap: setting up uid map: Permission denied' >&2; exit 1;;\nesac"
    ));
    let support = || fake.support(Path::new("/nothing"), PATIENCE);
    let said = "setting up uid map: Permission denied".to_owned();
    assert_eq!(support().obstacle, Some(Obstacle::Failed { said }));
    fake.write("proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1\n");
    assert_eq!(support().obstacle, Some(Obstacle::AppArmor));
    fake.write("proc/sys/kernel/unprivileged_userns_clone", "0\n");
    assert_eq!(support().obstacle, Some(Obstacle::NamespacesForRoot));
    fake.write("proc/sys/user/max_user_namespaces", "0\n");
    assert_eq!(support().obstacle, Some(Obstacle::NoNamespaces));
}

#[test]
fn a_bubblewrap_that_hangs_is_given_up() {
    let fake = Fake::new("exec /bin/cat /dev/zero >/dev/null");
    let support = fake.support(Path::new("/nothing"), Duration::ZERO);
    assert_eq!(support.obstacle, Some(Obstacle::Failed { said: "it was not done in 0 s".to_owned() }));
}

#[test]
fn this_machine_is_looked_at_for_real() {
    let nothing = probe(OsStr::new(""), None).bwrap;
    let support = probe(OsStr::new("/usr/local/bin:/usr/bin:/bin"), None);
    assert!(nothing.is_none() || nothing == support.bwrap);
    println!("{support:?}");
    match (&support.obstacle, support.jail()) {
        (None, Ok(bwrap)) => assert!(bwrap.version.starts_with("0."), "{bwrap:?}"),
        (Some(_), Err(error)) => println!("{error}: {:?}", error.body().hint),
        (obstacle, jail) => panic!("{obstacle:?} {jail:?}"),
    }
}
