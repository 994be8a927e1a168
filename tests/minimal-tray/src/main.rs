//! A tray icon with a menu of one entry, by Tauri's own tray: what `corral-tray` is measured against.

use tauri::menu::{Menu, MenuItem};
use tauri::tray::TrayIconBuilder;

fn main() {
    let context = tauri::generate_context!();
    let app = tauri::Builder::default().setup(|app| {
        let quit = MenuItem::with_id(app, "quit", "Quit", true, None::<&str>)?;
        let menu = Menu::with_items(app, &[&quit])?;
        let mut tray = TrayIconBuilder::new().menu(&menu).on_menu_event(|app, _| app.exit(0));
        if let Some(icon) = app.default_window_icon() {
            tray = tray.icon(icon.clone());
        }
        tray.build(app)?;
        Ok(())
    });
    if let Err(error) = app.build(context).map(|app| app.run_return(|_, event| stay(&event))) {
        eprintln!("minimal-tray: {error}");
        std::process::exit(1);
    }
}

/// Without a window the program goes on until it is told to end.
fn stay(event: &tauri::RunEvent) {
    if let tauri::RunEvent::ExitRequested { code: None, api, .. } = event {
        api.prevent_exit();
    }
}
