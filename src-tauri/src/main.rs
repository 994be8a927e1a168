//! `corral-dashboard`: the dashboard in a window of its own. The tray starts it when somebody looks; with the window the
//! program ends, and all memory of the web view is given back.

mod app;
mod args;
mod assets;
mod attached;
mod commands;
mod streams;
mod window;

use std::process::ExitCode;

use clap::Parser;
use corral_daemon::Environment;
use tracing_subscriber::EnvFilter;

use crate::args::Args;

fn main() -> ExitCode {
    let args = Args::parse();
    let env = Environment::from_process();
    let directives = env.get("CORRAL_LOG").or_else(|| env.get("RUST_LOG")).unwrap_or("warn").to_owned();
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::builder().parse_lossy(directives))
        .with_target(false)
        .with_ansi(false)
        .with_writer(std::io::stderr)
        .init();
    match app::run(args, env) {
        Ok(code) => code,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}
