//! What `corral serve` costs while nobody asks for anything.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use corral_tests::{Daemon, Models};

use crate::figures::{Bounds, resident};

/// Resident memory of an idle `corral serve` in MB.
const MEMORY_BOUND: f64 = 25.0;

/// Wake-ups of an idle `corral serve` per second.
const WAKE_UP_BOUND: f64 = 1.0;

/// What `corral serve` takes while a model is loaded and nobody asks for anything.
pub(crate) fn costs(bounds: &mut Bounds) {
    let daemon = Daemon::start(Models::docker().tiny(&["tiny-a", "tiny-b"]).home());
    daemon.api().switched("tiny-a");
    daemon.api().switched("tiny-b");
    let before = wake_ups(daemon.pid());
    let window = Duration::from_secs(20);
    std::thread::park_timeout(window);
    // A thread that has ended since was woken for that, and is not counted.
    let since = |(thread, count): (OsString, u32)| count - before.get(&thread).copied().unwrap_or(0);
    let woken: u32 = wake_ups(daemon.pid()).into_iter().map(since).sum();
    let per_second = f64::from(woken) / window.as_secs_f64();
    let resident = resident(daemon.pid());
    println!("\nIdle for {} s, one model loaded", window.as_secs());
    let verdict = bounds.at_most("the memory of an idle corral serve", resident, MEMORY_BOUND, " MB");
    println!("  memory of corral serve            {resident:>6.1} MB  {verdict}");
    let compared = [("a bash that waits", waiting_bash()), ("dockerd", resident_of("dockerd"))];
    for (name, other) in compared {
        if let Some(other) = other {
            println!("  for comparison, {name:<17} {other:>6.1} MB  Corral has {:.2} times that", resident / other);
        }
    }
    let verdict = bounds.at_most("the number of wake-ups of an idle corral serve", per_second, WAKE_UP_BOUND, "/s");
    println!("  wake-ups, all threads             {per_second:>6.2} /s  {verdict}");
}

/// How often each thread has given up its core by itself, which is how often it was woken.
fn wake_ups(pid: u32) -> BTreeMap<OsString, u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("the daemon runs").flatten();
    let count = |task: fs::DirEntry| {
        let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        (task.file_name(), line.and_then(|value| value.trim().parse().ok()).unwrap_or(0))
    };
    tasks.map(count).collect()
}

fn resident_of(program: &str) -> Option<f64> {
    let output = Command::new("pgrep").args(["-o", "-x", program]).output().ok()?;
    Some(resident(String::from_utf8(output.stdout).ok()?.trim().parse().ok()?))
}

/// What switching by hand keeps in memory: a shell.
fn waiting_bash() -> Option<f64> {
    let script = "echo; read";
    let mut bash =
        Command::new("bash").args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().ok()?;
    // Its line says that it is up.
    let up = std::io::Read::read_exact(bash.stdout.as_mut()?, &mut [0]);
    let resident = up.is_ok().then(|| resident(bash.id()));
    drop(bash.stdin.take());
    let _ = bash.wait();
    resident
}
