//! The network: none but the two ports, and on those no more than a session may do.

use std::cell::RefCell;
use std::net::{TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};

use crate::attempt::{Attempt, Control, attempt, hold};
use crate::daemon::Served;
use crate::world::World;

const REFUSED: &[&str] = &["ECONNREFUSED"];
const UNREACHABLE: &[&str] = &["ENETUNREACH"];
const NOT_THERE: &[&str] = &["ENOENT"];
/// Landlock's answer, or that of a namespace where nobody listens.
const ABSTRACT: &[&str] = &["ECONNREFUSED", "EPERM"];

/// Without a default route.
const NO_WAY: &[&str] = &["ENETUNREACH"];

pub(crate) fn attempts() -> Vec<Attempt> {
    let tcp = |name: &str, family: &str, address: &str, denied| {
        let script = format!(
            "link = socket.socket(socket.{family}, socket.SOCK_STREAM)\nlink.settimeout(10)\nlink.connect({address})\nreturn True"
        );
        attempt(name, denied, script)
    };
    // Answered, or told that nobody is there.
    let udp = |name: &str, address: &str, denied| {
        let script = format!(
            "link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\nlink.settimeout(10)\nlink.connect({address})\n\
             link.send(QUESTION)\nreturn link.recv(512)[:2] == QUESTION[:2]"
        );
        attempt(name, denied, script).with(QUESTION)
    };
    // No packet is sent: only the way is looked for.
    let route = |name: &str, family: &str, address: &str| {
        let script =
            format!("socket.socket(socket.{family}, socket.SOCK_DGRAM).connect(({address:?}, 80))\nreturn True");
        attempt(name, UNREACHABLE, script).lacking(NO_WAY)
    };
    vec![
        tcp("a port of 127.0.0.1", "AF_INET", "('127.0.0.1', int(TCP))", REFUSED),
        tcp("a port of another address of the loopback", "AF_INET", "('127.0.0.2', int(TCP_ALL))", REFUSED),
        tcp("a port of 0.0.0.0", "AF_INET", "('0.0.0.0', int(TCP))", REFUSED),
        tcp("a port of [::1]", "AF_INET6", "('::1', int(TCP6))", &["ECONNREFUSED", "EADDRNOTAVAIL", "ENETUNREACH"]),
        tcp("a port of 127.0.0.1 by IPv6", "AF_INET6", "('::ffff:127.0.0.1', int(TCP))", REFUSED),
        tcp("a port of 127.0.0.1, with the models there", "AF_INET", "('127.0.0.1', int(TCP))", REFUSED)
            .jail(&["--network", "local"]),
        tcp("a port of the machine's address", "AF_INET", "(LAN, int(TCP_ALL))", UNREACHABLE).lacking(&["EADDRNOTAVAIL"]),
        udp("a UDP port", "('127.0.0.1', int(UDP))", REFUSED),
        udp("a resolver, asked for a name", "('127.0.0.1', int(UDP))", REFUSED)
            .jail(&["--network", "local"]),
        udp("a resolver at the machine's address", "(LAN, int(UDP_ALL))", UNREACHABLE).lacking(&["EADDRNOTAVAIL"]),
        attempt("the resolver of the machine", &["EAI"], "try:\n    socket.getaddrinfo(os.uname().nodename, None)\n    return RESOLV in open('/etc/resolv.conf').read()\nexcept (socket.gaierror, FileNotFoundError):\n    deny('EAI')").with("RESOLV = 'nameserver'").lacking(&["EAI"]),
        tcp("a socket in the file system", "AF_UNIX", "RUNTIME + '/agent'", NOT_THERE),
        tcp("a socket beside the workspace", "AF_UNIX", "WORK + '/../agent'", NOT_THERE),
        tcp("a socket by a link in the workspace", "AF_UNIX", "WORK + '/socket'", NOT_THERE),
        tcp("an abstract socket", "AF_UNIX", "'\\0' + ABSTRACT", ABSTRACT),
        attempt("a datagram to an abstract socket", ABSTRACT, "socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b'x', '\\0' + ABSTRACT_DATAGRAM)\nreturn True"),
        tcp("the engine's socket", "AF_UNIX", "'/var/run/docker.sock'", NOT_THERE).control(Control::Root).lacking(&["ENOENT", "ECONNREFUSED"]),
        route("any other machine", "AF_INET", "192.0.32.10"),
        route("the metadata address", "AF_INET", "169.254.169.254"),
        route("any other machine by IPv6", "AF_INET6", "2001:500:8f::53"),
        route("a private network", "AF_INET", "10.11.12.13"),
        attempt("a default route", &["NONE"], "return len(read('/proc/net/route').splitlines()) > 1 or deny('NONE')").lacking(&["NONE"]),
        attempt("other interfaces", &["NONE"], "return [name for _, name in socket.if_nameindex() if name != 'lo'] or deny('NONE')").lacking(&["NONE"]),
        attempt("an interface of one's own", &["EPERM"], LINK).control(Control::Unshare("-Urn", "")),
        attempt("sockets of the host in /proc", &["NONE"], "return ('%04X' % int(TCP)).encode() in read('/proc/net/tcp') or deny('NONE')"),
        attempt("abstract sockets of the host in /proc", &["NONE"], "return ABSTRACT.encode() in read('/proc/net/unix') or deny('NONE')"),
        attempt("multicast", &["ENETUNREACH", "ENODEV"], "link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\nlink.sendto(b'', ('224.0.0.251', 9))\nreturn True").lacking(&["ENETUNREACH"]),
        attempt("a port below 1024", &["EACCES"], "socket.socket(socket.AF_INET, socket.SOCK_STREAM).bind(('127.0.0.1', 81))\nreturn True").control(Control::Unshare("-Urn", "")),
    ]
}

/// A question for a name, as resolvers are asked.
const QUESTION: &str = "QUESTION = bytes.fromhex('abcd01000001000000000000') + b'\\7example\\3org\\0\\0\\1\\0\\1'";

/// By netlink of routes, which is open for asking: a new link named `made`.
const LINK: &str =
    "attribute = lambda kind, data: struct.pack('HH', 4 + len(data), kind) + data + b'\\0' * (-len(data) % 4)
body = struct.pack('BxHiII', 0, 0, 0, 0, 0) + attribute(3, b'made\\0') + attribute(18, attribute(1, b'dummy\\0'))
link = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
link.send(struct.pack('IHHII', 16 + len(body), 16, 0x605, 1, 0) + body)
code = struct.unpack_from('i', link.recv(512), 16)[0]
if code == 0 or code == -95:
    return True
raise OSError(-code, 'refused')";

/// What listens on the host.
struct Host {
    tcp: [TcpListener; 3],
    udp: [u16; 2],
    lan: String,
    open: RefCell<Vec<UnixListener>>,
    datagram: UnixDatagram,
}

impl Host {
    fn new() -> Self {
        let listen = |at: &str| TcpListener::bind(at).expect("a port");
        // Answers with what it was asked.
        let answer = |at: &str| {
            let socket = UdpSocket::bind(at).expect("a port");
            let port = socket.local_addr().expect("an address").port();
            std::thread::spawn(move || {
                let mut question = [0; 512];
                while let Ok((length, from)) = socket.recv_from(&mut question) {
                    let _ = socket.send_to(&question[..length], from);
                }
            });
            port
        };
        // Says which address would be used; nothing is sent.
        let lan = UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
            socket.connect("192.0.32.10:9")?;
            socket.local_addr()
        });
        let lan = lan.map_or_else(|_| "198.18.255.254".to_owned(), |address| address.ip().to_string());
        let name = SocketAddr::from_abstract_name(format!("corral-escape-datagram-{}", std::process::id()));
        Self {
            tcp: [listen("127.0.0.1:0"), listen("0.0.0.0:0"), listen("[::1]:0")],
            udp: [answer("127.0.0.1:0"), answer("0.0.0.0:0")],
            lan,
            open: RefCell::default(),
            datagram: UnixDatagram::bind_addr(&name.expect("a name")).expect("a socket"),
        }
    }

    fn prepare(&self, world: &mut World<'_>) {
        let mut open = self.open.borrow_mut();
        for path in ["runtime/agent", "agent"] {
            let path = world.path(path);
            open.push(UnixListener::bind(&path).expect("a socket"));
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666)).expect("permissions");
        }
        std::os::unix::fs::symlink(world.path("agent"), world.work("socket")).expect("a link");
        let name = format!("corral-escape-{}-{}", std::process::id(), open.len());
        let address = SocketAddr::from_abstract_name(&name).expect("a name");
        open.push(UnixListener::bind_addr(&address).expect("a socket"));
        world.set("ABSTRACT", &name);
        let datagram = self.datagram.local_addr().expect("an address");
        world.set("ABSTRACT_DATAGRAM", &String::from_utf8_lossy(datagram.as_abstract_name().expect("a name")));
        for (name, listener) in ["TCP", "TCP_ALL", "TCP6"].iter().zip(&self.tcp) {
            world.set(name, &listener.local_addr().expect("an address").port().to_string());
        }
        for (name, port) in ["UDP", "UDP_ALL"].iter().zip(self.udp) {
            world.set(name, &port.to_string());
        }
        world.set("LAN", &self.lan);
    }
}

#[test]
fn network() {
    let host = Host::new();
    hold("network", &attempts(), 20, &|world| host.prepare(world));
}

/// `GATEWAY`, `MANAGEMENT` and `TOKEN` are those of inside, and are defined anew for the control.
const INSIDE: &str = "import http.client
HOST_GATEWAY, HOST_MANAGEMENT, HOST_TOKEN = GATEWAY, MANAGEMENT, TOKEN
GATEWAY, MANAGEMENT, TOKEN = 8080, 8081, os.environ.get('CORRAL_TOKEN', '')
def ask(port, method, path, token=None, body=None):
    link = http.client.HTTPConnection('127.0.0.1', int(port), timeout=30)
    headers = {'Authorization': 'Bearer ' + token} if token else {}
    if body:
        headers['Content-Type'] = 'application/json'
    link.request(method, path, body, headers)
    status = link.getresponse().status
    return 200 <= status < 300 or deny(str(status))
";
const OUTSIDE: Control = Control::OutsideWith("GATEWAY, MANAGEMENT, TOKEN = HOST_GATEWAY, HOST_MANAGEMENT, HOST_TOKEN");
const LOCAL: &[&str] = &["--network", "local"];

/// Before the real daemon, and a model that is loaded.
pub(crate) fn attempts_with_daemon() -> Vec<Attempt> {
    let ask = |name: &str, denied, words: &str| {
        attempt(name, denied, format!("return ask({words})")).with(INSIDE).jail(LOCAL).control(OUTSIDE)
    };
    let none = |name: &str, words: &str| {
        let script = format!("return ask({words})");
        attempt(name, REFUSED, script).with(INSIDE).control(Control::Jail(LOCAL))
    };
    vec![
        none("the models with no network", "GATEWAY, 'GET', '/health'"),
        none("the management API with no network", "MANAGEMENT, 'GET', '/status', TOKEN"),
        ask("the models at the host's port", REFUSED, "HOST_GATEWAY, 'GET', '/health'"),
        ask("the management API at the host's port", REFUSED, "HOST_MANAGEMENT, 'GET', '/healthz'"),
        attempt(
            "llama-server's own port",
            REFUSED,
            "socket.create_connection(('127.0.0.1', int(LLAMA)), 10)\nreturn True",
        )
        .jail(LOCAL),
        attempt(
            "the daemon's socket",
            NOT_THERE,
            "socket.socket(socket.AF_UNIX, socket.SOCK_STREAM).connect(CORRAL_HOME + '/run/jails.sock')\nreturn True",
        )
        .jail(LOCAL),
        attempt("the daemon's token", NOT_THERE, "return holds(CORRAL_HOME + '/run/token', TOKEN)").jail(LOCAL),
        attempt("the server's key", NOT_THERE, "return read(CORRAL_HOME + '/run/api-key')")
            .jail(LOCAL)
            .lacking(NOT_THERE),
        ask("/slots", &["403"], "GATEWAY, 'GET', '/slots'"),
        ask("/props", &["403"], "GATEWAY, 'GET', '/props'"),
        ask(
            "/slots in another writing",
            &["403", "404", "400"],
            "GATEWAY, 'GET', '//slots' if GATEWAY == 8080 else '/slots'",
        ),
        ask("/slots, encoded", &["403", "404", "400"], "GATEWAY, 'GET', '/%73lots' if GATEWAY == 8080 else '/slots'"),
        ask("/usage", &["403"], "MANAGEMENT, 'GET', '/usage', TOKEN"),
        ask("/history", &["403"], "MANAGEMENT, 'GET', '/history', TOKEN"),
        ask("/logs", &["403"], "MANAGEMENT, 'GET', '/logs', TOKEN"),
        ask("/metrics", &["403"], "MANAGEMENT, 'GET', '/metrics', TOKEN"),
        ask("/sessions, a new one", &["403"], "MANAGEMENT, 'POST', '/sessions', TOKEN, '{\"label\": \"made\"}'"),
        ask("/status with the management token", &["401"], "MANAGEMENT, 'GET', '/status', HOST_TOKEN"),
        ask("/status without a token", &["401"], "MANAGEMENT, 'GET', '/status', TOKEN if MANAGEMENT != 8081 else None"),
        ask("/stop", &["403"], "MANAGEMENT, 'POST', '/stop', TOKEN, '{}'"),
    ]
}

#[test]
fn the_daemon_s_two_ports() {
    let served = Served::start();
    hold("the daemon's two ports", &attempts_with_daemon(), 15, &|world| served.prepare(world));
}
