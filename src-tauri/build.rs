//! Names the commands that exist, so that each has to be granted.

use tauri_build::{AppManifest, Attributes};

const COMMANDS: &[&str] =
    &["api", "choose_folder", "events", "logs", "open_claude", "save_file", "stop_stream", "window_ready"];

fn main() {
    let manifest = AppManifest::new().commands(COMMANDS);
    if let Err(error) = tauri_build::try_build(Attributes::new().app_manifest(manifest)) {
        println!("cargo::error={error:#}");
    }
}
