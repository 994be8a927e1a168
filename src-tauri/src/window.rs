//! The one window.

use corral_daemon::Paths;
use tauri::{App, Manager, WebviewUrl, WebviewWindow, WebviewWindowBuilder};

use crate::args::Page;

/// The label that permissions are granted to.
pub(crate) const MAIN: &str = "main";

/// Opens the window at a page. It keeps its size and place from one time to the next.
pub(crate) fn open(app: &App, page: Page, paths: &Paths) -> tauri::Result<WebviewWindow> {
    let address = format!("index.html#{}", page.name());
    WebviewWindowBuilder::new(app, MAIN, WebviewUrl::App(address.into()))
        .title("Corral")
        .inner_size(1120.0, 760.0)
        .min_inner_size(640.0, 420.0)
        .data_directory(paths.state_dir.join("webview"))
        // The dashboard is all it ever shows.
        .on_navigation(|url| matches!(url.scheme(), "tauri"))
        .disable_drag_drop_handler()
        .build()
}

/// Shows a page in the window, and the window to whoever looks.
pub(crate) fn show(app: &tauri::AppHandle, page: Page) -> tauri::Result<()> {
    let Some(window) = app.get_webview_window(MAIN) else { return Ok(()) };
    window.eval(format!("location.hash = {:?}", page.name()))?;
    window.unminimize()?;
    window.show()?;
    window.set_focus()
}
