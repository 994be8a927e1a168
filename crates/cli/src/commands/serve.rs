//! `corral serve`

use std::io;

use anstream::{AutoStream, ColorChoice};
use corral_daemon::{Environment, ServeOptions, Serving, log_to_stderr};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

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
    log_to_stderr(&env, usual, AutoStream::choice(&io::stderr()) != ColorChoice::Never);
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
