//! What the jail costs: its start, against a bare bubblewrap and sandbox-runtime, and the way out of it to the gateway.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use corral_tests::load::{Load, Target, percentile};
use corral_tests::parts;
use tempfile::TempDir;

use crate::figures::{Bounds, Series};
use crate::hops::{Corral, MODEL};

/// A command's start and end in the jail, in milliseconds.
const START_BOUND: f64 = 25.0;

/// The same, as a multiple of a bare bubblewrap's.
const BWRAP_BOUND: f64 = 6.0;

/// The latency by the jail's port, as a multiple of that without a jail.
const LATENCY_BOUND: f64 = 1.15;

/// The gateway's port in every jail.
const INSIDE: &str = "127.0.0.1:8080";

/// Requests in each round.
const REQUESTS: usize = 1000;

/// By this word the benchmark is only the client that a round is measured with.
const CLIENT: &str = "as-client";

pub(crate) fn costs(pairs: usize, bounds: &mut Bounds) {
    let corral = Corral::start();
    let bed = Bed::new(&corral);
    starts(&bed, pairs, bounds);
    match corral.gateway {
        Some(gateway) => way_out(&bed, gateway, pairs, bounds),
        None => bounds.miss("corral serve has no inference gateway that a jail could reach"),
    }
}

/// A user's home and folder.
struct Bed {
    folder: TempDir,
    corral_home: PathBuf,
}

impl Bed {
    fn new(corral: &Corral) -> Self {
        let folder = tempfile::Builder::new().prefix("corral-bench-").tempdir().expect("a folder");
        for name in ["home", "project"] {
            std::fs::create_dir(folder.path().join(name)).expect("a folder");
        }
        Self { folder, corral_home: corral.daemon.home().path().to_owned() }
    }

    fn project(&self) -> PathBuf {
        self.folder.path().join("project")
    }

    /// A command in the folder, with a user's environment.
    fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        command.env_clear().env("HOME", self.folder.path().join("home")).env("CORRAL_HOME", &self.corral_home);
        command.env("LANG", "C.UTF-8").envs(parts::variable("PATH").map(|path| ("PATH", path)));
        command.current_dir(self.project()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command
    }

    fn jail(&self, network: &str, words: &[&str]) -> Command {
        let mut command = self.command(parts::corral_binary());
        command.args(["jail", "--network", network, "--"]).args(words);
        command
    }
}

/// Starts and ends `true`.
fn starts(bed: &Bed, pairs: usize, bounds: &mut Bounds) {
    let (mut bare, mut corral, mut other) = (Series::default(), Series::default(), Series::default());
    let srt = parts::variable("CORRAL_BENCH_SRT");
    let took = |mut command: Command| {
        let began = Instant::now();
        let done = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let took = began.elapsed();
        assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
        took
    };
    for pair in 0..=pairs {
        let mut bwrap = bed.command("bwrap");
        bwrap.args(["--unshare-all", "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "true"]);
        let both = [took(bwrap), took(bed.jail("none", &["true"]))];
        let third = srt.as_ref().map(|srt| {
            let mut command = bed.command(srt);
            command.arg("true");
            took(command)
        });
        // One of each is not counted: files come into the page cache, and the profile is made.
        if pair > 0 {
            bare.push_ms(both[0]);
            corral.push_ms(both[1]);
            if let Some(took) = third {
                other.push_ms(took);
            }
        }
    }
    println!("\nStart and end of `true`, {pairs} each in turns: medians (quartiles) in ms");
    println!("  a bare bwrap                  {bare}");
    println!("  corral jail --network none    {corral}");
    match srt {
        Some(_) => println!("  sandbox-runtime's srt         {other}"),
        None => println!("  sandbox-runtime's srt          not here: scripts/setup.sh bench says why"),
    }
    let median = corral.median();
    let verdict = bounds.at_most("the start of the jail", median, START_BOUND, " ms");
    println!("  corral jail                   {median:>7.1}  {verdict}");
    let ratio = median / bare.median();
    let verdict = bounds.at_most("the start of the jail against a bare bwrap's", ratio, BWRAP_BOUND, "");
    println!("  corral jail / bwrap           {ratio:>7.2}  {verdict}");
}

/// The same client in the jail and outside.
fn way_out(bed: &Bed, gateway: SocketAddr, pairs: usize, bounds: &mut Bounds) {
    // The folder is what a jail shows of the machine's programs that are not installed.
    let client = bed.project().join("client");
    let own = std::env::current_exe().expect("this program has a path");
    std::fs::copy(own, &client).expect("a copy of this program");
    let client = client.to_str().expect("a plain path");
    let outside = gateway.to_string();
    let (mut without, mut within) = (Series::default(), Series::default());
    let rounds = pairs;
    for _ in 0..rounds {
        let mut plain = bed.command(client);
        plain.args([CLIENT, &outside]);
        for (command, series) in [(plain, &mut without), (bed.jail("local", &[client, CLIENT, INSIDE]), &mut within)] {
            series.push(asked(command));
        }
    }
    println!("\nA request to the gateway, 1 connection, in turns, {rounds} rounds: medians of p50 (quartiles) in µs");
    println!("  without a jail                {without}");
    println!("  by the jail's port            {within}");
    let ratio = within.median() / without.median();
    let verdict = bounds.at_most("the gateway's p50 by the jail's port against that without", ratio, LATENCY_BOUND, "");
    println!("  jail / none                   {ratio:>7.2}  {verdict}");
}

/// What the client says.
fn asked(mut command: Command) -> f64 {
    let done = command.stdout(Stdio::piped()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&done.stdout);
    let figure = said.trim().parse().ok().filter(|_| done.status.success());
    figure.unwrap_or_else(|| panic!("{command:?}: {said}{}", String::from_utf8_lossy(&done.stderr)))
}

/// Where this program is only the client: the p50 of its requests in microseconds.
pub(crate) fn client(mut arguments: impl Iterator<Item = String>) -> Option<f64> {
    if arguments.next()? != CLIENT {
        return None;
    }
    let address = arguments.next().and_then(|address| address.parse().ok()).expect("an address");
    let latencies = Load::default().latencies(&Target::new(address, MODEL, 1), REQUESTS);
    Some(percentile(&latencies, 50).as_secs_f64() * 1e6)
}
