//! An X server without a screen to look at.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use x11rb::connection::Connection;
use x11rb::errors::ReplyError;
use x11rb::protocol::xproto::{
    AtomEnum, BUTTON_PRESS_EVENT, BUTTON_RELEASE_EVENT, ClientMessageEvent, ConfigureWindowAux, ConnectionExt,
    EventMask,
};
use x11rb::protocol::xtest::ConnectionExt as _;
use x11rb::rust_connection::RustConnection;

use crate::{PATIENCE, until};

/// How far from the lower edge of a dialog its buttons are, in pixels.
const EDGE: i16 = 16;

/// Ended when dropped, and all windows with it.
#[derive(Debug)]
pub struct Display {
    server: Child,
    manager: Option<Child>,
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
        Self { server, manager: None, name: format!(":{}", number.trim()) }
    }

    /// From now on a window manager puts windows where they ask to be, in frames, as on a desktop.
    #[track_caller]
    pub fn manage(&mut self) {
        let mut command = Command::new("openbox");
        command.env("DISPLAY", &self.name).args(["--sm-disable", "--config-file", "/dev/null"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.manager = Some(command.spawn().expect("openbox, which setup brings"));
        until(PATIENCE, "there is a window manager", || {
            let (server, screen) = RustConnection::connect(Some(&self.name)).expect("the server");
            let root = server.setup().roots[screen].root;
            let atom = server.intern_atom(false, b"_NET_SUPPORTING_WM_CHECK").ok()?.reply().ok()?.atom;
            let named = server.get_property(false, root, atom, AtomEnum::ANY, 0, 1).ok()?.reply().ok()?;
            (named.value_len == 1).then_some(())
        });
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

    /// Asks for another place of the window of this title, in pixels from the left and from above.
    #[track_caller]
    pub fn shift(&self, title: &str, (x, y): (i32, i32)) {
        let (server, window) = self.first(title);
        let place = ConfigureWindowAux::new().x(x).y(y);
        server.configure_window(window, &place).expect("a connection").check().expect("a window");
    }

    /// Where the window of this title is, without its frame, and how large: from the left, from above, width, height.
    pub fn place(&self, title: &str) -> Option<(i16, i16, u16, u16)> {
        let (server, windows) = self.titled(title);
        let window = *windows.first()?;
        let size = server.get_geometry(window).ok()?.reply().ok()?;
        let place = server.translate_coordinates(window, size.root, 0, 0).ok()?.reply().ok()?;
        Some((place.dst_x, place.dst_y, size.width, size.height))
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

    /// Clicks at the lower edge of the window of this title, where its buttons are: so many parts of its width from the
    /// left, of so many.
    #[track_caller]
    pub fn click(&self, title: &str, (part, parts): (i16, i16)) {
        let (server, window) = self.first(title);
        let size = server.get_geometry(window).expect("a connection").reply().expect("its size");
        let (width, height) = (i16::try_from(size.width), i16::try_from(size.height));
        let (x, y) = (width.expect("a width") / parts * part, height.expect("a height") - EDGE);
        let act = || -> Result<(), ReplyError> {
            server.warp_pointer(x11rb::NONE, window, 0, 0, 0, 0, x, y)?.check()?;
            for kind in [BUTTON_PRESS_EVENT, BUTTON_RELEASE_EVENT] {
                server.xtest_fake_input(kind, 1, x11rb::CURRENT_TIME, x11rb::NONE, 0, 0, 0)?.check()?;
            }
            Ok(())
        };
        act().expect("a click");
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
        let below = |window: u32| {
            let found = server.query_tree(window).ok().and_then(|found| found.reply().ok());
            found.map_or_else(Vec::new, |found| found.children)
        };
        // With a window manager they are in frames.
        let all = below(root).into_iter().flat_map(|window| [vec![window], below(window)].concat());
        let is_it = |window: &u32| {
            let name = server.get_property(false, *window, AtomEnum::WM_NAME, AtomEnum::ANY, 0, 256);
            // A window may just have gone.
            name.ok().and_then(|name| name.reply().ok()).is_some_and(|name| name.value == title.as_bytes())
        };
        let windows = all.filter(is_it).collect();
        (server, windows)
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        if let Some(manager) = &mut self.manager {
            let _ = manager.kill();
            let _ = manager.wait();
        }
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
