//! `corral-tray`: Corral on the desktop's panel. It holds no toolkit and no web view: the dashboard's window is a program
//! of its own, which runs while somebody looks.

mod app;
mod ask;
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
use corral_daemon::{Environment, Paths, log_to_stderr};

use crate::desk::Desk;
use crate::instance::{Instance, Launch};
use crate::request::{Args, Request};

fn main() -> ExitCode {
    let args = Args::parse();
    let env = Environment::from_process();
    log_to_stderr(&env, "info", false);
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
