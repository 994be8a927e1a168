//! `make bench`: what Corral costs, against what a user would have instead, measured in one run. Ends with 1 where a
//! bound is missed, and names each.
//!
//!     bench [--pairs N] [--minutes N] [--only SECTION]

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the figures are this program's output")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark that cannot measure panics")]

mod dashboard;
mod endurance;
mod figures;
mod fit;
mod gateway;
mod gateway_memory;
mod gpu;
mod hops;
mod idle;
mod jail;
mod ledger;
mod list;
mod switch;
mod tray;

use std::process::ExitCode;

use figures::Bounds;

/// How much is measured.
#[derive(Debug, Clone, Copy)]
struct Extent {
    /// How often each of two things that are compared.
    pairs: usize,
    /// How long what is to stay as it is.
    minutes: u32,
}

/// Measures something, prints it, and notes which bounds are missed.
type Section = fn(Extent, &mut Bounds);

/// Everything that is measured, in this order. What is new gets a module beside these and a line here.
const SECTIONS: [(&str, Section); 12] = [
    ("switch", |extent, bounds| switch::costs(extent.pairs, bounds)),
    ("idle", |_, bounds| idle::costs(bounds)),
    ("list", |extent, bounds| list::costs(extent.pairs, bounds)),
    ("ledger", |extent, bounds| ledger::costs(extent.pairs, bounds)),
    ("gateway", |extent, bounds| gateway::costs(extent.pairs, bounds)),
    ("gateway-memory", |_, bounds| gateway_memory::costs(bounds)),
    ("jail", |extent, bounds| jail::costs(extent.pairs, bounds)),
    ("fit", |_, bounds| fit::costs(bounds)),
    ("gpu", |extent, bounds| gpu::costs(extent.pairs, bounds)),
    ("tray", |extent, bounds| tray::costs(extent.pairs, bounds)),
    ("dashboard", |_, bounds| dashboard::costs(bounds)),
    ("endurance", |extent, bounds| endurance::costs(extent.minutes, bounds)),
];

fn main() -> ExitCode {
    // In a jail and out of it, for what is in between.
    if let Some(told) = jail::client(std::env::args().skip(1)) {
        println!("{told}");
        return ExitCode::SUCCESS;
    }
    let (extent, sections) = match arguments(std::env::args().skip(1)) {
        Ok(understood) => understood,
        Err(wrong) => {
            let names = SECTIONS.map(|(name, _)| name).join("|");
            eprintln!("{wrong}\nusage: bench [--pairs N] [--minutes N] [--only {names}]");
            return ExitCode::from(2);
        }
    };
    let mut bounds = Bounds::default();
    for section in sections {
        section(extent, &mut bounds);
    }
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

/// How much is measured, and what.
fn arguments(mut given: impl Iterator<Item = String>) -> Result<(Extent, Vec<Section>), String> {
    let (mut extent, mut only) = (Extent { pairs: 20, minutes: 10 }, Vec::new());
    while let Some(argument) = given.next() {
        let value = given.next().ok_or_else(|| format!("'{argument}' is not understood, or lacks its value"))?;
        match argument.as_str() {
            "--pairs" => match value.parse() {
                Ok(0) | Err(_) => return Err(format!("'{value}' is no number of pairs")),
                Ok(number) => extent.pairs = number,
            },
            "--minutes" => match value.parse() {
                Ok(0) | Err(_) => return Err(format!("'{value}' is no number of minutes")),
                Ok(number) => extent.minutes = number,
            },
            "--only" => match SECTIONS.into_iter().find(|(name, _)| *name == value) {
                Some((_, section)) => only.push(section),
                None => return Err(format!("there is no section '{value}'")),
            },
            _ => return Err(format!("'{argument}' is not understood")),
        }
    }
    Ok((extent, if only.is_empty() { SECTIONS.map(|(_, section)| section).to_vec() } else { only }))
}
