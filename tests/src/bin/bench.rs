//! `make bench`: what Corral costs, as ratios against what a user would have instead, measured in one run.
//!
//!     bench [--pairs N]

#![allow(clippy::print_stdout, reason = "the figures are this program's output")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark that cannot measure panics")]

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use corral_testkit::{SandboxHome, TinyModel};
use corral_tests::{Daemon, Models, parts};

/// Size of the large models in bytes.
const LARGE: u64 = 1_000_000_000;

/// The ratio that a switch must not exceed.
const SWITCH_BOUND: f64 = 0.95;

fn main() {
    let pairs = argument("--pairs").unwrap_or(20);
    let switches = switch_costs(pairs);
    print!("{switches}");
    print!("{}", idle_costs());
    print!("{}", list_costs());
}

fn argument(name: &str) -> Option<usize> {
    let mut args = std::env::args().skip_while(|argument| argument != name);
    args.nth(1).and_then(|value| value.parse().ok())
}

/// Two models that are switched between, by hand and by Corral in turns.
struct Row {
    name: &'static str,
    models: [&'static str; 2],
    by_hand: Vec<Duration>,
    by_corral: Vec<Duration>,
}

fn switch_costs(pairs: usize) -> String {
    let models = Models::docker().tiny(&["tiny-a", "tiny-b"]);
    let large = |id: &str| format!("file = \"{id}.gguf\"\nctx = 4096\n");
    let models = models.table("large-a", &large("large-a")).table("large-b", &large("large-b"));
    let home = models.home();
    for (seed, id) in [(11, "large-a"), (12, "large-b")] {
        home.write_model(&format!("{id}.gguf"), &TinyModel::padded(seed, LARGE));
    }
    let folder = home.models();
    let daemon = Daemon::start(home);
    let row = |name, models| Row { name, models, by_hand: vec![], by_corral: vec![] };
    let mut rows = [
        row("0.3 MB models", ["tiny-a", "tiny-b"]),
        row("1 GB models", ["large-a", "large-b"]),
        row("first switch to a 1 GB model", ["tiny-a", "large-a"]),
    ];
    for row in &mut rows {
        // The last row starts each time from a server that was never created.
        let fresh = row.name.starts_with("first");
        let pairs = if row.name.starts_with("0.3") { pairs } else { pairs.div_ceil(2) };
        // One of each is not counted: files come into the page cache, and there is something to switch from.
        for pair in 0..=pairs {
            let model = row.models[if fresh { 1 } else { pair % 2 }];
            if fresh {
                by_hand(&folder, row.models[0]);
                daemon.api().stopped();
                by_corral(&daemon, row.models[0]);
            }
            let hand = by_hand(&folder, model);
            let corral = by_corral(&daemon, model);
            if pair > 0 {
                row.by_hand.push(hand);
                row.by_corral.push(corral);
            }
        }
    }
    let _ = Command::new("docker").args(["rm", "-f", "corral-bench-by-hand"]).output();
    report_switches(&mut rows)
}

fn report_switches(rows: &mut [Row]) -> String {
    let mut text = String::from("\nSwitch to first token: medians\n");
    let head = ["", "pairs", "by hand", "Corral", "ratio"];
    let _ = writeln!(text, "  {:<30} {:>5} {:>10} {:>10} {:>6}", head[0], head[1], head[2], head[3], head[4]);
    for row in rows {
        let (hand, corral) = (median(&mut row.by_hand), median(&mut row.by_corral));
        let ratio = corral.as_secs_f64() / hand.as_secs_f64();
        let verdict = if ratio <= SWITCH_BOUND { "" } else { "  above the bound of 0.95" };
        let _ = writeln!(
            text,
            "  {:<30} {:>5} {:>7} ms {:>7} ms {ratio:>6.2}{verdict}",
            row.name,
            row.by_hand.len(),
            hand.as_millis(),
            corral.as_millis(),
        );
    }
    text
}

fn by_hand(models: &Path, model: &str) -> Duration {
    let file = format!("{model}.gguf");
    timed(Command::new(script("switch-by-hand.sh")).args([parts::image()]).arg(models).args([&file, "18555"]))
}

fn by_corral(daemon: &Daemon, model: &str) -> Duration {
    let management = daemon.api().base().trim_start_matches("http://").to_owned();
    let token = daemon.home().run().join("token");
    timed(Command::new(script("switch-by-corral.sh")).arg(management).arg(token).arg(model))
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("bench").join(name)
}

fn timed(command: &mut Command) -> Duration {
    let begin = Instant::now();
    let output = command.output().expect("the command can be run");
    let took = begin.elapsed();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    took
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// What `corral serve` takes while a model is loaded and nobody asks for anything.
fn idle_costs() -> String {
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
    let resident = kilobytes(daemon.pid(), "VmRSS:") / 1024.0;
    let docker = resident_of("dockerd");
    let mut text = String::from("\nIdle, one model loaded\n");
    let _ = writeln!(text, "  resident memory of corral serve   {resident:>6.1} MB   (bound: 25 MB)");
    let _ = writeln!(text, "  wake-ups per second, all threads  {per_second:>6.2}      (bound: 1)");
    if let Some(docker) = docker {
        let _ = writeln!(text, "  for comparison, dockerd           {docker:>6.1} MB   ratio {:.2}", resident / docker);
    }
    text
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

fn kilobytes(pid: u32, key: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let line = status.lines().find_map(|line| line.strip_prefix(key)).expect("the line is there");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

fn resident_of(program: &str) -> Option<f64> {
    let output = Command::new("pgrep").args(["-o", "-x", program]).output().ok()?;
    let pid = String::from_utf8(output.stdout).ok()?.trim().parse().ok()?;
    Some(kilobytes(pid, "VmRSS:") / 1024.0)
}

/// `corral list --json` with ten models, and with ten thousand.
fn list_costs() -> String {
    let mut medians = Vec::new();
    for count in [10_usize, 10_000] {
        let home = SandboxHome::new();
        let mut catalog =
            String::from("schema = 1\n[server]\ngateway = \"127.0.0.1:0\"\nmanagement = \"127.0.0.1:0\"\n");
        for number in 0..count {
            let _ = writeln!(catalog, "[models.m{number}]\nname = \"Model {number}\"\nfile = \"m{number}.gguf\"");
        }
        home.write_catalog(&catalog);
        let daemon = Daemon::start(home);
        let mut times: Vec<_> = (0..11)
            .map(|_| {
                let begin = Instant::now();
                let output = daemon.corral(&["list", "--json"]);
                let took = begin.elapsed();
                assert!(output.status.success());
                took
            })
            .collect();
        medians.push(median(&mut times));
    }
    let (few, many) = (medians[0], medians[1]);
    let bound = few * 3 + Duration::from_millis(100);
    let mut text = String::from("\ncorral list --json, medians of 11\n");
    let _ = writeln!(text, "  10 models      {:>6.1} ms", few.as_secs_f64() * 1e3);
    let _ = writeln!(
        text,
        "  10,000 models  {:>6.1} ms   (bound: 3 times the above and 100 ms: {:.1} ms)",
        many.as_secs_f64() * 1e3,
        bound.as_secs_f64() * 1e3
    );
    text
}
