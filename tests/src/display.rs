//! An X server without a screen to look at.

use std::io::{BufRead, BufReader};

use std::process::{Child, Command, Stdio};

/// Ended when dropped, and all windows with it.
#[derive(Debug)]
pub struct Display {
    server: Child,
    name: String,
}

impl Display {
    /// Starts one.
    #[track_caller]
    pub fn start() -> Self {
        let mut command = Command::new("Xvfb");
        command.args(["-displayfd", "1", "-screen", "0", "1280x900x24", "-nolisten", "tcp"]);
        let mut server =
            command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("Xvfb, which setup brings");
        let mut number = String::new();
        let told = server.stdout.take().expect("its output");
        BufReader::new(told).read_line(&mut number).expect("it says its number");
        Self { server, name: format!(":{}", number.trim()) }
    }

    /// What `DISPLAY` has to be.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What `xwininfo` knows of all windows.
    pub fn windows(&self) -> String {
        let output = Command::new("xwininfo").args(["-root", "-tree", "-display", &self.name]).output();
        String::from_utf8_lossy(&output.expect("xwininfo, which setup brings").stdout).into_owned()
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
