//! `corral-dashboard`: the dashboard in a window of its own. The tray starts it when somebody looks; with the window the
//! program ends, and all memory of the web view is given back.

mod app;
mod args;
mod assets;
mod attached;
mod commands;
mod leaving;
mod streams;
mod window;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use corral_daemon::{Environment, log_to_stderr};

use crate::args::Args;

fn main() -> ExitCode {
    let args = Args::parse();
    tell_last_why_it_breaks_down();
    let env = Environment::from_process();
    log_to_stderr(&env, "warn", false);
    match app::run(args, env) {
        Ok(code) => code,
        Err(error) => {
            say(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

/// The tray shows the last line that is said here.
fn say(why: &str) {
    // Nobody may be reading any more.
    let _ = writeln!(std::io::stderr(), "{why}");
}

/// A panic's words end with how to see more of it: what it is about is said again behind them.
fn tell_last_why_it_breaks_down() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        usual(panic);
        say(panic.payload_as_str().unwrap_or("its program broke down"));
    }));
}
