//! Modes of files: nothing that is left in the workspace runs as its owner on the host, and daily work goes on.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::attempt::{Attempt, Control, attempt, both_succeed, hold};
use crate::world::World;

const NO: &[&str] = &["EPERM"];
const NEVER: &[&str] = &["ENOSYS"];

/// Whether there is a file that runs as its owner.
fn is_marked(world: &World<'_>) -> bool {
    let all = fs::read_dir(world.path("work")).expect("a folder").filter_map(Result::ok);
    all.filter_map(|entry| entry.metadata().ok()).any(|file| file.permissions().mode() & 0o4000 != 0)
}

pub(crate) fn attempts() -> Vec<Attempt> {
    let copy = "MADE = WORK + '/made'\nimport shutil\ndef made():\n    shutil.copy('/usr/bin/id', MADE)\n    return MADE.encode()\n";
    let marks = |name: &str, script: &str| attempt(name, NO, script).with(copy).effect(is_marked);
    let mut all = vec![
        marks("chmod", "made()\nos.chmod(MADE, 0o4755)\nreturn True"),
        marks(
            "chmod of coreutils",
            "made()\ncode, said = program('chmod', 'u+s', MADE)\nreturn code == 0 or deny('EPERM' if b'Operation not permitted' in said else said)",
        ),
        marks("fchmod", "return call(number(91, 52), os.open(made(), os.O_RDONLY), 0o4755) == 0"),
        marks(
            "fchmod, with more bits than the kernel looks at",
            "return call(number(91, 52), os.open(made(), os.O_RDONLY), 0x100000000 | 0o4755) == 0",
        ),
        marks("fchmodat", "return call(number(268, 53), -100, made(), 0o6755) == 0"),
        marks("fchmodat2", "return call(452, -100, made(), 0o4755, 0x100) == 0").lacking(NEVER),
        marks("fchmodat2 of a descriptor", "return call(452, os.open(made(), os.O_PATH), b'', 0o4755, 0x1000) == 0")
            .lacking(NEVER),
        marks("mknodat", "return call(number(259, 33), -100, MADE.encode(), stat.S_IFREG | 0o4755, 0) == 0"),
        marks("openat", "return call(number(257, 56), -100, MADE.encode(), os.O_CREAT | os.O_WRONLY, 0o4755) > 0"),
        marks(
            "a file without a name that gets one",
            "made = call(number(257, 56), -100, WORK.encode(), os.O_TMPFILE | os.O_RDWR, 0o4755)\nreturn call(number(265, 37), -100, b'/proc/self/fd/%d' % made, -100, MADE.encode(), 0x400) == 0",
        ),
        attempt(
            "openat2",
            NEVER,
            "return call(437, -100, MADE.encode(), struct.pack('QQQ', os.O_CREAT | os.O_WRONLY, 0o4755, 0), 24) > 0",
        )
        .with(copy)
        .effect(is_marked),
        marks(
            "a child with another file creation mask",
            "os.umask(0)\nmade()\nreturn child(lambda: os.chmod(MADE, 0o4777) is None)",
        ),
        marks(
            "an archive",
            "import tarfile, io\nbytes = io.BytesIO()\nwith tarfile.open(fileobj=bytes, mode='w') as tar:\n    one = tarfile.TarInfo('made')\n    one.mode, one.size = 0o4755, 1\n    tar.addfile(one, io.BytesIO(b'x'))\nopen(WORK + '/tar', 'wb').write(bytes.getvalue())\nout = subprocess.run(['tar', '-xpf', 'tar'], cwd=WORK, capture_output=True)\nreturn out.returncode == 0 or deny('EPERM' if b'Operation not permitted' in out.stderr else out.stderr)",
        ),
    ];
    if cfg!(target_arch = "x86_64") {
        all.extend([
            marks("the older chmod", "return call(90, made(), 0o4755) == 0"),
            marks("open", "return call(2, MADE.encode(), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o4711) > 0"),
            marks("creat", "return call(85, MADE.encode(), 0o4755) > 0"),
            marks("mknod", "return call(133, MADE.encode(), stat.S_IFREG | 0o4755, 0) == 0"),
        ]);
    }
    all
}

#[test]
fn modes() {
    hold("modes", &attempts(), 12, &|_| {});
}

/// Not attempts to get out: what has to go on working, with the jail and without.
#[test]
fn daily_work_with_files_goes_on() {
    let run = "def run(line):\n    done = subprocess.run(['/bin/sh', '-ec', line], cwd=WORK, capture_output=True, env={'PATH': '/usr/bin:/bin', 'HOME': '/nonexistent', 'LC_ALL': 'C'})\n    return done.returncode == 0 or deny(done.stderr)\n";
    let works = |name: &str, script: &str| attempt(name, &[], script).with(run).control(Control::Outside);
    let tree = "mkdir -p a/b && echo text >a/b/file && ln -s b a/link && ln a/b/file a/other && chmod 1777 a/b && chmod 640 a/b/file && touch -d 2001-01-01 a/b/file";
    let same = "test \"$(stat -c '%a %Y' $1)\" = \"$(stat -c '%a %Y' a/b/file)\"";
    let line = |rest: &str| format!("return run({:?})", format!("{tree}\n{rest}"));
    let all = [
        works("cp -a", &line(&format!("cp -a a c\nset -- c/b/file\n{same}\ntest \"$(stat -c %a c/b)\" = 1777"))),
        works("tar", &line(&format!("tar cf a.tar a\nmkdir x\ntar -xpf a.tar -C x\nset -- x/a/b/file\n{same}"))),
        works("install", &line("install -m 0755 a/b/file tool\ntest \"$(stat -c %a tool)\" = 755")),
        works(
            "a folder whose files have its group",
            &line("chmod g+s a/b\nmkdir a/b/c\ntest \"$(stat -c %a a/b/c | cut -c1)\" = 2\nchmod 2775 a"),
        ),
        works(
            "git, shared with a group",
            &line(
                "git init -q --shared=group r\ncd r\ncp ../a/b/file .\ngit add .\ngit -c user.name=a -c user.email=b commit -qm c\ngit gc -q\ngit clone -q . ../s\ngit -C ../s log -1 --format=%s | grep -qx c",
            ),
        ),
        works("mktemp and a lock", &line("t=$(mktemp ./XXXXXX)\nflock $t true\nmkfifo p\nrm $t p")),
        works(
            "Python's copies",
            "import shutil, tempfile, zipfile\nos.makedirs(WORK + '/p/q')\nopen(WORK + '/p/q/f', 'w').close()\nos.chmod(WORK + '/p/q', 0o2775)\nshutil.copytree(WORK + '/p', WORK + '/c')\nwith tempfile.TemporaryFile(dir=WORK) as one:\n    one.write(b'x')\nwith zipfile.ZipFile(WORK + '/z', 'w') as archive:\n    archive.write(WORK + '/p/q/f', 'f')\nreturn os.stat(WORK + '/c/q').st_mode & 0o7777 == 0o2775",
        ),
        works(
            "a program that is built",
            "open(WORK + '/x.py', 'w').write('print(6 * 7)\\n')\nreturn run('python3 -m py_compile x.py && printf \"#!/bin/sh\\necho built\\n\" >tool && chmod +x tool && test $(./tool) = built')",
        ),
    ];
    both_succeed("daily work", &all, &|_| {});
}
