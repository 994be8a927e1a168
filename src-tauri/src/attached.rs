//! Obeying the tray, line by line: pages to show, what is to be said, and the wish that the window be closed. With the end
//! of the input it is closed, too.

use std::io::BufRead;
use std::sync::Arc;

use clap::ValueEnum;
use corral_core::snapshot::NoticeLevel;
use tauri::{AppHandle, Manager, WebviewWindow};

use crate::app::{Desk, notice};
use crate::args::Page;
use crate::streams::Streams;
use crate::window::show;

/// The wish that the window be closed.
const CLOSE: &str = "close";

/// The wish that the window be brought to the front as it is.
const SHOW: &str = "show";

/// Before what is to be said.
const NOTICE: &str = "notice ";

/// Obeys in a thread of its own.
pub(crate) fn obey(app: AppHandle, window: WebviewWindow) {
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            let line = line.trim();
            if line == CLOSE {
                close(&app, &window);
                continue;
            }
            if let Some(text) = line.strip_prefix(NOTICE) {
                say(&app, text);
                continue;
            }
            let page = Page::from_str(line, false).ok();
            if (page.is_some() || line == SHOW)
                && let Err(error) = show(&app, page)
            {
                tracing::warn!("the window cannot be brought to the front: {error}");
            }
        }
        close(&app, &window);
    });
}

/// By the events that the page has open, or with the next ones.
fn say(app: &AppHandle, text: &str) {
    let notice = notice(NoticeLevel::Warning, text.to_owned());
    if !app.state::<Streams>().tell(&notice) {
        app.state::<Arc<Desk>>().tell_next(notice);
    }
}

/// Closed as by a person, so that its size and place are kept, and what is typed in it.
fn close(app: &AppHandle, window: &WebviewWindow) {
    if window.close().is_err() {
        app.exit(0);
    }
}
