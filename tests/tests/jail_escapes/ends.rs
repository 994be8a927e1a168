//! The end of a jail: when its launcher has ended, nothing of it runs, and what it left has been looked at.

use std::process::Stdio;

use corral_tests::{PATIENCE, process, until};
use rustix::process::{Pid, Signal};

use crate::attempt::PYTHON;
use crate::world::{Base, World, is_there};

/// So many processes that only use up their time.
const SPINNERS: usize = 500;

/// Gives the jail's first process the last place in every queue, as far as that is let through; then makes that queue long,
/// and writes what would run outside again and again. It ends at once, or goes on.
const STARVE: &str = r"
import ctypes, os, signal, sys, time
libc = ctypes.CDLL(None)
WORK, SPINNERS, ENDS = sys.argv[1], int(sys.argv[2]), sys.argv[3] == 'ends'
if hasattr(os, 'sched_setaffinity'):
    for act in (lambda: os.sched_setscheduler(1, os.SCHED_IDLE, os.sched_param(0)),
                lambda: os.setpriority(os.PRIO_PROCESS, 1, 19), lambda: os.sched_setaffinity(1, {0})):
        try:
            act()
            print('let through', flush=True)
        except PermissionError:
            pass
cpus = sorted(os.sched_getaffinity(0))
if os.fork() == 0:
    os.setsid()
    os.sched_setaffinity(0, {cpus[-1]})
    while True:
        with open(WORK + '/.envrc', 'w') as file:
            file.write('run-me\n')
for _ in range(SPINNERS):
    if os.fork() == 0:
        os.setsid()
        os.sched_setaffinity(0, {cpus[0]})
        while True:
            pass
open(WORK + '/up', 'w').close()
if not ENDS:
    time.sleep(600)
";

/// Starts it in a jail, ends that in this way, and looks at what there is at the very moment when the launcher has ended.
#[track_caller]
fn nothing_is_left(ends: &str, end: impl FnOnce(u32)) {
    let base = Base::new();
    let world = World::new(&base);
    let work = world.path("work").display().to_string();
    let spinners = SPINNERS.to_string();
    let script = [PYTHON, "-I", "-c", STARVE, &work, &spinners, ends];
    let words = world.corral(&[&["jail", "--network", "none", "--workspace", &work, "--"], &script[..]].concat());
    let mut command = world.command_without_bound(&words);
    let mut launcher = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("corral runs");
    until(PATIENCE, "it is under way", || is_there(&world.work("up")).then_some(()));
    end(launcher.id());
    let status = launcher.wait().expect("a child can be waited for");
    let left = process::with_argument(&world.path("work"));
    let is_there_at_once = is_there(&world.work(".envrc"));
    for pid in &left {
        let pid = i32::try_from(*pid).ok().and_then(Pid::from_raw).expect("a process number");
        let _ = rustix::process::kill_process(pid, Signal::KILL);
    }
    let told = std::io::read_to_string(launcher.stderr.take().expect("a pipe")).expect("text");
    let said = std::io::read_to_string(launcher.stdout.take().expect("a pipe")).expect("text");
    assert!(left.is_empty(), "{} processes run on: {status} {told}", left.len());
    assert!(!is_there_at_once, "{status} {told}");
    assert!(!is_there(&world.work(".envrc")) && told.contains(".envrc"), "{status} {told}");
    assert_eq!(said, "", "the first process's place in the queues is not the jail's to say");
}

#[test]
fn an_end_by_itself_is_that_of_all() {
    nothing_is_left("ends", |_| {});
}

#[test]
fn an_end_from_outside_is_that_of_all() {
    nothing_is_left("goes-on", |launcher| process::signal(launcher, Signal::HUP));
}
