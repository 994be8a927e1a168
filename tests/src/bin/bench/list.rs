//! What a list of many models costs.

use std::time::{Duration, Instant};

use corral_testkit::SandboxHome;
use corral_tests::Daemon;

use crate::figures::{Bounds, Series};

/// `corral list --json` with ten models, and with ten thousand, in turns.
pub(crate) fn costs(pairs: usize, bounds: &mut Bounds) {
    let (few, many) = (catalog_of(10), catalog_of(10_000));
    let (mut of_few, mut of_many) = (Series::default(), Series::default());
    for _ in 0..pairs {
        of_few.push_ms(listed(&few));
        of_many.push_ms(listed(&many));
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
