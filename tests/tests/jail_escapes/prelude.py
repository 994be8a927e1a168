# Runs one attempt and says what came of it; the same text runs in the jail and outside.
import ctypes, errno, os, platform, signal, socket, stat, struct, subprocess, sys, time

libc = ctypes.CDLL(None, use_errno=True)
X86 = platform.machine() == "x86_64"


class Denied(Exception):
    pass


def deny(why):
    raise Denied(why)


def number(x86, arm):
    return x86 if X86 else arm


def call(nr, *args):
    """A system call by its number; an OSError where it fails."""
    args = [ctypes.c_long(arg) if isinstance(arg, int) else arg for arg in args]
    done = libc.syscall(ctypes.c_long(nr), *args)
    if done == -1:
        raise OSError(ctypes.get_errno(), "refused")
    return done


def read(path):
    with open(path, "rb") as file:
        return file.read(65536)


def write(path, how="w"):
    with open(path, how) as file:
        file.write("x\n")
    return True


def holds(path, text):
    """The text is in the file, or else it is not there to be read."""
    return text.encode() in read(path) or deny("OTHER")


def child(run):
    """What a forked process makes of it: its signal denies by its name, its code by the errno."""
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(0 if run() else 1)
        except OSError as error:
            os._exit(error.errno)
    status = os.waitpid(pid, 0)[1]
    if os.WIFSIGNALED(status):
        deny(signal.Signals(os.WTERMSIG(status)).name)
    code = os.WEXITSTATUS(status)
    return code == 0 or deny(errno.errorcode.get(code, str(code)))


def program(*words):
    """What a program says; one that is missing is no answer."""
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True)
    return done.returncode, done.stdout + done.stderr


def conclude(attempt):
    print("TRIED", flush=True)
    try:
        print("GOT" if attempt() else "NOTHING", flush=True)
    except Denied as why:
        print("DENIED", why, flush=True)
    except OSError as error:
        print("DENIED", errno.errorcode.get(error.errno, str(error)), flush=True)
