//! Disks that are full and files that are damaged: requests are served all the same, and somebody is told.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "test code: a panic is how it fails")]
#![allow(clippy::print_stdout, reason = "test code: what was measured is shown where it is asked for")]

use std::fs;
use std::path::PathBuf;

use corral_testkit::SandboxHome;
use corral_tests::small_disk::SmallDisk;
use corral_tests::{Client, Daemon, Manner, Models, PATIENCE, Question, prompt, until};

/// Tokens of a conversation whose saved form takes some megabytes.
const LONG: usize = 8000;

fn models() -> Models {
    Models::docker().one_thread().gateway("min_stay = \"0s\"").with("ctx = 4096", "ctx = 32768").tiny(&["a", "b"])
}

fn conversation() -> Question {
    Question::new(Manner::Messages, &prompt(7, LONG)).model("a")
}

/// Something that happens to a file.
type Damage = fn(&mut Vec<u8>);

/// The files of saved conversations: whatever has about a byte per token, and much more.
fn saved(home: &SandboxHome) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![home.slots()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("the folder of the slots").map(|entry| entry.expect("an entry")) {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if fs::metadata(&path).is_ok_and(|file| file.len() > LONG as u64) {
                files.push(path);
            }
        }
    }
    files
}

#[test]
fn a_damaged_conversation_is_left_out_and_removed() {
    let daemon = Daemon::start(models().home());
    let api = daemon.api();
    let client = Client::of(&api.switched("a"));
    let damages: [(&str, Damage); 4] = [
        ("cut off", |bytes| bytes.truncate(bytes.len() / 2)),
        ("empty", Vec::clear),
        ("foreign", |bytes| *bytes = b"not a conversation at all".repeat(1000)),
        ("one bit turned", |bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        }),
    ];
    for (what, damage) in damages {
        client.ask_now(&conversation()).complete();
        api.switched("b");
        let files = saved(daemon.home());
        assert_eq!(files.len(), 1, "one conversation was saved: {files:?}");
        for file in &files {
            let mut bytes = fs::read(file).expect("a saved conversation");
            damage(&mut bytes);
            fs::write(file, bytes).expect("it can be damaged");
        }
        let back = api.switched("a");
        let brought = back.engine.and_then(|engine| engine.context);
        assert_eq!(brought, None, "{what}: nothing was brought back");
        assert!(!files[0].exists(), "{what}: the file is gone");
        let tokens = client.ask_now(&conversation()).complete().tokens;
        assert!(tokens.cached < 100, "{what}: read again: {tokens:?}");
    }
    // What is whole is brought back.
    api.switched("b");
    api.switched("a");
    let tokens = client.ask_now(&conversation()).complete().tokens;
    assert!(tokens.cached * 100 / tokens.input > 95, "{tokens:?}");
}

#[test]
fn where_the_disk_for_conversations_is_full_a_switch_goes_on_and_says_so() {
    let home = models().home();
    let Some(disk) = SmallDisk::on(&home, &home.slots(), 1 << 20) else { return };
    let daemon = Daemon::start(home);
    let api = daemon.api();
    let events = api.events();
    let client = Client::of(&api.switched("a"));
    client.ask_now(&conversation()).complete();
    api.switched("b");
    let notice = events.until_notice(&["conversation"]);
    assert_eq!(notice["level"], "warning", "{notice:#}");
    for model in ["b", "a"] {
        let seen = client.ask_now(&Question::new(Manner::Chat, "hello").model(model)).complete();
        assert_eq!(seen.model, model);
    }
    assert!(client.ask_now(&conversation()).complete().tokens.cached < 100, "nothing was kept");
    drop(daemon);
    drop(disk);
}

#[test]
fn where_the_disk_for_the_ledger_is_full_requests_are_served_and_it_is_said() {
    let home = SandboxHome::new();
    let Some(disk) = SmallDisk::on(&home, &home.path().join("data"), 4 << 20) else { return };
    fs::create_dir_all(home.models()).expect("the models folder");
    models().write(&home);
    let daemon = Daemon::start(home);
    let api = daemon.api();
    let client = Client::of(&api.switched("a"));
    let ask = |client: &Client| client.ask_now(&Question::new(Manner::Messages, "hello").model("a")).complete();
    ask(&client);
    until(PATIENCE, "it is written down", || (api.usage("model").get("a")?.requests == 1).then_some(()));
    let events = api.events();
    let filling = disk.fill();
    let mut asked = 1;
    // The file of the ledger may have some room of its own.
    let notice = std::thread::scope(|scope| {
        let told = scope.spawn(move || events.until_notice(&["usage"]));
        while !told.is_finished() {
            ask(&client);
            asked += 1;
        }
        told.join().expect("a notice")
    });
    assert!(notice["level"] != "info", "{notice:#}");
    assert_eq!(client.ask_now(&Question::new(Manner::Chat, "hello").model("b")).complete().model, "b");
    api.switched("a");

    // With room, the ledger goes on by itself.
    fs::remove_file(filling).expect("the disk has room again");
    let before = api.usage("model").get("a").map_or(0, |row| row.requests);
    ask(&client);
    until(PATIENCE, "what is asked now is written down", || {
        let row = api.usage("model").get("a").map_or(0, |row| row.requests);
        (row > before).then_some(())
    });
    println!("{asked} requests were asked until it was said");
    drop(daemon);
    drop(disk);
}
