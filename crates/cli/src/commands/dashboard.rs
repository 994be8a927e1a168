//! `corral dashboard`

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use corral_core::{Code, Error, Result};
use corral_daemon::{Environment, Paths, dashboard_page};
use serde_json::json;

use super::{Outcome, window};
use crate::args::DashboardArgs;
use crate::exit;
use crate::output::Output;
use corral_client::Client;

/// What opens a file with the program that the user has chosen for its kind.
const OPENER: &str = "xdg-open";

/// It says within this time that nothing could be opened; after that it is the browser itself that runs.
const PATIENCE: Duration = Duration::from_secs(3);

/// Opens the dashboard in the user's browser, or prints its address.
pub(crate) fn dashboard(args: &DashboardArgs, env: &Environment, out: &mut Output) -> Outcome {
    let client = Client::of_home(env)?;
    // A daemon that has crashed leaves its address behind.
    client.get("/status")?;
    let url = client.dashboard();
    if args.print {
        if out.json {
            out.json(&json!({ "url": url }))?;
        } else {
            out.line(&url)?;
        }
        return Ok(exit::DONE);
    }
    let page = dashboard_page(&Paths::resolve(env)?, &url)?;
    open(&page)?;
    if out.json {
        out.json(&json!({ "page": page.display().to_string() }))?;
    }
    Ok(exit::DONE)
}

fn open(page: &Path) -> Result<()> {
    let failed = |what: String| {
        Error::new(Code::ProgramMissing, format!("{OPENER} opened no browser: {what}"))
            .hint("`corral dashboard --print` prints the address; it holds a secret")
    };
    let mut opener = Command::new(OPENER);
    opener.arg(page).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // It outlives what this was called from.
    opener.process_group(0);
    let child = opener.spawn().map_err(|error| failed(error.to_string()))?;
    window::stays(child, PATIENCE).map_err(failed)
}
