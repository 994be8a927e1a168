//! What the dashboard weighs, and how it is scrolled through in a browser.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use corral_tests::{Daemon, Models};
use serde_json::Value;

use crate::figures::{Bounds, Series};

/// All its files, each compressed, in KB.
const WEIGHT_BOUND: f64 = 120.0;

/// The median frame while a long log is scrolled through, as a multiple of that of a short one.
const FRAME_BOUND: f64 = 2.0;

/// How often each log is scrolled through.
const ROUNDS: &str = "5";

pub(crate) fn costs(bounds: &mut Bounds) {
    println!("\nThe dashboard");
    let weighed = script("weigh.mjs", &[]);
    let all = weighed.lines().find(|line| line.contains("in all")).and_then(|line| line.split_whitespace().next());
    let weight = all.and_then(|bytes| bytes.parse::<f64>().ok()).expect("what it weighs") / 1e3;
    let verdict = bounds.at_most("what the dashboard weighs", weight, WEIGHT_BOUND, " KB");
    println!("  all its files, compressed         {weight:>6.1} KB  {verdict}");

    let daemon = Daemon::start(Models::process().tiny(&["a"]).home());
    let run = daemon.home().run();
    let read = |name: &str| std::fs::read_to_string(run.join(name)).expect("a daemon runs");
    let told: Value = serde_json::from_str(&read("daemon.json")).expect("JSON");
    let management = told["management"].as_str().expect("its address").to_owned();
    let address = format!("http://{management}/ui/#token={}&logs", read("token").trim());
    let frames: Value = serde_json::from_str(&script("scroll.mjs", &[&address, ROUNDS])).expect("JSON");
    println!("\nFrames while the log is scrolled through in Chromium, in turns: medians (quartiles) in µs");
    let mut medians = Vec::new();
    for (lines, shown) in [("1000", "1,000"), ("100000", "100,000")] {
        let mut series = Series::default();
        for frame in frames[lines].as_array().expect("frames") {
            series.push(frame.as_f64().expect("milliseconds") * 1e3);
        }
        println!("  {shown:>7} lines                 {series}  the longest {:.1} ms", series.worst() / 1e3);
        medians.push(series.median());
    }
    let ratio = medians[1] / medians[0];
    let verdict = bounds.at_most("a frame of a long log against one of a short log", ratio, FRAME_BOUND, "");
    println!("  100,000 lines / 1,000 lines       {ratio:>6.2}  {verdict}");
}

/// What one of the dashboard's scripts prints; panics with what it said where it fails.
fn script(name: &str, arguments: &[&str]) -> String {
    let folder: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ui");
    let mut command = Command::new("node");
    command.arg(Path::new("scripts").join(name)).args(arguments).current_dir(folder).stdin(Stdio::null());
    let done = command.output().unwrap_or_else(|error| panic!("node ({error}): run scripts/bench.sh"));
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(done.status.success(), "{name}: {said}{}", String::from_utf8_lossy(&done.stderr));
    said
}
