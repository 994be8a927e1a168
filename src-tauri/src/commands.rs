//! What the dashboard asks of this program. Each command forwards, and decides nothing.

#![allow(clippy::needless_pass_by_value, reason = "Tauri hands the arguments of a command over by value")]

use std::io::BufRead;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use corral_client::Client;
use corral_core::{Code, Error, ErrorBody};
use corral_daemon::recent_folders;
use serde::Serialize;
use serde_json::Value;
use tauri::async_runtime::spawn_blocking;
use tauri::ipc::Channel;
use tauri::{AppHandle, State};
use tauri_plugin_dialog::DialogExt;

use crate::app::Desk;
use crate::streams::{StreamId, Streams};

type Answered<T> = Result<T, ErrorBody>;

/// The answer to a request of the management API.
#[derive(Debug, Serialize)]
pub(crate) struct Answer {
    status: u16,
    body: Value,
}

/// Asks the management API; the token stays in this program.
#[tauri::command]
pub(crate) async fn api(
    desk: State<'_, Arc<Desk>>,
    method: String,
    path: String,
    body: Option<Value>,
) -> Answered<Answer> {
    let desk = desk.inner().clone();
    blocking(move || {
        let (status, body) = Client::of_home(&desk.env)?.call(&method, &path, body.as_ref())?;
        Ok(Answer { status, body })
    })
    .await
}

/// What comes each second besides, where it is wanted.
#[derive(Debug, Clone, Copy, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Readings {
    /// What goes on.
    Live,
    /// What the GPUs are doing.
    Gpu,
}

/// Sends the daemon's events until they end.
#[tauri::command]
pub(crate) async fn events(
    desk: State<'_, Arc<Desk>>,
    streams: State<'_, Streams>,
    readings: Option<Readings>,
    channel: Channel<Value>,
) -> Answered<StreamId> {
    let path = match readings {
        Some(Readings::Live) => "/events?live=1",
        Some(Readings::Gpu) => "/events?gpu=1",
        None => "/events",
    };
    open(&desk, &streams, path.to_owned(), |desk, streams, stream| streams.events(stream, desk.take_notice(), channel))
        .await
}

/// Sends the lines of `llama-server`'s log until they end.
#[tauri::command]
pub(crate) async fn logs(
    desk: State<'_, Arc<Desk>>,
    streams: State<'_, Streams>,
    tail: usize,
    channel: Channel<Value>,
) -> Answered<StreamId> {
    let path = format!("/logs?tail={tail}&follow=1");
    open(&desk, &streams, path, |_, streams, stream| streams.lines(stream, channel)).await
}

/// Ends one of the two above.
#[tauri::command]
pub(crate) fn stop_stream(streams: State<'_, Streams>, id: StreamId) {
    streams.stop(id);
}

/// Opens a local Claude in a folder, or where the last one was.
#[tauri::command]
pub(crate) async fn open_claude(app: AppHandle, desk: State<'_, Arc<Desk>>, folder: Option<PathBuf>) -> Answered<()> {
    let desk = desk.inner().clone();
    blocking(move || {
        let folder = folder.or_else(|| recent_folders(&desk.paths).into_iter().next());
        match folder.or_else(|| ask_for_folder(&app, &desk, "Open local Claude in")) {
            Some(folder) => desk.programs.open_claude(&folder),
            None => Ok(()),
        }
    })
    .await
}

/// Asks for a folder; none where nobody chose one.
#[tauri::command]
pub(crate) async fn choose_folder(app: AppHandle, desk: State<'_, Arc<Desk>>) -> Answered<Option<PathBuf>> {
    let desk = desk.inner().clone();
    blocking(move || Ok(ask_for_folder(&app, &desk, "Choose a folder"))).await
}

/// Saves a text where a person says, and answers where that was; none where nobody chose a place.
#[tauri::command]
pub(crate) async fn save_file(app: AppHandle, name: String, text: String) -> Answered<Option<PathBuf>> {
    blocking(move || {
        let chosen = app.dialog().file().set_file_name(name).blocking_save_file();
        let Some(path) = chosen.and_then(|chosen| chosen.into_path().ok()) else { return Ok(None) };
        match std::fs::write(&path, text) {
            Ok(()) => Ok(Some(path)),
            Err(error) => {
                let message = format!("cannot write {}", path.display());
                Err(Error::new(Code::Io, message).because(error).hint("choose another folder"))
            }
        }
    })
    .await
}

/// The first page can be used: whoever waits for that is told.
#[tauri::command]
pub(crate) fn window_ready(desk: State<'_, Arc<Desk>>) {
    desk.usable.store(true, Ordering::Relaxed);
    desk.says("ready");
}

/// None where nobody chose one, or where that is being asked already.
fn ask_for_folder(app: &AppHandle, desk: &Desk, title: &str) -> Option<PathBuf> {
    if desk.chooses.swap(true, Ordering::Relaxed) {
        return None;
    }
    let chosen = app.dialog().file().set_title(title).blocking_pick_folder();
    desk.chooses.store(false, Ordering::Relaxed);
    chosen.and_then(|chosen| chosen.into_path().ok())
}

/// Opens one of the daemon's streams, and hands it over to be sent.
async fn open(
    desk: &Arc<Desk>,
    streams: &Streams,
    path: String,
    send: impl FnOnce(&Desk, &Streams, Box<dyn BufRead + Send>) -> StreamId + Send + 'static,
) -> Answered<StreamId> {
    let (desk, streams) = (desk.clone(), streams.clone());
    blocking(move || {
        let stream = Client::of_home(&desk.env)?.stream(&path)?;
        Ok(send(&desk, &streams, Box::new(stream)))
    })
    .await
}

/// Does what waits apart from the window.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> corral_core::Result<T> + Send + 'static) -> Answered<T> {
    match spawn_blocking(work).await {
        Ok(done) => done.map_err(|error| error.body()),
        Err(error) => Err(Error::new(Code::Internal, "a command of the window broke").because(error).body()),
    }
}
