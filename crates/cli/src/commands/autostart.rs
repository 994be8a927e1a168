//! `corral autostart`

use corral_core::machine::AutostartState;
use corral_core::{Code, Error};
use corral_daemon::{Autostart, Environment, Paths};

use super::Outcome;
use crate::args::{AutostartArgs, Wanted};
use crate::exit;
use crate::output::Output;

/// Lets the desktop start Corral at login, or not, or says whether it does.
pub(crate) fn autostart(args: &AutostartArgs, env: &Environment, out: &mut Output) -> Outcome {
    let program = std::env::current_exe()
        .map_err(|error| Error::new(Code::Io, "this program does not know its own path").because(error))?;
    let beside = program.parent().unwrap_or(&program);
    let entry = Autostart::new(&Paths::resolve(env)?, beside);
    let state = match args.wanted {
        Wanted::On => entry.set(true)?,
        Wanted::Off => entry.set(false)?,
        Wanted::Status => entry.state()?,
    };
    if out.json {
        out.json(&state)?;
    } else {
        out.line(&sentence(&state))?;
    }
    Ok(exit::DONE)
}

fn sentence(state: &AutostartState) -> String {
    match (state.enabled, &state.command) {
        (true, Some(command)) => format!("Corral starts at login: {command} ({})", state.path),
        (true, None) => format!("Corral starts at login ({})", state.path),
        (false, _) => "Corral does not start at login".to_owned(),
    }
}
