//! A Docker engine of a test's own, which may go away and come back.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;

use crate::docker::Docker;
use crate::{PATIENCE, parts, process, until};

/// An engine with its own socket, storage and network bridge; everything goes when this is dropped.
#[derive(Debug)]
pub struct PrivateEngine {
    folder: PathBuf,
    bridge: String,
    child: Option<Child>,
}

impl PrivateEngine {
    /// Starts one and gives it the image with `llama-server`.
    pub fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("corral-engine-").tempdir().expect("a folder").keep();
        let number = std::process::id() % 250;
        let mut engine = Self { folder, bridge: format!("corralt{number}"), child: None };
        // Of the range that is kept for tests of networks, so that it is nobody's.
        let address = format!("198.18.{number}.1/24");
        // A bridge without an address of its own takes that of a container, and changes it when that one goes.
        run(&["ip", "link", "add", &engine.bridge, "address", "02:42:c6:12:00:01", "type", "bridge"]);
        run(&["ip", "address", "add", &address, "dev", &engine.bridge]);
        run(&["ip", "link", "set", &engine.bridge, "up"]);
        engine.serve();
        let image = engine.folder.join("image.tar");
        Docker::new().run(&["save", "-o", &image.display().to_string(), parts::image()]);
        engine.docker().run(&["load", "-i", &image.display().to_string()]);
        engine
    }

    /// Its address, for `DOCKER_HOST`.
    pub fn host(&self) -> String {
        format!("unix://{}", self.path("docker.sock"))
    }

    /// A client of it.
    pub fn docker(&self) -> Docker {
        Docker::at(&self.host())
    }

    fn path(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    /// Starts the engine again after [`PrivateEngine::stop`].
    pub fn serve(&mut self) {
        let log = File::options().create(true).append(true).open(self.folder.join("log")).expect("a log file");
        let mut command = Command::new("dockerd");
        command.args(["--data-root", &self.path("data"), "--exec-root", &self.path("exec")]);
        command.args(["--pidfile", &self.path("pid"), "--host", &self.host(), "--bridge", &self.bridge]);
        // The ports are published by Docker's own proxy: the rules of this machine's firewall are left alone.
        command.args(["--iptables=false", "--ip-masq=false", "--userland-proxy=true"]);
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a descriptor")).stderr(log);
        self.child = Some(command.spawn().unwrap_or_else(|error| panic!("dockerd cannot be started ({error})")));
        until(PATIENCE, "the private engine answers", || {
            let ended = self.child.as_mut().and_then(|child| child.try_wait().expect("a child can be waited for"));
            assert!(ended.is_none(), "dockerd ended ({ended:?}); it has to run as root:\n{}", self.log());
            self.docker().try_run(&["version"]).ok()
        });
    }

    /// Stops the engine, and waits until it has ended. Its containers end with it.
    pub fn stop(&mut self) {
        let mut child = self.child.take().expect("the engine runs");
        process::signal(child.id(), Signal::TERM);
        until(PATIENCE, "the private engine ends", || child.try_wait().expect("a child can be waited for"));
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }
}

impl Drop for PrivateEngine {
    fn drop(&mut self) {
        if self.child.is_some() && !std::thread::panicking() {
            self.stop();
        } else if let Some(mut child) = self.child.take() {
            process::signal(child.id(), Signal::TERM);
            let _ = child.wait();
        }
        let _ = Command::new("ip").args(["link", "delete", &self.bridge]).status();
        unmount_below(&self.folder);
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// What the engine mounted and left.
fn unmount_below(folder: &Path) {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let points = mounts.lines().rev().filter_map(|line| line.split(' ').nth(1));
    for point in points.filter(|point| Path::new(point).starts_with(folder)) {
        let _ = Command::new("umount").arg(point).status();
    }
}

#[track_caller]
fn run(words: &[&str]) {
    let done = Command::new(words[0]).args(&words[1..]).output();
    let done = done.unwrap_or_else(|error| panic!("{} cannot be run: {error}", words[0]));
    let told = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{}, which only root can do: {told}", words.join(" "));
}
