//! What the tray does where a desktop lacks something: a web view, a display, a panel, a file that can be read. The panel
//! and the notifications stand in for a desktop's; everything else is what people run.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "test code: a panic is how it fails")]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use corral_testkit::SandboxHome;
use corral_tests::process::Running;
use corral_tests::{Bus, Daemon, Display, Models, PATIENCE, Panel, parts, process, until};
use rustix::process::Signal;

/// The same command where other things are at some paths, for it and all that it starts.
fn where_instead(command: &Command, instead: &[&str]) -> Command {
    let mut inside = Command::new("bwrap");
    inside.args(["--dev-bind", "/", "/", "--die-with-parent"]).args(instead).arg("--").arg(command.get_program());
    inside.args(command.get_args()).env_clear();
    inside.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    inside
}

fn executable(path: &Path, script: &str) {
    fs::write(path, script).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_window_that_cannot_be_shown_is_said_with_another_way_and_the_tray_goes_on() {
    let display = Display::start();
    let scripts = tempfile::tempdir().unwrap();
    let crashing = scripts.path().join("crashing");
    executable(
        &crashing,
        "#!/bin/sh\necho 'Gtk-Message: hello' >&2\necho 'libwebkit: cannot open' >&2\nkill -SEGV $$\n",
    );
    let webkit = parts::webkit();
    let (webkit, web) = (webkit.to_str().unwrap(), webkit.join("WebKitWebProcess"));
    let (web, crashing) = (web.to_str().unwrap(), crashing.to_str().unwrap());
    let daemon = Daemon::start(Models::process().tiny(&["a", "b"]).home());
    let dashboard = daemon.of("corral-dashboard", &[]).get_program().to_str().unwrap().to_owned();
    let shown = Some(display.name());
    let cases: [(&str, Option<&str>, &[&str], &str); 5] = [
        ("no helper programs", shown, &["--tmpfs", webkit], "Unable to spawn"),
        ("a helper that ends at once", shown, &["--bind", "/bin/false", web], "process"),
        ("a program that crashes", shown, &["--bind", crashing, &dashboard], "libwebkit: cannot open"),
        ("no display", None, &[], "neither WAYLAND_DISPLAY nor DISPLAY is set"),
        ("a display that has gone", Some(":97531"), &[], ":97531 does not answer"),
    ];
    for ((what, display, instead, said), model) in cases.into_iter().zip(["a", "b"].into_iter().cycle()) {
        let bus = Bus::start();
        let panel = Panel::start(&bus);
        let mut tray = daemon.of("corral-tray", &["--hidden"]);
        tray.env("DBUS_SESSION_BUS_ADDRESS", bus.address()).env("NO_AT_BRIDGE", "1");
        if let Some(display) = display {
            tray.env("DISPLAY", display);
        }
        let mut tray = Running::start(where_instead(&tray, instead));
        let item = panel.item();
        item.activate();
        let told = panel.notification("the dashboard's window cannot be shown");
        assert!(told.body.contains(said), "{what}: {told:?}");
        assert!(told.body.contains("`corral dashboard` opens it in your browser"), "{what}: {told:?}");
        item.click(&["Models", model]);
        item.says(&format!("{model} is ready"));
        item.click(&["Quit"]);
        assert_eq!(tray.ended(), 0, "{what}");
    }
}

#[test]
fn what_is_typed_and_not_saved_keeps_the_tray_from_ending_until_a_person_has_said_so() {
    let (bus, files) = (Bus::start(), tempfile::tempdir().unwrap());
    let panel = Panel::start(&bus);
    let [window, told, answers] = ["window", "told", "answers"].map(|name| files.path().join(name));
    assert!(Command::new("mkfifo").arg(&answers).status().unwrap().success());
    // Stands in for a window in which something is typed: it asks a person, who answers by the pipe.
    let script = format!(
        "#!/bin/sh\necho \"$@\" >>'{told}'\nwhile read -r line; do\n  echo \"$line\" >>'{told}'\n  \
         if [ \"$line\" = close ]; then\n    echo asks; read -r answer <'{answers}'\n    \
         [ \"$answer\" = discard ] && exit 0\n    echo kept\n  fi\ndone\n",
        told = told.display(),
        answers = answers.display()
    );
    executable(&window, &script);
    let daemon = Daemon::start(Models::process().tiny(&["a", "b"]).home());
    let dashboard = daemon.of("corral-dashboard", &[]).get_program().to_str().unwrap().to_owned();
    let mut tray = daemon.of("corral-tray", &["--hidden"]);
    tray.env("DBUS_SESSION_BUS_ADDRESS", bus.address());
    let mut tray = Running::start(where_instead(&tray, &["--bind", window.to_str().unwrap(), &dashboard]));
    let item = panel.item();
    let until_told = |lines: &[&str]| {
        until(PATIENCE, &format!("the window was told {lines:?}"), || {
            (fs::read_to_string(&told).unwrap_or_default().lines().eq(lines.iter().copied())).then_some(())
        });
    };
    let start = "--attached --page models";
    item.says("No model is loaded");
    item.activate();
    until_told(&[start]);
    item.click(&["Quit"]);
    until_told(&[start, "close"]);
    item.click(&["Models", "a"]);
    item.says("a is ready");
    fs::write(&answers, "keep\n").unwrap();
    item.click(&["Logs"]);
    until_told(&[start, "close", "logs"]);
    item.click(&["Models", "b"]);
    item.says("b is ready");
    assert!(!tray.has_ended());
    item.click(&["Quit"]);
    until_told(&[start, "close", "logs", "close"]);
    fs::write(&answers, "discard\n").unwrap();
    assert_eq!(tray.ended(), 0);
}

#[test]
fn of_twenty_first_launches_one_stays_shows_one_window_and_does_what_any_was_asked_for() {
    let (bus, display) = (Bus::start(), Display::start());
    let panel = Panel::start(&bus);
    let home = Models::process().tiny(&["a"]).home();
    let (folder, terminal, opened) =
        (home.path().join("work"), home.path().join("terminal"), home.path().join("opened"));
    fs::create_dir(&folder).unwrap();
    executable(&terminal, &format!("#!/bin/sh\necho \"$PWD $*\" >>'{}'\n", opened.display()));
    fs::write(home.config().join("settings.toml"), format!("terminal = [\"{}\"]\n", terminal.display())).unwrap();
    let claude = parts::claude();
    let env = [
        ("DBUS_SESSION_BUS_ADDRESS", bus.address()),
        ("DISPLAY", display.name()),
        ("NO_AT_BRIDGE", "1"),
        ("CORRAL_CLAUDE", claude.to_str().unwrap()),
    ];
    // One daemon, so that none of the launches is waited for as one that serves.
    let daemon = Daemon::start_with(home, &env);
    let mut launches: Vec<_> = (0..20)
        .map(|number| {
            let asked = ["--open-claude", folder.to_str().unwrap()];
            Running::start(daemon.of("corral-tray", if number == 11 { &asked } else { &[] }))
        })
        .collect();
    until(PATIENCE, "nineteen have handed on what they were asked for", || {
        (launches.iter_mut().filter_map(|launch| launch.has_ended().then_some(())).count() == 19).then_some(())
    });
    let folder = folder.to_str().unwrap();
    until(PATIENCE, "the local Claude is opened", || {
        fs::read_to_string(&opened).ok().filter(|said| said.contains(folder))
    });
    until(PATIENCE, "the window is there", || (display.count("Corral") == 1).then_some(()));
    assert_eq!(panel.items(), 1);
    panel.item().click(&["Quit"]);
    let codes: Vec<i32> = launches.iter_mut().map(Running::ended).collect();
    assert_eq!(codes, [0; 20]);
    until(PATIENCE, "the window goes with the tray", || (display.count("Corral") == 0).then_some(()));
    assert_eq!(fs::read_to_string(&opened).unwrap().lines().count(), 1, "it was opened once");
}

#[test]
fn where_no_panel_ever_comes_it_is_said_and_a_window_is_opened() {
    let (bus, display) = (Bus::start(), Display::start());
    let desktop = Panel::without_icons(&bus);
    let daemon = Daemon::start_with(
        Models::process().tiny(&["a"]).home(),
        &[("DBUS_SESSION_BUS_ADDRESS", bus.address()), ("DISPLAY", display.name()), ("NO_AT_BRIDGE", "1")],
    );
    let mut tray = Running::start(daemon.of("corral-tray", &["--hidden"]));
    let told = desktop.notification("This desktop shows no tray icons");
    assert!(told.body.contains("AppIndicator"), "{told:?}");
    until(PATIENCE, "a window", || (display.count("Corral") == 1).then_some(()));
    // One that comes all the same shows the icon.
    drop(desktop);
    Panel::start(&bus).item().says("No model is loaded");
    let mut quit = Running::start(daemon.of("corral-tray", &["--quit"]));
    assert_eq!((quit.ended(), tray.ended()), (0, 0));
}

#[test]
fn what_is_never_answered_keeps_nobody_from_ending_it() {
    // Whoever reads these waits for as long as nobody writes: a disk that has gone to sleep for good.
    for file in ["models.toml", "settings.toml"] {
        let bus = Bus::start();
        let panel = Panel::start(&bus);
        let home = SandboxHome::new();
        let made = Command::new("mkfifo").arg(home.config().join(file)).status().unwrap();
        assert!(made.success());
        let tray = |args: &[&str]| {
            let mut tray = corral_tests::daemon::of(&home, "corral-tray", args);
            tray.env("DBUS_SESSION_BUS_ADDRESS", bus.address());
            Running::start(tray)
        };
        let mut clicked = tray(&["--hidden"]);
        let item = panel.item();
        item.says("Corral is starting");
        assert!(item.entry(&["Start Corral"]).is_some_and(|entry| !entry.enabled), "{file}: {:?}", item.menu());
        item.click(&["Quit"]);
        assert_eq!(clicked.ended(), 0, "{file}");

        let mut told = tray(&["--hidden"]);
        until(PATIENCE, "the next icon", || (panel.items() == 2).then_some(()));
        panel.item().says("Corral is starting");
        process::signal(told.pid(), Signal::TERM);
        assert_eq!(told.ended(), 0, "{file}");
    }
}

#[test]
fn a_daemon_elsewhere_that_does_not_answer_is_said() {
    let bus = Bus::start();
    let panel = Panel::start(&bus);
    let home = Models::process().tiny(&["a"]).home();
    fs::create_dir_all(home.run()).unwrap();
    // Held as a daemon holds it that hangs.
    let lock = fs::File::create(home.run().join("lock")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let mut tray = corral_tests::daemon::of(&home, "corral-tray", &["--hidden"]);
    tray.env("DBUS_SESSION_BUS_ADDRESS", bus.address());
    let mut tray = Running::start(tray);
    let item = panel.item();
    item.says("Corral is starting");
    item.says("Corral's daemon does not answer");
    drop(lock);
    item.click(&["Start Corral"]);
    item.says("No model is loaded");
    item.click(&["Quit"]);
    assert_eq!(tray.ended(), 0);
}

#[test]
fn a_catalog_that_is_no_toml_at_launch_is_said_with_its_line_and_the_tray_goes_on() {
    let bus = Bus::start();
    let panel = Panel::start(&bus);
    let home = SandboxHome::new();
    let good = Models::process().tiny(&["a"]);
    good.write(&home);
    let text = good.text().replace("[models.a]", "[models.a");
    let line = text.lines().position(|line| line == "[models.a").unwrap() + 1;
    fs::write(home.catalog(), text).unwrap();
    // Without its addresses it is served at the usual ones: in a network of the test's own nobody else is there.
    let mut tray = corral_tests::daemon::of(&home, "corral-tray", &["--hidden"]);
    tray.env("DBUS_SESSION_BUS_ADDRESS", bus.address());
    let mut tray = Running::start(where_instead(&tray, &["--unshare-net"]));
    let item = panel.item();
    let place = format!("models.toml:{line}:");
    let entry = until(PATIENCE, "the mistake is said", || {
        item.try_menu()?.into_iter().find(|entry| entry.label.starts_with(&place))
    });
    assert!(entry.enabled && entry.label.contains("unclosed table"), "{entry:?}");
    assert!(item.tooltip().1.contains(&place), "{:?}", item.tooltip());
    fs::write(home.catalog(), good.text()).unwrap();
    item.click(&["Models", "a"]);
    item.says("a is ready");
    item.click(&["Quit"]);
    assert_eq!(tray.ended(), 0);
}
