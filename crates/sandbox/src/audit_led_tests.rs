//! Where things lead, and very many of them.

use std::fs;
use std::os::unix::fs::symlink;

use super::*;
use crate::bed::{Bed, git, put};

#[test]
fn everything_is_moved_and_a_few_are_told_one_by_one() {
    let bed = Bed::new();
    let before = bed.protection();
    for number in 0..5_010 {
        bed.write(format!("!{number}.code-workspace"), "{}");
    }
    bed.write(".envrc", "x");
    bed.write(".mcp.json", "x");
    let report = bed.audit(&before);
    let first: Vec<_> = report.findings.iter().take(2).map(|finding| finding.path.clone()).collect();
    assert_eq!(first, [bed.path(".envrc"), bed.path(".mcp.json")]);
    assert_eq!(report.findings.len(), 5_012);
    assert_eq!(fs::read_dir(bed.path("")).unwrap().count(), 0);
    let sentences = report.sentences();
    assert!(sentences.len() < 100, "{}", sentences.len());
    assert!(sentences.last().unwrap().starts_with("And 4972 more; "), "{:?}", sentences.last());
}

#[test]
fn where_things_lead_is_looked_at_again() {
    let bed = Bed::new();
    bed.git(&["init", "-q"]);
    bed.write("a/deep/real/x", "x");
    symlink("deep/real", bed.path("a/way")).unwrap();
    symlink("way/x", bed.path("a/.envrc")).unwrap();
    bed.write("inner/file", "x");
    git(&bed.path("inner"), &["init", "-q"]);
    git(&bed.path("inner"), &["config", "alias.x", "!tools/x"]);
    fs::create_dir(bed.path("tree")).unwrap();
    git(&bed.path("inner"), &["config", "core.worktree", "../../tree"]);
    let found = bed.found_after(|| {
        bed.write("a/other/x", "evil");
        fs::remove_file(bed.path("a/way")).unwrap();
        symlink("other", bed.path("a/way")).unwrap();
        bed.write("tree/tools/x", "evil");
    });
    assert_eq!(found, ["a/way", "a/other/x", "tree/tools/x"]);
    // What a new link leads to is the user's.
    bed.write("README", "x");
    assert_eq!(bed.found_after(|| symlink("../README", bed.path("a/.npmrc")).unwrap()), ["a/.npmrc"]);
    assert!(bed.path("README").exists());
    let found = bed.found_after(|| {
        fs::remove_dir_all(bed.path("tree")).unwrap();
        symlink("..", bed.path("tree")).unwrap();
    });
    assert_eq!(found, ["inner/.git/config"], "it works elsewhere now");
}

#[test]
fn new_links_that_lead_out_are_told_and_left() {
    let bed = Bed::made(|home| put(&home.join("outside"), "x"));
    symlink("../outside", bed.path("old")).unwrap();
    let before = bed.protection();
    for number in 0..7 {
        symlink("/root/.bashrc", bed.path(format!("new{number}"))).unwrap();
    }
    bed.write("a/b/x", "x");
    symlink("a/b", bed.path("b")).unwrap();
    // By the text it would stay within.
    symlink("b/../../../outside", bed.path("by")).unwrap();
    for inside in ["x", "./a/../x", "nowhere"] {
        symlink(inside, bed.path(format!("a/{}", inside.len()))).unwrap();
    }
    symlink("/usr/bin/python3", bed.path("a/python")).unwrap();
    symlink(bed.path("a/b"), bed.path("a/absolute")).unwrap();
    let report = bed.audit(&before);
    assert!(report.findings.is_empty(), "{report:?}");
    let said: Vec<_> = report.notices.iter().map(ToString::to_string).collect();
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(
        said[0].contains("by to b/../../../outside, new0 to /root/.bashrc") && said[0].contains("and 3 more"),
        "{said:?}"
    );
    assert!(bed.path("new6").is_symlink());
}

#[test]
fn what_is_kept_in_mind_is_bounded() {
    let bed = Bed::new();
    bed.write("known/.idea/x", "x");
    let before = bed.protection();
    let mut here = rustix::fs::open(bed.path(""), OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
    let mut deep = PathBuf::new();
    for name in std::iter::repeat_n("x".repeat(250), 28).chain([".vscode".to_owned()]) {
        rustix::fs::mkdirat(&here, &name, Mode::RWXU).unwrap();
        here = beneath::open(&here, Path::new(&name), OFlags::PATH | OFlags::DIRECTORY).unwrap();
        deep.push(name);
    }
    for number in 0..300 {
        let file = openat(&here, format!("{number}"), OFlags::WRONLY | OFlags::CREATE, Mode::RUSR | Mode::WUSR);
        drop(file.unwrap());
    }
    let root = || Root { folder: bed.workspace.folder(), path: bed.workspace.path(), workspace: bed.workspace.path() };
    let part = &before.snapshot.parts[0].survey;
    let survey = Survey::of(root(), Bounds::END, Some(part), |_| Vec::new()).0;
    assert!(survey.items.keys().filter(|path| path.starts_with(&deep)).count() == 1, "the rest goes with its folder");
    // Where it could be a copy each is looked at, as far as it goes.
    let bounds = Bounds { paths: 300_000, ..Bounds::END };
    let survey = Survey::of(root(), bounds, None, |_| Vec::new()).0;
    let bytes: usize = survey.items.keys().map(|path| path.as_os_str().len()).sum();
    assert!(bytes < 300_000 && !survey.beyond.is_empty(), "{bytes}");
    assert!(survey.items.contains_key(Path::new("known/.idea/x")));
    let report = bed.audit(&before);
    assert_eq!(report.findings.len(), 1);
}
