//! `corral-tray`: Corral on the desktop's panel. It holds no toolkit and no web view: the dashboard's window is a program
//! of its own, which runs while somebody looks.

mod app;
mod daemon;
mod desk;
mod icons;
mod instance;
mod item;
mod request;
mod toast;
mod window;

use std::process::ExitCode;

use clap::Parser;
use corral_client::Programs;
use corral_core::Result;
use corral_daemon::{Environment, Paths};
use tracing_subscriber::EnvFilter;

use crate::desk::Desk;
use crate::instance::{Instance, Launch};
use crate::request::{Args, Request};

fn main() -> ExitCode {
    let args = Args::parse();
    let env = Environment::from_process();
    let directives = env.get("CORRAL_LOG").or_else(|| env.get("RUST_LOG")).unwrap_or("info").to_owned();
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::builder().parse_lossy(directives))
        .with_target(false)
        .with_ansi(false)
        .with_writer(std::io::stderr)
        .init();
    match start(&args, env) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            if let Some(hint) = error.body().hint {
                tracing::error!("{hint}");
            }
            ExitCode::FAILURE
        }
    }
}

fn start(args: &Args, env: Environment) -> Result<()> {
    let runtime = corral_daemon::runtime()?;
    let result = runtime.block_on(async {
        let paths = Paths::resolve(&env)?;
        let request = args.request();
        match Instance::launch(&paths, &request).await? {
            Launch::HandedOn => Ok(()),
            // There is none that could be ended.
            Launch::First(_) if request == Request::Quit => Ok(()),
            Launch::First(instance) => {
                Desk::new(env, paths, Programs::beside_this()?, instance).run(args.hidden, request).await
            }
        }
    });
    runtime.shutdown_timeout(std::time::Duration::from_millis(200));
    result
}
