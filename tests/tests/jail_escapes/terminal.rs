//! The terminal: the command has one of its own, on which keys and sizes arrive, and cannot type into the user's.

use crate::attempt::{Attempt, attempt, hold};
use crate::world::World;

/// Runs a command on a terminal made here, and repeats what it wrote; the terminal's name is known to no one else.
const ON_TERMINAL: &str = "/usr/bin/python3 -I on-terminal.py";

/// The user of that terminal: a shell without the shell. What stands in the workspace as `keys` is typed, when the
/// command has written READY.
const DRIVER: &str = "
import fcntl, os, pty, select, signal, struct, sys, termios, time
# So that no terminal of a jail has the same number.
spare = [pty.openpty() for _ in range(4)]
master, slave = pty.openpty()
modes = termios.tcgetattr(slave)
modes[1] &= ~termios.OPOST
termios.tcsetattr(slave, termios.TCSANOW, modes)
fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack('HHHH', 33, 44, 0, 0))
name, device = os.ttyname(slave), str(os.stat(slave).st_rdev)
pid = os.fork()
if pid == 0:
    os.setsid()
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    for number in range(3):
        os.dup2(slave, number)
    os.close(master)
    # The session is led by a process that stays, as a shell does.
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        os.tcsetpgrp(0, os.getpid())
        signal.signal(signal.SIGTTOU, signal.SIG_DFL)
        os.execvp(sys.argv[1], [word.replace('TERMINAL-OF-THE-USER', name).replace('DEVICE-OF-THE-USER', device) for word in sys.argv[1:]])
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    while True:
        status = os.waitpid(child, os.WUNTRACED)[1]
        if not os.WIFSTOPPED(status):
            break
        os.tcsetpgrp(0, os.getpid())
        os.write(1, b'\\nSTOPPED\\n')
        time.sleep(0.1)
        os.tcsetpgrp(0, child)
        os.killpg(child, signal.SIGCONT)
    os.tcsetpgrp(0, os.getpid())
    # What has been typed into the terminal and not read by anybody.
    modes = termios.tcgetattr(0)
    modes[3] &= ~(termios.ICANON | termios.ECHO)
    termios.tcsetattr(0, termios.TCSANOW, modes)
    if select.select([0], [], [], 0.3)[0] and b'typed' in os.read(0, 100):
        os.write(1, b'\\nTYPED\\n')
    os._exit(os.waitstatus_to_exitcode(status) & 0xff)
os.close(slave)
said = b''
keys = {b'READY-INTERRUPT': b'\\x03', b'READY-STOP': b'\\x1a', b'READY-KEYS': b'typed\\n', b'READY-SIZE': None,
    b'READY-PASTE': b'\\x1b[200~typed\\nlines\\x1b[201~'}
# What a program asks of the terminal: pastes in brackets, colours of two kinds, a link, and letters of any kind.
PAINTED = '\\x1b[?2004h\\x1b[31;1mred\\x1b[38;2;1;2;3mmore\\x1b[0m\\x1b]8;;http://x/\\x1b\\\\link\\x1b]8;;\\x1b\\\\ \\u00fc\\u4e2d'.encode()
while True:
    try:
        piece = os.read(master, 65536)
    except OSError:
        break
    if not piece:
        break
    said += piece
    for word in [word for word in keys if word in said]:
        typed = keys.pop(word)
        if typed is None:
            fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack('HHHH', 55, 66, 0, 0))
        else:
            os.write(master, typed)
code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
# A key is shown where it is typed.
lines = said.replace(b'\\r', b'').replace(b'^C', b'').replace(b'^Z', b'').decode(errors='replace').splitlines()
first = [line for line in lines if line == 'TRIED']
verdict = [line for line in lines if line.startswith(('GOT', 'DENIED', 'NOTHING'))]
if b'READY-PASTE' in said and PAINTED not in said:
    verdict = ['DENIED PAINTED']
effects = [line for line in lines if line in ('STOPPED', 'TYPED')]
open('effects', 'w').write(' '.join(effects))
print('\\n'.join(first + verdict[-1:] or lines))
print(said, file=sys.stderr)
sys.exit(code)
";

fn typed(world: &World<'_>) -> bool {
    std::fs::read_to_string(world.path("home/effects")).expect("it was written").contains("TYPED")
}

pub(crate) fn attempts() -> Vec<Attempt> {
    let on_terminal = |name: &str, denied, script: &str| {
        attempt(name, denied, script)
            .with(
                "import fcntl, termios\nUSERS = 'TERMINAL-OF-THE-USER'\nDEVICE = int('DEVICE-OF-THE-USER')\n\
                def device(terminal):\n    return struct.unpack('I', fcntl.ioctl(terminal, 0x80045432, b'0000'))[0]",
            )
            .beneath(ON_TERMINAL)
    };
    let inject = |path: &str| {
        format!(
            "terminal = os.open({path}, os.O_RDWR | os.O_NOCTTY) if {path} else 0\n\
             modes = termios.tcgetattr(terminal)\nmodes[3] &= ~termios.ECHO\ntermios.tcsetattr(terminal, termios.TCSANOW, modes)\n\
             [fcntl.ioctl(terminal, termios.TIOCSTI, bytes([byte])) for byte in b'typed\\n']\nreturn True"
        )
    };
    vec![
        on_terminal("type into the terminal by its descriptor", &["EPERM"], &inject("None"))
            .effect(typed)
            .lacking(&["EIO"]),
        on_terminal("type into the terminal by /dev/tty", &["EPERM"], &inject("'/dev/tty'"))
            .effect(typed)
            .lacking(&["EIO"]),
        on_terminal(
            "the user's terminal by its name",
            &["ENOENT"],
            "return os.open(USERS, os.O_RDWR | os.O_NOCTTY) > 0",
        ),
        on_terminal(
            "the user's terminal by its descriptor",
            &["OTHER"],
            "return any(device(number) == DEVICE for number in range(3)) or deny('OTHER')",
        ),
        on_terminal(
            "the user's terminal by /dev/tty",
            &["OTHER"],
            "return device(os.open('/dev/tty', os.O_RDWR)) == DEVICE or deny('OTHER')",
        ),
    ]
}

fn prepare(world: &mut World<'_>) {
    world.write("home/on-terminal.py", DRIVER);
    world.give();
}

#[test]
fn terminal() {
    hold("terminal", &attempts(), 3, &prepare);
}

const PASTE: &str = "import tty
tty.setraw(0)
os.write(1, '\\x1b[?2004h\\x1b[31;1mred\\x1b[38;2;1;2;3mmore\\x1b[0m\\x1b]8;;http://x/\\x1b\\\\link\\x1b]8;;\\x1b\\\\ \u{fc}\u{4e2d}\\n'.encode())
print('READY-PASTE', flush=True)
came = b''
while not came.endswith(b'\\x1b[201~'):
    came += os.read(0, 100)
os.write(1, b'\\n')
return came == b'\\x1b[200~typed\\nlines\\x1b[201~' or deny('OTHER')";

/// Not attempts to get out: what has to go on working, with the jail and without.
#[test]
fn keys_and_sizes_arrive() {
    let wait = "import fcntl, termios\ncame = []\nnote = lambda number, _: came.append(number)\n\
                def until(condition):\n    end = time.time() + 20\n    while not condition() and time.time() < end:\n        time.sleep(0.01)\n    return condition() or deny('NEVER')\n";
    let works = |name: &str, script: &str| attempt(name, &[], script).with(wait).beneath(ON_TERMINAL);
    let all = [
        works(
            "^C",
            "signal.signal(signal.SIGINT, note)\nprint('READY-INTERRUPT', flush=True)\nreturn until(lambda: came)",
        ),
        works("what is typed", "print('READY-KEYS', flush=True)\nreturn input() == 'typed' or deny('OTHER')"),
        works(
            "a new size",
            "signal.signal(signal.SIGWINCH, note)\nassert os.get_terminal_size(0) == (44, 33), os.get_terminal_size(0)\nprint('READY-SIZE', flush=True)\nreturn until(lambda: os.get_terminal_size(0) == (66, 55) and came)",
        ),
        works("a paste in brackets, and colours", PASTE),
        works(
            "^Z and fg",
            "signal.signal(signal.SIGCONT, note)\nprint('READY-STOP', flush=True)\nreturn until(lambda: came)",
        ),
    ];
    crate::attempt::both_succeed("terminal", &all, &prepare);
}
