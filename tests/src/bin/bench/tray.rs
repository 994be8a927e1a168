//! What the tray costs: against the least that Tauri makes a tray icon of, and what a look into the window takes.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use corral_testkit::SandboxHome;
use corral_tests::{Bus, Daemon, Display, Models, PATIENCE, Panel, daemon, parts, process, until};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::figures::{Bounds, Series, on_core, percent_since, proportional};

/// Memory without a window, a model loaded, as a multiple of the minimal program's.
const MEMORY_BOUND: f64 = 1.15;

/// The same after the window was looked into.
const AFTERWARDS_BOUND: f64 = 1.6;

/// How often it is looked into.
const LOOKS: usize = 10;

/// Percent of a core without a window, a model loaded.
const CORE_BOUND: f64 = 0.3;

/// How long that is watched.
const WATCHED: Duration = Duration::from_mins(1);

/// From the launch until the icon is registered, as a multiple of the minimal program's.
const ITEM_BOUND: f64 = 1.5;

/// From the click until the window can be used, in milliseconds.
const WINDOW_BOUND: f64 = 800.0;

/// How long a program is left alone before its memory is looked at.
const SETTLED: Duration = Duration::from_secs(5);

/// What the tray writes into its log when the window says that it can be used.
const READY: &str = "the dashboard: ready";

/// A desktop of the benchmark's own: the panel stands in, the bus and the X server are real.
struct Desktop {
    bus: Bus,
    panel: Panel,
    display: Display,
    folder: TempDir,
}

impl Desktop {
    fn start() -> Self {
        let bus = Bus::start();
        let (panel, display) = (Panel::start(&bus), Display::start());
        let folder = tempfile::Builder::new().prefix("corral-bench-").tempdir().expect("a folder");
        Self { bus, panel, display, folder }
    }

    fn variables(&self) -> [(&'static str, &str); 2] {
        [("DBUS_SESSION_BUS_ADDRESS", self.bus.address()), ("DISPLAY", self.display.name())]
    }

    /// A tray icon with a menu of one entry, by Tauri's own tray.
    fn minimal(&self) -> Command {
        let path = parts::corral_binary().with_file_name("minimal-tray");
        assert!(path.is_file(), "there is no {}: run scripts/bench.sh, which builds it", path.display());
        let mut command = Command::new(path);
        command.env_clear().envs(parts::variable("PATH").map(|path| ("PATH", path))).envs(self.variables());
        // It leaves its picture there.
        command.envs(["HOME", "TMPDIR", "XDG_RUNTIME_DIR"].map(|name| (name, self.folder.path())));
        command
    }

    /// Starts a program and waits for its icon.
    fn registered(&self, mut command: Command) -> (Running, Duration) {
        let count = self.panel.items();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let began = Instant::now();
        let running = Running(command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")));
        let took = self.panel.registered(count) - began;
        (running, took)
    }
}

/// A program that is told to end when this is dropped, and waited for.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        process::signal(self.0.id(), Signal::TERM);
        let _ = until(PATIENCE, "it ends", || self.0.try_wait().ok().flatten());
    }
}

pub(crate) fn costs(pairs: usize, bounds: &mut Bounds) {
    let desktop = Desktop::start();
    launches(&desktop, pairs, bounds);
    println!("\nThe tray without a window, a model loaded");
    let least = memory_of_minimal(&desktop);
    println!("  the minimal Tauri tray's memory   {least:>6.1} MB");
    let log = ("CORRAL_LOG", "info,corral_tray=debug");
    let env = [&desktop.variables()[..], &[log]].concat();
    let tray = Daemon::start_tray(Models::docker().tiny(&["a"]).home(), &["--hidden"], &env);
    let item = desktop.panel.item();
    tray.api().switched("a");
    item.says("a is ready");
    std::thread::park_timeout(SETTLED);

    let before = proportional(tray.pid());
    let verdict = bounds.at_most("the tray's memory against the minimal one's", before / least, MEMORY_BOUND, "");
    println!("  corral-tray's memory              {before:>6.1} MB  {:.2} times that, {verdict}", before / least);
    let had = on_core(tray.pid());
    std::thread::park_timeout(WATCHED);
    let core = percent_since(&had, tray.pid(), WATCHED);
    let verdict = bounds.at_most("what the tray has of a core", core, CORE_BOUND, " %");
    println!("  what it has of a core, in {} s    {core:>6.2} %   {verdict}", WATCHED.as_secs());

    let mut looks = Series::default();
    for _ in 0..LOOKS {
        looks.push_ms(look(&desktop, &tray));
    }
    println!("\nFrom a click on the icon until the window can be used, {LOOKS} times: median (quartiles) in ms");
    let verdict = bounds.at_most("the time from the click to the window", looks.median(), WINDOW_BOUND, " ms");
    println!("  corral-dashboard                  {looks}  {verdict}");
    println!("  the longest                       {:>6.0}", looks.worst());
    std::thread::park_timeout(SETTLED);
    let after = proportional(tray.pid());
    let what = "the tray's memory after the window was looked into, against the minimal one's";
    let verdict = bounds.at_most(what, after / least, AFTERWARDS_BOUND, "");
    println!(
        "  corral-tray's memory after these  {after:>6.1} MB  {:.2} times the minimal one's, {verdict}",
        after / least
    );
}

/// From the launch until the panel has the icon, in turns.
fn launches(desktop: &Desktop, pairs: usize, bounds: &mut Bounds) {
    let home = Models::docker().tiny(&["a"]).home();
    let (mut minimal, mut corral) = (Series::default(), Series::default());
    for pair in 0..=pairs {
        let least = desktop.registered(desktop.minimal()).1;
        let took = desktop.registered(tray_in(&home, desktop)).1;
        // One of each is not counted: files come into the page cache.
        if pair > 0 {
            minimal.push_ms(least);
            corral.push_ms(took);
        }
    }
    println!("\nFrom the launch until the icon is registered, {pairs} each in turns: medians (quartiles) in ms");
    println!("  the minimal Tauri tray        {minimal}");
    println!("  corral-tray                   {corral}");
    let ratio = corral.median() / minimal.median();
    let verdict = bounds.at_most("the time to the icon against the minimal one's", ratio, ITEM_BOUND, "");
    println!("  corral-tray / minimal         {ratio:>7.2}  {verdict}");
}

fn tray_in(home: &SandboxHome, desktop: &Desktop) -> Command {
    let mut command = daemon::of(home, "corral-tray", &["--hidden"]);
    command.envs(desktop.variables());
    command
}

fn memory_of_minimal(desktop: &Desktop) -> f64 {
    let (running, _) = desktop.registered(desktop.minimal());
    std::thread::park_timeout(SETTLED);
    proportional(running.0.id())
}

/// Opens the window by a click on the icon and closes it as a person does.
fn look(desktop: &Desktop, tray: &Daemon) -> Duration {
    let times = || tray.output().matches(READY).count();
    let before = times();
    let began = Instant::now();
    desktop.panel.item().activate();
    let took = loop {
        if times() > before {
            break began.elapsed();
        }
        assert!(began.elapsed() < PATIENCE, "the window cannot be used\n{}", tray.output());
        std::thread::park_timeout(Duration::from_millis(1));
    };
    desktop.display.close("Corral");
    until(PATIENCE, "the window's program ends", || (process::family(tray.pid()).len() == 1).then_some(()));
    took
}
