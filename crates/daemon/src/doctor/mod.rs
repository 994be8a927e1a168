//! `corral doctor`: what is there, what is missing, and the command that mends it.
//!
//! Looking (`look`) and judging (`judge`) are apart, so that every judgement can be tested without the thing itself.

mod jail;
mod judge;
mod look;

pub use corral_core::machine::{Finding, FindingStatus as Status};
use corral_sandbox::memory::{MemoryBound, buses};
use corral_sandbox::support::probe;

use crate::Environment;

/// Looks at everything that loading a model needs, and at what the jail needs. Changes nothing.
pub fn doctor(env: &Environment) -> Vec<Finding> {
    match look::look(env) {
        Ok(facts) => {
            let mut findings = judge::judge(&facts);
            let programs = env.get("PATH").unwrap_or_default();
            let buses = buses(|name| env.get(name).map(Into::into), rustix::process::geteuid().is_root());
            let memory = MemoryBound::of_this_machine(buses);
            findings.extend(jail::judge(&probe(programs.as_ref(), memory.as_ref())));
            findings
        }
        Err(error) => {
            let body = error.body();
            let status = Status::Problem;
            vec![Finding { check: "corral".to_owned(), status, message: body.message, remedy: body.hint }]
        }
    }
}
