//! `make bench`: what Corral costs, against what a user would have instead, measured in one run. Ends with 1 where a
//! bound is missed, and names each.
//!
//!     bench [--pairs N]

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the figures are this program's output")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark that cannot measure panics")]

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use corral_testkit::{SandboxHome, TinyModel};
use corral_tests::{Daemon, Models, parts};

/// Size of the large models in bytes.
const LARGE: u64 = 1_000_000_000;

/// The part of the time by hand that a switch may take.
const SWITCH_BOUND: f64 = 0.95;

/// Resident memory of an idle `corral serve` in MB.
const MEMORY_BOUND: f64 = 25.0;

/// Wake-ups of an idle `corral serve` per second.
const WAKE_UP_BOUND: f64 = 1.0;

fn main() -> ExitCode {
    let pairs = match pairs() {
        Ok(pairs) => pairs,
        Err(wrong) => {
            eprintln!("{wrong}\nusage: bench [--pairs N]");
            return ExitCode::from(2);
        }
    };
    let mut bounds = Bounds::default();
    switch_costs(pairs, &mut bounds);
    idle_costs(&mut bounds);
    list_costs(pairs, &mut bounds);
    if bounds.missed.is_empty() {
        println!("\nall bounds are kept");
        return ExitCode::SUCCESS;
    }
    eprintln!();
    for missed in &bounds.missed {
        eprintln!("missed: {missed}");
    }
    ExitCode::FAILURE
}

/// How often each thing is measured.
fn pairs() -> Result<usize, String> {
    let mut arguments = std::env::args().skip(1);
    match (arguments.next().as_deref(), arguments.next(), arguments.next()) {
        (None, ..) => Ok(20),
        (Some("--pairs"), Some(value), None) => match value.parse() {
            Ok(0) | Err(_) => Err(format!("'{value}' is no number of pairs")),
            Ok(pairs) => Ok(pairs),
        },
        (Some(other), ..) => Err(format!("'{other}' is not understood")),
    }
}

/// What must hold, and what of it did not.
#[derive(Default)]
struct Bounds {
    missed: Vec<String>,
}

impl Bounds {
    /// Notes whether a figure keeps its bound, and says it for the figure's row.
    fn at_most(&mut self, what: &str, figure: f64, bound: f64, unit: &str) -> String {
        let kept = figure <= bound;
        if !kept {
            self.missed.push(format!("{what} is {figure:.3}{unit}, above {bound:.3}{unit}"));
        }
        format!("bound {bound:.2}{unit}: {}", if kept { "kept" } else { "MISSED" })
    }
}

/// Measured times; shown in milliseconds, as the median and the quartiles around it.
#[derive(Default)]
struct Times(Vec<Duration>);

impl Times {
    /// A quartile in milliseconds, between the two nearest times where it falls between two.
    fn quartile(&self, which: usize) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let quarters = which * (sorted.len() - 1);
        let (below, rest) = (quarters / 4, u32::try_from(quarters % 4).unwrap());
        let above = (below + 1).min(sorted.len() - 1);
        (sorted[below] * (4 - rest) + sorted[above] * rest).as_secs_f64() * 1e3 / 4.0
    }

    fn median(&self) -> f64 {
        self.quartile(2)
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let range = format!("({:.0}-{:.0})", self.quartile(1), self.quartile(3));
        write!(f, "{:>6.0} {range:<13}", self.median())
    }
}

/// Two models that are switched between, by hand and by Corral in turns.
struct Row {
    name: &'static str,
    models: [&'static str; 2],
    bounded: bool,
    /// Each switch starts from a server that was never created.
    fresh: bool,
}

/// The container of the switch by hand; gone when dropped.
struct ByHand;

impl Drop for ByHand {
    fn drop(&mut self) {
        let _ = Command::new("docker").args(["rm", "-f", "corral-bench-by-hand"]).output();
    }
}

fn switch_costs(pairs: usize, bounds: &mut Bounds) {
    let models = Models::docker().tiny(&["tiny-a", "tiny-b"]);
    let large = |id: &str| format!("file = \"{id}.gguf\"\nctx = 4096\n");
    let models = models.table("large-a", &large("large-a")).table("large-b", &large("large-b"));
    let home = models.home();
    for (seed, id) in [(11, "large-a"), (12, "large-b")] {
        home.write_model(&format!("{id}.gguf"), &TinyModel::padded(seed, LARGE));
    }
    let folder = home.models();
    let daemon = Daemon::start(home);
    let _by_hand = ByHand;
    println!("\nSwitch to first token, {pairs} pairs: medians (quartiles) in ms");
    println!("  {:<30} {:<20} {:<20} {:>5}", "", "   by hand", "   Corral", "ratio");
    let row = |name, models, bounded| Row { name, models, bounded, fresh: !bounded };
    for row in [
        row("0.3 MB models", ["tiny-a", "tiny-b"], true),
        row("1 GB models", ["large-a", "large-b"], true),
        row("first switch to a 1 GB model", ["tiny-a", "large-a"], false),
    ] {
        let (mut hand, mut corral) = (Times::default(), Times::default());
        // One of each is not counted: files come into the page cache, and there is something to switch from.
        for pair in 0..=pairs {
            let model = row.models[if row.fresh { 1 } else { pair % 2 }];
            if row.fresh {
                by_hand(&folder, row.models[0]);
                daemon.api().stopped();
                by_corral(&daemon, row.models[0]);
            }
            let took = (by_hand(&folder, model), by_corral(&daemon, model));
            if pair > 0 {
                hand.0.push(took.0);
                corral.0.push(took.1);
            }
        }
        let ratio = corral.median() / hand.median();
        let what = format!("the ratio of a switch, {}", row.name);
        let verdict = if row.bounded { bounds.at_most(&what, ratio, SWITCH_BOUND, "") } else { "no bound".to_owned() };
        println!("  {:<30} {hand} {corral} {ratio:>5.2}  {verdict}", row.name);
    }
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

/// What `corral serve` takes while a model is loaded and nobody asks for anything.
fn idle_costs(bounds: &mut Bounds) {
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

/// Resident memory of a process in MB.
fn resident(pid: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("the line is there");
    line.trim().trim_end_matches(" kB").parse::<f64>().expect("a number") / 1024.0
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

/// `corral list --json` with ten models, and with ten thousand, in turns.
fn list_costs(pairs: usize, bounds: &mut Bounds) {
    let (few, many) = (catalog_of(10), catalog_of(10_000));
    let (mut of_few, mut of_many) = (Times::default(), Times::default());
    for _ in 0..pairs {
        of_few.0.push(listed(&few));
        of_many.0.push(listed(&many));
    }
    println!("\ncorral list --json, {pairs} pairs: medians (quartiles) in ms");
    println!("  10 models      {of_few}");
    let bound = of_few.median() * 3.0 + 100.0;
    let verdict = bounds.at_most("the time of a list of 10,000 models", of_many.median(), bound, " ms");
    println!("  10,000 models  {of_many} {verdict}  (3 times the above and 100 ms)");
}

fn catalog_of(models: usize) -> Daemon {
    let home = SandboxHome::new();
    let head = "schema = 1\n[server]\ngateway = \"127.0.0.1:0\"\nmanagement = \"127.0.0.1:0\"\n".to_owned();
    let model = |number| format!("[models.m{number}]\nname = \"Model {number}\"\nfile = \"m{number}.gguf\"\n");
    home.write_catalog(&(0..models).map(model).fold(head, |text, model| text + &model));
    Daemon::start(home)
}

fn listed(daemon: &Daemon) -> Duration {
    let begin = Instant::now();
    let output = daemon.corral(&["list", "--json"]);
    let took = begin.elapsed();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    took
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missed_bound_is_named_and_a_kept_one_is_not() {
        let mut bounds = Bounds::default();
        assert_eq!(bounds.at_most("the memory", 25.0, 25.0, " MB"), "bound 25.00 MB: kept");
        assert_eq!(bounds.at_most("the ratio", 0.951, 0.95, ""), "bound 0.95: MISSED");
        assert_eq!(bounds.missed, ["the ratio is 0.951, above 0.950"]);
    }

    #[test]
    fn quartiles_fall_between_times() {
        let times = |list: &[u64]| Times(list.iter().map(|time| Duration::from_millis(*time)).collect());
        assert_eq!(times(&[40, 10, 30, 20, 50]).to_string().trim_end(), "    30 (20-40)");
        assert_eq!(times(&[10, 30]).to_string().trim_end(), "    20 (15-25)");
        assert_eq!(times(&[7]).to_string().trim_end(), "     7 (7-7)");
    }
}
