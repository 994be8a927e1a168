//! `corral serve`

use std::io;

use anstream::{AutoStream, ColorChoice};
use corral_daemon::{Environment, ServeOptions, Serving};
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use super::Outcome;
use crate::args::ServeArgs;
use crate::exit;
use crate::output::Output;

/// What `--json` prints when Corral serves.
#[derive(Serialize)]
struct Ready {
    gateway: String,
    management: String,
    token_file: String,
    catalog: String,
}

/// Serves until a signal ends it.
pub(crate) fn serve(args: &ServeArgs, env: Environment, json: bool) -> Outcome {
    let usual = if args.quiet { "warn" } else { "info" };
    let directives = env.get("CORRAL_LOG").or_else(|| env.get("RUST_LOG")).unwrap_or(usual);
    let colours = AutoStream::choice(&io::stderr()) != ColorChoice::Never;
    let log = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::builder().parse_lossy(directives))
        .with_target(false)
        .with_ansi(colours)
        .with_writer(io::stderr)
        .finish();
    // The only one in this process, so there is none to be in its way.
    let _ = tracing_subscriber::util::SubscriberInitExt::try_init(log);
    let quiet = args.quiet;
    let on_ready = move |serving: &Serving| {
        if !quiet {
            // Nobody may be reading; that is no reason not to serve.
            let _ = announce(serving, json);
        }
    };
    corral_daemon::serve(env, ServeOptions { on_ready: Box::new(on_ready), end: CancellationToken::new() })?;
    Ok(exit::DONE)
}

fn announce(serving: &Serving, json: bool) -> io::Result<()> {
    let ready = Ready {
        gateway: format!("http://{}", serving.gateway),
        management: format!("http://{}", serving.management),
        token_file: serving.paths.token.display().to_string(),
        catalog: serving.paths.catalog.display().to_string(),
    };
    let mut out = Output::stdout(json);
    if json {
        out.json(&ready)?;
    } else {
        let Ready { gateway, management, token_file, catalog } = ready;
        out.line(&format!("Corral serves models at {gateway}; ^C ends it"))?;
        out.line(&format!("  manage   {management}"))?;
        out.line(&format!("  token    {token_file}"))?;
        out.line(&format!("  catalog  {catalog}"))?;
    }
    out.flush()
}
