//! What the dashboard stands on, with the real program: the files that a person configures Corral by, and the way to it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "test code: a panic is how it fails")]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use corral_testkit::SandboxHome;
use corral_tests::api::expect_error;
use corral_tests::daemon::corral;
use corral_tests::{Api, Daemon, Display, Models, PATIENCE, Window, parts, until};
use serde_json::{Value, json};

fn daemon() -> Daemon {
    Daemon::start(Models::process().tiny(&["a", "b"]).home())
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn the_catalog_is_edited_with_its_comments_and_its_mistakes_have_places() {
    let daemon = daemon();
    let (api, path) = (daemon.api(), daemon.home().catalog());
    let commented = format!("# mine\n{}# the end\n", fs::read_to_string(&path).unwrap());
    daemon.home().write_catalog(&commented);
    let there = api.get("/catalog").expect(200);
    assert_eq!((&there["text"], &there["problems"]), (&json!(commented), &json!([])));
    assert_eq!(there["engine"]["runtime"], "process");

    // One bad model takes nothing down, and the editor can mark its line.
    let with_bad = format!("{commented}[models.bad]\nfile = \"bad.gguf\"\nctx = \"much\"\n");
    let saved = api.put("/catalog", &json!({ "text": with_bad, "version": there["version"] })).expect(200);
    let problem = &saved["problems"][0];
    let line = with_bad.lines().position(|line| line.starts_with("ctx = \"much\"")).unwrap() + 1;
    assert_eq!((&problem["line"], &problem["column"], &problem["end_column"]), (&json!(line), &json!(7), &json!(13)));
    assert_eq!((&problem["key"], &problem["model"]), (&json!("models.bad.ctx"), &json!("bad")));
    assert_eq!(fs::read_to_string(&path).unwrap(), with_bad);
    api.until(PATIENCE, "the daemon has read it", |status| status.catalog.problems.len() == 1);

    // Somebody else was quicker; and what makes no catalog is not written.
    let stale = json!({ "text": commented, "version": there["version"] });
    api.put("/catalog", &stale).expect(409);
    let broken = api.put("/catalog", &json!({ "text": "schema = 1\nx = =", "version": saved["version"] }));
    assert_eq!((broken.status, &broken.body["error"]["code"]), (422, &json!("catalog_invalid")));
    assert_eq!(fs::read_to_string(&path).unwrap(), with_bad);
    let checked = api.post("/catalog/check", &json!({ "text": "schema = 1\nx = =" })).expect(200);
    assert_eq!(checked["problems"][0]["line"], 2);

    // Through a link, with the mode that the file has.
    let real = daemon.home().path().join("dotfiles.toml");
    fs::rename(&path, &real).unwrap();
    fs::set_permissions(&real, Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::symlink(&real, &path).unwrap();
    let set = api.patch("/catalog", &json!({ "server": { "auto_switch": "never" } })).expect(200);
    assert_eq!(set["server"]["auto_switch"], "never");
    let now = fs::read_to_string(&real).unwrap();
    assert!(path.is_symlink() && now.starts_with("# mine\n") && now.contains("# the end\n"), "{now}");
    assert_eq!(fs::metadata(&real).unwrap().permissions().mode() & 0o777, 0o640);
    until(PATIENCE, "it is in force", || (api.get("/status").body["auto_switch"] == "never").then_some(()));

    // What cannot be written is said, and nothing is lost.
    fs::set_permissions(&real, Permissions::from_mode(0o440)).unwrap();
    let refused = api.patch("/catalog", &json!({ "server": { "auto_switch": "always" } }));
    assert_eq!((refused.status, &refused.body["error"]["code"]), (500, &json!("io")));
    assert!(refused.body["error"]["hint"].as_str().unwrap().contains("nothing was changed"), "{:#}", refused.body);
    assert_eq!(fs::read_to_string(&real).unwrap(), now);
    fs::write(&real, b"# \xff\n").unwrap();
    api.get("/catalog").expect(422);
}

#[test]
fn settings_are_set_and_a_broken_file_keeps_nobody_out() {
    let home = Models::process().tiny(&["a"]).home();
    let path = home.config().join("settings.toml");
    fs::write(&path, "on_quit = \"kepe\"\n").unwrap();
    let daemon = Daemon::start(home);
    let api = daemon.api();
    let there = api.get("/settings").expect(200);
    assert_eq!((&there["settings"]["on_quit"], &there["problem"]["code"]), (&json!("stop"), &json!("catalog_invalid")));
    let now = api.put("/settings", &json!({ "on_quit": "stop", "notifications": "problems" })).expect(200);
    let copy = path.with_extension("toml.broken");
    assert!(now["problem"]["message"].as_str().unwrap().contains(copy.to_str().unwrap()), "{now:#}");
    assert_eq!(fs::read_to_string(copy).unwrap(), "on_quit = \"kepe\"\n");
    let mine = format!("# mine\n{}", fs::read_to_string(&path).unwrap());
    fs::write(&path, &mine).unwrap();
    let now = api.put("/settings", &json!({ "notifications": "problems", "restore_last": false })).expect(200);
    assert_eq!((&now["problem"], &now["settings"]["restore_last"]), (&Value::Null, &json!(false)));
    assert_eq!(fs::read_to_string(&path).unwrap(), format!("{mine}restore_last = false\n"));
    let findings = api.get("/doctor").expect(200);
    assert!(
        findings["findings"].as_array().unwrap().iter().any(|finding| finding["check"] == "catalog"),
        "{findings:#}"
    );
}

/// `corral` with these programs found first.
fn with_path(daemon: &Daemon, programs: &Path, args: &[&str]) -> Output {
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    corral(daemon.home(), args).env("PATH", path).output().unwrap()
}

#[test]
fn the_way_to_the_dashboard_shows_the_token_to_nobody_else() {
    let mut daemon = daemon();
    let folder = tempfile::tempdir().unwrap();
    let (opener, seen) = (folder.path().join("xdg-open"), folder.path().join("seen"));
    fs::write(&opener, format!("#!/bin/sh\nprintf %s \"$*\" >'{}'\n", seen.display())).unwrap();
    fs::set_permissions(&opener, Permissions::from_mode(0o755)).unwrap();
    let done = with_path(&daemon, folder.path(), &["dashboard"]);
    assert!(done.status.success() && done.stdout.is_empty(), "{}", text(&done));
    let token = daemon.api().token().to_owned();
    let way = fs::read_to_string(&seen).unwrap();
    let code = way.strip_prefix(&format!("{}/ui/enter.html#code=", daemon.api().base())).expect("an address");
    assert!(code.len() == 64 && !way.contains(&token), "{way}");

    // Whoever reads it on the command line has no use of it: not as another user, and not a second time.
    let ask = |mut command: Command| {
        let body = format!("{{\"code\":\"{code}\"}}");
        let url = format!("{}/dashboard/token", daemon.api().base());
        let done = command.args(["curl", "-sS", "--json", &body, &url]).output().unwrap();
        serde_json::from_slice::<Value>(&done.stdout).unwrap_or_else(|_| panic!("{}", text(&done)))
    };
    if rustix::process::geteuid().is_root() {
        let mut other = Command::new("setpriv");
        other.args(["--reuid=12345", "--regid=12345", "--clear-groups", "--"]);
        expect_error(&ask(other)["error"], "forbidden", &["for the user only who runs Corral"]);
    } else {
        eprintln!("only root can ask as another user: that was not looked at");
    }
    assert_eq!(ask(Command::new("env"))["token"], token.as_str());
    expect_error(&ask(Command::new("env"))["error"], "unauthorized", &["was used already"]);

    let address = format!("{}/ui/#token={token}", daemon.api().base());
    let printed = daemon.corral(&["dashboard", "--print"]);
    assert_eq!(text(&printed), format!("{address}\n"));
    assert_eq!(daemon.api().get_openly("/ui/").status, 200);

    // A browser that cannot be opened is said.
    fs::write(&opener, "#!/bin/sh\nexit 3\n").unwrap();
    let failed = with_path(&daemon, folder.path(), &["dashboard"]);
    assert!(failed.status.code() == Some(78) && text(&failed).contains("--print"), "{}", text(&failed));
    daemon.terminate();
    assert_eq!(daemon.corral(&["dashboard"]).status.code(), Some(69));
}

#[test]
fn a_browser_comes_in_by_what_it_is_told_to_open() {
    let display = Display::start();
    let daemon = Daemon::start_with(Models::process().tiny(&["a"]).home(), &[("DISPLAY", display.name())]);
    let way = |api: &Api| api.post("/dashboard", &json!(null)).expect(200)["url"].as_str().unwrap().to_owned();
    let browser = Window::browser(&daemon);
    let first = way(daemon.api());
    browser.visit(&first);
    browser.says("h1", "Models");
    browser.says("[data-model=a]", "Start");
    let place = browser.ask("return location.href");
    assert_eq!(place, format!("{}/ui/", daemon.api().base()), "nothing of it stays in the address");
    browser.visit(&first);
    browser.says("#said", "was used already");
    assert_eq!(browser.ask("return location.hash"), "");
    browser.visit(&way(daemon.api()));
    browser.says("h1", "Models");
}

#[test]
fn autostart_is_an_entry_on_disk() {
    let home = SandboxHome::new();
    let programs = tempfile::tempdir().unwrap();
    let program = programs.path().join("corral");
    fs::copy(parts::corral_binary(), &program).unwrap();
    let run = |wanted: &str| {
        let mut command = Command::new(&program);
        command.args(["autostart", wanted, "--json"]).env("CORRAL_HOME", home.path());
        let output = command.output().unwrap();
        let json: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output)));
        (output.status.code(), json)
    };
    let entry = home.config().join("autostart/corral.desktop");
    assert_eq!(run("status").1["enabled"], false);
    let (code, refused) = run("on");
    assert_eq!((code, &refused["error"]["code"]), (Some(78), &json!("program_missing")));
    fs::write(programs.path().join("corral-tray"), "").unwrap();
    let (code, on) = run("on");
    assert_eq!((code, &on["enabled"], &on["path"]), (Some(0), &json!(true), &json!(entry.display().to_string())));
    let expected = format!("\nExec=\"{}/corral-tray\" --hidden\n", programs.path().canonicalize().unwrap().display());
    assert!(fs::read_to_string(&entry).unwrap().contains(&expected));
    assert_eq!(run("status").1, on);
    assert_eq!((run("off").1["enabled"].clone(), entry.exists()), (json!(false), false));
}
