//! What Corral says that a model takes, against what a real `llama-server` says. `make bench` has the long table.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "test code")]

use corral_tests::fit::{Compared, Setting, error};

fn off(settings: &[Setting], whole: bool) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let mut off = Vec::new();
    for setting in settings {
        let compared = Compared::of(folder.path(), *setting, whole);
        let kinds = compared.kinds().into_iter();
        off.extend(
            kinds
                .filter(|(_, guess, real, allowed)| error(*guess, *real) > *allowed)
                .map(|(kind, guess, real, _)| format!("{setting:?}: {kind} is {guess} and not {real}")),
        );
    }
    off
}

#[test]
fn estimates_are_what_llama_server_expects() {
    let settings: [Setting; 6] = [
        ("llama-3.1-8b", 32_768, "-np 4"),
        ("gemma-3-12b", 131_072, "-np 2"),
        ("qwen3-30b-a3b", 65_536, "-ctk q8_0 -ctv q8_0"),
        ("glm-4.7-flash", 200_000, ""),
        ("qwen3-next-80b-a3b", 32_768, "-ub 1024"),
        ("llama-2-7b", 4096, "-fa off"),
    ];
    assert_eq!(off(&settings, false), [""; 0]);
}

#[test]
fn estimates_are_what_a_load_takes() {
    let settings: [Setting; 4] = [
        ("small-llama", 262_144, ""),
        ("small-qwen3", 8192, "-np 4 -ctk q8_0 -ctv q8_0"),
        ("small-gemma3", 65_536, "-np 2"),
        ("small-mixtral", 16_384, "-fa off"),
    ];
    assert_eq!(off(&settings, true), [""; 0]);
}
