//! The real parts that the tests stand on, and what to do where one is missing.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

/// The image with a real `llama-server`; panics with what to do where the engine does not have it.
pub fn image() -> &'static str {
    static IMAGE: OnceLock<String> = OnceLock::new();
    IMAGE.get_or_init(|| {
        let image = variable("CORRAL_TEST_IMAGE").unwrap_or_else(|| "corral-test/llama-server:local".to_owned());
        let shown = Command::new("docker").args(["image", "inspect", &image]).output();
        let shown = shown.unwrap_or_else(|error| panic!("there is no `docker` command ({error}): run scripts/test.sh"));
        assert!(
            shown.status.success(),
            "the image {image} (CORRAL_TEST_IMAGE) cannot be used: {}: run scripts/test.sh, which sets the tests up",
            String::from_utf8_lossy(&shown.stderr).trim()
        );
        image
    })
}

/// A `llama-server` that runs on this machine; panics with what to do where there is none.
pub fn llama_server() -> PathBuf {
    let path = variable("CORRAL_TEST_LLAMA_SERVER").map_or_else(|| cache().join("corral/llama-server"), PathBuf::from);
    assert!(
        path.is_file(),
        "there is no llama-server at {} (CORRAL_TEST_LLAMA_SERVER): run scripts/test.sh, which sets the tests up",
        path.display()
    );
    path
}

/// A `llama-server` with the Vulkan backend, whose devices are this machine's processor; panics with what to do where
/// there is none.
pub fn llama_vulkan() -> PathBuf {
    let path = variable("CORRAL_TEST_LLAMA_VULKAN");
    let path = path.map_or_else(|| cache().join("corral/llama-vulkan-root/launch"), PathBuf::from);
    assert!(
        path.is_file(),
        "there is no llama-server at {} (CORRAL_TEST_LLAMA_VULKAN): run scripts/test.sh, which sets the tests up",
        path.display()
    );
    path
}

/// The real Claude Code; panics with what to do where there is none.
pub fn claude() -> PathBuf {
    let path = variable("CORRAL_TEST_CLAUDE").map(PathBuf::from).filter(|path| path.is_file());
    path.expect("there is no Claude Code (CORRAL_TEST_CLAUDE): run scripts/test.sh, which sets the tests up")
}

fn cache() -> PathBuf {
    variable("XDG_CACHE_HOME").map_or_else(|| Path::new(&home()).join(".cache"), PathBuf::from)
}

/// The user's home folder.
pub fn home() -> String {
    variable("HOME").expect("HOME is set")
}

/// A variable of the tests' own environment; one that is empty counts as not set.
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The `corral` program of this very source tree, in the profile of the tests, with `claude-local`, `corral-tray` and
/// `corral-dashboard` beside it; built where they are out of date.
pub fn corral_binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| variable("CORRAL_TEST_BINARY").map_or_else(build, PathBuf::from))
}

fn build() -> PathBuf {
    let cargo = variable("CARGO").unwrap_or_else(|| "cargo".to_owned());
    let mut command = Command::new(cargo);
    command.current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null()).stderr(Stdio::inherit());
    command.args(["build", "--locked", "--package", "corral-cli", "--package", "corral-tray"]);
    command.args(["--package", "corral-dashboard", "--bins"]);
    command.arg("--message-format=json-render-diagnostics");
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    let built = command.output().expect("cargo runs");
    assert!(built.status.success(), "corral does not build: see above");
    let told = String::from_utf8(built.stdout).expect("cargo speaks UTF-8");
    let messages = told.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut programs = messages.filter(|message| message["target"]["name"] == "corral");
    let program = programs.find_map(|message| message["executable"].as_str().map(PathBuf::from));
    program.expect("cargo says where it put the program")
}

/// The folder of `WebKit`'s helper programs.
pub fn webkit() -> PathBuf {
    let folders = std::fs::read_dir("/usr/lib").expect("a folder").map(|entry| entry.expect("an entry").path());
    let mut folders = folders.chain([PathBuf::from("/usr/libexec")]).map(|folder| folder.join("webkit2gtk-4.1"));
    folders.find(|folder| folder.join("WebKitWebProcess").is_file()).expect("WebKitGTK, which setup brings")
}
