use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use proptest::prelude::*;

use super::*;
use crate::bed::{Bed, git, put};

#[test]
fn daily_work_is_left_alone() {
    let bed = Bed::new();
    bed.git(&["init", "-q"]);
    bed.write(".vscode/settings.json", "x");
    bed.write(".envrc", "x");
    let found = bed.found_after(|| {
        for name in
            ["package.json", "Makefile", "build.rs", ".github/workflows/ci.yml", "CLAUDE.md", ".env", ".gitignore"]
        {
            bed.write(name, "x");
        }
        bed.git(&["add", "."]);
        bed.git(&["commit", "-qm", "x"]);
        fs::create_dir_all(bed.path("empty/.vscode")).unwrap();
        fs::create_dir(bed.path("new")).unwrap();
        git(&bed.path("new"), &["init", "-q"]);
        bed.git(&["clone", "-q", ".", "clone"]);
        bed.git(&["worktree", "add", "-q", "tree"]);
        bed.git(&["clone", "-q", "--bare", ".", "bare.git"]);
        bed.write(".git/hooks/pre-push", "not for running");
    });
    assert_eq!(found, [""; 0], "what was there already may be there once more");
    let found = bed.found_after(|| {
        bed.write("tree/.vscode/other.json", "x");
        bed.write("clone/.envrc", "y");
        bed.write("third/.vscode/tasks.json", "x");
    });
    assert_eq!(found, ["clone/.envrc", "third/.vscode", "tree/.vscode/other.json"]);
    let found = bed.found_after(|| {
        // What lies in some folder must not come to where it is obeyed by being copied.
        bed.write("node_modules/x/.npmrc", "x");
        fs::remove_file(bed.path(".envrc")).unwrap();
    });
    assert_eq!(found, ["node_modules/x/.npmrc"]);
    bed.write("node_modules/x/.npmrc", "x");
    bed.write("deep/.envrc", "other");
    let found = bed.found_after(|| {
        bed.write("a/b/.npmrc", "x");
        bed.write(".envrc", "other");
        bed.write("a/.envrc", "other");
    });
    assert_eq!(found, [".envrc", "a/b/.npmrc"]);
}

#[test]
fn what_is_new_and_would_run_is_moved_out_and_can_be_brought_back() {
    let bed = Bed::new();
    let before = bed.protection();
    bed.write(".vscode/tasks.json", "evil");
    bed.write(".vscode/deep/er/x", "evil");
    bed.write("deep/er/.envrc", "evil");
    bed.write("x/.claude/settings.local.json", "evil");
    let report = bed.audit(&before);
    let paths: Vec<_> = report.findings.iter().map(|finding| finding.path.clone()).collect();
    assert_eq!(paths, [bed.path(".vscode"), bed.path("deep/er/.envrc"), bed.path("x/.claude/settings.local.json")]);
    let folder = report.folder.clone().unwrap();
    assert_eq!(fs::metadata(&folder).unwrap().mode() & 0o777, 0o700);
    assert_eq!(fs::metadata(bed.quarantine()).unwrap().mode() & 0o777, 0o700);
    assert_eq!(fs::read(folder.join("workspace/.vscode/deep/er/x")).unwrap(), b"evil");
    let manifest: serde_json::Value = serde_json::from_slice(&fs::read(folder.join("manifest.json")).unwrap()).unwrap();
    assert_eq!(manifest[1]["path"], bed.path("deep/er/.envrc").to_str().unwrap());
    assert!(manifest[1]["why"].as_str().unwrap().contains("shell") && manifest[1]["when"].is_string());
    assert!(!bed.path(".vscode").exists() && bed.path("deep/er").exists());
    for finding in &report.findings {
        let command = finding.command_to_restore().unwrap();
        assert!(std::process::Command::new("sh").arg("-c").arg(&command).status().unwrap().success(), "{command}");
        assert!(finding.path.exists());
    }
    let sentences = report.sentences();
    assert!(sentences[0].contains("was moved out") && sentences.len() == 7, "{sentences:?}");
}

#[test]
fn what_was_there_stays_unless_it_has_changed() {
    let bed = Bed::new();
    // Deep names are not bound, only compared.
    for name in ["a/.vscode/tasks.json", "a/.vscode/other", "a/.envrc", "a/.mcp.json", "a/.npmrc", "a/.exrc"] {
        bed.write(name, "as it was");
    }
    symlink("one", bed.path("a/.husky")).unwrap();
    symlink("one", bed.path("a/.idea")).unwrap();
    let found = bed.found_after(|| {
        bed.write("a/.vscode/tasks.json", "evil");
        bed.write("a/.vscode/new", "evil");
        bed.write("a/.npmrc", "as it is!");
        fs::remove_file(bed.path("a/.exrc")).unwrap();
        // The same again in another file, as Git does it.
        fs::remove_file(bed.path("a/.envrc")).unwrap();
        bed.write("a/.envrc", "as it was");
        fs::remove_file(bed.path("a/.husky")).unwrap();
        symlink("two", bed.path("a/.husky")).unwrap();
    });
    assert_eq!(found, ["a/.husky", "a/.npmrc", "a/.vscode/new", "a/.vscode/tasks.json"]);
    assert_eq!(fs::read(bed.path("a/.vscode/other")).unwrap(), b"as it was");
    assert!(bed.path("a/.mcp.json").exists() && bed.path("a/.idea").symlink_metadata().is_ok());
}

#[test]
fn what_the_user_does_outside_to_what_was_bound_is_left() {
    let bed = Bed::new();
    bed.git(&["init", "-q"]);
    bed.write(".vscode/settings.json", "x");
    bed.write(".envrc", "x");
    bed.write(".npmrc", "x");
    fs::hard_link(bed.path(".npmrc"), bed.path("other-name")).unwrap();
    let found = bed.found_after(|| {
        bed.write(".vscode/settings.json", "mine");
        bed.write(".vscode/new.json", "mine");
        bed.write(".envrc", "mine");
        // Harmless, and by a rename, which takes the protection away.
        bed.git(&["config", "branch.main.remote", "origin"]);
        // By another name the jail could write to it.
        bed.write("other-name", "evil");
    });
    assert_eq!(found, [".npmrc"]);
    let found = bed.found_after(|| bed.git(&["config", "core.pager", "evil"]));
    assert_eq!(found, [".git/config"]);
}

#[test]
fn links_are_moved_as_links() {
    let bed = Bed::made(|home| put(&home.join("outside/settings.json"), "x"));
    let before = bed.protection();
    symlink("../outside", bed.path(".vscode")).unwrap();
    symlink("data", bed.path(".claude")).unwrap();
    symlink("/nonexistent", bed.path(".git")).unwrap();
    let report = bed.audit(&before);
    assert_eq!(report.findings.len(), 3, "{report:?}");
    for finding in &report.findings {
        let Outcome::Moved { to } = &finding.outcome else { panic!("{finding}") };
        assert!(to.is_symlink() && finding.path.symlink_metadata().is_err());
    }
    assert!(bed.workspace.home().join("outside/settings.json").exists());
}

/// Whether Git, asked for nothing but the status, runs a program that the workspace brings along.
fn runs_something(bed: &Bed, folder: &str) -> bool {
    let mark = bed.path("ran");
    drop(fs::remove_file(&mark));
    let mut git = std::process::Command::new("git");
    let git = git.args(["status"]).current_dir(bed.path(folder)).env("GIT_CONFIG_GLOBAL", "/dev/null");
    git.env("GIT_CONFIG_SYSTEM", "/dev/null").output().unwrap();
    mark.exists()
}

/// A repository in `evil` whose configuration runs a program.
fn make_evil(bed: &Bed) {
    fs::create_dir_all(bed.path("evil")).unwrap();
    git(&bed.path("evil"), &["init", "-q", "--bare", "."]);
    let program = bed.path("run.sh");
    put(&program, format!("#!/bin/sh\ntouch '{}'\n", bed.path("ran").display()));
    fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    let config = format!(
        "[core]\nrepositoryformatversion=0\nbare=false\nworktree=\"{}\"\nfsmonitor=\"{}\"\n",
        bed.path("").display(),
        program.display()
    );
    put(&bed.path("evil/config"), config);
    // Git asks the program only about files that it knows.
    git(&bed.path("evil"), &["add", "../run.sh"]);
}

#[test]
fn no_way_to_have_git_run_something_is_left_open() {
    type Way = (&'static str, &'static [&'static str], fn(&Bed));
    let ways: &[Way] = &[
        ("a bare repository", &["evil/config"], |_| {}),
        ("a pointer", &["evil/config"], |bed| bed.write("x/.git", "gitdir: ../evil\n")),
        ("a link", &["x/.git", "evil/config"], |bed| {
            fs::create_dir(bed.path("x")).unwrap();
            symlink("../evil", bed.path("x/.git")).unwrap();
        }),
        ("a repository", &["x/.git/config"], |bed| {
            fs::create_dir(bed.path("x")).unwrap();
            fs::rename(bed.path("evil"), bed.path("x/.git")).unwrap();
        }),
        ("another common folder", &["x/.git/commondir", "evil/config"], |bed| {
            fs::create_dir(bed.path("x")).unwrap();
            git(&bed.path("x"), &["init", "-q"]);
            bed.write("x/file", "");
            git(&bed.path("x"), &["add", "file"]);
            bed.write("x/.git/commondir", "../../evil\n");
        }),
        ("a hidden folder", &["x/.git"], |bed| {
            fs::create_dir(bed.path("x")).unwrap();
            git(&bed.path("x"), &["init", "-q"]);
            fs::rename(bed.path("x/.git"), bed.path("y")).unwrap();
            fs::rename(bed.path("evil"), bed.path("y/objects/evil")).unwrap();
            fs::create_dir(bed.path("z")).unwrap();
            fs::rename(bed.path("y"), bed.path("z/.git")).unwrap();
            bed.write("x/.git", "gitdir: ../z/.git/objects/evil");
        }),
        ("a repository in capitals", &["x/.GIT/config"], |bed| {
            fs::create_dir(bed.path("x")).unwrap();
            fs::rename(bed.path("evil"), bed.path("x/.GIT")).unwrap();
        }),
    ];
    for (way, expected, make) in ways {
        let bed = Bed::new();
        let before = bed.protection();
        make_evil(&bed);
        make(&bed);
        let folder = if bed.path("x").exists() { "x" } else { "evil" };
        assert!(way.contains("capitals") || runs_something(&bed, folder), "{way}: the attack itself does not work");
        let report = bed.audit(&before);
        assert!(!runs_something(&bed, folder), "{way}: {:?}", report.sentences());
        let mut found: Vec<_> =
            report.findings.iter().map(|f| f.path.strip_prefix(bed.workspace.path()).unwrap()).collect();
        found.sort();
        let mut expected: Vec<_> = expected.iter().map(Path::new).collect();
        expected.sort();
        assert_eq!(found, expected, "{way}");
    }
}

#[test]
fn hooks_steps_of_a_rebase_and_strategies_are_found() {
    let bed = Bed::new();
    bed.git(&["init", "-q"]);
    let found = bed.found_after(|| {
        bed.write_program("new/.git/hooks/pre-commit");
        bed.write_program("new/.git/hooks/post-checkout.sample");
        bed.write("new/.git/hooks/pre-push", "not for running");
        bed.write("new/.git/config", "[core]\n\tbare = false\n");
        bed.write(".git/rebase-merge/git-rebase-todo", "pick 1234 x\n  exec evil\n");
        bed.write(".git/rebase-merge/strategy", "/../../evil\n");
        bed.write(".git/sequencer/opts", "[options]\n\tstrategy = evil\n\tno-commit = true\n");
        bed.write("other/.git/rebase-merge/git-rebase-todo", "pick 1234 x\n");
        bed.write("other/.git/rebase-merge/strategy", "ort\n");
        bed.write("other/.git/sequencer/opts", "[options]\n\tstrategy = ort\n");
        bed.write("third/.git/config", "[unclosed");
        symlink("../x", bed.path("third/.git/hooks")).unwrap();
    });
    let expected = [
        ".git/rebase-merge/git-rebase-todo",
        ".git/rebase-merge/strategy",
        ".git/sequencer/opts",
        "new/.git/hooks/pre-commit",
        "third/.git/config",
        "third/.git/hooks",
    ];
    let mut found = found;
    found.sort();
    assert_eq!(found, expected);
}

#[test]
fn in_the_repository_outside_the_same_is_found() {
    let bed = Bed::made(|home| {
        fs::create_dir(home.join("main")).unwrap();
        git(&home.join("main"), &["init", "-q"]);
        git(&home.join("main"), &["commit", "-q", "--allow-empty", "-m", "x"]);
        git(&home.join("main"), &["worktree", "add", "-q", "../project"]);
    });
    let before = bed.protection();
    let main = bed.workspace.home().join("main/.git");
    bed.git(&["commit", "-q", "--allow-empty", "-m", "y"]);
    put(&main.join("worktrees/project/commondir"), "/home/evil\n");
    let report = bed.audit(&before);
    assert_eq!(report.findings.len(), 1, "{report:?}");
    assert_eq!(report.findings[0].path, main.join("worktrees/project/commondir"));
    assert!(report.folder.unwrap().join("repository/worktrees/project/commondir").exists());
}

#[test]
fn what_is_closed_is_opened_and_left_as_it_was() {
    let bed = Bed::new();
    let found = bed.found_after(|| {
        bed.write("closed/.vscode/tasks.json", "x");
        for (path, mode) in [("closed/.vscode/tasks.json", 0), ("closed/.vscode", 0o100), ("closed", 0o311)] {
            fs::set_permissions(bed.path(path), PermissionsExt::from_mode(mode)).unwrap();
        }
    });
    assert_eq!(found, ["closed/.vscode"]);
    assert_eq!(fs::metadata(bed.path("closed")).unwrap().mode() & 0o777, 0o311);
}

#[test]
fn across_disks_it_is_copied_and_what_cannot_be_is_renamed() {
    let Ok(disk) = tempfile::tempdir_in("/dev/shm") else { return };
    let bed = Bed::new();
    if fs::metadata(disk.path()).unwrap().dev() == fs::metadata(bed.path("")).unwrap().dev() {
        return;
    }
    let before = bed.protection();
    bed.write(".vscode/a/b", "x");
    bed.write_program(".vscode/program");
    symlink("/etc/passwd", bed.path(".vscode/link")).unwrap();
    rustix::fs::mkfifoat(CWD, bed.path(".vscode/pipe"), Mode::RWXU).unwrap();
    fs::File::create(bed.path(".envrc")).unwrap().set_len(100 << 20).unwrap();
    let report = before.snapshot.audit(&bed.workspace, &disk.path().join("q"), Timestamp::now()).unwrap();
    let outcome = |name: &str| &report.findings.iter().find(|f| f.path == bed.path(name)).unwrap().outcome;
    let Outcome::Moved { to } = outcome(".vscode") else { panic!("{report:?}") };
    assert_eq!(fs::read(to.join("a/b")).unwrap(), b"x");
    assert_eq!(fs::metadata(to.join("program")).unwrap().mode() & 0o777, 0o755);
    assert_eq!(fs::read_link(to.join("link")).unwrap(), Path::new("/etc/passwd"));
    assert!(!bed.path(".vscode").exists() && !bed.path(".vscode.corral-disarmed").exists());
    let Outcome::Renamed { to, .. } = outcome(".envrc") else { panic!("{report:?}") };
    assert_eq!(*to, bed.path(".envrc.corral-disarmed"));
    assert!(to.exists() && !bed.path(".envrc").exists());
}

#[test]
fn without_a_quarantine_it_is_renamed() {
    let bed = Bed::new();
    let before = bed.protection();
    bed.write(".envrc", "x");
    bed.write(".envrc.corral-disarmed", "x");
    let report = before.snapshot.audit(&bed.workspace, Path::new("/proc/nothing"), Timestamp::now()).unwrap();
    let Outcome::Renamed { to, .. } = &report.findings[0].outcome else { panic!("{report:?}") };
    assert_eq!(*to, bed.path(".envrc.corral-disarmed-1"));
    assert!(report.folder.is_none() && !bed.path(".envrc").exists());
}

#[test]
fn what_lies_too_deep_is_said() {
    let bed = Bed::new();
    let before = bed.protection();
    let deep: PathBuf = (0..40).map(|_| "d").collect();
    bed.write(deep.join(".envrc"), "x");
    let report = bed.audit(&before);
    assert!(report.findings.is_empty() && !report.is_clean());
    assert!(report.notices[0].to_string().contains("could not be looked through in all"), "{:?}", report.notices);
    assert!(bed.audit(&bed.protection()).is_clean());
}

#[test]
fn what_was_not_seen_before_counts_only_if_touched_since() {
    let bed = Bed::new();
    bed.write("a/.envrc", "x");
    bed.write("b/.envrc", "x");
    let mut before = bed.protection();
    // As if the walk had ended before these, and long after they were written.
    for part in &mut before.snapshot.parts {
        part.survey.items.clear();
        part.survey.beyond.extend([PathBuf::from("a"), PathBuf::from("b")]);
    }
    assert_eq!(bed.audit(&before).findings.len(), 2);
    bed.write("a/.envrc", "x");
    bed.write("b/.envrc", "x");
    before.snapshot.taken = Timestamp::now().checked_add(jiff::SignedDuration::from_secs(60)).unwrap();
    assert!(bed.audit(&before).findings.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_tree_is_looked_through_and_ends_clean(
        entries in proptest::collection::vec(
            (
                proptest::collection::vec(prop::sample::select(vec![
                    ".git", ".vscode", "hooks", "config", "HEAD", "objects", "refs", "commondir", ".claude",
                    "settings.json",
                    ".envrc", "a\nb", "\u{202e}", "x",
                ]), 1..5),
                prop::sample::select(vec!["file", "folder", "link", "program", "bytes"]),
                proptest::collection::vec(any::<u8>(), 0..60),
            ),
            0..24,
        ),
    ) {
        let bed = Bed::new();
        let before = bed.protection();
        for (path, kind, bytes) in entries {
            let path = bed.path(path.iter().collect::<PathBuf>());
            // What is in the way of another is left out.
            drop(fs::create_dir_all(path.parent().unwrap()));
            let bytes: Vec<u8> = bytes.into_iter().filter(|b| *b != 0 && *b != b'/').collect();
            match kind {
                "file" => drop(fs::write(&path, &bytes)),
                "folder" => drop(fs::create_dir(&path)),
                "link" => drop(symlink(OsStr::from_bytes(&bytes), &path)),
                "program" => {
                    drop(fs::write(&path, &bytes));
                    drop(fs::set_permissions(&path, PermissionsExt::from_mode(0o755)));
                }
                _ => drop(fs::write(path.with_file_name(OsStr::from_bytes(&[b"a", &bytes[..]].concat())), "")),
            }
        }
        let first = bed.audit(&before);
        for finding in &first.findings {
            prop_assert!(!matches!(finding.outcome, Outcome::Left { .. }), "{}", finding);
            prop_assert!(finding.path.symlink_metadata().is_err(), "{}", finding);
            prop_assert!(finding.to_string().chars().all(|c| !c.is_control()));
        }
        let second = bed.audit(&before);
        prop_assert!(second.findings.is_empty(), "{:?}", second);
    }
}
