//! What runs later, outside: hooks, settings and tasks of the workspace cannot be changed, and new ones are moved out.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::attempt::{Attempt, Control, attempt, hold, run_inside};
use crate::world::{Base, World, is_there};

/// By a mount that is read-only, by a mount in the place, by Landlock.
pub(crate) const SHUT: &[&str] = &["EROFS", "EBUSY", "EXDEV", "EACCES", "EPERM"];

/// Files that other programs obey, each with what it says at first.
const OBEYED: &[(&str, &str)] = &[
    (".git/hooks/pre-commit", "#!/bin/sh\n"),
    (".vscode/tasks.json", "{}\n"),
    (".idea/workspace.xml", "<project/>\n"),
    (".devcontainer/devcontainer.json", "{}\n"),
    (".envrc", "true\n"),
    (".mcp.json", "{}\n"),
    (".claude/settings.json", "{}\n"),
    (".claude/settings.local.json", "{}\n"),
    (".husky/pre-commit", "true\n"),
    (".cargo/config.toml", "[build]\n"),
];

/// One of those that are not at the top: it can be changed, but does not stay where it is obeyed.
const DEEP: (&str, &str) = ("sub/.vscode/settings.json", "{}\n");

/// Git's own, which `git init` has made.
const GITS: &[&str] = &[".git/config"];

/// Folders that lead to them, or are obeyed as they are.
const FOLDERS: &[&str] = &[".git", ".git/hooks", ".vscode", ".idea", ".devcontainer", ".claude", ".husky", ".cargo"];

const OPERATIONS: &[(&str, &str)] = &[
    ("append to", "return write(TARGET, 'a')"),
    ("overwrite", "return write(TARGET, 'w')"),
    ("replace", "write(WORK + '/made')\nos.replace(WORK + '/made', TARGET)\nreturn True"),
    ("unlink", "os.unlink(TARGET)\nreturn True"),
    ("move away", "os.rename(TARGET, WORK + '/away')\nreturn True"),
];

pub(crate) fn attempts() -> Vec<Attempt> {
    let mut all = Vec::new();
    let mut add = |name: String, target: &str, script: &str| {
        all.push(attempt(name, SHUT, script).with(format!("TARGET = WORK + '/{target}'")).effect(changed));
    };
    for file in OBEYED.iter().map(|(file, _)| file).chain(GITS) {
        for (what, script) in OPERATIONS {
            add(format!("{what} {file}"), file, script);
        }
    }
    for folder in FOLDERS {
        add(format!("move {folder} away"), folder, "os.rename(TARGET, WORK + '/away')\nreturn True");
        if ![".git", ".claude", ".cargo"].contains(folder) {
            add(format!("add to {folder}"), folder, "return write(TARGET + '/made')");
        }
    }
    add(
        "exchange .vscode with another folder".to_owned(),
        ".vscode",
        "os.mkdir(WORK + '/made')\nreturn call(number(316, 276), -100, TARGET.encode(), -100, (WORK + '/made').encode(), 2) == 0",
    );
    for (what, script) in [
        ("the rights of", "os.chmod(TARGET, 0o777)\nreturn True"),
        ("the length of", "os.truncate(TARGET, 1)\nreturn True"),
        ("by its descriptor", "file = os.open(TARGET, os.O_RDONLY)\nreturn write('/proc/self/fd/%d' % file, 'a')"),
        ("by a hard link to", "os.link(TARGET, WORK + '/made')\nreturn write(WORK + '/made', 'a')"),
        (
            "through a link to the folder of",
            "os.symlink(os.path.dirname(TARGET), WORK + '/made')\nreturn write(WORK + '/made/pre-commit', 'a')",
        ),
        ("from its folder", "os.chdir(os.path.dirname(TARGET))\nreturn write('pre-commit', 'a')"),
        ("by the root of its process", "return write('/proc/self/root' + TARGET, 'a')"),
        ("by the folder of its process", "os.chdir(WORK)\nreturn write('/proc/self/cwd/.git/hooks/pre-commit', 'a')"),
    ] {
        add(format!("change {what} a hook"), ".git/hooks/pre-commit", script);
    }
    let git = |name: &str, words: &str| {
        let script = format!("code, said = program('git', '-C', WORK, {words})\nreturn code == 0 or deny('EROFS')");
        attempt(name, SHUT, script).effect(changed)
    };
    all.push(git("git config core.hooksPath", "'config', 'core.hooksPath', 'made'"));
    all.push(git("git config core.fsmonitor", "'config', 'core.fsmonitor', 'made'"));
    all.push(git("git remote add", "'remote', 'add', 'made', 'ext::made'"));
    all.extend(mounts());
    all.extend(new_ones());
    all
}

/// Attempts on the mounts that make it so, for which there have to be such mounts outside as well.
fn mounts() -> Vec<Attempt> {
    let bound = "mount --bind WORK/.git/hooks WORK/.git/hooks && mount -o remount,ro,bind WORK/.git/hooks";
    let control = Control::Unshare("-Urm", bound);
    let of_hooks = |name: &str, script: &str| {
        attempt(name, SHUT, script).with("TARGET = (WORK + '/.git/hooks').encode()").control(control)
    };
    vec![
        of_hooks("unmount the hooks", "return call(number(166, 39), TARGET, 2) == 0"),
        of_hooks("mount the hooks writable", "return call(number(165, 40), None, TARGET, None, 0x1020, None) == 0"),
        of_hooks(
            "mount something over the hooks",
            "return call(number(165, 40), b'none', TARGET, b'tmpfs', 0, None) == 0",
        ),
        of_hooks("the hooks without their mount", "return call(428, -100, TARGET, 1) > 0"),
        of_hooks(
            "make the mount of the hooks writable",
            "return call(442, -100, TARGET, 0, struct.pack('QQQQ', 0, 1, 0, 0), 32) == 0",
        ),
    ]
}

/// What was not there cannot be shut; it is gone from its place when the jail has ended.
fn new_ones() -> Vec<Attempt> {
    type IsThere = fn(&World<'_>) -> bool;
    const NEW: &[(&str, IsThere)] = &[
        ("bare/.envrc", |world| is_there(&world.work("bare/.envrc"))),
        ("bare/.vscode/tasks.json", |world| is_there(&world.work("bare/.vscode/tasks.json"))),
        ("bare/.claude/settings.json", |world| is_there(&world.work("bare/.claude/settings.json"))),
        ("bare/nested/.git/hooks/post-checkout", |world| is_there(&world.work("bare/nested/.git/hooks/post-checkout"))),
        (".git/modules/made/hooks/pre-commit", |world| is_there(&world.work(".git/modules/made/hooks/pre-commit"))),
        ("a/b/c/d/e/f/.envrc", |world| is_there(&world.work("a/b/c/d/e/f/.envrc"))),
        ("bare/.ENVRC", |world| is_there(&world.work("bare/.ENVRC"))),
    ];
    let mut all: Vec<_> = NEW
        .iter()
        .map(|(path, effect)| {
            let mut script = String::from("os.makedirs(os.path.dirname(TARGET), exist_ok=True)\n");
            for (of, words) in
                [("nested", "WORK + '/bare/nested'"), ("modules", "'--bare', WORK + '/.git/modules/made'")]
            {
                if path.contains(of) {
                    writeln!(script, "program('git', 'init', '-q', {words})").expect("a text can be written to");
                }
            }
            script.push_str("write(TARGET)\nos.chmod(TARGET, 0o755)\nreturn True");
            attempt(format!("leave {path}"), &[], script).with(format!("TARGET = WORK + '/{path}'")).effect(*effect)
        })
        .collect();
    for (what, script) in &OPERATIONS[..3] {
        let made = |world: &World<'_>| fs::read_to_string(world.work(DEEP.0)).is_ok_and(|text| text != DEEP.1);
        let target = format!("TARGET = WORK + '/{}'", DEEP.0);
        all.push(attempt(format!("{what} {}", DEEP.0), &[], *script).with(target).effect(made));
    }
    all.push(
        attempt("leave .envrc as a link", &[], "os.symlink('README', WORK + '/bare.envrc')\nos.mkdir(WORK + '/bare')\nos.symlink('../README', WORK + '/bare/.envrc')\nreturn True")
            .effect(|world| is_there(&world.work("bare/.envrc"))),
    );
    all.push(
        attempt(
            "leave .envrc in a shut folder",
            &[],
            "os.mkdir(WORK + '/bare')\nwrite(WORK + '/bare/.envrc')\nos.chmod(WORK + '/bare', 0o500)\nreturn True",
        )
        .effect(|world| is_there(&world.work("bare/.envrc"))),
    );
    all
}

type Print = BTreeMap<PathBuf, (u32, Vec<u8>)>;

/// All that is obeyed, as it is.
fn print(world: &World<'_>) -> Print {
    let mut all = Print::new();
    for path in FOLDERS.iter().filter(|path| **path != ".git").chain(GITS).chain(&[".envrc", ".mcp.json"]) {
        add(&mut all, &world.work(path), &world.path("work"));
    }
    all
}

fn add(all: &mut Print, path: &Path, root: &Path) {
    let Ok(stat) = fs::symlink_metadata(path) else { return };
    let content = if stat.is_dir() {
        fs::read_dir(path).expect("a folder").for_each(|entry| add(all, &entry.expect("an entry").path(), root));
        Vec::new()
    } else if stat.is_symlink() {
        fs::read_link(path).expect("a link").into_os_string().into_encoded_bytes()
    } else {
        fs::read(path).expect("a file")
    };
    all.insert(path.strip_prefix(root).expect("in it").to_owned(), (stat.permissions().mode(), content));
}

/// Kept beside the workspace, where no jail sees it.
fn changed(world: &World<'_>) -> bool {
    fs::read_to_string(world.path("print")).expect("it was prepared") != format!("{:?}", print(world))
}

fn prepare(world: &mut World<'_>) {
    for (path, text) in OBEYED.iter().chain([&DEEP]) {
        world.write(&format!("work/{path}"), text);
    }
    world.give();
    let work = world.path("work").display().to_string();
    let git = |words: &[&str]| {
        let words: Vec<_> = [&["git", "-C", &work, "-c", "user.name=a", "-c", "user.email=a@b"], words].concat();
        let words: Vec<_> = words.into_iter().map(str::to_owned).collect();
        let done = world.command(&words).output().expect("git runs");
        assert!(done.status.success(), "{words:?}: {done:?}");
    };
    git(&["init", "-q"]);
    git(&["add", "README"]);
    git(&["commit", "-q", "--no-verify", "-m", "first"]);
    fs::write(world.path("print"), format!("{:?}", print(world))).expect("a file");
}

#[test]
fn code_that_runs_later() {
    hold("code that runs later", &attempts(), 80, &prepare);
}

#[test]
fn daily_work_goes_on_and_what_is_left_is_told() {
    let base = Base::new();
    let mut world = World::new(&base);
    prepare(&mut world);
    let seen = run_inside(
        &world,
        "def git(*words):
    code, said = program('git', '-C', WORK, '-c', 'user.name=a', '-c', 'user.email=a@b', *words)
    return code == 0 or deny(said.decode())
write(WORK + '/ordinary')
git('add', 'ordinary') and git('commit', '-q', '-m', 'made') and git('branch', 'made') and git('checkout', '-q', 'made')
write(WORK + '/ordinary', 'a')
git('stash') and git('stash', 'pop') and git('log') and git('gc', '-q')
write(WORK + '/.bazelrc')
os.makedirs(WORK + '/nested')
program('git', 'init', '-q', WORK + '/nested')
write(WORK + '/nested/.git/hooks/post-checkout')
os.chmod(WORK + '/nested/.git/hooks/post-checkout', 0o755)
return True",
    );
    assert_eq!(seen.verdict(), Some("GOT"), "{seen:?}");
    assert!(!changed(&world), "{seen:?}");
    assert_eq!(fs::read_to_string(world.work("ordinary")).ok().as_deref(), Some("x\nx\n"), "work stays: {seen:?}");
    let quarantine = world.path("corral/state/quarantine");
    let parts: Vec<_> = fs::read_dir(&quarantine).expect("it is there").map(|entry| entry.unwrap().path()).collect();
    assert_eq!(parts.len(), 1, "{parts:?}");
    let manifest = fs::read_to_string(parts[0].join("manifest.json")).expect("what was moved is written down");
    for path in [".bazelrc", "nested/.git/hooks/post-checkout"] {
        assert!(!is_there(&world.work(path)), "{path}: {seen:?}");
        let path = world.work(path).display().to_string();
        assert!(
            seen.err.contains(&format!("{path} is new")) && manifest.contains(&path),
            "{path}: {seen:?}\n{manifest}"
        );
    }
}
