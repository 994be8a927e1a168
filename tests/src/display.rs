//! An X server without a screen to look at.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use x11rb::connection::Connection;
use x11rb::errors::ReplyError;
use x11rb::protocol::xproto::{AtomEnum, ClientMessageEvent, ConfigureWindowAux, ConnectionExt, EventMask};
use x11rb::rust_connection::RustConnection;

use crate::{PATIENCE, until};

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
        // It would begin anew when its last window has gone, and turn away who comes just then.
        command.args(["-noreset", "-displayfd", "1", "-screen", "0", "1280x900x24", "-nolisten", "tcp"]);
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

    /// How many windows have this title.
    pub fn count(&self, title: &str) -> usize {
        self.titled(title).1.len()
    }

    /// Makes the window of this title so large, as a window manager does.
    #[track_caller]
    pub fn resize(&self, title: &str, width: u32, height: u32) {
        let (server, window) = self.first(title);
        let size = ConfigureWindowAux::new().width(width).height(height);
        server.configure_window(window, &size).expect("a connection").check().expect("a window");
    }

    /// Closes the window of this title, as a window manager does where somebody clicks at its cross.
    #[track_caller]
    pub fn close(&self, title: &str) {
        let (server, window) = self.first(title);
        let atom = |name: &[u8]| server.intern_atom(false, name)?.reply().map(|reply| reply.atom);
        let asks = || -> Result<(), ReplyError> {
            let asks = [atom(b"WM_DELETE_WINDOW")?, x11rb::CURRENT_TIME, 0, 0, 0];
            let event = ClientMessageEvent::new(32, window, atom(b"WM_PROTOCOLS")?, asks);
            server.send_event(false, window, EventMask::NO_EVENT, event)?.check()
        };
        asks().expect("a message to the window");
    }

    #[track_caller]
    fn first(&self, title: &str) -> (RustConnection, u32) {
        until(PATIENCE, &format!("a window {title:?}"), || {
            let (server, windows) = self.titled(title);
            Some((server, *windows.first()?))
        })
    }

    #[track_caller]
    fn titled(&self, title: &str) -> (RustConnection, Vec<u32>) {
        let (server, screen) = RustConnection::connect(Some(&self.name)).expect("the server");
        let root = server.setup().roots[screen].root;
        let children = server.query_tree(root).expect("a connection").reply().expect("the windows").children;
        let is_it = |window: &u32| {
            let name = server.get_property(false, *window, AtomEnum::WM_NAME, AtomEnum::ANY, 0, 256);
            // A window may just have gone.
            name.ok().and_then(|name| name.reply().ok()).is_some_and(|name| name.value == title.as_bytes())
        };
        let windows = children.into_iter().filter(is_it).collect();
        (server, windows)
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
