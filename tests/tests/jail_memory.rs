//! The bound of a jail's memory, by a real systemd where root can run one.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "test code: a panic is how it fails")]

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use corral_tests::local::Ran;
use corral_tests::parts::corral_binary;
use corral_tests::{PATIENCE, process, until};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// This machine as systemd's namespaces see it: small, so that a jail's bound is 192 MiB.
const MEMINFO: &str = "MemTotal: 262144 kB\nMemFree: 262144 kB\nMemAvailable: 262144 kB\nSwapTotal: 0 kB\n";
const BOUND: u64 = 192 << 20;

/// What is said where systemd was too busy.
const TOO_LATE: &str = "systemd did not answer";

/// Takes so many MiB, and says so.
const EAT: &str = "import sys\nheld = b'x' * (int(sys.argv[1]) << 20)\nprint(len(held) >> 20, 'MiB')";

/// A systemd of the test's own.
struct Systemd {
    folder: TempDir,
    started: Child,
    group: String,
    /// Of its first process; 0 until that is known.
    pid: u32,
}

/// What the script ends with where this machine does not let it make a systemd's surroundings.
const CANNOT: i32 = 77;

impl Systemd {
    /// None where this machine cannot have one, which is said.
    fn start() -> Option<Self> {
        let not_tested = |why: &str| {
            // Not captured: it is to be seen in each run.
            let said = "NOT TESTED: that a jail which takes more memory than its bound is ended";
            writeln!(std::io::stderr(), "{said}: {why}").expect("standard error");
            None
        };
        if !rustix::process::geteuid().is_root() {
            return not_tested("only root can run a systemd of its own");
        }
        if !Path::new("/lib/systemd/systemd").exists() || !Path::new("/usr/bin/dbus-daemon").exists() {
            return not_tested("systemd or dbus-daemon is not installed");
        }
        let folder = tempfile::Builder::new().prefix("corral-memory-").tempdir().unwrap();
        for name in ["home", "corral", "work"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        fs::write(folder.path().join("meminfo"), MEMINFO).unwrap();
        let group = folder.path().file_name().unwrap().to_str().unwrap().to_owned();
        let log = fs::File::create(folder.path().join("log")).unwrap();
        let mut command = Command::new(script());
        command.args(["start", &group]).arg(folder.path().join("meminfo")).stdin(Stdio::null());
        let started = command.stdout(log.try_clone().unwrap()).stderr(log).spawn().expect("a shell");
        let mut systemd = Self { folder, started, group, pid: 0 };
        match until(PATIENCE, "systemd answers", || systemd.stands()) {
            Ok(()) => Some(systemd),
            Err(CANNOT) => not_tested(&systemd.log()),
            Err(code) => panic!("a systemd of the test's own does not start ({code}): {}", systemd.log()),
        }
    }

    /// Whether it answers by now, or with which code it has ended instead.
    fn stands(&mut self) -> Option<Result<(), i32>> {
        if let Some(status) = self.started.try_wait().unwrap() {
            return Some(Err(status.code().unwrap_or(-1)));
        }
        // `unshare` is what the script becomes, and systemd its child.
        let children = format!("/proc/{0}/task/{0}/children", self.started.id());
        self.pid = fs::read_to_string(children).ok()?.trim().parse().ok()?;
        let ready = Path::new(&format!("/proc/{}/root/run/dbus/system_bus_socket", self.pid)).exists();
        let mut ask = self.command(&["systemctl", "is-active", "--quiet", "dbus.service"]);
        (ready && ask.stderr(Stdio::null()).status().unwrap().success()).then_some(Ok(()))
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap().trim().to_owned()
    }

    fn work(&self, name: &str) -> PathBuf {
        self.folder.path().join("work").join(name)
    }

    /// A command that sees this systemd.
    fn command(&self, words: &[&str]) -> Command {
        self.set(inside(&self.group, self.pid, words))
    }

    fn set(&self, mut command: Command) -> Command {
        command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin").env("LANG", "C.UTF-8");
        command.env("HOME", self.folder.path().join("home")).env("CORRAL_HOME", self.folder.path().join("corral"));
        command.current_dir(self.folder.path().join("work"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// `corral jail` with a command.
    fn jail(&self, words: &[&str]) -> Command {
        self.command(&[&[corral_binary().to_str().unwrap(), "jail", "--network", "none", "--"], words].concat())
    }

    /// Runs a command in a jail until systemd was quick enough to bound it, as it may not be on a busy machine.
    #[track_caller]
    fn jailed(&self, words: &[&str]) -> Ran {
        until(PATIENCE, "systemd answers in time", || {
            let ran = Ran::of(&mut self.jail(words));
            (!ran.stderr.contains(TOO_LATE)).then_some(ran)
        })
    }

    /// What `systemctl` says.
    fn systemctl(&self, words: &[&str]) -> String {
        Ran::of(&mut self.command(&[&["systemctl"], words].concat())).good()
    }

    fn scopes(&self) -> Vec<String> {
        let all = self.systemctl(&["list-units", "--all", "--plain", "--no-legend", "corral-jail-*"]);
        all.lines().filter_map(|line| Some(line.split_whitespace().next()?.to_owned())).collect()
    }

    #[track_caller]
    fn until_no_scope(&self) {
        until(PATIENCE, "no scope is left", || self.scopes().is_empty().then_some(()));
    }
}

impl Drop for Systemd {
    fn drop(&mut self) {
        // systemd, which takes all in its namespace with it, and `unshare` goes when it has seen that.
        let first = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        match first.filter(|_| matches!(self.started.try_wait(), Ok(None))) {
            Some(first) => drop(kill_process(first, Signal::KILL)),
            None => drop(self.started.kill()),
        }
        let _ = self.started.wait();
        clean(&self.group);
    }
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/jail_memory/systemd.sh")
}

fn inside(group: &str, pid: u32, words: &[&str]) -> Command {
    let mut command = Command::new(script());
    command.args(["enter", group, &pid.to_string()]).args(words);
    command
}

/// Its processes go one after the other.
fn clean(group: &str) {
    until(PATIENCE, "the control groups can be removed", || {
        let mut clean = Command::new(script());
        clean.args(["clean", group]).stderr(Stdio::null()).status().unwrap().success().then_some(())
    });
}

#[test]
fn what_takes_more_than_the_bound_is_ended_and_nothing_else() {
    let Some(systemd) = Systemd::start() else { return };
    let eat = |mib| ["/usr/bin/python3", "-I", "-c", EAT, mib];
    // Below the bound; and beyond it where there is no systemd, and so no bound.
    assert_eq!(systemd.jailed(&eat("100")).good(), "100 MiB\n");
    let corral = corral_binary().to_str().unwrap();
    let mut free = systemd.set(Command::new("env"));
    free.args([corral, "jail", "--network", "none", "--"]).args(eat("400"));
    assert_eq!(Ran::of(&mut free).good(), "400 MiB\n");

    let ran = systemd.jailed(&eat("400"));
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(137), ""), "{ran:?}");
    let said = "out of memory: a process was killed, because the jail may take 192 MiB at most";
    assert!(ran.stderr.contains(said), "{ran:?}");
    systemd.until_no_scope();

    // What asked for it was ended, and who had started that goes on.
    let script = format!("python3 -I -c \"{EAT}\" 400; echo $?; python3 -I -c \"{EAT}\" 100");
    let ran = systemd.jailed(&["sh", "-c", &script]);
    assert!(ran.code == Some(0) && ran.stdout == "137\n100 MiB\n" && ran.stderr.contains(said), "{ran:?}");

    // All together, in folders that lie in memory as well.
    let together = "head -c 150M /dev/zero >/dev/shm/held; python3 -I -c \"$0\" 100; echo $?";
    let ran = systemd.jailed(&["sh", "-c", together, EAT]);
    assert!(ran.stdout.ends_with("137\n") && ran.stderr.contains("out of memory"), "{ran:?}");
    systemd.until_no_scope();
}

#[test]
fn all_of_a_jail_is_in_its_scope_which_goes_with_it() {
    let Some(systemd) = Systemd::start() else { return };
    let script = "cat /proc/[0-9]*/oom_score_adj >adj; sleep 1000 & echo >up; wait";
    let (mut launcher, scope) = until(PATIENCE, "systemd answers in time", || {
        let _ = fs::remove_file(systemd.work("up"));
        let mut launcher = systemd.jail(&["sh", "-c", script]).spawn().unwrap();
        until(PATIENCE, "it runs", || systemd.work("up").exists().then_some(()));
        if let Some(scope) = systemd.scopes().pop() {
            return Some((launcher, scope));
        }
        // It had no scope in time, which it has said, and goes without.
        let mut stderr = launcher.stderr.take().unwrap();
        end(&mut launcher);
        let mut said = String::new();
        stderr.read_to_string(&mut said).unwrap();
        assert!(said.contains(TOO_LATE), "{said}");
        None
    });
    let scope = scope.as_str();
    let names = ["MemoryMax", "MemorySwapMax", "TasksMax", "CollectMode", "Description"];
    let shown = systemd.systemctl(&["show", scope, "-p", &names.join(",")]);
    let mut shown: Vec<_> = shown.lines().collect();
    shown.sort_unstable();
    let bound = format!("MemoryMax={BOUND}");
    let wanted = [
        "CollectMode=inactive-or-failed",
        "Description=A jail of Corral's",
        &bound,
        "MemorySwapMax=0",
        "TasksMax=4096",
    ];
    assert_eq!(shown, wanted);

    // bubblewrap, the init, the shell and what it has started.
    let group = systemd.systemctl(&["show", scope, "-p", "ControlGroup", "--value"]);
    let members = ["/sys/fs/cgroup", "/sys/fs/cgroup/systemd", "/sys/fs/cgroup/memory"].map(|at| {
        let path = format!("/proc/{}/root{at}{}/cgroup.procs", systemd.pid, group.trim());
        fs::read_to_string(path).map_or(0, |text| text.lines().count())
    });
    assert_eq!(members.iter().max(), Some(&4), "{members:?}");
    // All in the jail goes first when the machine's memory runs out.
    let adj = fs::read_to_string(systemd.work("adj")).unwrap();
    assert!(adj.lines().count() >= 2 && adj.lines().all(|adj| adj == "1000"), "{adj}");

    end(&mut launcher);
    systemd.until_no_scope();
}

/// Ends the `corral` that `nsenter` has started.
#[track_caller]
fn end(launcher: &mut Child) {
    let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", launcher.id())).unwrap();
    let corral = children.trim().parse().unwrap();
    assert!(process::command_line(corral).contains("corral"), "{children}");
    process::signal(corral, Signal::KILL);
    launcher.wait().unwrap();
}

#[test]
fn explain_and_doctor_say_whether_memory_is_bounded() {
    let Some(systemd) = Systemd::start() else { return };
    let corral = corral_binary().to_str().unwrap();
    let bounded = [
        (vec!["jail", "--explain", "--", "true"], "192 MiB of memory for all of them together"),
        (vec!["doctor"], "a jail takes 192 MiB of memory at most"),
    ];
    for (words, said) in bounded {
        until(PATIENCE, "systemd answers in time", || {
            let ran = Ran::of(&mut systemd.command(&[&[corral], words.as_slice()].concat()));
            if ran.stdout.contains(TOO_LATE) {
                return None;
            }
            assert!(ran.stdout.contains(said), "{ran:?}");
            Some(())
        });
    }
    systemd.until_no_scope();
}
