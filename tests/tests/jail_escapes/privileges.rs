//! Privileges: there are none, no way to any, and none of the kernel's doors that are not needed.

use crate::attempt::{Attempt, Control, attempt, hold};
use crate::world::World;

const NO: &[&str] = &["EPERM"];
/// The kernel is said to be too old for it.
const NEVER: &[&str] = &["ENOSYS"];
const UNKNOWN: &[&str] = &["EAFNOSUPPORT"];
const SHUT: &[&str] = &["EPERM", "EACCES", "EROFS", "ENOENT"];

/// Root of user and mount namespaces of one's own.
const MOUNTS: Control = Control::Unshare("-Urm", "");
const NETWORK: Control = Control::Unshare("-Urn", "");

pub(crate) fn attempts() -> Vec<Attempt> {
    [rights(), namespaces(), mounts(), processes(), kernel(), sockets(), terminals(), devices(), machine_code()]
        .concat()
}

fn rights() -> Vec<Attempt> {
    let status = "fields = dict(line.split(':\\t', 1) for line in read('/proc/self/status').decode().splitlines())\n";
    let capabilities = |set: &str| {
        let script = format!("{status}return int(fields[{set:?}], 16) != 0 or deny('EMPTY')");
        attempt(set, &["EMPTY"], script).control(Control::Unshare("-Ur", ""))
    };
    let mut all = vec![
        attempt("new privileges", &["SET"], format!("{status}return fields['NoNewPrivs'] == '0' or deny('SET')")),
        attempt("no filter", &["SET"], format!("{status}return fields['Seccomp'] == '0' or deny('SET')"))
            .lacking(&["SET"]),
        attempt("a setuid program", &["OTHER"], SETUID).with("PROGRAM = WORK + '/setuid'").lacking(&["OTHER"]),
        attempt("another user", &["EPERM", "EINVAL"], "os.setresuid(0, 0, 0)\nreturn True")
            .control(Control::Unshare("-Ur", "")),
        attempt("groups", NO, "os.setgroups([])\nreturn True").control(Control::Root),
    ];
    all.extend(["CapEff", "CapPrm", "CapBnd"].map(capabilities));
    all.push(attempt(
        "more processes than allowed",
        NO,
        "import resource\ntry:\n    resource.setrlimit(resource.RLIMIT_NPROC, (4097, 4097))\n\
         except ValueError:\n    deny('EPERM')\nreturn True",
    ));
    all
}

const SETUID: &str = "code, said = program(PROGRAM, '-c', 'import os; print(os.geteuid())')
return said.strip() == b'0' or deny('OTHER')";

fn namespaces() -> Vec<Attempt> {
    let mut all = Vec::new();
    for (name, flag, control) in [
        ("user", 0x1000_0000, Control::Outside),
        ("mount", 0x2_0000, MOUNTS),
        ("network", 0x4000_0000, MOUNTS),
        ("process", 0x2000_0000, MOUNTS),
        ("user and mount", 0x1002_0000, Control::Outside),
    ] {
        let unshare = format!("return child(lambda: call(number(272, 97), {flag}) == 0)");
        all.push(attempt(format!("unshare a {name} namespace"), NO, unshare).control(control));
        let clone = format!(
            "made = call(number(56, 220), {flag} | signal.SIGCHLD, 0, 0, 0, 0)\nif made == 0:\n    os._exit(0)\nreturn True"
        );
        all.push(attempt(format!("clone into a {name} namespace"), NO, clone).control(control));
    }
    all.extend([
        attempt(
            "clone3 into a user namespace",
            NEVER,
            "arguments = struct.pack('QQQQQQQQ', 0x10000000, 0, 0, 0, signal.SIGCHLD, 0, 0, 0)\n\
             made = call(435, arguments, len(arguments))\nif made == 0:\n    os._exit(0)\nreturn True",
        ),
        attempt("enter a namespace", NO, "return call(number(308, 268), os.open('/proc/self/ns/net', os.O_RDONLY), 0) == 0")
            .control(NETWORK),
        attempt("a jail in the jail", &["REFUSED"], "code, said = program('bwrap', '--unshare-all', '--ro-bind', '/', '/', 'true')\nreturn code == 0 or deny('REFUSED')"),
        attempt("unshare of util-linux", &["REFUSED"], "code, said = program('unshare', '-Ur', 'true')\nreturn code == 0 or deny('REFUSED')"),
    ]);
    all
}

fn mounts() -> Vec<Attempt> {
    let mount = |name: &str, script: &str| attempt(name, NO, script).control(MOUNTS);
    vec![
        mount("mount", "return call(number(165, 40), b'none', WORK.encode(), b'tmpfs', 0, None) == 0"),
        mount("bind", "return call(number(165, 40), b'/', WORK.encode(), None, 0x5000, None) == 0"),
        mount("fsopen", "return call(430, b'tmpfs', 0) > 0"),
        mount("open_tree", "return call(428, -100, WORK.encode(), 1) > 0"),
        mount("mount_setattr", "return call(442, -100, b'/', 0, struct.pack('QQQQ', 0, 0, 1 << 18, 0), 32) == 0"),
        attempt("pivot_root", NO, "os.chdir(WORK)\nreturn call(number(155, 41), b'.', b'.') == 0")
            .control(Control::Unshare("-Urm", "mount --bind WORK WORK")),
        attempt("chroot", NO, "os.chroot(WORK)\nreturn True").control(Control::Unshare("-Ur", "")),
        attempt("the newer mount of /proc", NO, "return call(430, b'proc', 0) > 0")
            .control(Control::Unshare("-Urmpf", "")),
    ]
}

fn processes() -> Vec<Attempt> {
    vec![
        attempt("ptrace: be traced", NO, "return child(lambda: call(number(101, 117), 0, 0, 0, 0) == 0)"),
        attempt(
            "ptrace: attach",
            NO,
            "pid = os.fork()\nif pid == 0:\n    signal.pause()\n\
             try:\n    return call(number(101, 117), 16, pid, 0, 0) == 0\nfinally:\n    os.kill(pid, signal.SIGKILL)",
        ),
        attempt(
            "ptrace: seize",
            NO,
            "pid = os.fork()\nif pid == 0:\n    signal.pause()\n\
             try:\n    return call(number(101, 117), 0x4206, pid, 0, 0) == 0\nfinally:\n    os.kill(pid, signal.SIGKILL)",
        ),
        attempt(
            "read another process's memory",
            NO,
            "text, into = ctypes.create_string_buffer(b'text'), ctypes.create_string_buffer(4)\n\
             of = lambda at: struct.pack('QQ', ctypes.addressof(at), 4)\n\
             return call(number(310, 270), os.getpid(), of(into), 1, of(text), 1, 0) == 4",
        ),
        attempt(
            "write another process's memory",
            NO,
            "text, into = ctypes.create_string_buffer(b'text'), ctypes.create_string_buffer(4)\n\
             of = lambda at: struct.pack('QQ', ctypes.addressof(at), 4)\n\
             return call(number(311, 271), os.getpid(), of(text), 1, of(into), 1, 0) == 4",
        ),
        attempt("take another process's descriptor", NO, "return call(438, os.pidfd_open(os.getpid()), 0, 0) > 0"),
        attempt("compare processes", NO, "return call(number(312, 272), os.getpid(), os.getpid(), 2, 0, 0) == 0")
            .lacking(NEVER),
    ]
}

fn kernel() -> Vec<Attempt> {
    let mut all = vec![
        attempt("io_uring_setup", NEVER, "return call(425, 1, ctypes.create_string_buffer(120)) > 0")
            .lacking(&["EPERM", "ENOSYS"]),
        attempt("bpf", NO, "return call(number(321, 280), 0, struct.pack('IIII', 2, 4, 4, 1) + b'\\0' * 56, 72) > 0")
            .control(Control::Root),
        attempt("perf_event_open", NO, PERF).lacking(&["EPERM", "EACCES", "ENOSYS"]),
        attempt("userfaultfd", NO, "return call(number(323, 282), 1) > 0").lacking(&["EPERM", "ENOSYS"]),
        attempt("keyctl", NO, "return call(number(250, 219), 0, -3, 1) > 0"),
        attempt("add_key", NO, "return call(number(248, 217), b'user', b'made', b'x', 1, -2) > 0"),
        attempt("request_key", NO, "call(number(248, 217), b'user', b'made', b'x', 1, -2)\nreturn call(number(249, 218), b'user', b'made', None, 0) > 0"),
        attempt("personality", NO, "return call(number(135, 92), 0x0040000) != -1"),
        attempt("the kernel's log", NO, "return call(number(103, 116), 10, None, 0) > 0").control(Control::Root),
        attempt("fanotify_init", NO, "return call(number(300, 262), 0x200, 0) > 0").lacking(&["EPERM", "ENOSYS"]),
        attempt("vmsplice", NEVER, "out, into = os.pipe()\ntext = ctypes.create_string_buffer(b'text')\nreturn call(number(278, 75), into, struct.pack('QQ', ctypes.addressof(text), 4), 1, 0) == 4"),
        attempt("where memory lies", NO, "return call(number(239, 236), ctypes.byref(ctypes.c_int()), None, 0, None, 0) == 0").lacking(NEVER),
        attempt("the name of the machine", NO, "socket.sethostname('made')\nreturn True").control(Control::Unshare("-Uru", "")),
        attempt("open by a handle", NO, HANDLE).control(Control::Root),
        attempt("the clock", NO, "time.clock_settime(time.CLOCK_REALTIME, time.time())\nreturn True").control(Control::Root),
        attempt("modules", NO, "return call(number(176, 106), b'corral-no-such-module', 0) == 0 or True").control(Control::Root).lacking(&["ENOENT", "ENOSYS"]),
        attempt("accounting", NO, "return call(number(163, 89), None) == 0").control(Control::Root).lacking(NEVER),
        attempt("list mounts", NEVER, "return call(458, struct.pack('IIQQ', 24, 0, 0xffffffffffffffff, 0), ctypes.create_string_buffer(800), 100, 0) > 0").lacking(NEVER),
        attempt("a call that is newer than all", NEVER, "return call(NEWER) >= 0").with("NEWER = 470").control(Control::OutsideWith("NEWER = number(39, 172)")),
    ];
    if cfg!(target_arch = "x86_64") {
        all.push(
            attempt("modify_ldt", NO, "return call(154, 0, ctypes.create_string_buffer(64), 64) >= 0").lacking(NEVER),
        );
        all.push(attempt("ports", NO, "return call(173, 0x80, 1, 1) == 0").control(Control::Root).lacking(NEVER));
    }
    all
}

const PERF: &str = "event = struct.pack('IIQQQQQ', 1, 112, 0, 0, 0, 0, (1 << 5) | (1 << 6)) + b'\\0' * 64
return call(number(298, 241), event, 0, -1, -1, 0) > 0";

const HANDLE: &str = "handle = ctypes.create_string_buffer(struct.pack('Ii', 128, 0), 136)
mount = ctypes.c_int()
try:
    call(number(303, 264), -100, WORK.encode(), handle, ctypes.byref(mount), 0)
except OSError:
    pass
return call(number(304, 265), os.open(WORK, os.O_RDONLY), handle, os.O_RDONLY) > 0";

fn sockets() -> Vec<Attempt> {
    let socket = |name: &str, family: i32, kind: i32, protocol: i32, denied| {
        let script = format!("return call(number(41, 198), {family}, {kind}, {protocol}) > 0");
        attempt(name, denied, script).lacking(&["EAFNOSUPPORT", "ESOCKTNOSUPPORT", "EPROTONOSUPPORT"])
    };
    vec![
        socket("AF_VSOCK", 40, 1, 0, UNKNOWN),
        socket("AF_PACKET", 17, 3, 0, UNKNOWN).control(NETWORK),
        socket("AF_ALG", 38, 5, 0, UNKNOWN),
        socket("AF_XDP", 44, 3, 0, UNKNOWN).control(NETWORK),
        socket("AF_KEY", 15, 3, 2, UNKNOWN).control(NETWORK),
        socket("AF_TIPC", 30, 1, 0, UNKNOWN),
        socket("netlink of sockets", 16, 3, 4, UNKNOWN),
        socket("netlink of devices", 16, 3, 15, UNKNOWN),
        socket("netlink of audits", 16, 3, 9, UNKNOWN),
        socket("netlink of firewalls", 16, 3, 12, UNKNOWN),
        socket("netlink of cryptography", 16, 3, 21, UNKNOWN),
        socket("SOCK_RAW", 2, 3, 1, NO).control(NETWORK),
        socket("SOCK_RAW of IPv6", 10, 3, 58, NO).control(NETWORK),
        socket("SOCK_PACKET", 2, 10, 0x300, &["EPERM", "EPROTONOSUPPORT"]).control(NETWORK),
        socket("SCTP", 2, 1, 132, &["EPROTONOSUPPORT"]),
        socket("UDP-Lite", 2, 2, 136, &["EPROTONOSUPPORT"]),
        attempt("raise the network's rights", NO, "link = socket.socket(socket.AF_INET, socket.SOCK_STREAM)\nlink.setsockopt(socket.IPPROTO_IP, 19, 1)\nreturn True").control(NETWORK),
    ]
}

/// A terminal of the script's own, which it leads.
const OWN_TERMINAL: &str = "import fcntl, pty, termios
def on_terminal(run):
    def alone():
        os.setsid()
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
        run(slave)
        return True
    return child(alone)
";

fn terminals() -> Vec<Attempt> {
    vec![
        attempt("TIOCSTI", NO, "return on_terminal(lambda terminal: fcntl.ioctl(terminal, termios.TIOCSTI, b'x'))")
            .with(OWN_TERMINAL)
            .lacking(&["EIO"]),
        // Only the low half of a request counts to the kernel.
        attempt(
            "TIOCSTI in a long number",
            NO,
            "return on_terminal(lambda terminal: call(number(16, 29), terminal, 0x100005412, b'x'))",
        )
        .with(OWN_TERMINAL)
        .lacking(&["EIO"]),
        attempt(
            "TIOCSETD",
            NO,
            "return on_terminal(lambda terminal: fcntl.ioctl(terminal, termios.TIOCSETD, struct.pack('i', 0)))",
        )
        .with(OWN_TERMINAL),
        attempt(
            "TIOCLINUX",
            NO,
            "import fcntl, pty\nconsole = '/dev/tty0'\n\
             terminal = os.open(console, os.O_RDWR) if os.path.exists(console) else pty.openpty()[1]\n\
             fcntl.ioctl(terminal, 0x541c, bytearray([6]))\nreturn True",
        )
        .control(Control::Root)
        .lacking(&["ENOTTY", "ENOENT", "ENXIO"]),
    ]
}

fn devices() -> Vec<Attempt> {
    let open = |path: &str| {
        attempt(
            format!("open {path}"),
            &["ENOENT"],
            format!("return os.open({path:?}, os.O_RDONLY | os.O_NONBLOCK) > 0"),
        )
        .control(Control::Root)
        .lacking(&["ENOENT", "EPERM", "ENXIO", "ENODEV", "EBUSY"])
    };
    let mut all: Vec<_> = [
        "kmsg",
        "fuse",
        "kvm",
        "mem",
        "tty0",
        "ttyS0",
        "vsock",
        "net/tun",
        "loop-control",
        "loop0",
        "hwrng",
        "userfaultfd",
        "vhost-net",
        "uinput",
        "sda",
        "dri/card0",
        "cpu_dma_latency",
        "autofs",
        "btrfs-control",
        "input/event0",
    ]
    .into_iter()
    .map(|name| open(&format!("/dev/{name}")))
    .collect();
    all.push(
        attempt("/proc/kcore", SHUT, "return read('/proc/kcore')[:4] == b'\\x7fELF'")
            .control(Control::Root)
            .lacking(&["EPERM", "ENOENT"]),
    );
    all.push(
        attempt("/proc/sysrq-trigger", SHUT, "return os.open('/proc/sysrq-trigger', os.O_WRONLY) > 0")
            .control(Control::Root)
            .lacking(&["ENOENT", "EROFS"]),
    );
    all
}

/// Calls that go round the tables of a filter that knows one architecture only.
fn machine_code() -> Vec<Attempt> {
    if !cfg!(target_arch = "x86_64") {
        return Vec::new();
    }
    let run = "import mmap
def run(code):
    memory = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    memory.write(code)
    return ctypes.CFUNCTYPE(ctypes.c_long)(ctypes.addressof(ctypes.c_char.from_buffer(memory)))()
def answers(code):
    def alone():
        done = run(code)
        done = done - (1 << 32) if done >> 31 == 1 else done
        if done < 0:
            raise OSError(-done, 'refused')
        return True
    return child(alone)
";
    vec![
        // mov eax, 20 (getpid of i386); int 0x80; ret
        attempt("calls of i386", &["SIGSYS"], "return answers(bytes.fromhex('b814000000cd80c3'))")
            .with(run)
            .lacking(&["SIGSEGV", "ENOSYS"]),
        // mov eax, 0x40000000 + 39 (getpid of x32); syscall; ret
        attempt("calls of x32", NEVER, "return answers(bytes.fromhex('b8270000400f05c3'))").with(run).lacking(NEVER),
        // mov eax, 272; mov edi, CLONE_NEWUSER; syscall; ret: by no library
        attempt("unshare in machine code", NO, "return answers(bytes.fromhex('b810010000bf000000100f05c3'))").with(run),
    ]
}

/// A program that would run as root, if the workspace could have such programs.
fn prepare(world: &mut World<'_>) {
    let program = world.work("setuid");
    // Not copied from here: what another test starts meanwhile would make it "busy".
    let copied = std::process::Command::new("cp").arg(crate::attempt::PYTHON).arg(&program).status();
    assert!(copied.expect("cp runs").success(), "Python can be copied");
    if world.base.as_root() {
        std::os::unix::fs::chown(&program, Some(0), Some(0)).expect("root may do that");
    }
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o4755);
    std::fs::set_permissions(program, mode).expect("permissions");
}

#[test]
fn privileges() {
    hold("privileges", &attempts(), 60, &prepare);
}
