//! `claude-local`: a short name for `corral claude`.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

/// The jail could not be built.
const CONFIG: u8 = 78;

fn main() -> ExitCode {
    let corral = std::env::current_exe().unwrap_or_default().with_file_name("corral");
    let error = Command::new(&corral).arg("claude").args(std::env::args_os().skip(1)).exec();
    // Where nobody can be told, the exit code still says it.
    let _ = writeln!(
        std::io::stderr(),
        "error: {} cannot be run: {error}\nhint: claude-local has to be in the same folder as corral",
        corral.display()
    );
    ExitCode::from(CONFIG)
}
