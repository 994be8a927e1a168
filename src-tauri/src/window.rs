//! The one window.

use std::sync::Arc;

use corral_daemon::Paths;
use tauri::webview::PageLoadEvent;
use tauri::{App, Manager, WebviewUrl, WebviewWindow, WebviewWindowBuilder};
use webkit2gtk::{WebProcessTerminationReason, WebViewExt};

use crate::app::Desk;
use crate::args::Page;
use crate::leaving;
use crate::streams::Streams;

/// The label that permissions are granted to.
pub(crate) const MAIN: &str = "main";

/// Opens the window at a page. It keeps its size and place from one time to the next.
pub(crate) fn open(app: &App, page: Page, paths: &Paths) -> tauri::Result<WebviewWindow> {
    let address = format!("index.html#{}", page.fragment());
    let window = WebviewWindowBuilder::new(app, MAIN, WebviewUrl::App(address.into()))
        .title("Corral")
        .inner_size(1120.0, 760.0)
        .min_inner_size(640.0, 420.0)
        .data_directory(paths.state_dir.join("webview"))
        // The dashboard is all it ever shows.
        .on_navigation(|url| matches!(url.scheme(), "tauri"))
        // What a page has opened ends with it: the next one opens its own.
        .on_page_load(|window, load| {
            if load.event() == PageLoadEvent::Started {
                window.state::<Streams>().stop_all();
            }
        })
        .disable_drag_drop_handler()
        .build()?;
    outlive_the_page(&window)?;
    leaving::guard(&window);
    Ok(window)
}

/// The process that shows the page may end by itself, for lack of memory for instance: the page is loaded again. Where
/// not even one page could be used, the next would not be either: the program ends, and says why.
fn outlive_the_page(window: &WebviewWindow) -> tauri::Result<()> {
    let again = window.clone();
    window.with_webview(move |webview| {
        webview.inner().connect_web_process_terminated(move |_, reason| {
            let why = match reason {
                WebProcessTerminationReason::TerminatedByApi => return,
                WebProcessTerminationReason::ExceededMemoryLimit => "the web view has used too much memory",
                _ => "the web view's process has ended by itself",
            };
            tracing::warn!("{why}");
            let desk = again.state::<Arc<Desk>>();
            if !desk.page_ends() {
                desk.give_up(&format!("{why}, before the page could be used"));
                again.app_handle().exit(1);
                return;
            }
            desk.tell(format!("the page was loaded again, since {why}; what was typed and not saved is lost"));
            if let Err(error) = again.reload() {
                desk.give_up(&format!("{why}, and the page cannot be loaded again: {error}"));
                again.app_handle().exit(1);
            }
        });
    })
}

/// Shows a page in the window, or what it shows already, and the window to whoever looks.
pub(crate) fn show(app: &tauri::AppHandle, page: Option<Page>) -> tauri::Result<()> {
    let Some(window) = app.get_webview_window(MAIN) else { return Ok(()) };
    if let Some(page) = page {
        window.eval(format!("location.hash = {:?}", page.fragment()))?;
    }
    window.unminimize()?;
    window.show()?;
    window.set_focus()
}
