//! The real daemon as the ordinary user, with a real llama-server as its child.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use corral_testkit::SandboxHome;
use corral_tests::{Models, PATIENCE, parts, process, until};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::world::{Base, World};

/// A daemon, ended when this is dropped.
pub(crate) struct Served {
    child: Child,
    _folder: TempDir,
    home: SandboxHome,
    base: Base,
}

impl Served {
    #[track_caller]
    pub(crate) fn start() -> Self {
        let base = Base::new();
        let home = Models::program(&llama_server(&base)).one_thread().tiny(&["a"]).home();
        base.own(home.path());
        let (mut child, folder) = {
            let mut world = World::new(&base);
            world.use_corral_home(home.path());
            let mut command = world.command_without_bound(&world.corral(&["serve"]));
            let log = fs::File::create(base.path("serve.log")).expect("a file");
            command.current_dir("/").stdout(log.try_clone().expect("a descriptor")).stderr(log);
            (command.spawn().expect("corral can be started"), world.keep())
        };
        until(PATIENCE, "the daemon serves", || {
            let ended = child.try_wait().expect("a child can be waited for");
            assert!(ended.is_none(), "{ended:?}: {}", fs::read_to_string(base.path("serve.log")).unwrap_or_default());
            runtime(&home)
        });
        Self { child, _folder: folder, home, base }
    }

    /// A world whose Corral is this one, with its model loaded.
    pub(crate) fn prepare(&self, world: &mut World<'_>) {
        world.use_corral_home(self.home.path());
        let loaded = world.command(&world.corral(&["switch", "a"])).output().expect("corral can be started");
        let log = || fs::read_to_string(self.base.path("serve.log")).unwrap_or_default();
        assert!(loaded.status.success(), "{loaded:?}\n{}", log());
        let runtime = runtime(&self.home).expect("the daemon runs");
        for (name, key) in [("GATEWAY", "gateway"), ("MANAGEMENT", "management")] {
            let address = runtime[key].as_str().unwrap_or_else(|| panic!("{key}: {runtime:#}"));
            world.set(name, address.rsplit_once(':').expect("a port").1);
        }
        let token = fs::read_to_string(self.home.run().join("token")).expect("a token");
        world.set("TOKEN", token.trim());
        let model = self.home.models().join("a.gguf");
        let port = until(PATIENCE, "llama-server runs", || {
            let mut lines = process::with_argument(&model).into_iter().map(process::command_line);
            lines.find_map(|line| Some(line.split_once("--port ")?.1.split(' ').next()?.to_owned()))
        });
        world.set("LLAMA", &port);
    }
}

/// Where it answers, once it does.
fn runtime(home: &SandboxHome) -> Option<Value> {
    serde_json::from_slice(&fs::read(home.run().join("daemon.json")).ok()?).ok()
}

impl Drop for Served {
    fn drop(&mut self) {
        process::signal(self.child.id(), Signal::TERM);
        let _ = self.child.wait();
        // What outlived it, were it to fail.
        for pid in process::with_argument(self.home.path()) {
            process::signal(pid, Signal::KILL);
        }
    }
}

/// A llama-server that the ordinary user can run: the tests' own may lie in a home that it cannot enter.
fn llama_server(base: &Base) -> PathBuf {
    let program = parts::llama_server();
    if !base.as_root() {
        return program;
    }
    // The set-up's is a script that starts what lies in a folder of its own, which may lie anywhere.
    let text = fs::read_to_string(&program).unwrap_or_default();
    let launch = text.lines().find_map(|line| line.strip_prefix("exec ")?.split(' ').next()).map(Path::new);
    let (from, name) = match launch.filter(|launch| launch.is_absolute()) {
        Some(launch) => (launch.parent().expect("a folder"), launch.file_name().expect("a name")),
        None => (&*program, "".as_ref()),
    };
    let to = base.path("llama");
    let copied = Command::new("cp").arg("-a").arg(from).arg(&to).status().expect("cp runs");
    assert!(copied.success(), "llama-server can be copied");
    base.own(&to);
    if name.is_empty() { to } else { to.join(name) }
}
