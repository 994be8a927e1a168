use std::fs;
use std::os::unix::fs::symlink;
use std::time::Instant;

use super::*;
use crate::bed::{Bed, git, put};

fn names(protected: &[Protected]) -> Vec<String> {
    let mut names: Vec<_> = protected.iter().map(|item| item.relative.to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn pins(pins: &[Pin]) -> Vec<&str> {
    pins.iter().map(|pin| pin.relative.to_str().unwrap()).collect()
}

#[test]
fn an_empty_workspace_needs_nothing() {
    let protection = Bed::new().protection();
    assert!(protection.protected.is_empty() && protection.pins.is_empty() && protection.git_dir.is_none());
    assert_eq!(protection.notices, []);
}

#[test]
fn what_is_there_is_protected_and_what_holds_it_is_pinned() {
    let bed = Bed::new();
    bed.git(&["init", "-q"]);
    for name in [".vscode/tasks.json", ".envrc", ".mcp.json", ".claude/settings.json", ".cargo/config.toml", ".husky/x"]
    {
        bed.write(name, "x");
    }
    for daily in ["package.json", "Makefile", "src/main.rs", ".claude/CLAUDE.md", ".cargo/x", "sub/.envrc"] {
        bed.write(daily, "x");
    }
    let protection = bed.protection();
    let expected = [
        ".cargo/config.toml",
        ".claude/settings.json",
        ".envrc",
        ".git/config",
        ".git/hooks",
        ".husky",
        ".mcp.json",
        ".vscode",
    ];
    assert_eq!(names(&protection.protected), expected);
    assert_eq!(pins(&protection.pins), [".cargo", ".claude", ".git"]);
    let kind = |name: &str| protection.protected.iter().find(|item| item.relative == Path::new(name)).unwrap().kind;
    assert_eq!((kind(".vscode"), kind(".envrc")), (Kind::Folder, Kind::File));
}

#[test]
fn a_link_is_not_bound_but_what_it_leads_to_in_the_workspace_is() {
    let bed = Bed::made(|home| put(&home.join("outside/settings.json"), "x"));
    bed.write("editor/settings.json", "x");
    symlink("editor", bed.path(".vscode")).unwrap();
    symlink("../outside", bed.path(".idea")).unwrap();
    symlink("nowhere", bed.path(".envrc")).unwrap();
    bed.write("agents/settings.json", "x");
    symlink("agents", bed.path(".claude")).unwrap();
    let protection = bed.protection();
    assert_eq!(names(&protection.protected), ["agents", "editor"]);
}

#[test]
fn nested_repositories_are_protected_where_no_tool_owns_them() {
    let bed = Bed::new();
    for name in ["vendor/x", "node_modules/y", "a/b/c/d/e/far"] {
        fs::create_dir_all(bed.path(name)).unwrap();
        git(&bed.path(name), &["init", "-q"]);
    }
    let protection = bed.protection();
    assert_eq!(names(&protection.protected), ["vendor/x/.git/config", "vendor/x/.git/hooks"]);
    assert_eq!(pins(&protection.pins), ["vendor", "vendor/x", "vendor/x/.git"]);
}

#[test]
fn submodules_and_what_a_configuration_names_are_protected() {
    let bed = Bed::made(|home| {
        fs::create_dir(home.join("lib")).unwrap();
        git(&home.join("lib"), &["init", "-q"]);
        git(&home.join("lib"), &["commit", "-q", "--allow-empty", "-m", "x"]);
    });
    bed.git(&["init", "-q"]);
    bed.git(&["submodule", "add", "-q", "../lib", "libs/lib"]);
    bed.git(&["config", "core.hooksPath", "tools/hooks"]);
    bed.git(&["config", "include.path", "../shared.gitconfig"]);
    bed.write("tools/hooks/pre-commit", "x");
    bed.write("shared.gitconfig", "");
    let protection = bed.protection();
    let expected = [".git/config", ".git/hooks", ".git/modules/libs/lib/hooks", "shared.gitconfig", "tools/hooks"];
    assert_eq!(names(&protection.protected), expected);
    assert_eq!(pins(&protection.pins), [".git", ".git/modules", ".git/modules/libs", ".git/modules/libs/lib", "tools"]);
}

#[test]
fn what_obeyed_things_lead_to_is_protected_by_each_way() {
    let bed = Bed::new();
    bed.git(&["init", "-q"]);
    for file in ["scripts/hook", "gitconf", "dev/h", "common", "tools/fs.sh", "tools/clean", "tools/x y"] {
        bed.write(file, "");
    }
    fs::rename(bed.path(".git/config"), bed.path("gitconf")).unwrap();
    for (target, link) in [
        ("../gitconf", ".git/config"),
        ("../../way", ".git/hooks/pre-commit"),
        ("scripts/hook", "way"),
        ("../dev/h", ".husky/pre-commit"),
        ("../../common", "pk/a/.envrc"),
        ("..", ".vscode/up"),
    ] {
        fs::create_dir_all(bed.path(link).parent().unwrap()).unwrap();
        symlink(target, bed.path(link)).unwrap();
    }
    for (key, value) in [
        ("core.fsmonitor", "tools/fs.sh"),
        ("filter.x.clean", "sh -c '$(git rev-parse --show-toplevel)/tools/clean %f'"),
        ("diff.x.textconv", "tools/x y"),
        ("alias.x", "!cd src && ls"),
        ("commit.template", "template"),
    ] {
        git(bed.workspace.path(), &["config", "-f", "gitconf", key, value]);
    }
    bed.write("src/x", "");
    bed.write("template", "");
    let expected = [
        ".git/hooks",
        ".husky",
        ".vscode",
        "common",
        "dev/h",
        "gitconf",
        "scripts/hook",
        "tools/clean",
        "tools/fs.sh",
        "tools/x y",
    ];
    assert_eq!(names(&bed.protection().protected), expected);
}

#[test]
fn the_own_repository_and_the_names_at_the_top_come_first() {
    let bed = Bed::new();
    bed.git(&["init", "-q"]);
    bed.write("tools/fs", "");
    bed.git(&["config", "core.fsmonitor", "tools/fs"]);
    bed.write("zed/tasks", "");
    symlink("zed", bed.path(".zed")).unwrap();
    bed.write(".vscode/x", "");
    for number in 0..100 {
        let name = format!("!r{number:03}");
        fs::create_dir(bed.path(&name)).unwrap();
        for made in ["config", "HEAD", "objects/x", "refs/x", "hooks/x"] {
            bed.write(format!("{name}/{made}"), "");
            bed.write(format!(".git/modules/{name}/{made}"), "");
        }
    }
    let protection = bed.protection();
    let protected = names(&protection.protected);
    for name in [".git/config", ".git/hooks", ".vscode", "tools/fs", "zed"] {
        assert!(protected.iter().any(|known| known == name), "{name}: {protected:?}");
    }
    assert!(protection.notices[0].to_string().contains("are not protected"), "{:?}", protection.notices);
}

#[test]
fn without_protection_for_its_own_repository_nothing_starts() {
    let bed = Bed::new();
    bed.git(&["init", "-q"]);
    for number in 0..450 {
        bed.write(format!("t/{number}"), "");
        bed.git(&["config", &format!("alias.a{number}"), &format!("!t/{number}")]);
    }
    let error = Protection::of(&bed.workspace, Timestamp::now()).unwrap_err();
    assert_eq!(error.code(), Code::WorkspaceInvalid, "{error}");
}

#[test]
fn the_repository_of_a_worktree_names_programs_in_the_workspace() {
    let bed = worktree();
    bed.write("tools/fs", "");
    bed.write("hooks/pre-commit", "");
    bed.git(&["config", "core.fsmonitor", "tools/fs"]);
    bed.git(&["config", "core.hooksPath", "hooks"]);
    bed.git(&["config", "alias.x", "!tools/x"]);
    assert_eq!(names(&bed.protection().protected), [".git", "hooks", "tools/fs"]);
    assert_eq!(bed.found_after(|| bed.write("tools/x", "")), ["tools/x"]);
}

/// A main repository at `home/main` whose linked worktree is the workspace.
fn worktree() -> Bed {
    Bed::made(|home| {
        fs::create_dir(home.join("main")).unwrap();
        git(&home.join("main"), &["init", "-q"]);
        git(&home.join("main"), &["commit", "-q", "--allow-empty", "-m", "x"]);
        git(&home.join("main"), &["worktree", "add", "-q", "../project"]);
    })
}

#[test]
fn the_repository_of_a_linked_worktree_comes_along() {
    let bed = worktree();
    let protection = bed.protection();
    let git_dir = protection.git_dir.as_ref().unwrap();
    assert_eq!(git_dir.path, bed.workspace.home().join("main/.git"));
    assert_eq!(names(&git_dir.protected), ["config", "hooks"]);
    assert_eq!(names(&protection.protected), [".git"]);
    assert_eq!(protection.notices, []);
    let said = bed.jailed(&protection, "echo x >file && git add file && git commit -qm x && git status --porcelain");
    assert!(said.status.success() && said.stdout.is_empty(), "{said:?}");
    let said = bed.jailed(&protection, "echo x >>../main/.git/config || echo x >../main/.git/hooks/pre-commit");
    assert!(!said.status.success());
}

#[test]
fn the_repository_of_a_submodule_comes_along() {
    let bed = Bed::made(|home| {
        for name in ["lib", "super"] {
            fs::create_dir(home.join(name)).unwrap();
            git(&home.join(name), &["init", "-q"]);
            git(&home.join(name), &["commit", "-q", "--allow-empty", "-m", "x"]);
        }
        git(&home.join("super"), &["submodule", "add", "-q", "../lib", "sub"]);
        fs::remove_dir(home.join("project")).unwrap();
        symlink("super/sub", home.join("project")).unwrap();
    });
    let protection = bed.protection();
    assert_eq!(protection.git_dir.as_ref().unwrap().path, bed.workspace.home().join("super/.git/modules/sub"));
    let said = bed.jailed(&protection, "echo x >file && git add file && git commit -qm x");
    assert!(said.status.success(), "{said:?}");
}

#[test]
fn a_pointer_that_nothing_answers_gives_no_right() {
    let bed = Bed::made(|home| {
        fs::create_dir(home.join("other")).unwrap();
        git(&home.join("other"), &["init", "-q"]);
        put(&home.join("project/.git"), "gitdir: ../other/.git\n");
    });
    let protection = bed.protection();
    assert!(protection.git_dir.is_none());
    assert!(protection.notices[0].to_string().contains("does not lead back here"), "{:?}", protection.notices);
    // Neither does that of another worktree.
    let bed = worktree();
    let other = bed.workspace.home().join("third");
    fs::create_dir(&other).unwrap();
    fs::copy(bed.path(".git"), other.join(".git")).unwrap();
    let copy = Workspace::open(&other, bed.workspace.home(), &[]).unwrap();
    let protection = Protection::of(&copy, Timestamp::now()).unwrap();
    assert!(protection.git_dir.is_none() && protection.notices.len() == 1);
    // And what must not be given away is not given as a repository either.
    let main = bed.workspace.home().join("main/.git");
    let forbidding = Workspace::open(bed.workspace.path(), bed.workspace.home(), &[main]).unwrap();
    assert!(Protection::of(&forbidding, Timestamp::now()).unwrap().git_dir.is_none());
    assert!(bed.protection().git_dir.is_some());
}

#[test]
fn in_the_jail_nothing_of_it_can_be_changed_or_put_aside() {
    let bed = Bed::new();
    bed.git(&["init", "-q"]);
    bed.write(".vscode/tasks.json", "x");
    bed.write(".claude/settings.json", "x");
    let protection = bed.protection();
    for forbidden in [
        "echo x >>.git/config",
        "echo x >.git/hooks/pre-commit",
        "git config core.pager x",
        "rm .vscode/tasks.json",
        "echo x >.vscode/new",
        "mv .vscode other",
        "mv .git other",
        "rm .git/config",
        "mv .git/hooks .git/old",
        "ln .git/config c && echo x >>c",
        "mv .claude other",
        "mv -f file .claude/settings.json",
    ] {
        assert!(!bed.jailed(&protection, &format!("touch file; {forbidden}")).status.success(), "{forbidden}");
    }
    for daily in ["echo x >.claude/notes", "touch .git/x && rm .git/x", "mkdir a && mv file a/", "echo x >.gitignore"] {
        assert!(bed.jailed(&protection, &format!("touch file; {daily}")).status.success(), "{daily}");
    }
    assert!(bed.audit(&protection).is_clean());
}

#[test]
fn git_works_in_the_jail() {
    let bed = Bed::made(|home| {
        fs::create_dir(home.join("lib")).unwrap();
        git(&home.join("lib"), &["init", "-q"]);
        git(&home.join("lib"), &["commit", "-q", "--allow-empty", "-m", "x"]);
    });
    bed.git(&["init", "-q", "-b", "main"]);
    bed.git(&["commit", "-q", "--allow-empty", "-m", "first"]);
    bed.git(&["submodule", "add", "-q", "../lib", "sub"]);
    bed.git(&["worktree", "add", "-q", "old"]);
    let protection = bed.protection();
    for command in [
        "echo 1 >a && git add a && git commit -qm a",
        "git branch x",
        "git checkout -q x",
        "git switch -q -c y",
        "echo 2 >>a && git stash -q && git stash pop -q",
        "git commit -qam b",
        "git rebase -q main",
        "git merge -q main",
        "git tag t && git tag -d t",
        "git worktree add -q wt && git -C wt commit -q --allow-empty -m w",
        "git worktree remove wt",
        "git worktree remove old",
        "git worktree prune",
        "git reset -q --hard HEAD~1",
        "git submodule status",
        "git submodule update",
        "git -C sub commit -q --allow-empty -m s && git commit -qam s",
        "git gc -q",
        "git fsck",
        "git clone -q . copy",
        "git reflog",
        "git bisect start && git bisect reset",
        "git clean -fdq",
        "git branch -D x",
        "git checkout -q main",
        "git cherry-pick y || git cherry-pick --abort",
        "git init -q new",
        "git notes add -m n",
        "git revert --no-edit HEAD || git revert --abort",
    ] {
        let said = bed.jailed(&protection, command);
        let message = String::from_utf8_lossy(&said.stderr);
        assert!(said.status.success(), "{command}: {message}");
    }
    // For the documentation: these write the configuration.
    for command in [
        "git config a.b c",
        "git remote add o /x",
        "git submodule add ./sub other",
        "git branch --set-upstream-to=main y",
        "git branch -m y z",
    ] {
        let said = bed.jailed(&protection, command);
        // Not all of them end with an error, but all say so.
        assert!(String::from_utf8_lossy(&said.stderr).contains("could not"), "{command}: {said:?}");
    }
    let report = bed.audit(&protection);
    assert!(report.is_clean(), "{:?}", report.sentences());
}

#[test]
fn a_large_project_is_looked_through_quickly() {
    let bed = Bed::new();
    for number in 0..20_000 {
        let folder = bed.path(format!("src/{}/{}", number % 40, number % 2000));
        if number < 2000 {
            fs::create_dir_all(&folder).unwrap();
        }
        fs::write(folder.join(format!("file{number}.rs")), "").unwrap();
    }
    bed.git(&["init", "-q"]);
    let times = (0..5).map(|_| {
        let start = Instant::now();
        drop(bed.protection());
        start.elapsed()
    });
    let quickest = times.min().unwrap();
    println!("20,000 files in 2,000 folders: {quickest:?}");
    assert!(quickest.as_millis() < 500, "{quickest:?}");
}
