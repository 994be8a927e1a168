//! An X server without a screen to look at.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use x11rb::connection::Connection;
use x11rb::protocol::xproto::{ClientMessageEvent, ConnectionExt, EventMask};

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

    /// Asks the window with this title to close, as its frame does when a person clicks there.
    #[track_caller]
    pub fn close(&self, title: &str) {
        let windows = self.windows();
        let line = windows.lines().find(|line| line.contains(&format!("\"{title}\""))).expect("the window is there");
        let number = line.split_whitespace().next().and_then(|word| word.strip_prefix("0x")).expect("its number");
        let window = u32::from_str_radix(number, 16).expect("a number");
        let (x, _) = x11rb::connect(Some(&self.name)).expect("a connection to the X server");
        let atom = |name: &str| x.intern_atom(false, name.as_bytes()).expect("asked").reply().expect("an atom").atom;
        let data = [atom("WM_DELETE_WINDOW"), x11rb::CURRENT_TIME, 0, 0, 0];
        let event = ClientMessageEvent::new(32, window, atom("WM_PROTOCOLS"), data);
        let sent = x.send_event(false, window, EventMask::NO_EVENT, event).expect("asked");
        x.flush().expect("told");
        sent.check().expect("the window takes it");
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
