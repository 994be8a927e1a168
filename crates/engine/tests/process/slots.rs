//! Conversations are saved before a server ends, and brought back into the next one.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use corral_core::launch::LaunchSpec;
use corral_core::ports::{Contexts, Endpoint, Engine, Instance, Job, KeptContext};
use corral_core::{Code, ModelId};
use corral_engine::SlotFiles;
use corral_testkit::{TinyModel, eventually};
use http::StatusCode;
use serde_json::{Value, json};

use crate::bed::{Bed, LONG, config, exited, llama_server, post};

/// Room for everything, in bytes.
const PLENTY: u64 = 1 << 30;
const SLOTS: u32 = 2;

/// So many sentences that no other seed begins with: 35 tokens each.
fn conversation(seed: u32, sentences: usize) -> String {
    format!("{seed} is where this begins. {}", "the quick brown fox jumps over it. ".repeat(sentences))
}

const SHORT: usize = 20;
const LONG_ENOUGH: usize = 120;

fn two_slots(bed: &Bed) -> LaunchSpec {
    LaunchSpec { ctx: 16_384, parallel: SLOTS, ..bed.tiny() }
}

fn slot_files(bed: &Bed) -> SlotFiles {
    SlotFiles::new(&config(bed.home.path(), bed.logs.clone()))
}

/// Asks one slot, and returns how many tokens of the prompt it knew already, and of how many.
async fn ask(instance: &Instance, endpoint: &Endpoint, slot: u32, text: &str) -> (u64, u64) {
    let body =
        json!({"messages": [{"role": "user", "content": text}], "max_tokens": 4, "ignore_eos": true, "id_slot": slot});
    let (status, answer) = post(endpoint, Some(&instance.api_key), "/v1/chat/completions", &body).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    let timings = |name: &str| answer["timings"][name].as_u64().unwrap();
    (timings("cache_n"), timings("cache_n") + timings("prompt_n"))
}

fn files(bed: &Bed) -> Vec<PathBuf> {
    let folder = bed.home.slots().join("tiny");
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn id(model: &str) -> ModelId {
    ModelId::new(model).unwrap()
}

fn mode(path: impl AsRef<Path>) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// A server with a conversation in each slot.
async fn talked(bed: &Bed, spec: &LaunchSpec) -> (Instance, Endpoint) {
    let (instance, endpoint) = bed.ready(spec).await;
    for slot in 0..spec.parallel {
        let (cached, all) = ask(&instance, &endpoint, slot, &conversation(slot, SHORT)).await;
        assert!(cached < 20 && all > 600, "{cached} of {all}");
    }
    (instance, endpoint)
}

/// Has a conversation in each slot, saves them, and ends the server.
async fn saved(bed: &Bed, slot_files: &SlotFiles, spec: &LaunchSpec, budget: u64) -> KeptContext {
    let (instance, endpoint) = talked(bed, spec).await;
    let kept = slot_files.save(&instance, &endpoint, spec, budget).await.unwrap();
    bed.engine.discard(&instance).await.unwrap();
    // Checksums are made beside all else, of what is in the files then.
    eventually(LONG, || async {
        index(bed)["files"].as_object().unwrap().values().all(|file| file["checksum"].is_u64())
    })
    .await;
    kept
}

fn index(bed: &Bed) -> Value {
    serde_json::from_slice(&fs::read(bed.home.slots().join(".index.json")).unwrap()).unwrap()
}

/// What is brought back into a new server, and which of its slots then know their conversations.
async fn known(bed: &Bed, slot_files: &SlotFiles, spec: &LaunchSpec) -> (KeptContext, Vec<u32>) {
    let (instance, endpoint) = bed.ready(spec).await;
    let kept = slot_files.restore(&instance, &endpoint, spec).await.unwrap();
    let mut known = Vec::new();
    for slot in 0..spec.parallel {
        let (cached, all) = ask(&instance, &endpoint, slot, &conversation(slot, SHORT)).await;
        assert!(cached < 20 || cached * 100 / all >= 95, "{cached} of {all}");
        if cached >= 20 {
            known.push(slot);
        }
    }
    bed.engine.discard(&instance).await.unwrap();
    (kept, known)
}

#[tokio::test]
async fn conversations_outlive_their_server() {
    let bed = Bed::new();
    let spec = two_slots(&bed);
    let slot_files = slot_files(&bed);
    let (instance, endpoint) = bed.ready(&spec).await;
    for slot in 0..SLOTS {
        ask(&instance, &endpoint, slot, &conversation(slot, LONG_ENOUGH)).await;
    }
    let began = Instant::now();
    let kept = slot_files.save(&instance, &endpoint, &spec, PLENTY).await.unwrap();
    let save = began.elapsed();
    assert_eq!(kept.slots, SLOTS);
    bed.engine.stop(&instance).await.unwrap();
    let paths = files(&bed);
    assert_eq!(kept.bytes, paths.iter().map(|path| fs::metadata(path).unwrap().len()).sum::<u64>());

    // The same instance once more: without what was saved it knows nothing.
    let endpoint = bed.engine.start(&instance).await.unwrap();
    bed.engine.await_ready(&instance, &endpoint, LONG, &Job::unwatched()).await.unwrap();
    let (cached, all) = ask(&instance, &endpoint, 0, &conversation(0, LONG_ENOUGH)).await;
    assert!(cached < 20, "{cached} of {all} without anything brought back");
    bed.engine.discard(&instance).await.unwrap();

    let (instance, endpoint) = bed.ready(&spec).await;
    let began = Instant::now();
    let restored = slot_files.restore(&instance, &endpoint, &spec).await.unwrap();
    println!("{kept:?}: saved in {save:?}, brought back in {:?}", began.elapsed());
    assert_eq!(restored, kept);
    for slot in 0..SLOTS {
        let (cached, all) = ask(&instance, &endpoint, slot, &conversation(slot, LONG_ENOUGH)).await;
        assert!(cached * 100 / all >= 95, "slot {slot}: {cached} of {all}");
    }
    assert_eq!(files(&bed), paths, "they stay for the case that this server is never saved");
    for path in paths.iter().chain([&bed.home.slots().join(".index.json")]) {
        assert_eq!(mode(path), 0o600, "{}", path.display());
    }
    assert_eq!((mode(bed.home.slots()), mode(bed.home.slots().join("tiny"))), (0o700, 0o700));
    bed.engine.discard(&instance).await.unwrap();
}

#[tokio::test]
async fn what_nobody_asked_for_since_is_saved_again() {
    let bed = Bed::new();
    let spec = two_slots(&bed);
    let slot_files = slot_files(&bed);
    let kept = saved(&bed, &slot_files, &spec, PLENTY).await;
    let (instance, endpoint) = bed.ready(&spec).await;
    assert_eq!(slot_files.restore(&instance, &endpoint, &spec).await.unwrap(), kept);
    assert_eq!(slot_files.save(&instance, &endpoint, &spec, PLENTY).await.unwrap(), kept);
    bed.engine.discard(&instance).await.unwrap();
    assert_eq!(known(&bed, &slot_files, &spec).await, (kept, vec![0, 1]));
}

#[tokio::test]
async fn damaged_files_are_left_out_and_the_server_goes_on() {
    let bed = Bed::new();
    let spec = LaunchSpec { parallel: 3, ..two_slots(&bed) };
    let slot_files = slot_files(&bed);
    saved(&bed, &slot_files, &spec, PLENTY).await;
    let paths = files(&bed);
    let cut = File::options().write(true).open(&paths[0]).unwrap();
    cut.set_len(cut.metadata().unwrap().len() / 2).unwrap();
    let flipped = File::options().write(true).open(&paths[1]).unwrap();
    // In the middle, where llama-server itself would notice nothing.
    let middle = flipped.metadata().unwrap().len() / 2;
    let mut byte = [0];
    File::open(&paths[1]).unwrap().read_exact_at(&mut byte, middle).unwrap();
    flipped.write_all_at(&[byte[0] ^ 1], middle).unwrap();
    let (kept, slots) = known(&bed, &slot_files, &spec).await;
    assert_eq!((kept.slots, slots), (1, vec![2]));
    assert_eq!(files(&bed), paths[2..]);
}

#[tokio::test]
async fn files_of_other_models_and_of_no_use_are_left_out() {
    let bed = Bed::new();
    let slot_files = slot_files(&bed);
    let spec = LaunchSpec { parallel: 3, ..two_slots(&bed) };
    let other =
        LaunchSpec { file: bed.home.write_model("other.gguf", &TinyModel::new(2)), model: id("other"), ..spec.clone() };
    saved(&bed, &slot_files, &other, PLENTY).await;
    saved(&bed, &slot_files, &spec, PLENTY).await;
    let mut theirs: Vec<_> =
        fs::read_dir(bed.home.slots().join("other")).unwrap().map(|entry| entry.unwrap().path()).collect();
    theirs.sort();
    let paths = files(&bed);
    // llama-server itself would take it: it is of the same size and of a model of the same form.
    assert_eq!(fs::metadata(&theirs[0]).unwrap().len(), fs::metadata(&paths[0]).unwrap().len());
    fs::copy(&theirs[0], &paths[0]).unwrap();
    fs::copy(&theirs[0], bed.home.slots().join("tiny/other.kv")).unwrap();
    // One that is as the index says and of no use to any server.
    fs::write(&paths[1], "no slot").unwrap();
    let mut known_files = index(&bed);
    let key = paths[1].strip_prefix(bed.home.slots()).unwrap().to_str().unwrap();
    known_files["files"][key]["bytes"] = 7.into();
    known_files["files"][key]["checksum"] = xxhash_rust::xxh3::xxh3_64(b"no slot").into();
    fs::write(bed.home.slots().join(".index.json"), known_files.to_string()).unwrap();

    let (kept, slots) = known(&bed, &slot_files, &spec).await;
    assert_eq!((kept.slots, slots), (1, vec![2]));
    assert_eq!(files(&bed), paths[2..]);
    // llama-server was asked about the second. Its log is read beside all else.
    let was_refused = || bed.logs.tail(10_000).into_iter().any(|record| record.msg.contains("Unable to restore slot"));
    eventually(LONG, || async { was_refused() }).await;
}

#[tokio::test]
async fn the_oldest_conversations_go_first() {
    let bed = Bed::new();
    let slot_files = slot_files(&bed);
    let spec = LaunchSpec { parallel: 1, ..two_slots(&bed) };
    let one = saved(&bed, &slot_files, &spec, PLENTY).await;
    let other = LaunchSpec { model: id("other"), ..spec.clone() };
    // Room for one: how many tokens an answer has differs from time to time.
    let kept = saved(&bed, &slot_files, &other, one.bytes * 3 / 2).await;
    assert_eq!((one.slots, kept.slots), (1, 1));
    assert!(files(&bed).is_empty(), "the first had to go");
    assert_eq!(known(&bed, &slot_files, &other).await, (kept, vec![0]));
    assert_eq!(saved(&bed, &slot_files, &other, kept.bytes / 2).await, KeptContext::default());
    assert_eq!(known(&bed, &slot_files, &other).await, (KeptContext::default(), vec![]));
}

#[tokio::test]
async fn a_model_file_that_was_replaced_gets_none_of_the_old_ones_conversations() {
    let bed = Bed::new();
    let slot_files = slot_files(&bed);
    let spec = two_slots(&bed);
    saved(&bed, &slot_files, &spec, PLENTY).await;
    bed.tiny();
    assert_eq!(known(&bed, &slot_files, &spec).await, (KeptContext::default(), vec![]));
    assert!(files(&bed).is_empty());

    let (instance, endpoint) = talked(&bed, &spec).await;
    bed.tiny();
    let kept = slot_files.save(&instance, &endpoint, &spec, PLENTY).await.unwrap();
    assert_eq!((kept, files(&bed)), (KeptContext::default(), vec![]));
    bed.engine.discard(&instance).await.unwrap();
}

#[tokio::test]
async fn a_server_whose_slots_are_switched_off_keeps_nothing() {
    let bed = Bed::new();
    let spec = LaunchSpec { args: vec!["--no-slots".to_owned()], ..two_slots(&bed) };
    let (instance, endpoint) = bed.ready(&spec).await;
    let slot_files = slot_files(&bed);
    assert_eq!(slot_files.save(&instance, &endpoint, &spec, PLENTY).await.unwrap(), KeptContext::default());
    assert_eq!(slot_files.restore(&instance, &endpoint, &spec).await.unwrap(), KeptContext::default());
    bed.engine.discard(&instance).await.unwrap();
}

/// A server that may write files of 512 kB at most. As on a full disk, a write fails.
fn limited(bed: &Bed, before: &str) -> LaunchSpec {
    let script =
        bed.script(&format!("#!/bin/sh\n{before}\nulimit -f 1000\nexec {} \"$@\"\n", llama_server().display()));
    LaunchSpec { binary: script.binary, ..two_slots(bed) }
}

/// A conversation that a file of 512 kB is too small for.
async fn talked_long(bed: &Bed, spec: &LaunchSpec) -> (Instance, Endpoint) {
    let (instance, endpoint) = bed.ready(spec).await;
    ask(&instance, &endpoint, 0, &conversation(0, LONG_ENOUGH)).await;
    (instance, endpoint)
}

async fn cannot_be_saved(bed: &Bed, slot_files: &SlotFiles, spec: &LaunchSpec) {
    let (instance, endpoint) = talked_long(bed, spec).await;
    let error = slot_files.save(&instance, &endpoint, spec, PLENTY).await.unwrap_err();
    assert!(error.code() == Code::Io && error.body().hint.is_some(), "{error:?}");
    assert!(error.to_string().contains("could not save slot 0 of `tiny`"), "{error}");
    assert_eq!(files(bed), Vec::<PathBuf>::new(), "nothing half is left");
    let (cached, all) = ask(&instance, &endpoint, 0, &conversation(0, LONG_ENOUGH)).await;
    assert!(cached * 100 / all >= 95, "the server goes on: {cached} of {all}");
    bed.engine.discard(&instance).await.unwrap();
}

#[tokio::test]
async fn a_write_that_fails_leaves_nothing_half() {
    let bed = Bed::new();
    // Ignored signals stay so across `exec`: what is over the limit fails, as it does where the disk is full.
    let spec = limited(&bed, "trap '' XFSZ");
    cannot_be_saved(&bed, &slot_files(&bed), &spec).await;
}

/// A disk of 1 MB, until it is dropped.
struct Disk(PathBuf);

impl Disk {
    fn mount(at: PathBuf) -> Option<Self> {
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "none"]).arg(&at).output();
        mounted.is_ok_and(|mounted| mounted.status.success()).then_some(Self(at))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test]
async fn a_disk_that_is_full_leaves_nothing_half() {
    let bed = Bed::new();
    let Some(_disk) = Disk::mount(bed.home.slots()) else {
        eprintln!(
            "no file system can be mounted here: a full disk is left to `a_write_that_fails_leaves_nothing_half`"
        );
        return;
    };
    let spec = two_slots(&bed);
    cannot_be_saved(&bed, &slot_files(&bed).with_reserve(0), &spec).await;
    let (instance, endpoint) = talked(&bed, &spec).await;
    let error = slot_files(&bed).save(&instance, &endpoint, &spec, PLENTY).await.unwrap_err();
    assert!(error.code() == Code::Io && error.to_string().contains("too little"), "{error}");
    bed.engine.discard(&instance).await.unwrap();
}

#[tokio::test]
async fn a_server_that_is_killed_while_it_saves_leaves_nothing_half() {
    let bed = Bed::new();
    let spec = limited(&bed, "");
    let (instance, endpoint) = talked_long(&bed, &spec).await;
    let mut events = bed.engine.events();
    let slot_files = slot_files(&bed);
    let error = slot_files.save(&instance, &endpoint, &spec, PLENTY).await.unwrap_err();
    assert_eq!(error.code(), Code::EngineFailed, "{error}");
    assert_eq!(exited(&mut events).await.0, instance.id);
    assert_eq!(files(&bed), Vec::<PathBuf>::new());
    bed.engine.discard(&instance).await.unwrap();
}
