//! `make bench`: what Corral costs, against what a user would have instead, measured in one run. Ends with 1 where a
//! bound is missed, and names each.
//!
//!     bench [--pairs N] [--only SECTION]

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the figures are this program's output")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark that cannot measure panics")]

mod figures;
mod gateway;
mod gateway_memory;
mod hops;
mod idle;
mod jail;
mod ledger;
mod list;
mod switch;

use std::process::ExitCode;

use figures::Bounds;

/// Measures something so many times, prints it, and notes which bounds are missed.
type Section = fn(usize, &mut Bounds);

/// Everything that is measured, in this order. What is new gets a module beside these and a line here.
const SECTIONS: [(&str, Section); 7] = [
    ("switch", switch::costs),
    ("idle", idle::costs),
    ("list", list::costs),
    ("ledger", ledger::costs),
    ("gateway", gateway::costs),
    ("gateway-memory", gateway_memory::costs),
    ("jail", jail::costs),
];

fn main() -> ExitCode {
    // In a jail and out of it, for what is in between.
    if let Some(told) = jail::client(std::env::args().skip(1)) {
        println!("{told}");
        return ExitCode::SUCCESS;
    }
    let (pairs, sections) = match arguments(std::env::args().skip(1)) {
        Ok(understood) => understood,
        Err(wrong) => {
            let names = SECTIONS.map(|(name, _)| name).join("|");
            eprintln!("{wrong}\nusage: bench [--pairs N] [--only {names}]");
            return ExitCode::from(2);
        }
    };
    let mut bounds = Bounds::default();
    for section in sections {
        section(pairs, &mut bounds);
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

/// How often each thing is measured, and what.
fn arguments(mut given: impl Iterator<Item = String>) -> Result<(usize, Vec<Section>), String> {
    let (mut pairs, mut only) = (20, Vec::new());
    while let Some(argument) = given.next() {
        let value = given.next().ok_or_else(|| format!("'{argument}' is not understood, or lacks its value"))?;
        match argument.as_str() {
            "--pairs" => match value.parse() {
                Ok(0) | Err(_) => return Err(format!("'{value}' is no number of pairs")),
                Ok(number) => pairs = number,
            },
            "--only" => match SECTIONS.into_iter().find(|(name, _)| *name == value) {
                Some((_, section)) => only.push(section),
                None => return Err(format!("there is no section '{value}'")),
            },
            _ => return Err(format!("'{argument}' is not understood")),
        }
    }
    Ok((pairs, if only.is_empty() { SECTIONS.map(|(_, section)| section).to_vec() } else { only }))
}
