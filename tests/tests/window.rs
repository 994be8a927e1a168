//! The dashboard's window for real: the real program in the real web view, driven as a person drives it, on a display
//! and a D-Bus of the test's own.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "test code: a panic is how it fails")]

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use corral_testkit::SandboxHome;
use corral_tests::{Bus, Daemon, Display, Models, PATIENCE, Window, process, until};
use rustix::process::Signal;

/// A daemon whose windows are seen on a display of its own.
fn daemon(home: SandboxHome) -> (Bus, Display, Daemon) {
    let (bus, display) = (Bus::start(), Display::start());
    let env = [("DBUS_SESSION_BUS_ADDRESS", bus.address()), ("DISPLAY", display.name())];
    let daemon = Daemon::start_with(home, &env);
    (bus, display, daemon)
}

/// Where a setting is chosen or typed.
fn field(label: &str, element: &str) -> String {
    format!("//div[@class='field' or @class='field changed'][.//label[.='{label}']]//{element}")
}

/// Something is shown: words, and more than a surface of one colour.
#[track_caller]
fn assert_shows(window: &Window, heading: &str) {
    window.says("h1", heading);
    window.lacks(".loading-text");
    let picture = window.picture();
    assert!(picture.width >= 640 && picture.height >= 420 && picture.colours > 50, "{heading}: {picture:?}");
}

#[test]
fn a_model_is_started_and_switched_in_the_window_and_the_container_is_that_one() {
    let (_bus, _display, daemon) = daemon(Models::docker().tiny(&["a", "b"]).home());
    let window = Window::open(&daemon, &[]);
    assert_shows(&window, "Models");
    for model in ["a", "b"] {
        window.says(&format!("[data-model={model}]"), model);
    }
    // The list of two ends with the second.
    let below = "const bottom = (place) => document.querySelector(place).getBoundingClientRect().bottom;
        return bottom('.table') - bottom('.table .row:last-child')";
    assert!(window.ask(below).as_f64().unwrap() < 3.0);

    window.click("[aria-label=\"Start a\"]");
    window.says("[data-model=a]", "Ready");
    window.says(".state-box", "Ready");
    let status = daemon.api().until_serves("a");
    let before = daemon.running();
    assert_eq!(before, [corral_tests::api::instance(&status)]);

    window.click("[aria-label=\"Switch to b\"]");
    window.says("[data-model=b]", "Ready");
    let status = daemon.api().until_serves("b");
    daemon.until_owns_only(&[corral_tests::api::instance(&status)]);
    assert!(!window.text("[data-model=a]").unwrap().contains("Ready"));

    window.click("[aria-label=\"Stop b\"]");
    window.says(".state-box", "Stopped");
    daemon.until_owns_only(&[]);
}

#[test]
fn the_log_is_the_servers_own_and_a_setting_is_in_its_file() {
    let (_bus, _display, daemon) = daemon(Models::process().tiny(&["a"]).home());
    daemon.api().switched("a");
    let window = Window::open(&daemon, &["--page", "logs"]);
    assert_shows(&window, "Logs");
    let lines = daemon.api().logs(3);
    window.says(".log", lines[0]["msg"].as_str().unwrap().trim());

    window.go("settings", "Settings");
    window.choose(&field("Notifications", "select"), "Problems only");
    window.click("//button[.='Save']");
    window.says("body", "The settings are saved");
    let file = daemon.home().config().join("settings.toml");
    assert_eq!(fs::read_to_string(file).unwrap(), "notifications = \"problems\"\n");
}

#[test]
fn every_view_shows_something_and_nothing_is_wrong() {
    let (_bus, _display, daemon) = daemon(Models::process().tiny(&["a"]).home());
    daemon.api().switched("a");
    let window = Window::open(&daemon, &["--page", "health"]);
    assert_shows(&window, "Health");
    for (view, heading, shows) in [
        ("models", "Models", "[data-model=a]"),
        ("gpu", "GPU", ".nothing, .device"),
        ("live", "Live", ".card"),
        ("logs", "Logs", ".log .line"),
        ("usage", "Usage", "main h1"),
        ("settings", "Settings", "input"),
        ("health", "Health", "main li, main .card"),
    ] {
        window.go(view, heading);
        assert_shows(&window, heading);
        window.says(shows, "");
        window.lacks(".card.failed, .banner");
        assert!(window.text("main").unwrap().len() > heading.len() + 20, "{view}: {:?}", window.text("main"));
    }
    window.go("settings", "Settings");
    window.click(".tabs a[href='#settings/catalog']");
    until(PATIENCE, "the catalog's text", || window.value("textarea").contains("[models.a]").then_some(()));
}

#[test]
fn the_window_keeps_its_size_and_its_end_is_that_of_all_its_processes() {
    let (_bus, display, daemon) = daemon(Models::process().tiny(&["a"]).home());
    let size = |window: &Window| window.ask("return [innerWidth, innerHeight]");
    let window = Window::open(&daemon, &[]);
    window.says("h1", "Models");
    let usual = size(&window);
    display.resize("Corral", 801, 603);
    until(PATIENCE, "it has another size", || (size(&window) == serde_json::json!([801, 603])).then_some(()));
    assert_ne!(usual, size(&window));
    let processes = window.processes();
    assert!(processes.len() >= 3, "the program and the web view's: {processes:?}");
    display.close("Corral");
    Window::until_ended(&processes);
    drop(window);

    let window = Window::open(&daemon, &[]);
    until(PATIENCE, "it has the size that it had", || (size(&window) == serde_json::json!([801, 603])).then_some(()));
    daemon.api().get("/status").expect(200);
}

#[test]
fn a_page_that_breaks_down_is_loaded_again_and_one_that_never_was_is_given_up() {
    let (_bus, display, daemon) = daemon(Models::process().tiny(&["a"]).home());
    let mut command = daemon.of("corral-dashboard", &["--attached"]);
    command.env("NO_AT_BRIDGE", "1").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let web = |program: u32| {
        let is_it = |pid: &u32| process::command_line(*pid).contains("WebKitWebProcess");
        until(PATIENCE, "the process of the page", || process::family(program).into_iter().find(is_it))
    };

    let mut program = command.spawn().unwrap();
    let pages = program.stdin.take();
    let mut told = BufReader::new(program.stdout.take().unwrap()).lines();
    assert_eq!(told.next().unwrap().unwrap(), "ready");
    for _ in 0..2 {
        process::signal(web(program.id()), Signal::KILL);
        assert_eq!(told.next().unwrap().unwrap(), "ready", "the page can be used again");
    }
    assert_eq!(display.count("Corral"), 1);
    drop(pages);
    assert!(program.wait().unwrap().success());

    let mut program = command.spawn().unwrap();
    let _pages = program.stdin.take();
    process::signal(web(program.id()), Signal::KILL);
    let ended = program.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(!ended.status.success() && said.trim().contains("process"), "{ended:?}");
}

#[test]
fn a_locale_without_a_language_leaves_nothing_blank() {
    let (_bus, _display, daemon) = daemon(Models::process().tiny(&["a"]).home());
    let window = Window::open_with(&daemon, &[], &[("LC_ALL", "C")]);
    assert_shows(&window, "Models");
    window.says("[data-model=a]", "Start");
    window.go("usage", "Usage");
    assert_shows(&window, "Usage");
}

#[test]
fn mistakes_in_the_files_are_shown_with_their_places_and_nothing_typed_is_lost() {
    let home = Models::process().tiny(&["a"]).home();
    let settings = home.config().join("settings.toml");
    fs::write(&settings, "# mine\non_quit = \"kepe\"\n").unwrap();
    let (_bus, _display, daemon) = daemon(home);
    let catalog = daemon.home().catalog();
    let good = fs::read_to_string(&catalog).unwrap();
    let line = good.lines().count() + 3;
    fs::write(&catalog, format!("{good}[models.b]\nfile = \"a.gguf\"\nctxx = 4096\n")).unwrap();

    let window = Window::open(&daemon, &[]);
    let place = format!("models.toml:{line}");
    window.says(".strip", &place);
    window.says(".strip", "models.b.ctxx");
    window.click(".strip a");
    window.says(".mistakes", &format!("Line {line}"));
    window.says(".mistakes", "ctxx");

    // A settings file that cannot be read says where; it is kept when another is written.
    window.click(".tabs a[href='#settings']");
    window.says(".card.failed", "settings.toml:2: ");
    window.choose(&field("Notifications", "select"), "None");
    window.click("//button[.='Save']");
    window.says(".card.failed", "settings.toml.broken");
    assert_eq!(fs::read_to_string(settings.with_extension("toml.broken")).unwrap(), "# mine\non_quit = \"kepe\"\n");
    assert_eq!(fs::read_to_string(&settings).unwrap(), "notifications = \"none\"\n");

    // One that cannot be written any more says why, and what was typed stays, also where somebody looks elsewhere.
    fs::set_permissions(&settings, Permissions::from_mode(0o444)).unwrap();
    let terminal = field("Terminal", "input");
    window.fill(&terminal, "kitty");
    window.click("//button[.='Save']");
    window.says(".card.failed", "cannot write");
    window.says(".card.failed", "nothing was changed");
    window.go("models", "Models");
    window.go("settings", "Settings");
    window.says("main", "cannot be written");
    assert_eq!(window.value(&terminal), "kitty");
    fs::set_permissions(&settings, Permissions::from_mode(0o644)).unwrap();
    window.go("models", "Models");
    window.go("settings", "Settings");
    window.click("//button[.='Save']");
    window.says("body", "The settings are saved");
    assert_eq!(fs::read_to_string(&settings).unwrap(), "notifications = \"none\"\nterminal = \"kitty\"\n");
}
