//! What can stand behind `corral`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use clap_complete::Shell;
use serde::{Deserialize, Serialize};

const FIRST_STEPS: &str = "\
First steps:
  corral doctor          what is missing on this machine, and the commands that mend it
  corral serve           run Corral, in a terminal of its own; ^C ends it
  corral list            the models of your catalog
  corral switch MODEL    load a model, in place of the one that is loaded

Your models stand in models.toml; `corral check` says where that is and whether it is right.
Exit codes: 0 done, 1 failed, 2 wrong usage, 69 no daemon or engine answers, 78 bad configuration.";

const WAITING: &str = "Waits until the model answers, unless --no-wait is given. ^C ends the waiting only: the \
operation goes on, and `corral status` shows it.";

/// Start, stop and switch the language models on your own GPU.
#[derive(Debug, Parser)]
#[command(name = "corral", version, after_help = FIRST_STEPS, arg_required_else_help = true, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    /// Print JSON, for programs: results and errors alike, on stdout
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run Corral in this terminal until ^C; the other commands talk to it
    ///
    /// The log goes to stderr. The variable `CORRAL_LOG`, or `RUST_LOG`, says how much of it: error, warn, info or debug,
    /// or one for each part as in `warn,corral_engine=debug`.
    Serve(ServeArgs),
    /// Show the models of the catalog, and what each of them is doing
    ///
    /// Works without a daemon too: the catalog is read then, and states are not known.
    List,
    /// Show what is loaded, what is going on, and what is wrong
    Status,
    /// Load a model where none is loaded
    #[command(after_help = WAITING)]
    Start(StartArgs),
    /// Unload the model
    #[command(after_help = "Requests that run are let end first, for as long as `drain_timeout` of the catalog says; \
--force cuts them. ^C ends the waiting only: the operation goes on, and `corral status` shows it.")]
    Stop(StopArgs),
    /// Load a model in place of the one that is loaded
    #[command(after_help = "Waits until the model answers, unless --no-wait is given. ^C ends the waiting only: the \
operation goes on, and `corral status` shows it. If the new model cannot be loaded, the old one is brought back.

Examples:
  corral switch glm-4-7-flash
  corral switch glm --dry-run     whom it would hit, whether it fits, and whether it can be done")]
    Switch(SwitchArgs),
    /// Show the log of llama-server
    #[command(after_help = "\
Examples:
  corral logs -n 20
  corral logs -f --json | jq -r .msg")]
    Logs(LogsArgs),
    /// Show what the GPUs are doing, and which model or program holds their memory
    #[command(after_help = "\
Examples:
  corral gpu --watch
  corral gpu --json | jq '.devices[] | [.name, .util_percent, .power_w]'")]
    Gpu(GpuArgs),
    /// Show what requests cost: tokens and time, by model, session or day
    ///
    /// Counted are the requests that go through the gateway, for as long as `keep_usage` of the catalog says.
    #[command(after_help = "\
Examples:
  corral usage --since 7d
  corral usage --by day --since 2026-11-01
  corral usage --by session --json | jq -r '.rows[] | [.key, .tokens_in, .tokens_out] | @tsv'")]
    Usage(UsageArgs),
    /// Open Claude Code on the local model, in a jail: it sees this folder and the model, and nothing else of yours
    ///
    /// The same as `claude-local`. Its profile is `~/.claude-local`; your normal `claude`, with its login, is not touched.
    #[command(after_help = "\
Examples:
  corral claude                          in this folder, with the model that is loaded
  corral claude --model glm-4-7-flash -- --continue
  corral claude --explain                what the jail shows and allows, and why it holds

Exit codes: that of Claude Code; 69 where no model can be had, 78 where there is no jail: it never runs without one.")]
    Claude(ClaudeArgs),
    /// Run any command in the jail that Claude Code runs in
    #[command(after_help = "\
Examples:
  corral jail -- bash
  corral jail --network none --workspace ~/src/unknown -- make test

Exit codes: that of the command; 78 where there is no jail: it never runs without one.")]
    Jail(JailArgs),
    /// Run commands one after another in one jail, in a shell that keeps its folder, variables and functions
    ///
    /// A session begins with its first command and lasts until --end, whoever asks: each `corral shell` is one command.
    #[command(after_help = "\
One word is a line of bash; several are a command and its arguments. Without any, bash reads standard input.

Examples:
  corral shell --session a -- 'cd src && export RUST_LOG=debug'
  corral shell --session a --timeout 600 -- cargo test
  corral shell --list
  corral shell --session b <build.sh
  corral shell --end a                   what is left and would run later outside is moved out then

Exit codes: that of the command; 124 where it ran into --timeout and was killed, with the session as it was before; 78 \
where there is no jail: it never runs without one.")]
    Shell(ShellArgs),
    /// Hold a shell session
    #[command(hide = true)]
    HoldShell(HoldArgs),
    /// Open the dashboard of the Corral that runs, in your browser
    #[command(after_help = "\
Examples:
  corral dashboard --print     the address, for a browser of your choice; it holds the token: keep it to yourself")]
    Dashboard(DashboardArgs),
    /// Let the desktop start Corral at login, or not
    #[command(after_help = "Needs no daemon. What it starts is the tray program, which lies beside this one.")]
    Autostart(AutostartArgs),
    /// Say whether a catalog is right, and if not, where and why
    ///
    /// Needs no daemon. Looks at the model files too: is each there, and whole?
    #[command(after_help = "Ends with exit code 78 where something is wrong.")]
    Check(CheckArgs),
    /// Print the JSON Schema of models.toml, for editors
    #[command(after_help = "\
Examples:
  corral schema >models.schema.json
  corral schema --openapi >openapi.json")]
    Schema(SchemaArgs),
    /// Say what is missing on this machine, and the commands that mend it
    #[command(after_help = "Changes nothing. Ends with exit code 1 where something has to be mended.")]
    Doctor,
    /// Print a script that lets your shell complete corral's commands
    #[command(after_help = "\
Examples:
  corral completions bash >~/.local/share/bash-completion/completions/corral
  corral completions zsh  >~/.zfunc/_corral
  corral completions fish >~/.config/fish/completions/corral.fish")]
    Completions(CompletionsArgs),
    /// Write the manual pages of all commands into a folder
    #[command(hide = true)]
    Manual(ManualArgs),
}

/// What the jail depends on.
#[derive(Debug, Args)]
pub(crate) struct JailOptions {
    /// The folder to work in, at the same path inside; this one if none is given
    #[arg(short, long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) workspace: Option<PathBuf>,
    /// What can be reached: the local models, or nothing
    #[arg(long, value_enum, default_value_t = Network::Local)]
    pub(crate) network: Network,
    /// Say in plain words what the jail shows and allows, and start nothing
    #[arg(long)]
    pub(crate) explain: bool,
}

/// What of a network there is in a jail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Network {
    /// 127.0.0.1:8080 and :8081: inference, and looking and switching
    Local,
    /// Nothing
    None,
}

#[derive(Debug, Args)]
pub(crate) struct JailArgs {
    #[command(flatten)]
    pub(crate) jail: JailOptions,
    /// The command and its arguments
    #[arg(last = true, required_unless_present = "explain", value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

#[derive(Debug, Args)]
pub(crate) struct ShellArgs {
    /// The session, which begins where there is none of this name: up to 64 letters, digits, `-`, `_`, `.`
    #[arg(short, long, value_name = "NAME", required_unless_present_any = ["list", "end"])]
    pub(crate) session: Option<String>,
    /// The folder to work in, at the same path inside; a new session gets this one if none is given
    #[arg(short, long, value_name = "DIR", value_hint = ValueHint::DirPath, requires = "session")]
    pub(crate) workspace: Option<PathBuf>,
    /// What can be reached: the local models, or nothing; a new session reaches the models if nothing is given
    #[arg(long, value_enum, requires = "session")]
    pub(crate) network: Option<Network>,
    /// Kill the command where it takes longer
    #[arg(short, long, value_name = "SECONDS", requires = "session")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) timeout: Option<u64>,
    /// How much is passed on of its output, and as much of its error output; the rest is dropped
    #[arg(long, value_name = "BYTES", default_value_t = 16 << 20)]
    pub(crate) max_output: u64,
    /// Show the sessions
    #[arg(short, long, conflicts_with_all = ["session", "end"])]
    pub(crate) list: bool,
    /// End a session, with all that runs in it
    #[arg(long, value_name = "NAME", conflicts_with = "session")]
    pub(crate) end: Option<String>,
    /// The command
    #[arg(last = true, value_name = "COMMAND", requires = "session")]
    pub(crate) command: Vec<OsString>,
}

#[derive(Debug, Args)]
pub(crate) struct HoldArgs {
    #[arg(long)]
    pub(crate) session: String,
    #[command(flatten)]
    pub(crate) jail: JailOptions,
}

#[derive(Debug, Args)]
pub(crate) struct ClaudeArgs {
    /// The model to load first: an id or alias; the one that is loaded if none is given
    #[arg(short, long)]
    pub(crate) model: Option<String>,
    #[command(flatten)]
    pub(crate) jail: JailOptions,
    /// Open it in a window of its own: the terminal of settings.toml, or else of the desktop
    #[arg(long, conflicts_with = "explain")]
    pub(crate) terminal: bool,
    /// Let it see your editor's diagnostics and selection in the folder, and nothing else of the editor
    #[arg(long)]
    pub(crate) ide: bool,
    /// Where it does not start, wait for Enter: for a window that would close
    #[arg(long, hide = true)]
    pub(crate) hold_on_failure: bool,
    /// Arguments for Claude Code
    #[arg(last = true, value_name = "ARGUMENTS")]
    pub(crate) arguments: Vec<OsString>,
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Say nothing but warnings and errors
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// What start, stop and switch have in common.
#[derive(Debug, Args)]
pub(crate) struct WaitArgs {
    /// Come back as soon as the operation has begun
    #[arg(long)]
    pub(crate) no_wait: bool,
    /// Print each step on a line of its own, on stderr
    #[arg(short, long)]
    pub(crate) verbose: bool,
}

#[derive(Debug, Args)]
pub(crate) struct StartArgs {
    /// An id or alias; the model used last if none is given, else the first of the catalog
    pub(crate) model: Option<String>,
    #[command(flatten)]
    pub(crate) wait: WaitArgs,
}

#[derive(Debug, Args)]
pub(crate) struct StopArgs {
    /// Cut running requests rather than let them end
    #[arg(short, long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) wait: WaitArgs,
}

#[derive(Debug, Args)]
pub(crate) struct SwitchArgs {
    /// An id or alias; `corral list` shows them
    pub(crate) model: String,
    /// Cut running requests rather than let them end, and load what does not fit into memory all the same
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Say what would happen, and do nothing
    #[arg(long, conflicts_with_all = ["force", "no_wait", "verbose"])]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) wait: WaitArgs,
}

#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// How many lines back to begin
    #[arg(short = 'n', long, value_name = "N", default_value_t = 200)]
    pub(crate) tail: usize,
    /// Go on with new lines as they come, until ^C
    #[arg(short, long)]
    pub(crate) follow: bool,
}

#[derive(Debug, Args)]
pub(crate) struct GpuArgs {
    /// Go on each second, until ^C
    #[arg(short, long)]
    pub(crate) watch: bool,
}

#[derive(Debug, Args)]
pub(crate) struct UsageArgs {
    /// What is summed up by
    #[arg(long, value_name = "WHAT", value_enum, default_value_t = By::Model)]
    pub(crate) by: By,
    /// Requests from then on: 30d, 12h, 90m, a day as in 2026-11-01, or a time as in 2026-11-01T08:00:00Z
    #[arg(long, value_name = "WHEN")]
    pub(crate) since: Option<String>,
}

/// What usage is summed up by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum By {
    /// Each model
    Model,
    /// Each session
    Session,
    /// Each day, in the machine's time zone
    Day,
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The catalog to check; yours if none is given
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct SchemaArgs {
    /// Print the OpenAPI document of the management API instead
    #[arg(long)]
    pub(crate) openapi: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DashboardArgs {
    /// Print the address, with the token in it, and open nothing
    #[arg(long)]
    pub(crate) print: bool,
}

#[derive(Debug, Args)]
pub(crate) struct AutostartArgs {
    /// What is wanted
    #[arg(value_enum)]
    pub(crate) wanted: Wanted,
}

/// What is wanted of the autostart entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Wanted {
    /// Start Corral at login
    On,
    /// Do not
    Off,
    /// Say whether it is started
    Status,
}

#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// Your shell
    pub(crate) shell: Shell,
}

#[derive(Debug, Args)]
pub(crate) struct ManualArgs {
    /// The folder
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) folder: PathBuf,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::Cli;

    #[test]
    fn the_commands_are_sound() {
        Cli::command().debug_assert();
    }
}
