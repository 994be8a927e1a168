use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;

/// A machine with no more on it than each test puts there.
struct Machine {
    root: tempfile::TempDir,
    search: Search,
}

impl Machine {
    fn new() -> Self {
        // The real path: what is found is compared with it.
        let root = tempfile::tempdir_in(std::env::temp_dir().canonicalize().unwrap()).unwrap();
        let path = std::env::join_paths([Path::new("."), &root.path().join("bin")]).unwrap();
        let at = |path: &str| root.path().join(path);
        let search = Search {
            named: None,
            path,
            programs: vec![at("home/.local/bin/claude"), at("home/.claude/local/claude")],
            modules: vec![at("lib/node_modules")],
        };
        Self { root, search }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    fn write(&self, path: &str, content: &[u8]) -> PathBuf {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        path
    }

    fn elf(&self, path: &str) -> PathBuf {
        self.write(path, b"\x7fELF\x02")
    }

    fn package(&self, folder: &str, name: &str, version: &str) -> PathBuf {
        let about = format!("{{\"name\":\"{name}\",\"version\":\"{version}\",\"bin\":{{}}}}");
        self.write(&format!("{folder}/package.json"), about.as_bytes());
        self.path(folder)
    }

    fn link(&self, path: &str, to: &Path) -> PathBuf {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(to, &path).unwrap();
        path
    }

    fn find(&self) -> Result<Program> {
        self.search.program(self.root.path())
    }

    fn refused(&self) -> String {
        let error = self.find().unwrap_err();
        assert_eq!(error.code(), Code::ProgramMissing);
        assert!(error.body().hint.unwrap().contains("install.sh"));
        error.to_string().replace(&format!("{}/", self.root.path().display()), "")
    }
}

const CLI: &str = "lib/node_modules/@anthropic-ai/claude-code";

#[test]
fn a_native_installation_is_one_file_whose_path_names_its_version() {
    let machine = Machine::new();
    let file = machine.elf("home/.local/share/claude/versions/2.1.42");
    machine.link("home/.local/bin/claude", &file);
    let expected =
        Program { file: file.clone(), kind: Kind::Native, version: Version(2, 1, 42), read_only: vec![file.clone()] };
    let found = machine.find().unwrap();
    assert_eq!((found.argv(), found), (vec![file], expected));
}

#[test]
fn a_script_of_npm_needs_its_package_and_the_node_of_its_installation() {
    let machine = Machine::new();
    let package = machine.package(CLI, PACKAGE, "2.0.14");
    let script = machine.write(&format!("{CLI}/cli.js"), b"#!/usr/bin/env node\n1");
    machine.link("bin/claude", &script);
    assert_eq!(machine.refused(), "Claude Code cannot be used: bin/claude needs `node`, which is not installed");
    let node = machine.elf("node-22/node");
    machine.link("bin/node", &node);
    let found = machine.find().unwrap();
    assert_eq!(found.argv(), [node.clone(), script.clone()]);
    let read_only = vec![node.clone(), package];
    assert_eq!(found, Program { file: script, kind: Kind::Node(node), version: Version(2, 0, 14), read_only });
}

#[test]
fn the_native_program_of_npm_is_taken_wherever_npm_left_it() {
    let stub = b"echo \"Error: claude native binary not installed.\" >&2\n";
    let cpu = if cfg!(target_arch = "aarch64") { "arm64" } else { "x64" };
    let platform = format!("claude-code-linux-{cpu}");
    let machine = Machine::new();
    machine.package(CLI, PACKAGE, "2.1.329");
    let bin = machine.write(&format!("{CLI}/bin/claude.exe"), stub);
    machine.link("bin/claude", &bin);
    let why = "Claude Code cannot be used: bin/claude lacks its native program: run `node ";
    assert_eq!(machine.refused(), format!("{why}{CLI}/install.cjs`"));
    let beside = machine.elf(&format!("lib/node_modules/@anthropic-ai/{platform}/claude"));
    assert_eq!(machine.find().unwrap().read_only, [beside]);
    let inside = machine.elf(&format!("{CLI}/node_modules/@anthropic-ai/{platform}/claude"));
    assert_eq!(machine.find().unwrap().read_only, [inside]);
    // As a rule npm has put it into the place of the script.
    machine.elf(&format!("{CLI}/bin/claude.exe"));
    let found = machine.find().unwrap();
    assert_eq!((found.argv(), found.version), (vec![bin.clone()], Version(2, 1, 329)));
    // Without a link in `PATH` it is found among the modules.
    std::fs::remove_file(machine.path("bin/claude")).unwrap();
    assert_eq!(machine.find().unwrap().file, bin);
}

#[test]
fn what_does_not_do_is_passed_over_and_named_where_nothing_does() {
    let machine = Machine::new();
    assert_eq!(machine.refused(), "Claude Code cannot be used: it is not installed");
    machine.write("bin/claude", b"#!/bin/sh\nexec /opt/claude \"$@\"\n");
    let script =
        "Claude Code cannot be used: bin/claude is a script that starts another program; which one cannot be seen";
    assert_eq!(machine.refused(), script);
    let shim = machine.elf("home/.volta/bin/volta-shim");
    machine.link("home/.local/bin/claude", &shim);
    assert_eq!(machine.refused(), script);
    let good = machine.elf("home/claude/versions/2.1.0");
    machine.link("home/.claude/local/claude", &good);
    assert_eq!(machine.find().unwrap().file, good);
}

#[test]
fn one_that_is_named_is_the_only_one_that_does() {
    let mut machine = Machine::new();
    let good = machine.elf("claude/versions/2.1.0");
    machine.link("bin/claude", &good);
    machine.search.named = Some("claude".into());
    assert_eq!(machine.refused(), "CORRAL_CLAUDE is `claude`, which is no absolute path");
    let volta = machine.elf("volta-shim");
    std::fs::create_dir(machine.path("folder")).unwrap();
    let private = machine.elf("private");
    std::fs::set_permissions(&private, PermissionsExt::from_mode(0o600)).unwrap();
    for (named, why) in [
        (machine.path("folder"), "CORRAL_CLAUDE is folder, which is no file"),
        (private, "CORRAL_CLAUDE is private, which may not be run"),
        (machine.path("gone"), "CORRAL_CLAUDE is gone, which cannot be found: No such file or directory (os error 2)"),
        (volta, "CORRAL_CLAUDE is volta-shim, which is a link to volta-shim, which starts another program"),
    ] {
        machine.search.named = Some(named);
        let refused = machine.refused();
        assert!(refused.starts_with(why), "{refused}");
    }
    machine.search.named = Some(good.clone());
    assert_eq!(machine.find().unwrap().file, good);
}

#[test]
fn one_that_does_not_show_its_version_is_asked() {
    let mut machine = Machine::new();
    // A real program that prints something else than a version.
    machine.search.named = Some("/bin/true".into());
    let refused = machine.refused();
    assert!(refused.contains("which does not say its version, but `"), "{refused}");
    // Bytes that no machine can run.
    machine.search.named = Some(machine.elf("broken"));
    let refused = machine.refused();
    assert!(refused.contains("broken, which does not say its version: "), "{refused}");
}

#[test]
fn all_the_usual_places_are_searched() {
    let machine = Machine::new();
    for version in ["v9.1.0", "v22.4.1", "v22.11.0", "system"] {
        std::fs::create_dir_all(machine.path("home/.nvm/versions/node").join(version)).unwrap();
    }
    let variables = |name: &str| match name {
        "PATH" => Some("/a:/b".into()),
        "CORRAL_CLAUDE" => Some("".into()),
        _ => None,
    };
    let home = machine.path("home");
    let search = Search::new(&variables, &home);
    let programs =
        [".local/bin/claude", ".claude/local/claude", ".claude/local/node_modules/.bin/claude", ".bun/bin/claude"];
    let nvm = |version: &str| home.join(".nvm/versions/node").join(version).join("lib/node_modules");
    let expected = Search {
        named: None,
        path: "/a:/b".into(),
        programs: programs.map(|path| home.join(path)).into(),
        modules: vec![
            "/usr/lib/node_modules".into(),
            "/usr/local/lib/node_modules".into(),
            home.join(".npm-global/lib/node_modules"),
            nvm("v22.11.0"),
            nvm("v22.4.1"),
            nvm("v9.1.0"),
        ],
    };
    assert_eq!(search, expected);
}
