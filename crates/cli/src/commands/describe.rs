//! `corral schema`, `corral completions` and `corral manual`

use std::path::Path;

use clap::CommandFactory;
use clap_complete::{Shell, generate};
use corral_core::catalog::json_schema;
use corral_core::{Code, Error};

use super::Outcome;
use crate::args::{Cli, SchemaArgs};
use crate::exit;
use crate::output::Output;

/// Prints a description that programs read.
pub(crate) fn schema(args: &SchemaArgs, out: &mut Output) -> Outcome {
    let described = if args.openapi { corral_api::openapi() } else { json_schema() };
    let text = serde_json::to_string_pretty(&described)
        .map_err(|error| Error::new(Code::Internal, "the description is no JSON").because(error))?;
    out.line(&text)?;
    Ok(exit::DONE)
}

/// Prints a shell's completion script.
pub(crate) fn completions(shell: Shell, out: &mut Output) -> Outcome {
    let mut script = Vec::new();
    generate(shell, &mut Cli::command(), "corral", &mut script);
    out.text(&String::from_utf8_lossy(&script))?;
    Ok(exit::DONE)
}

/// Writes a manual page for each command that people call.
pub(crate) fn manual(folder: &Path) -> Outcome {
    let failed = |error| {
        Error::new(Code::Io, format!("cannot write manual pages into {}", folder.display()))
            .because(error)
            .hint("name a folder that is there and may be written to")
    };
    let command = Cli::command().disable_help_subcommand(true);
    clap_mangen::generate_to(command, folder).map_err(failed)?;
    Ok(exit::DONE)
}
