//! `corral dashboard`

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use corral_core::{Code, Error, Result};
use corral_daemon::Environment;
use serde_json::json;

use super::{Outcome, window};
use crate::args::DashboardArgs;
use crate::exit;
use crate::output::Output;
use corral_client::Client;

/// What opens an address with the browser that the user has chosen.
const OPENER: &str = "xdg-open";

/// It says within this time that nothing could be opened; after that it is the browser itself that runs.
const PATIENCE: Duration = Duration::from_secs(3);

/// Opens the dashboard in the user's browser, or prints its address.
pub(crate) fn dashboard(args: &DashboardArgs, env: &Environment, out: &mut Output) -> Outcome {
    let client = Client::of_home(env)?;
    if args.print {
        // A daemon that has crashed leaves its address behind.
        client.get("/status")?;
        let url = client.dashboard();
        if out.json {
            out.json(&json!({ "url": url }))?;
        } else {
            out.line(&url)?;
        }
        return Ok(exit::DONE);
    }
    let url = client.way_to_dashboard()?;
    open(&url)?;
    if out.json {
        // What opened it is of no use any more.
        out.json(&json!({ "url": url.split('#').next() }))?;
    }
    Ok(exit::DONE)
}

fn open(url: &str) -> Result<()> {
    let failed = |what: String| {
        Error::new(Code::ProgramMissing, format!("{OPENER} opened no browser: {what}"))
            .hint("`corral dashboard --print` prints the address; it holds a secret")
    };
    let mut opener = Command::new(OPENER);
    opener.arg(url).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // It outlives what this was called from.
    opener.process_group(0);
    let child = opener.spawn().map_err(|error| failed(error.to_string()))?;
    window::stays(child, PATIENCE).map_err(failed)
}
