//! `corral gpu --watch` in a terminal.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "test code: a panic is how it fails")]

use std::fs;

use corral_tests::tmux::Tmux;
use corral_tests::{Daemon, Models};
use nvml_scene::Stage;
use serde_json::{Value, json};

/// A GPU that draws so many watts.
fn scene(watts: u32) -> Value {
    let device = json!({
        "uuid": "GPU-1", "name": "NVIDIA GeForce RTX 4090", "pci": "00000000:01:00.0", "util": 71,
        "total": 25_769_803_776_u64, "reserved": 0, "free": 5_769_803_776_u64, "used": 20_000_000_000_u64,
        "temperature": 61, "power_mw": watts * 1_000,
    });
    json!({ "driver": "580.95.05", "devices": [device] })
}

#[test]
fn each_reading_stands_in_place_of_the_one_before_and_the_terminal_stays_sane() {
    let stage = Stage::new(&scene(100));
    let home = Models::process().tiny(&["a"]).home();
    let daemon = Daemon::start_with(home, &[("CORRAL_NVML", stage.library().to_str().unwrap())]);
    let at = daemon.home().path();
    let tmux = Tmux::with([("CORRAL_HOME", at), ("LANG", "C.UTF-8".as_ref())], at, 100, 30);
    tmux.types("stty -a >before; clear; echo above; corral gpu --watch");
    tmux.presses("Enter");
    // Wide, then so narrow that lines are broken.
    for (watts, columns) in [(100, 100), (110, 100), (120, 22), (130, 22)] {
        tmux.resize(columns, 30);
        stage.play(&scene(watts));
        let shown = format!("{watts} W");
        let screen = tmux.until(&shown, |screen| screen.contains(&shown));
        // Where it breaks lines, a terminal may scroll what stands above out of sight.
        assert!(screen.starts_with("above\n") || columns < 100, "what stood above stays:\n{screen}");
        for once in ["GPU 0", "memory", " W"] {
            assert_eq!(screen.matches(once).count(), 1, "{once} at {columns} columns:\n{screen}");
        }
    }
    tmux.presses("C-c");
    tmux.until("a prompt below it", |screen| screen.contains("130 W") && screen.trim_end().ends_with("\n$"));
    tmux.types("echo \"ended: $?\"; stty -a >after");
    tmux.presses("Enter");
    tmux.until("its end", |screen| screen.contains("\nended: 130\n"));
    tmux.types("clear; echo sane");
    tmux.presses("Enter");
    tmux.until("the shell answers", |screen| screen.starts_with("sane\n$"));
    // The first line has the terminal's size.
    let settings = |name: &str| {
        let told = fs::read_to_string(at.join(name)).unwrap();
        told.split_once('\n').expect("lines").1.to_owned()
    };
    assert!(settings("before").contains("icanon"), "{}", settings("before"));
    assert_eq!(settings("before"), settings("after"));
}
