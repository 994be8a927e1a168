//! One module for each group of commands.

mod autostart;
mod check;
mod claude;
mod dashboard;
mod describe;
mod doctor;
mod gpu;
mod jail;
mod list;
mod logs;
mod operate;
mod serve;
mod shell;
mod status;
mod usage;
mod window;

use corral_daemon::Environment;

use crate::args::Command;
use crate::output::{Failed, Output};

/// What a command gives: the exit code.
pub(crate) type Outcome = Result<u8, Failed>;

/// Carries a command out.
pub(crate) fn run(command: Command, env: Environment, out: &mut Output) -> Outcome {
    match command {
        Command::Serve(args) => serve::serve(&args, env, out.json),
        Command::List => list::list(&env, out),
        Command::Status => status::status(&env, out),
        Command::Start(args) => operate::start(args, &env, out),
        Command::Stop(args) => operate::stop(&args, &env, out),
        Command::Switch(args) => operate::switch(args, &env, out),
        Command::Logs(args) => logs::logs(&args, &env, out),
        Command::Gpu(args) => gpu::gpu(&args, &env, out),
        Command::Usage(args) => usage::usage(&args, &env, out),
        Command::Claude(args) => claude::claude(args, &env, out),
        Command::Jail(args) => jail::jail(args, &env, out),
        Command::Shell(args) => shell::shell(args, &env, out),
        Command::HoldShell(args) => crate::shell::hold(&args, &env),
        Command::Dashboard(args) => dashboard::dashboard(&args, &env, out),
        Command::Autostart(args) => autostart::autostart(&args, &env, out),
        Command::Check(args) => check::check(args.file, &env, out),
        Command::Schema(args) => describe::schema(&args, out),
        Command::Doctor => doctor::doctor(&env, out),
        Command::Completions(args) => describe::completions(args.shell, out),
        Command::Manual(args) => describe::manual(&args.folder),
    }
}
