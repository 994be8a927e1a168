//! Closing the window: what was typed in it and not saved keeps it open until a person says that it may go.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::channel;
use std::time::Duration;

use gtk::prelude::*;
use gtk::{ButtonsType, DialogFlags, MessageDialog, MessageType, ResponseType};
use tauri::{Manager, WebviewWindow, WindowEvent};

use crate::app::Desk;

/// What a browser asks a page before it leaves it, in the page's own terms.
const UNSAVED: &str = "!dispatchEvent(new Event('beforeunload', { cancelable: true }))";

/// How long the page may take to answer; one that hangs keeps no window open.
const ANSWERS_WITHIN: Duration = Duration::from_secs(2);

/// From now on the window is closed only with nothing unsaved, or with a person's word.
pub(crate) fn guard(window: &WebviewWindow) {
    let guarded = window.clone();
    window.on_window_event(move |event| {
        if let WindowEvent::CloseRequested { api, .. } = event {
            api.prevent_close();
            leave(&guarded);
        }
    });
}

fn leave(window: &WebviewWindow) {
    let desk = window.state::<Arc<Desk>>();
    if desk.asks.swap(true, Ordering::Relaxed) {
        // A person is being asked already, or will be.
        desk.says("asks");
        return;
    }
    let (answers, answer) = channel();
    let asked = window.eval_with_callback(UNSAVED, move |unsaved| {
        // After its time nobody waits for it.
        let _ = answers.send(unsaved == "true");
    });
    let window = window.clone();
    std::thread::spawn(move || {
        let unsaved = asked.is_ok() && answer.recv_timeout(ANSWERS_WITHIN).unwrap_or(false);
        let handle = window.app_handle().clone();
        let left = handle.run_on_main_thread(move || if unsaved { ask(&window) } else { close(&window) });
        if left.is_err() {
            handle.exit(0);
        }
    });
}

/// Asks the person who has typed it. Whoever does not answer, or closes the question, keeps it.
fn ask(window: &WebviewWindow) {
    let desk = window.state::<Arc<Desk>>().inner().clone();
    desk.says("asks");
    let parent = window.gtk_window().ok();
    let dialog = MessageDialog::new(
        parent.as_ref(),
        DialogFlags::MODAL | DialogFlags::DESTROY_WITH_PARENT,
        MessageType::Warning,
        ButtonsType::None,
        "Close without saving?",
    );
    dialog.set_title("Corral: not saved");
    dialog.set_secondary_text(Some("What you have changed in the settings or in models.toml is not saved."));
    dialog.add_button("Keep editing", ResponseType::Cancel);
    dialog.add_button("Discard", ResponseType::Accept);
    dialog.set_default_response(ResponseType::Cancel);
    let window = window.clone();
    dialog.connect_response(move |dialog, response| {
        dialog.close();
        if response == ResponseType::Accept {
            close(&window);
        } else {
            desk.asks.store(false, Ordering::Relaxed);
            desk.says("kept");
        }
    });
    dialog.show_all();
}

fn close(window: &WebviewWindow) {
    if window.destroy().is_err() {
        window.app_handle().exit(0);
    }
}
