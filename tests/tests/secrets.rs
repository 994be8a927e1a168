//! The management token, looked for where it must not be.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "test code: a panic is how it fails")]

use std::path::{Path, PathBuf};
use std::{fs, io};

use corral_tests::{Bus, Daemon, Display, Models, PATIENCE, Panel, until};

/// All files below a folder but those in one of the folders in it.
fn files(folder: &Path, but: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match fs::symlink_metadata(&path) {
            Ok(found) if found.is_dir() && path != but => all.extend(files(&path, but)),
            Ok(found) if found.is_file() => all.push(path),
            _ => {}
        }
    }
    all
}

#[test]
fn the_token_is_in_no_log_even_where_everything_is_logged() {
    let (bus, display) = (Bus::start(), Display::start());
    let panel = Panel::start(&bus);
    let env = [
        ("DBUS_SESSION_BUS_ADDRESS", bus.address()),
        ("DISPLAY", display.name()),
        ("NO_AT_BRIDGE", "1"),
        ("CORRAL_LOG", "trace"),
        ("RUST_LOG", "trace"),
    ];
    let tray = Daemon::start_tray(Models::process().tiny(&["a"]).home(), &["--hidden"], &env);
    let item = panel.item();
    item.says("No model is loaded");
    // Everything that asks with the token: the tray, the window, the command line.
    item.click(&["Models", "a"]);
    item.says("a is ready");
    item.click(&["Logs"]);
    until(PATIENCE, "the window", || (display.count("Corral") == 1).then_some(()));
    until(PATIENCE, "what the window logs", || tray.output().contains("the dashboard: ready").then_some(()));
    let said = tray.corral(&["status"]);
    assert!(said.status.success(), "{said:?}");
    let printed = String::from_utf8_lossy(&said.stderr).into_owned();

    let token = tray.api().token().to_owned();
    assert!(token.len() >= 32);
    let log = tray.output();
    let is_traced = |log: &str| log.lines().filter(|line| line.contains("TRACE")).count() > 10;
    let of_window: String = log.lines().filter(|line| line.contains("the dashboard: ")).collect::<Vec<_>>().join("\n");
    for (who, log) in [("the tray and the daemon", &log), ("the window", &of_window)] {
        assert!(is_traced(log), "{who} logs everything:\n{log}");
        assert!(log.contains("/events") || log.contains("/status"), "{who} logs what is asked for:\n{log}");
        assert!(!log.contains(&token), "{who}: {:?}", log.lines().find(|line| line.contains(&token)));
    }
    // It says nothing of what goes well.
    assert!(!printed.contains(&token), "{printed}");
    let run = tray.home().run();
    assert_eq!(fs::read_to_string(run.join("token")).unwrap().trim(), token, "where it is to be");
    let files = files(tray.home().path(), &run);
    assert!(files.iter().any(|file| file.ends_with("serve.log")), "{files:?}");
    for file in files {
        match fs::read(&file) {
            Ok(bytes) => {
                let has = bytes.windows(token.len()).any(|piece| piece == token.as_bytes());
                assert!(!has, "{} has the token", file.display());
            }
            // The window's cache comes and goes.
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::NotFound, "{}", file.display()),
        }
    }
}
