//! Environment and descriptors: what the caller has in hand is not handed over.

use crate::attempt::{Attempt, Control, attempt, hold};
use crate::world::World;

const OTHER: &[&str] = &["OTHER"];
const CLOSED: &[&str] = &["EACCES", "EPERM"];
/// A process namespace in which the first process is the script itself.
const FIRST: Control = Control::Unshare("-Urpf --mount-proc", "");
/// Stays beside what it calls: a process of the same user with the secret in its environment.
const WITH_NEIGHBOUR: &str = "/bin/sh neighbour.sh";
/// Joins a session keyring with a key in it, and goes on as a command.
const WITH_KEY: &str = "/usr/bin/python3 -I with-key.py";

pub(crate) fn attempts() -> Vec<Attempt> {
    let other = |name: &str, condition: &str| attempt(name, OTHER, format!("return {condition} or deny('OTHER')"));
    vec![
        other("a variable of the caller", "os.environ.get('CALLER_SECRET') == SECRET"),
        other("a variable of the caller, wherever", "any(SECRET in value for value in os.environ.values())"),
        other("the agent's socket by its variable", "'SSH_AUTH_SOCK' in os.environ"),
        other("the path of the home", "any(HOME in value for value in os.environ.values())"),
        other("the runtime folder's path", "'XDG_RUNTIME_DIR' in os.environ"),
        attempt("an inherited descriptor", &["EBADF"], "return SECRET.encode() in os.pread(9, 100, 0)"),
        attempt("any inherited descriptor", &["NONE"], DESCRIPTORS),
        attempt("a folder that is open", &["NONE"], FOLDERS).beneath("/bin/sh open-folder.sh"),
        other("the folder of the caller", "os.getcwd() == HOME"),
        attempt(
            "the environment of the first process",
            CLOSED,
            "return SECRET.encode() in read('/proc/1/environ') or deny('OTHER')",
        )
        .control(FIRST),
        other("the command line of the first process", "HOME.encode() in read('/proc/1/cmdline')").control(FIRST),
        attempt("the environment of any process", &["NONE"], ENVIRONMENTS).beneath(WITH_NEIGHBOUR),
        attempt("the command line of any process", &["NONE"], ENVIRONMENTS.replace("environ", "cmdline"))
            .with("SECRET = BINARY.rsplit('/', 2)[0] + '/'")
            .control(Control::Outside),
        attempt(
            "a key of the session",
            &["EPERM"],
            "return call(number(250, 219), 10, -3, b'user', b'corral-escape', 0) > 0",
        )
        .beneath(WITH_KEY),
        attempt(
            "a key of the session in /proc",
            &["NONE", "EACCES"],
            "return b'corral-escape' in read('/proc/keys') or deny('NONE')",
        )
        .beneath(WITH_KEY),
        other("the name of the machine", "os.uname().nodename == NODE").lacking(OTHER),
        other("the name of the machine in a file", "read('/etc/hostname').decode().strip() == NODE")
            .lacking(&["ENOENT", "OTHER"]),
        other("the number of the user", "os.getuid() == USER").lacking(OTHER),
        other("root's number", "os.stat('/usr').st_uid == 0"),
    ]
}

const DESCRIPTORS: &str = "for number in os.listdir('/proc/self/fd'):
    try:
        if SECRET.encode() in os.pread(int(number), 4096, 0):
            return True
    except OSError:
        pass
deny('NONE')";

const FOLDERS: &str = "for number in os.listdir('/proc/self/fd'):
    try:
        if SECRET.encode() in read('/proc/self/fd/%s/.ssh/id_ed25519' % number):
            return True
    except OSError:
        pass
deny('NONE')";

const ENVIRONMENTS: &str = "me = os.getpid()
for process in os.listdir('/proc'):
    try:
        if process.isdigit() and int(process) != me and SECRET.encode() in read('/proc/%s/environ' % process):
            return True
    except OSError:
        pass
deny('NONE')";

fn prepare(world: &mut World<'_>) {
    let key = format!(
        "import ctypes, os, platform, sys\n\
         keyctl, add_key = (250, 248) if platform.machine() == 'x86_64' else (219, 217)\n\
         call = ctypes.CDLL(None).syscall\n\
         assert call(keyctl, 1, None) > 0\n\
         assert call(add_key, b'user', b'corral-escape', b'{}', 4, -3) > 0\n\
         os.execvp(sys.argv[1], sys.argv[1:])\n",
        crate::world::SECRET
    );
    world.write("home/with-key.py", &key);
    world.write("home/neighbour.sh", "\"$@\"\nexit $?\n");
    world.write("home/open-folder.sh", "exec 8<\"$HOME\"\nexec \"$@\"\n");
    world.give();
    let user = rustix::process::geteuid();
    world.set("NODE", &rustix::system::uname().nodename().to_string_lossy());
    let user = if world.base.as_root() { crate::world::ORDINARY } else { user.as_raw() };
    world.define("USER", &user.to_string());
}

#[test]
fn environment() {
    hold("environment", &attempts(), 12, &prepare);
}
