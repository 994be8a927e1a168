//! The whole of it on a server that does just what a test needs. The real one is in `tests/`.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use corral_core::launch::LaunchSpec;
use corral_core::{Code, ConfigHash};
use corral_testkit::eventually;
use jiff::Timestamp;
use serde_json::Value;

use super::*;

mod bed;

use bed::{Bed, LONG, Manner, PLENTY, SIZE, config, context, instance};

#[tokio::test]
async fn what_was_saved_comes_back_and_only_this_user_can_read_it() {
    let bed = Bed::new();
    let spec = bed.spec("m");
    bed.saved(&spec, 2).await;
    let endpoint = bed.server(&spec, 2, Manner::Works).await;
    assert_eq!(bed.restore(&spec, &endpoint).await.expect("restored"), context(2));
    assert_eq!(bed.files(&spec), ["0.kv", "1.kv"]);
    let index = bed.home.slots().join(".index.json");
    for path in [bed.path(&spec, 0), bed.path(&spec, 1), index] {
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600, "{}", path.display());
    }
    // Another Corral in the same home knows them too.
    let other = SlotFiles::new(&config(&bed.home));
    assert_eq!(other.restore(&instance(&spec), &endpoint, &spec).await.expect("restored"), context(2));
}

#[tokio::test]
async fn a_slot_that_is_empty_now_takes_its_file_with_it() {
    let bed = Bed::new();
    let spec = bed.spec("m");
    bed.saved(&spec, 2).await;
    let endpoint = bed.server(&spec, 1, Manner::Empty).await;
    assert_eq!(bed.save(&spec, &endpoint, PLENTY).await.expect("nothing to save"), KeptContext::default());
    assert_eq!(bed.files(&spec), ["1.kv"]);
    bed.saved(&spec, 2).await;
    assert_eq!(bed.restore(&spec, &endpoint).await.expect("not restored"), KeptContext::default());
    assert!(bed.files(&spec).is_empty(), "one reads as nothing, one is of a slot that is gone");
}

#[tokio::test]
async fn damaged_and_foreign_files_are_removed_and_never_tried() {
    let bed = Bed::new();
    let spec = bed.spec("m");
    bed.saved(&spec, 4).await;
    let path = |slot| bed.path(&spec, slot);
    eventually(LONG, || async { bed.slot_files.store.read().files.values().all(|file| file.checksum.is_some()) }).await;
    File::options().write(true).open(path(0)).and_then(|file| file.set_len(SIZE - 1)).expect("cut");
    let mut content = fs::read(path(1)).expect("readable");
    content[500] ^= 1;
    fs::write(path(1), content).expect("written");
    fs::remove_file(path(2)).expect("removed");
    std::os::unix::fs::symlink(path(3), path(2)).expect("a link");
    for stray in ["m-0123456789abcdef-0123456789abcdef-0.kv", "other.kv"] {
        fs::write(bed.dir(&spec).join(stray), "x").expect("written");
    }
    fs::write(path(9), "never saved").expect("written");
    fs::write(bed.home.slots().join("beside.kv"), "x").expect("written");
    let endpoint = bed.server(&spec, 10, Manner::Works).await;
    assert_eq!(bed.restore(&spec, &endpoint).await.expect("one is left"), context(1));
    assert_eq!(bed.files(&spec), ["3.kv"]);
    assert!(!bed.home.slots().join("beside.kv").exists());
}

#[tokio::test]
async fn what_is_refused_or_ends_a_server_is_not_tried_again() {
    for (manner, gone) in [(Manner::Says(400), true), (Manner::Says(503), false), (Manner::Ends, true)] {
        let bed = Bed::new();
        let spec = bed.spec("m");
        bed.saved(&spec, 1).await;
        let tried = bed.restore(&spec, &bed.server(&spec, 1, manner).await).await;
        assert_eq!(tried.is_ok(), manner == Manner::Says(400), "{manner:?}: {tried:?}");
        assert_eq!(bed.files(&spec).is_empty(), gone, "{manner:?}");
        let again = bed.restore(&spec, &bed.server(&spec, 1, Manner::Works).await).await.expect("an answer");
        assert_eq!(again, context(u32::from(!gone)), "{manner:?}");
    }
    let bed = Bed::new();
    let spec = bed.spec("m");
    bed.saved(&spec, 1).await;
    let nobody = Endpoint { url: "http://127.0.0.1:1".to_owned(), started_at: Timestamp::now() };
    assert_eq!(bed.restore(&spec, &nobody).await.expect_err("nobody answers").code(), Code::EngineFailed);
    assert_eq!(bed.files(&spec), ["0.kv"]);
}

#[tokio::test]
async fn what_a_server_did_not_survive_is_removed_by_the_next_corral() {
    let bed = Bed::new();
    let spec = bed.spec("m");
    bed.saved(&spec, 2).await;
    let mut trying = bed.path(&spec, 0).into_os_string();
    trying.push(".trying");
    fs::rename(bed.path(&spec, 0), trying).expect("renamed");
    let endpoint = bed.server(&spec, 2, Manner::Works).await;
    assert_eq!(bed.restore(&spec, &endpoint).await.expect("the other one"), context(1));
    assert_eq!(bed.files(&spec), ["1.kv"]);
}

#[tokio::test]
async fn whoever_gives_up_leaves_nothing_half() {
    let bed = Bed::new();
    let spec = bed.spec("m");
    bed.saved(&spec, 1).await;
    let before = fs::read(bed.home.slots().join(".index.json")).expect("an index");
    for saves in [true, false] {
        let endpoint = bed.server(&spec, 1, Manner::Hangs).await;
        let (slot_files, launch) = (Arc::clone(&bed.slot_files), spec.clone());
        let task = tokio::spawn(async move {
            let instance = instance(&launch);
            if saves {
                slot_files.save(&instance, &endpoint, &launch, PLENTY).await
            } else {
                slot_files.restore(&instance, &endpoint, &launch).await
            }
        });
        let waits = if saves { ".tmp" } else { ".trying" };
        eventually(LONG, || async { bed.files(&spec).iter().any(|name| name.ends_with(waits)) }).await;
        task.abort();
        eventually(LONG, || async { bed.files(&spec) == ["0.kv"] }).await;
    }
    let after: Value =
        serde_json::from_slice(&fs::read(bed.home.slots().join(".index.json")).expect("an index")).expect("JSON");
    let before: Value = serde_json::from_slice(&before).expect("JSON");
    assert_eq!(
        after["files"].as_object().map(serde_json::Map::len),
        before["files"].as_object().map(serde_json::Map::len)
    );
    let endpoint = bed.server(&spec, 1, Manner::Works).await;
    assert_eq!(bed.restore(&spec, &endpoint).await.expect("restored"), context(1));
}

#[tokio::test]
async fn a_server_without_slots_keeps_nothing() {
    let bed = Bed::new();
    let spec = bed.spec("m");
    for status in [501, 404] {
        let endpoint = bed.server(&spec, 2, Manner::Says(status)).await;
        assert_eq!(bed.save(&spec, &endpoint, PLENTY).await.expect("no error"), KeptContext::default());
        assert!(bed.files(&spec).is_empty(), "{status}");
    }
    bed.saved(&spec, 1).await;
    for status in [501, 404] {
        let endpoint = bed.server(&spec, 1, Manner::Says(status)).await;
        assert_eq!(bed.restore(&spec, &endpoint).await.expect("no error"), KeptContext::default());
        assert_eq!(bed.files(&spec), ["0.kv"], "{status}");
    }
}

#[tokio::test]
async fn a_save_that_fails_leaves_what_was_there() {
    let bed = Bed::new();
    let spec = bed.spec("m");
    bed.saved(&spec, 1).await;
    let endpoint = bed.server(&spec, 1, Manner::Says(500)).await;
    let error = bed.save(&spec, &endpoint, PLENTY).await.expect_err("it failed");
    assert!(error.code() == Code::Io && error.body().hint.is_some(), "{error:?}");
    assert!(error.to_string().contains("could not save slot 0 of `m`"), "{error}");
    assert_eq!(bed.files(&spec), ["0.kv"]);
    assert_eq!(bed.restore(&spec, &bed.server(&spec, 1, Manner::Works).await).await.expect("restored"), context(1));
}

#[tokio::test]
async fn a_link_in_place_of_a_file_is_not_followed() {
    let bed = Bed::new();
    let spec = bed.spec("m");
    let target = bed.home.path().join("cache/target");
    fs::write(&target, "x").expect("written");
    fs::set_permissions(&target, Permissions::from_mode(0o644)).expect("permissions");
    let error = bed.save(&spec, &bed.server(&spec, 1, Manner::Links).await, PLENTY).await.expect_err("no file");
    assert_eq!(error.code(), Code::Io);
    assert_eq!(fs::metadata(&target).expect("there").permissions().mode() & 0o777, 0o644);
    assert!(bed.files(&spec).is_empty());
}

#[tokio::test]
async fn the_budget_is_for_all_models_together() {
    let bed = Bed::new();
    let (a, b) = (bed.spec("a"), bed.spec("b"));
    bed.saved(&a, 2).await;
    bed.saved(&b, 1).await;
    // Brought back is used as well.
    bed.restore(&a, &bed.server(&a, 2, Manner::Works).await).await.expect("restored");
    let endpoint = bed.server(&a, 1, Manner::Works).await;
    assert_eq!(bed.save(&a, &endpoint, 2 * SIZE).await.expect("saved"), context(1));
    assert_eq!((bed.files(&a), bed.files(&b)), (vec!["0.kv".to_owned(), "1.kv".to_owned()], Vec::new()));
    assert_eq!(bed.save(&a, &endpoint, SIZE - 1).await.expect("too large to keep"), KeptContext::default());
    assert!(bed.files(&a).is_empty());
}

#[tokio::test]
async fn a_full_disk_is_seen_before() {
    let bed = Bed::new();
    let spec = bed.spec("m");
    let slot_files = SlotFiles::new(&config(&bed.home)).with_reserve(u64::MAX);
    let endpoint = bed.server(&spec, 1, Manner::Ends).await;
    let error = slot_files.save(&instance(&spec), &endpoint, &spec, PLENTY).await.expect_err("no room");
    assert!(error.code() == Code::Io && error.to_string().contains("too little"), "{error}");
}

#[tokio::test]
async fn a_model_file_that_has_changed_has_no_conversations() {
    let bed = Bed::new();
    let spec = bed.spec("m");
    bed.saved(&spec, 1).await;
    let endpoint = bed.server(&spec, 1, Manner::Works).await;
    let new = bed.home.models().join("new");
    eventually(LONG, || async {
        // The kernel's clock for files stands still for some milliseconds at a time.
        fs::write(&new, "m").expect("written");
        fs::rename(&new, &spec.file).expect("replaced");
        Fingerprint::of(&spec).expect("a file").changed_at > endpoint.started_at
    })
    .await;
    assert_eq!(bed.save(&spec, &endpoint, PLENTY).await.expect("nothing"), KeptContext::default());
    let endpoint = bed.server(&spec, 1, Manner::Works).await;
    assert_eq!(bed.restore(&spec, &endpoint).await.expect("nothing"), KeptContext::default());
    assert!(bed.files(&spec).is_empty(), "what is of the old file can never be used again");
    bed.saved(&spec, 1).await;
    fs::remove_file(&spec.file).expect("removed");
    assert_eq!(bed.save(&spec, &endpoint, PLENTY).await.expect("nothing"), KeptContext::default());
}

#[tokio::test]
async fn another_configuration_takes_the_place_of_the_one_before() {
    let bed = Bed::new();
    let spec = bed.spec("m");
    bed.saved(&spec, 1).await;
    let other = LaunchSpec { ctx: 9000, ..spec.clone() };
    assert_ne!(other.hash(), ConfigHash(String::new()));
    bed.saved(&other, 1).await;
    assert!(!bed.path(&spec, 0).exists() && bed.path(&other, 0).exists());
}

#[tokio::test]
async fn without_a_checksum_a_file_counts_only_while_the_system_runs() {
    type Change = fn(&mut index::Entry);
    let unmade: [(&str, Change, u32); 3] = [
        ("as it was", |_| {}, 1),
        ("the system was started again", |entry| entry.boot = "another".to_owned(), 0),
        ("something wrote to it", |entry| entry.modified_ns += 1, 0),
    ];
    for (what, change, restored) in unmade {
        let bed = Bed::new();
        let spec = bed.spec("m");
        bed.saved(&spec, 1).await;
        eventually(LONG, || async { bed.slot_files.store.read().files.values().all(|file| file.checksum.is_some()) })
            .await;
        bed.rewrite(&spec, 0, |entry| {
            entry.checksum = None;
            change(entry);
        });
        let endpoint = bed.server(&spec, 1, Manner::Works).await;
        assert_eq!(bed.restore(&spec, &endpoint).await.expect("an answer"), context(restored), "{what}");
        let files = bed.slot_files.store.read().files;
        assert!(files.values().all(|file| file.checksum.is_some()), "{what}: what was read has one now");
    }
}

#[tokio::test]
async fn an_index_that_cannot_be_read_takes_the_files_with_it() {
    let bed = Bed::new();
    let spec = bed.spec("m");
    bed.saved(&spec, 1).await;
    let index: &Path = &bed.home.slots().join(".index.json");
    fs::write(index, "{").expect("written");
    let endpoint = bed.server(&spec, 1, Manner::Works).await;
    assert_eq!(bed.restore(&spec, &endpoint).await.expect("nothing"), KeptContext::default());
    assert!(bed.files(&spec).is_empty());
    bed.saved(&spec, 1).await;
}
