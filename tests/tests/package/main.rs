//! The package: checked, installed, used as a desktop uses it, upgraded and removed, in a root of its own above this
//! machine's. It holds the programs of the tests' own profile; `scripts/test.sh` makes it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "test code: a panic is how it fails")]

mod root;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use corral_testkit::SandboxHome;
use corral_tests::local::Ran;
use corral_tests::{Bus, Display, Models, PATIENCE, Panel, parts, process, until};
use rustix::process::Signal;

use crate::root::Root;

/// The package; panics with what to do where there is none.
fn package() -> PathBuf {
    let path = parts::variable("CORRAL_TEST_PACKAGE").map(PathBuf::from).filter(|path| path.is_file());
    path.expect("there is no package (CORRAL_TEST_PACKAGE): run scripts/test.sh, or scripts/package.sh --debug")
}

fn ran(program: &str, args: &[&str]) -> Ran {
    let mut command = Command::new(program);
    command.args(args);
    root::ran(command)
}

/// What another package's trigger may write when one with icons, entries or manual pages comes or goes, and where
/// `dpkg`, `apt` and a web view keep what they know.
fn is_anothers(path: &str) -> bool {
    let caches = ["icon-theme.cache", "mimeinfo.cache"];
    let kept = ["var/lib/dpkg/", "var/lib/apt/", "var/cache/", "var/log/", "root/"];
    caches.iter().any(|name| path.ends_with(name)) || kept.iter().any(|folder| path.starts_with(folder))
}

/// What is there and not on this machine, was changed, or is missing, but those.
fn changes(root: &Root) -> BTreeSet<String> {
    let all = root.run("find", &[root::CHANGES, "-printf", "%y %P\n"]).good();
    let changed = all.lines().filter_map(|line| line.split_once(' ')).filter(|(kind, path)| {
        // A folder is copied when something in it is written.
        let is_copy = *kind == "d" && Path::new("/").join(path).is_dir();
        !is_copy && !is_anothers(path)
    });
    changed.map(|(_, path)| path.to_owned()).collect()
}

/// The same package with a later version.
fn newer(deb: &Path, folder: &Path) -> PathBuf {
    let tree = folder.join("tree");
    let later = folder.join("later.deb");
    ran("dpkg-deb", &["-R", deb.to_str().unwrap(), tree.to_str().unwrap()]).good();
    let control = tree.join("DEBIAN/control");
    let text = fs::read_to_string(&control).unwrap();
    let (before, after) = text.split_once("Version: ").unwrap();
    let (version, after) = after.split_once('\n').unwrap();
    fs::write(&control, format!("{before}Version: {version}+later\n{after}")).unwrap();
    let args = ["--root-owner-group", "-Zgzip", "-z1", "-b", tree.to_str().unwrap(), later.to_str().unwrap()];
    ran("dpkg-deb", &args).good();
    later
}

#[test]
fn it_is_as_debian_asks() {
    let deb = package();
    let args = ["--allow-root", "--fail-on", "error,warning", "--no-tag-display-limit", deb.to_str().unwrap()];
    let said = ran("lintian", &args).good();
    assert_eq!(said, "");
}

#[test]
fn it_is_installed_used_upgraded_and_removed() {
    let folder = tempfile::tempdir().unwrap();
    let deb = folder.path().join("corral.deb");
    fs::copy(package(), &deb).unwrap();
    let deb = deb.to_str().unwrap();
    let home = Models::process().tiny(&["a"]).home();
    let root = Root::start(&[folder.path(), home.path(), Path::new("/tmp"), &std::env::temp_dir()]);
    assert!(!Path::new("/usr/bin/corral").exists(), "this machine has Corral installed");
    assert_eq!(changes(&root), BTreeSet::new());

    root.apt(&["install", deb]);
    let new = changes(&root);
    assert!(["usr/bin/corral", "usr/lib/corral"].iter().all(|path| new.contains(*path)), "{new:?}");
    every_file_is_as_its_readers_want_it(&root);
    let bus = Bus::start();
    let panel = Panel::start(&bus);
    let display = Display::start();
    let env = [("CORRAL_HOME", home.path().to_str().unwrap()), ("DBUS_SESSION_BUS_ADDRESS", bus.address())];
    let env = [&env[..], &[("DISPLAY", display.name()), ("HOME", home.path().to_str().unwrap())]].concat();
    the_command_works(&root, &home, &env);
    the_unit_serves(&root, &env);

    let mut tray = root.start_program("/usr/bin/corral-tray", &["--hidden"], &env);
    let item = panel.item();
    item.click(&["Models", "a"]);
    item.says("a is ready");
    // A new version comes while the old one runs.
    let later = newer(Path::new(deb), folder.path());
    root.apt(&["install", later.to_str().unwrap()]);
    let status = root.run_in("/usr/bin/corral", &["status", "--json"], &env).good();
    assert!(status.contains("\"ready\""), "{status}");
    item.activate();
    until(PATIENCE, "a window", || display.windows().contains("\"Corral\"").then_some(()));
    item.click(&["Quit"]);
    assert!(until(PATIENCE, "it ends", || tray.try_wait().unwrap()).success());

    root.apt(&["install", "--reinstall", later.to_str().unwrap()]);
    root.apt(&["remove", "corral"]);
    assert_eq!(changes(&root), BTreeSet::new());
    root.apt(&["install", deb]);
    root.apt(&["purge", "corral"]);
    assert_eq!(changes(&root), BTreeSet::new());
    assert!(!Path::new("/usr/bin/corral").exists(), "the machine itself was left alone");
}

fn every_file_is_as_its_readers_want_it(root: &Root) {
    assert_eq!(root.run("dpkg", &["--verify", "corral"]).good(), "");
    root.run("desktop-file-validate", &["/usr/share/applications/corral.desktop"]).good();
    let metainfo = "/usr/share/metainfo/org.corral.Corral.metainfo.xml";
    root.run("appstreamcli", &["validate", "--no-net", metainfo]).good();
    let runtime = [("XDG_RUNTIME_DIR", "/run")];
    let unit = "/usr/lib/systemd/user/corral.service";
    let said = root.run_in("systemd-analyze", &["--user", "verify", unit], &runtime);
    assert_eq!((said.code, said.stderr.contains("corral")), (Some(0), false), "{said:?}");
    for page in ["corral", "corral-claude", "claude-local", "corral-tray"] {
        root.run("gzip", &["-t", &format!("/usr/share/man/man1/{page}.1.gz")]).good();
    }
    root.run("bash", &["-n", "/usr/share/bash-completion/completions/corral"]).good();
}

/// What systemd would start, as it is written.
fn the_unit_serves(root: &Root, env: &[(&str, &str)]) {
    let unit = root.run("cat", &["/usr/lib/systemd/user/corral.service"]).good();
    let line = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
    let words: Vec<&str> = line.split_whitespace().collect();
    let mut service = root.start_program(words[0], &words[1..], env);
    until(PATIENCE, "the unit serves", || {
        assert_eq!(service.try_wait().unwrap(), None, "{line} goes on");
        let status = root.run_in("/usr/bin/corral", &["status", "--json"], env);
        (status.code == Some(0) && status.stdout.contains("\"stopped\"")).then_some(())
    });
    process::signal(service.id(), Signal::TERM);
    assert!(until(PATIENCE, "it ends", || service.try_wait().unwrap()).success());
}

fn the_command_works(root: &Root, home: &SandboxHome, env: &[(&str, &str)]) {
    let corral = |args: &[&str]| root.run_in("/usr/bin/corral", args, env);
    assert_eq!(corral(&["--version"]).good(), format!("corral {}\n", env!("CARGO_PKG_VERSION")));
    // What is missing on this machine makes it 1; that it looks is what counts.
    let doctor = corral(&["doctor"]);
    assert!(doctor.stdout.contains("bubblewrap") && matches!(doctor.code, Some(0 | 1)), "{doctor:?}");
    corral(&["check"]).good();
    corral(&["autostart", "on"]).good();
    let entry = fs::read_to_string(home.path().join("config/autostart/corral.desktop")).unwrap();
    assert!(entry.contains("\nExec=\"/usr/bin/corral-tray\" --hidden\n"), "{entry}");
    // It is a name for the other, which it finds beside it.
    let said = root.run_in("/usr/bin/claude-local", &["--help"], env).good();
    assert!(said.contains("--workspace"), "{said}");
    let workspace = home.path().join("project");
    fs::create_dir(&workspace).unwrap();
    let jail = ["jail", "--network", "none", "--workspace", workspace.to_str().unwrap(), "--", "pwd"];
    assert_eq!(corral(&jail).good().trim_end(), workspace.to_str().unwrap());
}
