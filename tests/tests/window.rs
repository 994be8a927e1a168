//! The dashboard's window for real: the real program in the real web view, driven as a person drives it, on a display
//! and a D-Bus of the test's own.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "test code: a panic is how it fails")]

use std::fs::{self, Permissions};
use std::io::{self, BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

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
fn the_window_comes_back_where_it_was() {
    let (_bus, mut display, daemon) = daemon(Models::process().tiny(&["a"]).home());
    display.manage();
    let wanted = |what: &str, wanted: Option<(i16, i16, u16, u16)>| {
        // It settles in several steps.
        until(PATIENCE, what, || display.place("Corral").filter(|place| wanted.is_none_or(|wanted| *place == wanted)))
    };
    let window = Window::open(&daemon, &[]);
    window.says("h1", "Models");
    let usual = wanted("a window", None);
    display.resize("Corral", 811, 613);
    display.shift("Corral", (173, 131));
    let there = until(PATIENCE, "it is elsewhere", || {
        display
            .place("Corral")
            .filter(|place| (place.0, place.1) != (usual.0, usual.1) && (place.2, place.3) == (811, 613))
    });
    // A frame that were counted twice would shift it a little each time.
    let mut window = Some(window);
    for _ in 0..2 {
        let processes = window.as_ref().unwrap().processes();
        display.close("Corral");
        Window::until_ended(&processes);
        drop(window.take());
        window = Some(Window::open(&daemon, &[]));
        wanted("it is where it was", Some(there));
    }
}

#[test]
fn the_window_goes_where_the_tray_says() {
    let (_bus, _display, daemon) = daemon(Models::process().tiny(&["a"]).home());
    daemon.api().switched("a");
    let folder = tempfile::tempdir().unwrap();
    let (pages, program) = (folder.path().join("pages"), folder.path().join("dashboard"));
    assert!(Command::new("mkfifo").arg(&pages).status().unwrap().success());
    // The driver gives it no input: this does.
    let real = daemon.of("corral-dashboard", &["--attached"]);
    let script = format!("#!/bin/sh\nexec '{}' \"$@\" <'{}'\n", real.get_program().display(), pages.display());
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new(&program);
    command.args(real.get_args()).envs(real.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut tray = fs::File::options().read(true).write(true).open(&pages).unwrap();
    let window = Window::open_program(&command, &[]);
    window.says("h1", "Models");
    tray.write_all(b"logs\n").unwrap();
    window.says("h1", "Logs");
    assert_eq!(window.ask("return location.hash"), "#logs");
    window.says(".log .line", "");
}

#[test]
fn what_the_page_may_not_do_the_web_view_refuses() {
    let (_bus, _display, daemon) = daemon(Models::process().tiny(&["a"]).home());
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    elsewhere.set_nonblocking(true).unwrap();
    let window = Window::open(&daemon, &[]);
    window.says("h1", "Models");
    let address = format!("http://{}", elsewhere.local_addr().unwrap());
    window.ask(&format!(
        "const put = (name, more) => document.head.append(Object.assign(document.createElement(name), more));
        const seen = (window.seen = {{ refused: [], done: [] }});
        document.addEventListener('securitypolicyviolation', (event) => seen.refused.push(event.effectiveDirective));
        put('script', {{ textContent: 'window.seen.done.push(\"inline script\")' }});
        put('script', {{ src: '{address}/script.js', onload: () => seen.done.push('script of another origin') }});
        put('style', {{ textContent: 'body {{ outline: 7px solid }}' }});
        put('img', {{ src: '{address}/picture.png', onload: () => seen.done.push('picture of another origin') }});
        fetch('{address}/data', {{ mode: 'no-cors' }}).then(() => seen.done.push('fetch'), () => undefined);
        const own = document.querySelector('script[src]');
        put('script', {{ type: 'module', src: own.src, onload: () => seen.done.push('own script') }});
        put('img', {{
          src: 'data:image/gif;base64,R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw==',
          onload: () => seen.done.push('own picture'),
        }});"
    ));
    let seen = || window.ask("return window.seen");
    let all = |what: &str| {
        let mut all: Vec<_> =
            seen()[what].as_array().unwrap().iter().map(|one| one.as_str().unwrap().to_owned()).collect();
        all.sort_unstable();
        all
    };
    until(PATIENCE, "its own are there", || (all("done").len() >= 2).then_some(()));
    until(PATIENCE, "the others are refused", || (all("refused").len() >= 5).then_some(()));
    assert_eq!(all("done"), ["own picture", "own script"]);
    assert_eq!(all("refused"), ["connect-src", "img-src", "script-src-elem", "script-src-elem", "style-src-elem"]);
    assert_eq!(
        window.ask("return getComputedStyle(document.body).outlineWidth").as_str().map(|width| width == "7px"),
        Some(false)
    );
    assert_eq!(elsewhere.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock, "nobody asked there");
}

#[test]
fn what_is_typed_and_not_saved_is_lost_only_where_a_person_says_so() {
    const QUESTION: &str = "Corral: not saved";
    let (_bus, display, daemon) = daemon(Models::process().tiny(&["a"]).home());
    let window = Window::open(&daemon, &["--page", "settings"]);
    let terminal = field("Terminal", "input");
    window.fill(&terminal, "kitty");
    // What is not shown is not saved either.
    window.go("models", "Models");
    let asked = || until(PATIENCE, "a question", || (display.count(QUESTION) == 1).then_some(()));
    display.close("Corral");
    asked();
    display.close("Corral");
    display.close(QUESTION);
    until(PATIENCE, "the question has gone", || (display.count(QUESTION) == 0).then_some(()));
    window.go("settings", "Settings");
    assert_eq!(window.value(&terminal), "kitty", "it was kept");
    let processes = window.processes();
    display.close("Corral");
    asked();
    // The buttons share its lower edge: the right one discards.
    display.click(QUESTION, (3, 4));
    Window::until_ended(&processes);
    assert!(!daemon.home().config().join("settings.toml").exists());
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
