//! `corral`: the command line of Corral.

mod args;
mod commands;
mod exit;
mod jail;
mod output;
mod progress;
mod shell;
mod table;
mod text;

use std::io;
use std::process::ExitCode;

use clap::Parser;
use corral_api::dto::ErrorAnswer;
use corral_core::{Code, Error};
use corral_daemon::Environment;

use crate::args::Cli;
use crate::output::{Failed, Output, complain};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    // In a jail this program is the first process.
    if arguments.next().is_some_and(|name| corral_sandbox::init::is_init(&name)) {
        return corral_sandbox::init::main(arguments);
    }
    let env = Environment::from_process();
    match Cli::try_parse() {
        Ok(cli) => run(cli, env),
        // Usage mistakes go to stderr, help that was asked for to stdout; a reader that is gone wants neither.
        Err(told) => {
            let _ = told.print();
            ExitCode::from(u8::try_from(told.exit_code()).unwrap_or(exit::USAGE))
        }
    }
}

fn run(cli: Cli, env: Environment) -> ExitCode {
    let mut out = Output::stdout(cli.json);
    let outcome = commands::run(cli.command, env, &mut out).and_then(|code| {
        out.flush()?;
        Ok(code)
    });
    let error = match outcome {
        Ok(code) => return ExitCode::from(code),
        // `corral logs | head`: the reader has what it wanted.
        Err(Failed::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => return ExitCode::SUCCESS,
        Err(Failed::Output(error)) => Error::new(Code::Io, "cannot write the output").because(error),
        Err(Failed::Told(error)) => error,
    };
    if cli.json {
        // Where even this cannot be written, the exit code still tells.
        let _ = out.json(&ErrorAnswer { error: error.body() }).and_then(|()| out.flush());
    } else {
        let _ = out.flush();
        complain(&error);
    }
    ExitCode::from(exit::of(error.code()))
}
