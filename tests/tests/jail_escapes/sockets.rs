//! Sockets in the workspace at which programs outside listen.

use std::cell::RefCell;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixListener};

use crate::attempt::{Attempt, attempt, hold};
use crate::world::World;

const NOBODY: &[&str] = &["ECONNREFUSED"];

/// A way to a socket by its name in the workspace.
const CONNECT: &str = "def connect(name, kind=socket.SOCK_STREAM):
    with socket.socket(socket.AF_UNIX, kind) as one:
        one.connect(WORK + '/' + name)
    return True
";

pub(crate) fn attempts() -> Vec<Attempt> {
    let socket = |name: &str, denied, script: &str| attempt(name, denied, script).with(CONNECT);
    vec![
        socket("a socket in the workspace", NOBODY, "return connect('host.sock')"),
        socket("a socket in a folder of it", NOBODY, "return connect('a/b/host.sock')"),
        socket("a socket in a repository", NOBODY, "return connect('.git/fsmonitor--daemon.ipc')"),
        socket("a socket for datagrams", NOBODY, "return connect('log.sock', socket.SOCK_DGRAM)"),
        socket("a socket by a link", NOBODY, "os.symlink('host.sock', WORK + '/link')\nreturn connect('link')"),
        socket(
            "a socket whose folder is moved",
            NOBODY,
            "os.rename(WORK + '/a', WORK + '/moved')\nreturn connect('moved/b/host.sock')",
        ),
        socket(
            "a socket that is moved",
            &["EBUSY"],
            "os.rename(WORK + '/host.sock', WORK + '/moved')\nreturn connect('moved')",
        ),
        socket(
            "another name for a socket",
            &["EXDEV", "EPERM"],
            "os.link(WORK + '/host.sock', WORK + '/other')\nreturn connect('other')",
        ),
        socket("something else in its place", &["EBUSY"], "os.unlink(WORK + '/host.sock')\nreturn True"),
    ]
}

#[test]
fn sockets() {
    let listening = RefCell::new((Vec::new(), Vec::new()));
    hold("sockets", &attempts(), 8, &|world: &mut World<'_>| {
        world.write("work/a/b/file", "");
        world.write("work/.git/HEAD", "ref: refs/heads/main\n");
        let (streams, datagrams) = &mut *listening.borrow_mut();
        for name in ["host.sock", "a/b/host.sock", ".git/fsmonitor--daemon.ipc"] {
            streams.push(UnixListener::bind(world.work(name)).expect("a socket"));
        }
        datagrams.push(UnixDatagram::bind(world.work("log.sock")).expect("a socket"));
        world.give();
        for name in ["host.sock", "a/b/host.sock", ".git/fsmonitor--daemon.ipc", "log.sock"] {
            fs::set_permissions(world.work(name), fs::Permissions::from_mode(0o777)).expect("permissions");
        }
    });
}
