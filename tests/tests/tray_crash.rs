//! A server that crashes, as the tray tells it. The panel and the notifications stand in for a desktop's; everything else
//! is what people run.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "test code: a panic is how it fails")]

use std::fs;

use corral_tests::{Bus, Daemon, Docker, Models, PATIENCE, Panel, parts, until};

#[test]
fn a_crash_is_told_with_its_cause_and_so_is_whether_the_model_came_back() {
    let (bus, docker) = (Bus::start(), Docker::new());
    let panel = Panel::start(&bus);
    // Slow enough for a person to see what goes on.
    let slow = docker.slow_image(parts::image(), 2);
    let models =
        Models::docker().with(&format!("image = \"{}\"", parts::image()), &format!("image = \"{}\"", slow.tag));
    let env = [("DBUS_SESSION_BUS_ADDRESS", bus.address())];
    let tray = Daemon::start_tray(models.tiny(&["a"]).home(), &["--hidden"], &env);
    let item = panel.item();
    item.says("No model is loaded");
    let stopped = item.pictures();
    tray.api().switched("a");
    item.says("a is ready");
    let ready = item.pictures();

    docker.signal_server(&tray.running()[0], "SEGV");
    let line = until(PATIENCE, "it is said that it is started again", || {
        let (heading, line) = item.tooltip();
        (heading == "Corral" && line.starts_with("Starting a again: ")).then_some(line)
    });
    let busy = item.pictures();
    assert!(busy != ready && busy != stopped, "the icon is that of something in progress: {line}");
    let told = panel.notification("a stopped");
    assert_eq!(told.actions, ["logs", "Show logs"], "{told:?}");
    assert!(told.body.starts_with("llama-server ended while it served (SIGSEGV)"), "{told:?}");
    item.says("a is ready");
    assert_eq!(item.pictures(), ready);
    let told = panel.notification("a stopped and was started again in ");
    assert_eq!(told.actions, ["logs", "Show logs"], "{told:?}");
    assert!(told.body.starts_with("llama-server ended while it served (SIGSEGV)"), "{told:?}");

    // What cannot come back has failed, and says so.
    fs::remove_file(tray.home().models().join("a.gguf")).unwrap();
    docker.run(&["kill", &tray.running()[0]]);
    until(PATIENCE, "it is said that it failed", || {
        item.try_menu()?.first()?.label.starts_with("Failed: ").then_some(())
    });
    let failed = item.pictures();
    assert!(![&stopped, &ready, &busy].contains(&&failed), "failure has an icon of its own");
    until(PATIENCE, "it is said that it stopped again", || {
        panel.notifications().into_iter().find(|told| told.summary == "a stopped" && told.body.contains("from outside"))
    });
    let told = panel.notification("is not there");
    assert_eq!(told.actions, ["logs", "Show logs"], "{told:?}");
    until(PATIENCE, "it can be started", || item.entry(&["Start"]).filter(|entry| entry.enabled));
}
