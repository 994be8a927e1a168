//! Processes: only the jail's own are there, they are bounded, and none is left.

use std::cell::RefCell;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use corral_tests::{PATIENCE, process, until};
use rustix::process::Signal;

use crate::attempt::{Attempt, Control, PYTHON, attempt, hold, run_inside};
use crate::world::{Base, World, is_there};

const CLOSED: &[&str] = &["EACCES", "EPERM"];
const NOT_THERE: &[&str] = &["ENOENT"];
const NO_PROCESS: &[&str] = &["ESRCH"];
/// A process namespace in which the first process is the script itself.
const FIRST: Control = Control::Unshare("-Urpf --mount-proc", "");
/// How long a process that ends may take to be gone.
const GONE: Duration = Duration::from_secs(2);

pub(crate) fn attempts() -> Vec<Attempt> {
    let mut all = vec![
        attempt("see a process of the host", &["NONE"], SEE),
        attempt("ask for a process of the host", NO_PROCESS, "os.kill(PID, 0)\nreturn True"),
        attempt("signal a process of the host", NO_PROCESS, "os.kill(PID, signal.SIGTERM)\nreturn True").effect(host_ended),
        attempt("signal a group of the host", NO_PROCESS, "os.killpg(PID, signal.SIGTERM)\nreturn True").effect(host_ended),
        attempt("open a process of the host", &["ESRCH", "EINVAL"], "return os.pidfd_open(PID) > 0"),
        attempt("the limits of a process of the host", NO_PROCESS, "import resource\nreturn resource.prlimit(PID, resource.RLIMIT_CORE)"),
        attempt("the processors of a process of the host", NO_PROCESS, "return os.sched_getaffinity(PID)"),
        attempt("the files of a process of the host", NOT_THERE, "return os.listdir('/proc/%d/fd' % PID)"),
        attempt("System V shared memory", NOT_THERE, "return call(number(29, 194), KEY, 0, 0) >= 0"),
        attempt("a System V semaphore", NOT_THERE, "return call(number(64, 190), KEY, 0, 0) >= 0"),
        attempt("a System V queue", NOT_THERE, "return call(number(68, 186), KEY, 0) >= 0"),
        attempt("the list of shared memory", &["NONE"], "return len(read('/proc/sysvipc/shm').splitlines()) > 1 or deny('NONE')"),
        attempt("POSIX shared memory", NOT_THERE, "return holds(SHM_FILE, SECRET)"),
        attempt("a POSIX queue", NOT_THERE, "return call(number(240, 180), QUEUE.encode(), 2, 0, None) > 0"),
        attempt("kill the first process", &["ALIVE"], KILL).with("FIRST, SIGNALS = 1, [9]").control(VICTIM),
        attempt("every signal to the first process", &["ALIVE"], KILL).with("FIRST, SIGNALS = 1, range(1, 65)").control(VICTIM),
        attempt("the limits of the first process", CLOSED, "import resource\nreturn resource.prlimit(1, resource.RLIMIT_NOFILE, (9, 9))").control(FIRST),
        attempt("the rank of the first process", CLOSED, "os.sched_setscheduler(1, os.SCHED_IDLE, os.sched_param(0))\nreturn True").control(FIRST),
        attempt("the parameters of the first process", CLOSED, "os.sched_setparam(1, os.sched_param(0))\nreturn True").control(FIRST),
        attempt("the attributes of the first process", CLOSED, "return call(number(314, 274), 1, struct.pack('IIQiIQQQ', 48, 5, 0, 0, 0, 0, 0, 0), 0) == 0").control(FIRST),
        attempt("the processors of the first process", CLOSED, "os.sched_setaffinity(1, {min(os.sched_getaffinity(1))})\nreturn True").control(FIRST),
        attempt("the priority of the first process", CLOSED, "os.setpriority(os.PRIO_PROCESS, 1, 19)\nreturn True").control(FIRST),
        attempt("the priority of its group", CLOSED, "os.getpid() == 1 and os.setpgid(0, 0)\nos.setpriority(os.PRIO_PGRP, 1, 19)\nreturn True").control(FIRST),
        attempt("the priority of its user's processes", CLOSED, "os.setpriority(os.PRIO_USER, 0, 19)\nreturn True").control(FIRST),
        attempt("the disk priority of the first process", CLOSED, "return call(number(251, 30), 1, 1, 3 << 13) == 0").control(FIRST),
        attempt("the disk priority of its group", CLOSED, "os.getpid() == 1 and os.setpgid(0, 0)\nreturn call(number(251, 30), 2, 1, 3 << 13) == 0").control(FIRST),
        attempt("the disk priority of its user's processes", CLOSED, "return call(number(251, 30), 3, os.getuid(), 3 << 13) == 0"),
        attempt("the share of the first process's session", CLOSED, "return os.open('/proc/1/autogroup', os.O_WRONLY) > 0").control(FIRST).lacking(NOT_THERE),
        attempt("the control groups of the host", &["OTHER"], "return os.readlink('/proc/self/ns/cgroup') == CGROUPS or deny('OTHER')"),
        attempt("the path of its control group", &["ROOT"], "return any(not line.endswith(b':/') for line in read('/proc/self/cgroup').splitlines()) or deny('ROOT')").lacking(&["ROOT"]),
        attempt("write to the first process", CLOSED, "return os.open('/proc/1/mem', os.O_RDWR) > 0").control(FIRST),
        attempt("a process that stays behind", &[], SURVIVOR).effect(survives),
        attempt("a process that stays behind, by two forks", &[], format!("if os.fork():\n    return True\nos.setsid()\nif os.fork():\n    os._exit(0)\n{}\nos._exit(0)", SURVIVOR.replace("return True", ""))).effect(survives),
        attempt("more threads than allowed", &["EAGAIN"], THREADS).with("COUNT = 4200").control(Control::JailWith("COUNT = 20")),
        attempt("more processes than allowed", &["EAGAIN"], FORKS).with("import resource\nCOUNT = 4200").control(Control::JailWith("COUNT = 20")),
        attempt("a core", &["ZERO"], "import resource\nhard = resource.getrlimit(resource.RLIMIT_CORE)[1]\nreturn hard != 0 or deny('ZERO')").lacking(&["ZERO"]),
        attempt("a core after all", &["EPERM"], "import resource\ntry:\n    resource.setrlimit(resource.RLIMIT_CORE, (1, 1))\nexcept ValueError:\n    deny('EPERM')\nreturn True").lacking(&["EPERM"]),
        attempt("more open files than allowed", &["EMFILE"], "import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)\n[os.open('/dev/null', os.O_RDONLY) for _ in range(COUNT)]\nreturn True").with("COUNT = 65540").control(Control::JailWith("COUNT = 20")),
    ];
    for (name, script) in [
        ("memory", "os.open('/proc/1/mem', os.O_RDONLY)"),
        ("map of memory", "read('/proc/1/maps')"),
        ("descriptors", "os.listdir('/proc/1/fd')"),
        ("threads' descriptors", "os.listdir('/proc/1/task/1/fd')"),
        ("namespaces", "os.readlink('/proc/1/ns/net')"),
        ("auxiliary vector", "read('/proc/1/auxv')"),
        ("input and output", "read('/proc/1/io')"),
    ] {
        let script = format!("done = {script}\nreturn done is not None");
        all.push(attempt(format!("the first process's {name}"), CLOSED, script).control(FIRST));
    }
    all
}

const SEE: &str = "for process in os.listdir('/proc'):
    try:
        if process.isdigit() and MARK.encode() in read('/proc/%s/cmdline' % process).split(b'\\0'):
            return True
    except OSError:
        pass
deny('NONE')";

const KILL: &str = "for one in SIGNALS:
    try:
        os.kill(FIRST, one)
    except ProcessLookupError:
        pass
for _ in range(50):
    if os.waitpid(FIRST, os.WNOHANG)[0] if FIRST != 1 else False:
        return True
    time.sleep(0.01)
os.kill(FIRST, 0)
deny('ALIVE')";
const VICTIM: Control = Control::OutsideWith("FIRST = os.fork()\nif FIRST == 0:\n    time.sleep(60)\n    os._exit(0)");

const SURVIVOR: &str = "quiet = subprocess.DEVNULL
subprocess.Popen(['/bin/sh', '-c', 'trap : HUP TERM; while :; do sleep 1; done', WORK + '/survivor'],
    stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True)
return True";

const THREADS: &str = "import threading
threading.stack_size(32 << 10)
wait = threading.Event()
try:
    for _ in range(COUNT):
        threading.Thread(target=wait.wait, daemon=True).start()
except RuntimeError:
    deny('EAGAIN')
finally:
    wait.set()
return True";

/// Children that end at once and are not waited for: each still counts.
const FORKS: &str = "for _ in range(COUNT):
    if os.fork() == 0:
        os._exit(0)
return True";

fn host_ended(world: &World<'_>) -> bool {
    let pid = fs::read_to_string(world.path("pid")).expect("it was prepared").parse().expect("a number");
    let until = Instant::now() + Duration::from_millis(300);
    while process::runs(pid) && Instant::now() < until {
        std::thread::park_timeout(corral_tests::wait::INTERVAL);
    }
    !process::runs(pid)
}

fn survives(world: &World<'_>) -> bool {
    let mark = world.work("survivor");
    let all = || {
        let mut all = process::with_argument(&mark);
        all.retain(|pid| process::command_line(*pid).starts_with("/bin/sh"));
        all
    };
    let until = Instant::now() + GONE;
    while !all().is_empty() && Instant::now() < until {
        std::thread::park_timeout(corral_tests::wait::INTERVAL);
    }
    let left = all();
    for pid in &left {
        process::signal(*pid, Signal::KILL);
    }
    !left.is_empty()
}

/// What of the host is between processes, for everybody.
struct Host {
    key: u32,
    queue: String,
    children: RefCell<Vec<Child>>,
}

const MAKE: &str = "import ctypes, os, platform, sys
call, key, queue = ctypes.CDLL(None).syscall, int(sys.argv[2]), sys.argv[3].encode()
x86 = platform.machine() == 'x86_64'
get = ((29, 64, 68, 240), (31, 66, 71, 241)) if x86 else ((194, 190, 186, 180), (195, 191, 187, 181))
os.umask(0)
ids = [call(get[0][0], key, 4096, 0o1666), call(get[0][1], key, 1, 0o1666), call(get[0][2], key, 0o1666)]
if sys.argv[1] == 'make':
    assert min(ids) >= 0 and call(get[0][3], queue, 0o102, 0o666, None) >= 0, ids
else:
    call(get[1][0], ids[0], 0, None), call(get[1][1], ids[1], 0, 0), call(get[1][2], ids[2], 0, None)
    call(get[1][3], queue)
";

impl Host {
    fn new() -> Self {
        let host = Self {
            key: 0x0c00_0000 + std::process::id(),
            queue: format!("corral-escape-{}", std::process::id()),
            children: RefCell::default(),
        };
        assert!(host.run("make"), "what is between processes can be made");
        host
    }

    fn run(&self, what: &str) -> bool {
        let mut command = Command::new(PYTHON);
        command.args(["-I", "-c", MAKE, what, &self.key.to_string(), &self.queue]);
        command.status().expect("Python runs").success()
    }

    fn prepare(&self, world: &mut World<'_>) {
        let mut children = self.children.borrow_mut();
        let mark = format!("600.{}{}", std::process::id(), children.len());
        let words: Vec<_> = ["setsid", "sleep", &mark].map(str::to_owned).to_vec();
        let child = world.command_without_bound(&words).stdout(Stdio::null()).spawn().expect("`sleep` is there");
        let pid = child.id();
        children.push(child);
        until(PATIENCE, "it sleeps", || process::command_line(pid).starts_with("sleep").then_some(()));
        fs::write(world.path("pid"), pid.to_string()).expect("a file");
        world.define("PID", &pid.to_string());
        world.define("KEY", &self.key.to_string());
        world.set("MARK", &mark);
        world.set("QUEUE", &self.queue);
        let groups = fs::read_link("/proc/self/ns/cgroup").expect("a namespace");
        world.set("CGROUPS", &groups.display().to_string());
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.run("remove");
        for child in self.children.get_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[test]
fn processes() {
    let host = Host::new();
    hold("processes", &attempts(), 20, &|world| host.prepare(world));
}

#[test]
fn nothing_is_left_of_a_jail_whose_launcher_is_killed() {
    let base = Base::new();
    let world = World::new(&base);
    let script = format!(
        "import subprocess, time\n\
         subprocess.Popen(['/bin/sh', '-c', 'trap : HUP TERM; while :; do sleep 1; done'], start_new_session=True)\n\
         open({:?}, 'w').close()\n\
         time.sleep(600)",
        world.work("up")
    );
    let work = world.path("work").display().to_string();
    let words = world.corral(&["jail", "--network", "local", "--workspace", &work, "--", PYTHON, "-I", "-c", &script]);
    let mut launcher = world.command_without_bound(&words).stdout(Stdio::null()).spawn().expect("corral runs");
    until(PATIENCE, "the jail stands", || is_there(&world.work("up")).then_some(()));
    let all = descendants(launcher.id());
    // bubblewrap's two, the init, Python and the shell.
    assert!(all.len() >= 4, "{:?}", all.iter().map(|pid| process::command_line(*pid)).collect::<Vec<_>>());
    process::signal(launcher.id(), Signal::KILL);
    launcher.wait().expect("a child can be waited for");
    until(PATIENCE, "all its processes have gone", || all.iter().all(|pid| !process::runs(*pid)).then_some(()));
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    assert!(!mounts.contains(&work), "{mounts}");
    let sockets = fs::read_to_string("/proc/net/unix").expect("sockets");
    assert!(!sockets.contains(&world.path("").display().to_string()), "{sockets}");
    // Nothing is locked.
    assert_eq!(run_inside(&world, "return True").verdict(), Some("GOT"));
}

/// The processes that a process has started, and those that they have.
fn descendants(of: u32) -> Vec<u32> {
    let mut all = vec![of];
    let mut looked_at = 0;
    while let Some(pid) = all.get(looked_at).copied() {
        looked_at += 1;
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().filter_map(Result::ok);
        let children = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
        all.extend(
            children.flat_map(|of| of.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()).collect::<Vec<_>>()),
        );
    }
    all.split_off(1)
}
