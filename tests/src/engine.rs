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
        let mut command = as_root("dockerd");
        command.args(["--data-root", &self.path("data"), "--exec-root", &self.path("exec")]);
        command.args(["--pidfile", &self.path("pid"), "--host", &self.host(), "--bridge", &self.bridge]);
        // The ports are published by Docker's own proxy: the rules of this machine's firewall are left alone.
        command.args(["--iptables=false", "--ip-masq=false", "--userland-proxy=true"]);
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a descriptor")).stderr(log);
        self.child = Some(command.spawn().unwrap_or_else(|error| panic!("dockerd cannot be started ({error})")));
        until(PATIENCE, "the private engine answers", || {
            let ended = self.child.as_mut().and_then(|child| child.try_wait().expect("a child can be waited for"));
            assert!(ended.is_none(), "dockerd ended ({ended:?}):\n{}", self.log());
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
        let _ = as_root("ip").args(["link", "delete", &self.bridge]).output();
        for point in mounts_below(&self.folder) {
            let _ = as_root("umount").arg(point).output();
        }
        let _ = as_root("rm").arg("-rf").arg(&self.folder).output();
    }
}

/// What the engine mounted and left, the innermost first.
fn mounts_below(folder: &Path) -> Vec<String> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let points = mounts.lines().rev().filter_map(|line| line.split(' ').nth(1));
    points.filter(|point| Path::new(point).starts_with(folder)).map(str::to_owned).collect()
}

/// A program of this machine, run as root. Whoever may use Docker can do that: in a container that is given everything.
fn as_root(program: &str) -> Command {
    if rustix::process::geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("docker");
    command.args(["run", "--rm", "--network=host", "--pid=host", "--cgroupns=host", "--volume=/:/host"]);
    // Not `--privileged`, which asks for more than the engine itself may have.
    command.args(["--cap-add=SYS_ADMIN", "--cap-add=NET_ADMIN", "--device-cgroup-rule=a *:* rwm"]);
    command.args(["--security-opt=seccomp=unconfined", "--security-opt=apparmor=unconfined", "--entrypoint=/bin/sh"]);
    command.args(["--env=PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", parts::image()]);
    // By its path, or a shell may take its own program of the same name.
    command.args(["-c", "exec chroot /host /usr/bin/env \"$@\"", "sh", program]);
    command
}

#[track_caller]
fn run(words: &[&str]) {
    let done = as_root(words[0]).args(&words[1..]).output();
    let done = done.unwrap_or_else(|error| panic!("{} cannot be run: {error}", words[0]));
    assert!(done.status.success(), "{}: {}", words.join(" "), String::from_utf8_lossy(&done.stderr));
}
