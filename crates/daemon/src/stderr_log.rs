//! The log of Corral's programs, on standard error.

use std::io;

use corral_engine::Environment;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

/// Logs to standard error from now on: what `CORRAL_LOG`, or `RUST_LOG`, says, and else what is `usual`.
pub fn log_to_stderr(env: &Environment, usual: &str, colours: bool) {
    let directives = env.get("CORRAL_LOG").or_else(|| env.get("RUST_LOG")).unwrap_or(usual);
    let log = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::builder().parse_lossy(directives))
        .with_target(false)
        .with_ansi(colours)
        .with_writer(io::stderr)
        .finish();
    // The only one in this process, so there is none to be in its way.
    let _ = log.try_init();
}
