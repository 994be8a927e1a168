//! What runs later because something leads there: links, words of Git's configuration, names among very many others.

use std::fs;

use crate::attempt::{Attempt, attempt, hold, run_inside};
use crate::later::SHUT;
use crate::world::{Base, World, is_there};

/// A folder that is the user's, what a program in it tries, and what the user does afterwards.
struct Case {
    name: &'static str,
    /// A shell's lines, by the user, in the workspace, which is a repository.
    before: &'static str,
    /// A function's lines in Python.
    script: &'static str,
    /// A shell's lines, by the user, in the workspace; what was planted leaves `../ran`.
    later: &'static str,
}

const COMMIT: &str = "git commit -q --allow-empty -m second";

const CASES: &[Case] = &[
    Case {
        name: "a script that a hook leads to",
        before: "program scripts/pre-commit.sh && ln -s ../../scripts/pre-commit.sh .git/hooks/pre-commit",
        script: "return plant('scripts/pre-commit.sh')",
        later: COMMIT,
    },
    Case {
        name: "a hook in a folder that the hooks' folder leads to",
        before: "rm -rf .git/hooks && mkdir githooks && program githooks/other && ln -s ../githooks .git/hooks",
        script: "return plant('githooks/pre-commit')",
        later: COMMIT,
    },
    Case {
        name: "a configuration that Git's leads to",
        before: "mv .git/config gitconf && ln -s ../gitconf .git/config",
        script: "plant('run.sh')\nreturn add('gitconf', '[core]\\nfsmonitor = ' + WORK + '/run.sh\\n')",
        later: "git status",
    },
    Case {
        name: "a link on the way to a hook",
        before: "program scripts/a && ln -s scripts/a way && ln -s ../../way .git/hooks/pre-commit",
        script: "plant('run.sh')\nos.unlink(WORK + '/way')\nos.symlink('run.sh', WORK + '/way')\nreturn True",
        later: COMMIT,
    },
    Case {
        name: "a folder on the way to a hook that is not there",
        before: "mkdir scripts && ln -s ../../scripts/later/a .git/hooks/pre-commit",
        script: "plant('run.sh')\nos.mkdir(WORK + '/x')\nos.symlink('../run.sh', WORK + '/x/a')\n\
            os.symlink('../x', WORK + '/scripts/later')\nreturn True",
        later: COMMIT,
    },
    Case {
        name: "a script that a file in a guarded folder leads to",
        before: "mkdir .husky && program dev/h && ln -s ../dev/h .husky/pre-commit && git config core.hooksPath .husky",
        script: "return plant('dev/h')",
        later: COMMIT,
    },
    Case {
        name: "a file that one deep in the folder leads to",
        before: "mkdir -p pk/a && echo : >common && ln -s ../../common pk/a/.envrc",
        script: "return plant('common')",
        later: ". pk/a/.envrc",
    },
    Case {
        name: "a program that the configuration names",
        before: "program tools/fs.sh && git config core.fsmonitor tools/fs.sh",
        script: "return plant('tools/fs.sh')",
        later: "git status",
    },
    Case {
        name: "a program that a filter names with words",
        before: "program tools/clean && git config filter.x.clean 'sh ./tools/clean %f' && echo 'a filter=x' >.gitattributes",
        script: "return plant('tools/clean')",
        later: "echo x >a && git add a",
    },
    Case {
        name: "a program that an alias names and that is not there",
        before: "git config alias.x '!tools/x'",
        script: "return plant('tools/x')",
        later: "git x",
    },
    Case {
        name: "a program that an included configuration names",
        before: "program tools/fs.sh && git config -f shared core.fsmonitor tools/fs.sh && git config include.path ../shared",
        script: "return plant('tools/fs.sh')",
        later: "git status",
    },
    Case {
        name: "a work tree elsewhere by a link",
        before: "",
        script: "git('init', '-q', 'r')\nadd('r/ran', 'x')\ngit('-C', 'r', 'add', 'ran')\n\
            git('-C', 'r', 'config', 'core.worktree', '../../out')\nos.symlink('..', WORK + '/out')\nreturn True",
        later: "git -C r checkout -- :/",
    },
    Case {
        name: "a remote of a branch that is a program",
        before: "",
        script: "git('init', '-q', '-b', 'main', 'r')\n\
            git('-C', 'r', 'config', 'branch.main.remote', 'ext::touch ' + WORK + '/../ran')\n\
            return git('-C', 'r', 'config', 'branch.main.merge', 'refs/heads/main')",
        later: "git -C r -c protocol.ext.allow=always pull",
    },
];

const DEFINITIONS: &str = "
def add(path, text):
    os.makedirs(os.path.dirname(WORK + '/' + path), exist_ok=True)
    with open(WORK + '/' + path, 'a') as file:
        file.write(text)
    return True

def plant(path):
    new = not os.path.exists(WORK + '/' + path)
    add(path, ('#!/bin/sh\\n' if new else '') + 'touch ' + WORK + '/../ran\\n')
    if new:
        os.chmod(WORK + '/' + path, 0o755)
    return True

def git(*words):
    os.chdir(WORK)
    code, said = program('git', '-c', 'user.name=a', '-c', 'user.email=a@b', *words)
    return code == 0 or deny(said.decode())
";

/// The user goes on working.
fn ran(world: &World<'_>) -> bool {
    drop(shell(world, &fs::read_to_string(world.path("later")).expect("it was prepared")));
    is_there(&world.path("ran"))
}

fn shell(world: &World<'_>, script: &str) -> std::process::Output {
    let helpers = "program() { mkdir -p \"$(dirname \"$1\")\" && printf '#!/bin/sh\\n' >\"$1\" && chmod 755 \"$1\"; }
        export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b";
    let script = format!("{helpers}\ncd '{}'\n{script}", world.path("work").display());
    world.command(&["/bin/sh", "-c", &script].map(str::to_owned)).output().expect("a shell runs")
}

fn prepare(world: &World<'_>, case: &Case) {
    fs::write(world.path("later"), case.later).expect("a file");
    let done = shell(world, &format!("set -e\ngit init -q\ngit add README\ngit commit -q -m first\n{}", case.before));
    assert!(done.status.success(), "{}: {done:?}", case.name);
}

fn of(case: &Case) -> Attempt {
    attempt(case.name, &[], case.script).with(DEFINITIONS).effect(ran)
}

pub(crate) fn attempts() -> Vec<Attempt> {
    CASES.iter().map(of).chain(among_many()).collect()
}

/// What is to be lost among much else.
fn among_many() -> Vec<Attempt> {
    let names = [".envrc", ".mcp.json", "rust-toolchain.toml", ".bundle/config", ".factory/x", "crush.json"];
    let mut all = vec![
        attempt("write to .git/config beside 70 repositories", SHUT, "return add('.git/config', '[a]\\nb = c\\n')")
            .effect(|world| fs::read_to_string(world.work(".git/config")).is_ok_and(|text| text.contains("[a]"))),
    ];
    let among = "for n in range(5010):\n    add('!%d.code-workspace' % n, '{}')\n";
    all.push(
        attempt(
            "leave files among 5,010 others",
            &[],
            format!("{among}for name in {names:?}:\n    add(name, 'x')\nreturn True"),
        )
        .effect(|world| {
            let left = [".envrc", ".mcp.json", "rust-toolchain.toml", ".bundle/config", "!5009.code-workspace"];
            left.iter().any(|name| is_there(&world.work(name)))
        }),
    );
    all.into_iter().map(|one| one.with(DEFINITIONS)).collect()
}

#[test]
fn what_leads_elsewhere() {
    let failed = CASES.iter().filter(|case| {
        let held = || hold("what leads elsewhere", &[of(case)], 1, &|world| prepare(world, case));
        // Each has a folder of its own to be tried in, and all are to be heard of.
        std::panic::catch_unwind(held).is_err()
    });
    let failed: Vec<_> = failed.map(|case| case.name).collect();
    assert!(failed.is_empty(), "{failed:?}");
}

#[test]
fn one_among_very_many() {
    let many = Case {
        name: "many",
        before: "for n in $(seq 10 80); do git init -q --bare \"!r$n\"; done",
        script: "",
        later: "",
    };
    hold("one among very many", &among_many(), 2, &|world| prepare(world, &many));
}

#[test]
fn new_links_that_lead_out_are_told() {
    let base = Base::new();
    let world = World::new(&base);
    let script = "os.symlink('/root/.bashrc', WORK + '/notes.md')\nos.symlink('README', WORK + '/within')\nreturn True";
    let seen = run_inside(&world, script);
    assert_eq!(seen.verdict(), Some("GOT"), "{seen:?}");
    assert!(seen.err.contains("notes.md") && seen.err.contains("/root/.bashrc"), "{seen:?}");
    assert!(!seen.err.contains("within") && !seen.err.contains("leads-out"), "{seen:?}");
    assert!(is_there(&world.work("notes.md")), "it is only told: {seen:?}");
}
