//! What a switch costs, against the same by hand.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use corral_testkit::TinyModel;
use corral_tests::{Daemon, Models, parts};

use crate::figures::{Bounds, Series};

/// Size of the large models in bytes.
const LARGE: u64 = 1_000_000_000;

/// The part of the time by hand that a switch may take.
const SWITCH_BOUND: f64 = 0.95;

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

pub(crate) fn costs(pairs: usize, bounds: &mut Bounds) {
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
        let (mut hand, mut corral) = (Series::default(), Series::default());
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
                hand.push_ms(took.0);
                corral.push_ms(took.1);
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
