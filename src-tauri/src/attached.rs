//! Obeying the tray: pages come line by line, and the end of the input is the end of the window.

use std::io::BufRead;

use clap::ValueEnum;
use tauri::{AppHandle, WebviewWindow};

use crate::args::Page;
use crate::window::show;

/// Obeys in a thread of its own.
pub(crate) fn obey(app: AppHandle, window: WebviewWindow) {
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if let Ok(page) = Page::from_str(line.trim(), false)
                && let Err(error) = show(&app, page)
            {
                tracing::warn!("the window cannot be brought to the front: {error}");
            }
        }
        // Closed as by a person, so that its size and place are kept.
        if window.close().is_err() {
            app.exit(0);
        }
    });
}
