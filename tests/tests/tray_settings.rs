//! The tray follows its settings, by whatever way somebody changes them. The panel and the notifications stand in for a
//! desktop's; everything else is what people run.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "test code: a panic is how it fails")]

use std::fs;
use std::path::Path;

use corral_tests::{Bus, Daemon, Models, PATIENCE, Panel, until};
use serde_json::json;

/// Puts another file in the place of one, as an editor does.
fn replace(file: &Path, text: &str) {
    let new = file.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(&new, file).unwrap();
}

/// A tray that serves the models `a` and `b`, with these settings.
fn tray(bus: &Bus, settings: &str) -> Daemon {
    let home = Models::process().tiny(&["a", "b"]).home();
    fs::write(home.config().join("settings.toml"), settings).unwrap();
    Daemon::start_tray(home, &["--hidden"], &[("DBUS_SESSION_BUS_ADDRESS", bus.address())])
}

#[test]
fn launch_at_login_is_that_of_the_entry_however_it_was_changed() {
    let bus = Bus::start();
    let panel = Panel::start(&bus);
    let tray = tray(&bus, "");
    let item = panel.item();
    let is = |on: bool, after: &str| {
        until(PATIENCE, &format!("the mark is {on} after {after}"), || {
            (item.entry(&["Launch at login"])?.checked == Some(on)).then_some(())
        });
    };
    is(false, "the start");
    assert!(tray.corral(&["autostart", "on"]).status.success());
    is(true, "the command");
    tray.api().put("/autostart", &json!({ "enabled": false })).expect(200);
    is(false, "the dashboard's request");
    let entry = tray.home().config().join("autostart/corral.desktop");
    fs::write(&entry, "[Desktop Entry]\nType=Application\nName=C\nExec=corral-tray --hidden\n").unwrap();
    is(true, "an edit");
    fs::remove_file(&entry).unwrap();
    is(false, "its removal");
}

#[test]
fn the_next_notification_is_as_the_settings_say_then() {
    let bus = Bus::start();
    let panel = Panel::start(&bus);
    let tray = tray(&bus, "");
    panel.item().says("No model is loaded");
    tray.api().switched("a");
    panel.notification("a is ready after");
    tray.api().put("/settings", &json!({ "notifications": "none" })).expect(200);
    tray.api().switched("b");
    replace(&tray.home().config().join("settings.toml"), "notifications = \"all\"\n");
    tray.api().switched("a");
    panel.notification("switched from b to a");
    let told = panel.notifications();
    assert!(!told.iter().any(|shown| shown.summary.contains("from a to b")), "{told:?}");
}

#[test]
fn settings_that_break_are_said_once_and_those_before_stay_in_force() {
    let bus = Bus::start();
    let panel = Panel::start(&bus);
    let tray = tray(&bus, "notifications = \"problems\"\n");
    panel.item().says("No model is loaded");
    let file = tray.home().config().join("settings.toml");
    replace(&file, "notifications = \"al\"\n");
    let told = panel.notification("settings.toml:1");
    assert!(told.body.contains("mend the line"), "{told:?}");
    tray.api().switched("a");
    replace(&file, "notifications = \"a\"\n");
    tray.api().switched("b");
    replace(&file, "notifications = \"all\"\n");
    tray.api().switched("a");
    panel.notification("switched from b to a");
    let told: Vec<_> = panel.notifications().into_iter().map(|shown| shown.summary).collect();
    assert_eq!(told.len(), 2, "{told:?}");
}
