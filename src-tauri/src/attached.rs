//! Obeying the tray: pages come line by line, or the wish that the window be closed. With the end of the input the window
//! is closed, too.

use std::io::BufRead;

use clap::ValueEnum;
use tauri::{AppHandle, WebviewWindow};

use crate::args::Page;
use crate::window::show;

/// The wish that the window be closed.
const CLOSE: &str = "close";

/// Obeys in a thread of its own.
pub(crate) fn obey(app: AppHandle, window: WebviewWindow) {
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if line.trim() == CLOSE {
                close(&app, &window);
            } else if let Ok(page) = Page::from_str(line.trim(), false)
                && let Err(error) = show(&app, page)
            {
                tracing::warn!("the window cannot be brought to the front: {error}");
            }
        }
        close(&app, &window);
    });
}

/// Closed as by a person, so that its size and place are kept, and what is typed in it.
fn close(app: &AppHandle, window: &WebviewWindow) {
    if window.close().is_err() {
        app.exit(0);
    }
}
