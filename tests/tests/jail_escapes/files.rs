//! Files: what is not shown cannot be read, and nothing outside the workspace can be changed.

use std::fs;
use std::os::unix::fs::symlink;

use crate::attempt::{Attempt, Control, attempt, hold, run_inside};
use crate::world::{Base, SECRET, World, is_there};

const NOT_THERE: &[&str] = &["ENOENT"];
const SHUT: &[&str] = &["EROFS", "EACCES", "EPERM"];
const CLOSED: &[&str] = &["EACCES", "EPERM"];

pub(crate) fn attempts() -> Vec<Attempt> {
    let mut all = Vec::new();
    // Reading what a path of the host's leads to.
    for (name, path) in [
        ("a key in the home", "HOME + '/.ssh/id_ed25519'"),
        ("the login of Claude Code", "HOME + '/.claude/.credentials.json'"),
        ("the state of Claude Code", "HOME + '/.claude.json'"),
        ("Corral's token", "CORRAL_HOME + '/run/token'"),
        ("the catalog", "CORRAL_HOME + '/config/models.toml'"),
        ("another user's file in /tmp", "TMP_FILE"),
        ("another user's file in /var/tmp", "VAR_TMP_FILE"),
        ("a file in /dev/shm", "SHM_FILE"),
        ("a file in the runtime folder", "RUNTIME + '/secret'"),
        ("a link in the workspace that leads out", "WORK + '/leads-out'"),
        ("`..` out of the workspace", "WORK + '/../home/.ssh/id_ed25519'"),
        ("`..` over the root", "WORK + '/..' * 40 + HOME + '/.ssh/id_ed25519'"),
        ("the root of its own process", "'/proc/self/root' + HOME + '/.ssh/id_ed25519'"),
    ] {
        all.push(attempt(name, NOT_THERE, format!("return holds({path}, SECRET)")));
    }
    for path in ["/etc/machine-id", "/etc/resolv.conf", "/etc/fstab", "/etc/group-", "/sys/kernel/uevent_seqnum"] {
        all.push(attempt(path, NOT_THERE, format!("return read({path:?})")).lacking(NOT_THERE));
    }
    all.push(attempt("users of the host", &["OTHER"], "return holds('/etc/passwd', '\\ndaemon:')"));
    all.extend([
        attempt("the host's /sys", NOT_THERE, "return os.listdir('/sys/class/net')"),
        attempt("listing the home", NOT_THERE, "return os.listdir(HOME)"),
        attempt(
            "listing what is beside the workspace",
            &["OTHER"],
            "return 'home' in os.listdir(WORK + '/..') or deny('OTHER')",
        ),
        attempt(
            "listing the root",
            &["OTHER"],
            "return {'root', 'srv', 'opt', 'boot', 'mnt', 'media'} & set(os.listdir('/')) or deny('OTHER')",
        ),
        attempt("the home of root", NOT_THERE, "return os.stat('/root')"),
        attempt("/var of the host", NOT_THERE, "return os.listdir('/var/lib')"),
        attempt(
            "a link that is made inside",
            NOT_THERE,
            "os.symlink(HOME, WORK + '/made')\nreturn holds(WORK + '/made/.ssh/id_ed25519', SECRET)",
        ),
        attempt(
            "`..` from an open folder",
            NOT_THERE,
            "folder = os.open(WORK, os.O_RDONLY)\nos.chdir(WORK)\nos.fchdir(folder)\n\
             return os.open('../home/.ssh/id_ed25519', os.O_RDONLY, dir_fd=folder) > 0",
        ),
        attempt(
            "a hard link of a file outside",
            NOT_THERE,
            "os.link(HOME + '/.ssh/id_ed25519', WORK + '/made')\nreturn True",
        ),
        attempt(
            "moving a file in from outside",
            NOT_THERE,
            "os.rename(HOME + '/.claude.json', WORK + '/made')\nreturn True",
        ),
        attempt("files by their number", &["EPERM"], FILE_HANDLE),
    ]);
    // The first process, which was outside once.
    let own = Control::Unshare("-Urpf --mount-proc", "");
    all.extend([
        attempt(
            "the root of the first process",
            CLOSED,
            "return holds('/proc/1/root' + HOME + '/.ssh/id_ed25519', SECRET)",
        )
        .control(own),
        attempt("the folder of the first process", CLOSED, "return os.listdir('/proc/1/cwd/.')").control(own),
        attempt("the program of the first process", CLOSED, "return read('/proc/1/exe')").control(own),
        attempt("the mapped files of the first process", CLOSED, "return os.listdir('/proc/1/map_files')").control(own),
    ]);
    all.push(attempt("the workspace's path is another folder's now", NOT_THERE, SWAPPED).during(swap_workspace));
    all.extend(writing());
    all
}

const FILE_HANDLE: &str = "handle = ctypes.create_string_buffer(struct.pack('Ii', 128, 0), 136)
mount = ctypes.c_int()
return call(number(303, 264), -100, b'/', handle, ctypes.byref(mount), 0) == 0";

const SWAPPED: &str = "print('READY', flush=True)
while not os.path.exists(WORK + '/go'):
    time.sleep(0.01)
return holds(WORK + '/.ssh/id_ed25519', SECRET)";

fn swap_workspace(world: &World<'_>) {
    fs::rename(world.work(""), world.path("moved")).expect("a folder");
    symlink(world.path("home"), world.path("work")).expect("a link");
    world.write("home/go", "");
    world.write("moved/go", "");
}

fn home_changed(world: &World<'_>) -> bool {
    is_there(&world.path("home/made"))
        || fs::read_to_string(world.path("home/.claude.json")).ok().as_deref() != Some(SECRET)
}

fn writing() -> Vec<Attempt> {
    let mut all = Vec::new();
    for place in ["/", "/usr", "/usr/bin", "/etc", "/dev", "/run", "/run/corral", "/home", "/proc", "/var", "/dev/pts"]
    {
        let name = format!("writing in {place}");
        let place = format!("PLACE = {place:?}");
        let script = "return write(PLACE + '/made')";
        // To /proc nobody can add anything.
        let denied: &[&str] = &["EROFS", "EACCES", "EPERM", "ENOENT"];
        all.push(attempt(name, denied, script).with(place).control(Control::OutsideWith("PLACE = HOME")));
    }
    for (name, path) in [
        ("/etc/passwd", "/etc/passwd"),
        ("the jail's own program", "/run/corral/init"),
        ("the shell", "/usr/bin/sh"),
        ("the search path of libraries", "/etc/ld.so.cache"),
        ("the pattern of cores", "/proc/sys/kernel/core_pattern"),
    ] {
        let script = "return write(PLACE, 'r+')";
        let denied: &[&str] = &["EROFS", "EACCES", "EPERM", "ETXTBSY"];
        let copy = Control::OutsideWith("PLACE = HOME + '/.claude.json'");
        all.push(attempt(format!("changing {name}"), denied, script).with(format!("PLACE = {path:?}")).control(copy));
    }
    all.extend([
        attempt("adding to the home", NOT_THERE, "return write(HOME + '/made')").effect(home_changed),
        attempt("changing a file of the home", NOT_THERE, "return write(HOME + '/.claude.json', 'a')")
            .effect(home_changed),
        attempt(
            "writing through a link",
            NOT_THERE,
            "os.symlink(HOME + '/made', WORK + '/made')\nreturn write(WORK + '/made')",
        )
        .effect(home_changed),
        attempt("replacing Corral", NOT_THERE, "os.unlink(BINARY)\nreturn True")
            .with("BINARY = CORRAL_HOME + '/config/models.toml'")
            .effect(|world| !is_there(&world.path("corral/config/models.toml"))),
        attempt("a file in /tmp that is seen outside", &[], "return write(CORRAL_HOME + '-seen')")
            .effect(|world| is_there(&world.path("corral-seen"))),
        attempt(
            "moving the workspace",
            &["EBUSY", "EXDEV", "EACCES", "EPERM"],
            "os.rename(WORK, WORK + '-moved')\nreturn True",
        )
        .effect(|world| !is_there(&world.work(""))),
        attempt("more in /tmp than it may hold", &["ENOSPC"], FILL)
            .with("SIZE = (2 << 30) + 1")
            .control(Control::JailWith("SIZE = 1 << 20")),
        attempt("more in /var/tmp than it may hold", &["ENOSPC"], FILL.replace("/tmp/", "/var/tmp/"))
            .with("SIZE = (2 << 30) + 1")
            .control(Control::JailWith("SIZE = 1 << 20")),
        attempt("more in /dev/shm than it may hold", &["ENOSPC"], FILL.replace("/tmp/", "/dev/shm/"))
            .with("SIZE = (2 << 30) + 1")
            .control(Control::JailWith("SIZE = 1 << 20")),
        attempt(
            "mounting the root writable",
            SHUT,
            "return call(number(165, 40), None, b'/', None, 0x1020, None) == 0",
        )
        .control(Control::Unshare("-Urm", "")),
        attempt(
            "a device of one's own",
            SHUT,
            "os.mknod(WORK + '/made', 0o666 | stat.S_IFCHR, os.makedev(1, 5))\nreturn True",
        )
        .control(Control::Root),
    ]);
    all
}

const FILL: &str = "with open('/tmp/large', 'wb') as file:
    os.posix_fallocate(file.fileno(), 0, SIZE)
return True";

#[test]
fn files() {
    hold("files", &attempts(), 45, &|_| {});
}

#[test]
fn a_home_of_corrals_that_is_not_there_yet_is_made() {
    let base = Base::new();
    let mut world = World::new(&base);
    let home = world.path("new/corral");
    world.use_corral_home(&home);
    let seen = run_inside(&world, "return write(os.environ['HOME'] + '/made')");
    assert_eq!(seen.verdict(), Some("GOT"), "{seen:?}");
    assert!(is_there(&home), "{seen:?}");
}
