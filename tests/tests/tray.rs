//! The tray for real: `corral-tray` on a D-Bus of the test's own, clicked as a person clicks. The panel and the
//! notifications stand in for a desktop's; everything else is what people run.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "test code: a panic is how it fails")]

use std::fs;
use std::process::Stdio;

use corral_testkit::SandboxHome;
use corral_tests::local::Ran;
use corral_tests::process::Running;
use corral_tests::{Bus, Client, Daemon, Display, Manner, Models, PATIENCE, Panel, Question, parts, process, until};
use rustix::process::Signal;

/// A tray that serves, as it starts at login.
fn tray(home: SandboxHome, bus: &Bus, more: &[(&str, &str)]) -> Daemon {
    let env = [&[("DBUS_SESSION_BUS_ADDRESS", bus.address())], more].concat();
    Daemon::start_tray(home, &["--hidden"], &env)
}

#[test]
fn a_click_switches_the_real_container_and_everything_shows_it() {
    let bus = Bus::start();
    let panel = Panel::start(&bus);
    let tray = tray(Models::docker().tiny(&["a", "b"]).home(), &bus, &[]);
    let item = panel.item();
    item.says("No model is loaded");
    item.marks(&[("a", false), ("b", false)]);
    let stopped = item.pictures();
    let sides: Vec<i32> = stopped.iter().map(|(width, ..)| *width).collect();
    assert_eq!(sides, [16, 22, 24, 32, 48, 64]);

    item.click(&["Models", "a"]);
    item.says("a is ready");
    item.marks(&[("a", true), ("b", false)]);
    let before = tray.running();
    assert_eq!(before.len(), 1);
    assert_ne!(item.pictures(), stopped, "the icon is that of a ready model");
    assert_eq!(item.tooltip(), ("a".to_owned(), "a is ready".to_owned()));
    panel.notification("a is ready after");

    item.click(&["Models", "b"]);
    item.says("b is ready");
    item.marks(&[("a", false), ("b", true)]);
    // The old one is kept until the new one serves, and removed then.
    until(PATIENCE, "the new container is the only one", || {
        let after = tray.running();
        (after.len() == 1 && after != before).then_some(())
    });
    let told = panel.notification("switched from a to b in");
    assert_ne!(told.replaces, 0, "it takes the place of the one before: {told:?}");

    item.click(&["Stop"]);
    item.says("No model is loaded");
    tray.until_owns_only(&[]);
    item.click(&["Start"]);
    item.says("b is ready");
}

#[test]
fn what_happens_elsewhere_is_shown_too_and_a_failure_says_why_with_a_way_to_the_log() {
    let bus = Bus::start();
    let panel = Panel::start(&bus);
    let broken = "args = [\"--no-such-option\"]\n";
    let home = Models::process().tiny(&["good"]).tiny_with("broken", broken).home();
    let display = Display::start();
    let tray = tray(home, &bus, &[("DISPLAY", display.name())]);
    let item = panel.item();
    tray.api().switched("good");
    item.says("good is ready");
    item.click(&["Models", "broken"]);
    let told = until(PATIENCE, "a notification with a button", || {
        panel.notifications().into_iter().find(|shown| !shown.actions.is_empty())
    });
    assert_eq!(told.actions, ["logs", "Show logs"]);
    assert!(told.summary.contains("--no-such-option") && told.body.contains("look at `args`"), "{told:?}");
    item.says("good is ready");
    item.marks(&[("good", true), ("broken", false)]);
    // The button opens the dashboard at the log.
    // The tray begins to listen for it a moment after the notification is there: nobody clicks as fast as a test.
    until(PATIENCE, "a window", || {
        panel.click_button(&told, "logs");
        display.windows().contains("\"Corral\"").then_some(())
    });
    let family = process::family(tray.pid()).into_iter().map(process::command_line);
    let windows: Vec<_> = family.filter(|line| line.contains("corral-dashboard")).collect();
    assert!(matches!(&windows[..], [one] if one.contains("--page logs")), "{windows:?}");
}

#[test]
fn the_tooltip_has_the_speed_while_the_model_answers_and_that_of_the_last_answer_afterwards() {
    let bus = Bus::start();
    let panel = Panel::start(&bus);
    let lasting = "ctx = 65536\nargs = [\"--ignore-eos\"]";
    let tray = tray(Models::process().one_thread().with("ctx = 4096", lasting).tiny(&["a"]).home(), &bus, &[]);
    let gateway = Client::of(&tray.api().switched("a"));
    let item = panel.item();
    item.says("a is ready");
    let says = |end: &str| {
        until(PATIENCE, &format!("it says {end:?}"), || {
            item.tooltip().1.lines().any(|line| line.ends_with(end)).then_some(())
        });
    };
    let follow = gateway.follow(&Question::new(Manner::Chat, "hello").tokens(12_000));
    says(" tokens/s");
    follow.end().complete();
    says(" tokens/s in the last answer");
    item.click(&["Stop"]);
    item.says("No model is loaded");
    assert_eq!(item.tooltip().1, "No model is loaded");
}

#[test]
fn launch_at_login_is_written_and_removed() {
    let bus = Bus::start();
    let panel = Panel::start(&bus);
    let tray = tray(Models::process().tiny(&["a"]).home(), &bus, &[]);
    let item = panel.item();
    let entry = tray.home().path().join("config/autostart/corral.desktop");
    let at_login = || item.entry(&["Launch at login"]).and_then(|entry| entry.checked);
    until(PATIENCE, "it is off", || (at_login() == Some(false)).then_some(()));
    item.click(&["Launch at login"]);
    until(PATIENCE, "it is on", || (at_login() == Some(true)).then_some(()));
    let text = fs::read_to_string(&entry).unwrap();
    assert!(text.contains("corral-tray") && text.contains("--hidden"), "{text}");
    let said =
        Ran::of(tray.of("corral", &["autostart", "status"]).stdout(Stdio::piped()).stderr(Stdio::piped())).good();
    assert!(said.contains("on"), "{said}");
    item.click(&["Launch at login"]);
    until(PATIENCE, "it is off again", || (at_login() == Some(false)).then_some(()));
    assert!(!entry.exists());
}

#[test]
fn quit_leaves_nothing_behind() {
    let bus = Bus::start();
    let panel = Panel::start(&bus);
    let display = Display::start();
    let mut tray = tray(Models::docker().tiny(&["a"]).home(), &bus, &[("DISPLAY", display.name())]);
    let item = panel.item();
    item.click(&["Models", "a"]);
    item.says("a is ready");
    item.activate();
    until(PATIENCE, "a window", || display.windows().contains("\"Corral\"").then_some(()));
    item.click(&["Quit"]);
    let ended = tray.wait_for_end();
    assert!(ended.status.success(), "{ended:?}");
    assert!(tray.running().is_empty());
    let left: Vec<_> = fs::read_dir(tray.home().run()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    // The locks are what the next one takes, and the folder for the pipes of servers is empty.
    let kept = |name: &std::ffi::OsString| name == "gates" || name.to_string_lossy().ends_with("lock");
    let left: Vec<_> = left.iter().filter(|name| !kept(name)).collect();
    assert!(left.is_empty(), "{left:?}");
    assert!(process::with_argument(tray.home().path()).is_empty());
    until(PATIENCE, "the window is gone", || (!display.windows().contains("\"Corral\"")).then_some(()));
}

#[test]
fn open_local_claude_opens_a_terminal_with_the_jailed_claude_code_and_starts_the_model_first() {
    let bus = Bus::start();
    let panel = Panel::start(&bus);
    let display = Display::start();
    let home = Models::process().tiny(&["a"]).home();
    fs::write(home.path().join("config/settings.toml"), "terminal = \"xterm\"\n").unwrap();
    let folder = home.path().join("my project");
    let user = home.path().join("user");
    for made in [&folder, &user] {
        fs::create_dir(made).unwrap();
    }
    fs::create_dir_all(home.state()).unwrap();
    fs::write(home.state().join("folders.json"), serde_json::to_vec(&[&folder]).unwrap()).unwrap();
    let claude = parts::claude();
    let (user, claude) = (user.to_str().unwrap().to_owned(), claude.to_str().unwrap());
    // Without a locale xterm takes the first byte of the title only.
    let locale = ("LANG", "C.UTF-8");
    let more = [("DISPLAY", display.name()), ("HOME", user.as_str()), ("CORRAL_CLAUDE", claude), locale];
    let tray = tray(home, &bus, &more);
    let item = panel.item();
    item.click(&["Open local Claude"]);
    item.says("a is ready");
    tray.api().until(PATIENCE, "the session in the window", |status| {
        status.sessions.iter().any(|session| session.label.as_deref() == Some("claude in my project"))
    });
    until(PATIENCE, "Claude Code's own title", || display.windows().contains("Claude Code").then_some(()));
    let named = item.entry(&["Open local Claude in", "my project"]);
    assert!(named.is_some_and(|entry| entry.enabled), "{:#?}", item.menu());
}

#[test]
fn a_folder_is_asked_for_once_at_a_time() {
    let (bus, display) = (Bus::start(), Display::start());
    let panel = Panel::start(&bus);
    let tray = tray(Models::process().tiny(&["a"]).home(), &bus, &[("DISPLAY", display.name()), ("NO_AT_BRIDGE", "1")]);
    let item = panel.item();
    let asks = || {
        let family = process::family(tray.pid()).into_iter();
        family.filter(|pid| process::command_line(*pid).contains("--choose-folder")).count()
    };
    let dialog = || until(PATIENCE, "a dialog", || (display.count("Open local Claude in") == 1).then_some(()));
    for _ in 0..3 {
        item.click(&["Open local Claude in", "Choose folder…"]);
    }
    dialog();
    // Clicks are taken in turns: this is behind the others.
    item.click(&["Models", "a"]);
    item.says("a is ready");
    assert_eq!((asks(), display.count("Open local Claude in")), (1, 1));
    display.close("Open local Claude in");
    until(PATIENCE, "nobody is asked any more", || (asks() == 0).then_some(()));
    item.click(&["Open local Claude in", "Choose folder…"]);
    dialog();
}

#[test]
fn a_panel_may_come_late_and_come_again() {
    let bus = Bus::start();
    let tray = tray(Models::process().tiny(&["a"]).home(), &bus, &[]);
    let panel = Panel::start(&bus);
    panel.item().says("No model is loaded");
    drop(panel);
    tray.api().switched("a");
    let panel = Panel::start(&bus);
    panel.item().says("a is ready");
}

#[test]
fn without_a_panel_a_window_opens_and_without_any_desktop_the_daemon_serves_all_the_same() {
    let display = Display::start();
    // There is no bus at this address.
    let nowhere = ("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nonexistent/bus");
    let home = Models::process().tiny(&["a"]).home();
    let tray = Daemon::start_tray(home, &["--hidden"], &[nowhere, ("DISPLAY", display.name())]);
    tray.api().switched("a");
    until(PATIENCE, "a window", || display.windows().contains("\"Corral\"").then_some(()));
    drop(tray);
    let bare = Daemon::start_tray(Models::process().tiny(&["a"]).home(), &["--hidden"], &[nowhere]);
    bare.api().switched("a");
    until(PATIENCE, "it is said", || bare.output().contains("dashboard's window cannot be shown").then_some(()));
}

#[test]
fn where_a_daemon_runs_already_the_tray_shows_that_one_and_leaves_it_running() {
    let bus = Bus::start();
    let panel = Panel::start(&bus);
    let mut daemon =
        Daemon::start_with(Models::process().tiny(&["a"]).home(), &[("DBUS_SESSION_BUS_ADDRESS", bus.address())]);
    daemon.api().switched("a");
    let mut tray = Running::start(daemon.of("corral-tray", &["--hidden"]));
    let item = panel.item();
    item.says("a is ready");
    daemon.terminate();
    item.says("Corral's daemon does not answer");
    daemon.restart();
    item.says("No model is loaded");
    item.click(&["Quit"]);
    assert_eq!(tray.ended(), 0);
    daemon.api().switched("a");
}

#[test]
fn where_the_daemon_has_ended_a_click_serves_again() {
    let bus = Bus::start();
    let panel = Panel::start(&bus);
    let mut daemon =
        Daemon::start_with(Models::process().tiny(&["a"]).home(), &[("DBUS_SESSION_BUS_ADDRESS", bus.address())]);
    let _tray = Running::start(daemon.of("corral-tray", &["--hidden"]));
    let item = panel.item();
    item.says("No model is loaded");
    daemon.terminate();
    item.click(&["Start Corral"]);
    item.says("No model is loaded");
    item.click(&["Quit"]);
}

#[test]
fn of_twenty_launches_one_stays_and_the_others_end_well() {
    let bus = Bus::start();
    let panel = Panel::start(&bus);
    let tray = tray(Models::process().tiny(&["a"]).home(), &bus, &[]);
    panel.item().says("No model is loaded");
    let mut launches: Vec<_> = (0..20).map(|_| Running::start(tray.of("corral-tray", &["--hidden"]))).collect();
    let codes: Vec<i32> = launches.iter_mut().map(Running::ended).collect();
    assert_eq!(codes, [0; 20]);
    assert_eq!(panel.items(), 1);
    let mut quit = Running::start(tray.of("corral-tray", &["--quit"]));
    assert_eq!(quit.ended(), 0);
}

#[test]
fn a_catalog_that_is_broken_at_launch_is_said_and_mended_while_it_runs() {
    let bus = Bus::start();
    let panel = Panel::start(&bus);
    let home = Models::process().tiny(&["a"]).home();
    let good = fs::read_to_string(home.catalog()).unwrap();
    fs::write(home.catalog(), format!("{good}\n[models.b]\nfiel = \"x\"\n")).unwrap();
    let tray = tray(home, &bus, &[]);
    let item = panel.item();
    until(PATIENCE, "mistakes are said", || {
        item.try_menu()?.iter().any(|entry| entry.label.starts_with("models.toml:")).then_some(())
    });
    item.marks(&[("a", false)]);
    fs::write(tray.home().catalog(), good).unwrap();
    until(PATIENCE, "nothing is said any more", || {
        (!item.try_menu()?.iter().any(|entry| entry.label.starts_with("models.toml:"))).then_some(())
    });
}

#[test]
fn settings_that_cannot_be_read_keep_nobody_out() {
    let bus = Bus::start();
    let panel = Panel::start(&bus);
    let home = Models::process().tiny(&["a"]).home();
    let file = home.path().join("config/settings.toml");
    fs::write(&file, "# mine\n= broken").unwrap();
    let tray = tray(home, &bus, &[]);
    panel.item().says("No model is loaded");
    let told = panel.notification("settings.toml:2");
    assert!(told.body.contains("mend the line"), "{told:?}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "# mine\n= broken");
    tray.api().switched("a");
}

#[test]
fn a_tray_that_is_killed_is_followed_by_one_that_takes_over() {
    let bus = Bus::start();
    let panel = Panel::start(&bus);
    let mut tray = tray(Models::process().tiny(&["a"]).home(), &bus, &[]);
    panel.item().click(&["Models", "a"]);
    panel.item().says("a is ready");
    tray.kill9();
    tray.restart();
    until(PATIENCE, "the next icon", || (panel.items() == 2).then_some(()));
    panel.item().says("a is ready");
    process::signal(tray.pid(), Signal::TERM);
    assert!(tray.wait_for_end().status.success());
}

#[test]
fn at_login_the_last_model_comes_back_where_that_is_wanted() {
    for (settings, comes) in [("restore_last = true\n", true), ("restore_last = false\n", false)] {
        let bus = Bus::start();
        let panel = Panel::start(&bus);
        let home = Models::process().tiny(&["a"]).home();
        fs::write(home.path().join("config/settings.toml"), settings).unwrap();
        let mut tray = tray(home, &bus, &[]);
        tray.api().switched("a");
        tray.terminate();
        tray.restart();
        if comes {
            panel.item().says("a is ready");
        } else {
            until(PATIENCE, "the next icon", || (panel.items() == 2).then_some(()));
            panel.item().says("No model is loaded");
        }
    }
}
