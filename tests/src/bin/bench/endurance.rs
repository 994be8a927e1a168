//! What the window keeps in memory while it is told much for long: 1,000 lines of log each second in one, a GPU reading
//! each second in another, which draws its charts. `corral serve` and the windows are the real ones; `fixed-answer` stands
//! in for a talkative `llama-server`, and the readings come from a stand-in in front of the management API.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdin, Stdio};
use std::time::{Duration, Instant};

use corral_testkit::SandboxHome;
use corral_tests::gpu_readings::GpuReadings;
use corral_tests::{Bus, Daemon, Display, Models, PATIENCE, daemon, process, until};
use serde_json::Value;

use crate::figures::{Bounds, OnCore, Series, on_core, percent_since, proportional, proportional_alone};

/// Lines of log in each second.
const LINES: u32 = 1000;

/// What is looked at.
const PAGES: [&str; 2] = ["logs", "gpu"];

/// The log keeps 100,000 lines, and the web view's memory has its height when it is full.
const WARM_UP: Duration = Duration::from_mins(2);

/// In how many parts the time after that is cut; the first and the last are compared.
const PARTS: usize = 5;

/// The median of the last part as a multiple of that of the first.
const GROWTH_BOUND: f64 = 1.1;

const MINUTE: Duration = Duration::from_mins(1);

/// From one look at the memory to the next.
const EACH: Duration = Duration::from_secs(2);

/// The least of the lines and readings that has to come through.
const THROUGH_BOUND: f64 = 0.95;

pub(crate) fn costs(minutes: u32, bounds: &mut Bounds) {
    let stand_in = std::env::current_exe().expect("this program has a path").with_file_name("fixed-answer");
    assert!(stand_in.is_file(), "there is no {}: run scripts/bench.sh, which builds it", stand_in.display());
    let talks = format!("args = [\"--lines-per-second\", \"{LINES}\"]\n");
    let daemon = Daemon::start(Models::program(&stand_in).tiny_with("a", &talks).home());
    daemon.api().switched("a");
    let windows = PAGES.map(|page| Window::open(&daemon, page));
    println!("\nA window on its log with {LINES} lines each second, one on its GPUs with a reading each second,");
    println!("{minutes} min after a warm-up; memory in MB, median (quartiles)");
    watch(&windows, WARM_UP);

    let before = windows.each_ref().map(Before::of);
    let began = Instant::now();
    let mut looks = PAGES.map(|_| Vec::new());
    for minute in 1..=minutes {
        let of_minute = watch(&windows, (began + minute * MINUTE).saturating_duration_since(Instant::now()));
        let [log, gpu] = of_minute.each_ref().map(|looks| Series::of(looks));
        println!("    minute {minute:>2}        log {log}   GPUs {gpu}");
        for (all, more) in looks.iter_mut().zip(of_minute) {
            all.extend(more);
        }
    }
    let took = began.elapsed();
    for ((window, looks), before) in windows.iter().zip(&looks).zip(&before) {
        judge(window, looks, before, took, bounds);
    }
}

/// What a window had when the time began.
struct Before {
    core: OnCore,
    lines: u64,
    readings: u64,
}

impl Before {
    fn of(window: &Window) -> Self {
        let between = &window.between;
        Self { core: on_core(window.child.id()), lines: between.lines(), readings: between.readings() }
    }
}

/// How a window has done in the time.
fn judge(window: &Window, looks: &[f64], before: &Before, took: Duration, bounds: &mut Bounds) {
    let (page, pid) = (window.page, window.child.id());
    let core = percent_since(&before.core, pid, took);
    let part = looks.len() / PARTS;
    let (first, last) = (&looks[..part], &looks[looks.len() - part..]);
    let (first, last) = (Series::of(first).median(), Series::of(last).median());
    println!("  {page}: the first fifth of that  {first:>6.1} MB");
    let what = format!("the memory of the window on its {page} at the end against the beginning");
    let verdict = bounds.at_most(&what, last / first, GROWTH_BOUND, "");
    println!("  the last fifth                    {last:>6.1} MB  {:.3} times that, {verdict}", last / first);
    for pid in process::family(pid) {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        println!("    {:<31} {:>6.1} MB", name.trim(), proportional_alone(pid));
    }
    println!("  what it has of a core             {core:>6.1} %");
    let per_second = |count: u64| f64::from(u32::try_from(count).unwrap()) / took.as_secs_f64();
    if page == "logs" {
        let lines = per_second(window.between.lines() - before.lines);
        let verdict = bounds.at_least("the lines that come", lines, f64::from(LINES) * THROUGH_BOUND, "/s");
        println!("  lines that came to it             {lines:>6.0} /s  {verdict}");
    }
    let readings = per_second(window.between.readings() - before.readings);
    let verdict = bounds.at_least(&format!("the readings that come to its {page}"), readings, THROUGH_BOUND, "/s");
    println!("  GPU readings that came to it      {readings:>6.2} /s  {verdict}");
}

/// The memory of each window and all that it has started, again and again for so long.
fn watch(windows: &[Window; PAGES.len()], time: Duration) -> [Vec<f64>; PAGES.len()] {
    let began = Instant::now();
    let mut looks = PAGES.map(|_| Vec::new());
    while began.elapsed() < time {
        std::thread::park_timeout(EACH);
        for (looks, window) in looks.iter_mut().zip(windows) {
            looks.push(proportional(window.child.id()));
        }
    }
    looks
}

/// The window, on a display of its own; closed when dropped.
struct Window {
    page: &'static str,
    child: Child,
    /// It closes with this.
    told: Option<ChildStdin>,
    between: GpuReadings,
    // What it stands on.
    _home: SandboxHome,
    _display: Display,
    _bus: Bus,
}

impl Window {
    /// Opens it at a page of this daemon, which it sees by way of the stand-in.
    fn open(daemon: &Daemon, page: &'static str) -> Self {
        let (bus, display, home) = (Bus::start(), Display::start(), SandboxHome::new());
        let run = daemon.home().run();
        let mut file: Value =
            serde_json::from_slice(&fs::read(run.join("daemon.json")).expect("a daemon runs")).expect("JSON");
        let management = file["management"].as_str().and_then(|address| address.parse().ok()).expect("its address");
        let between = GpuReadings::before(management);
        file["management"] = between.address.to_string().into();
        fs::copy(run.join("token"), home.run().join("token")).expect("its token");
        fs::write(home.run().join("daemon.json"), file.to_string()).expect("a file");
        let mut command = daemon::of(&home, "corral-dashboard", &["--attached", "--page", page]);
        command.env("DISPLAY", display.name()).env("DBUS_SESSION_BUS_ADDRESS", bus.address());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let told = child.stdin.take();
        let mut said = String::new();
        BufReader::new(child.stdout.take().expect("its output")).read_line(&mut said).expect("what it says");
        assert_eq!(said, "ready\n", "the window can be used");
        Self { page, child, told, between, _home: home, _display: display, _bus: bus }
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        drop(self.told.take());
        let _ = until(PATIENCE, "the window closes", || self.child.try_wait().ok().flatten());
    }
}
