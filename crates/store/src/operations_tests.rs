use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use corral_core::ports::{KeptContext, UsageSource};
use corral_core::usage::Tokens;
use corral_core::{Error, SessionId};
use tempfile::TempDir;
use uuid::Uuid;

use super::*;

fn store() -> (TempDir, PathBuf, Store) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("corral.sqlite3");
    let store = Store::open(&path).unwrap();
    (folder, path, store)
}

fn at(millisecond: i64) -> Timestamp {
    Timestamp::from_millisecond(millisecond).unwrap()
}

fn id(text: &str) -> ModelId {
    ModelId::new(text).unwrap()
}

fn operation(number: u128, to: &str) -> OperationView {
    OperationView {
        id: OperationId(Uuid::from_u128(number)),
        kind: OperationKind::Switch,
        from: None,
        to: Some(id(to)),
        step: Step::Load,
        progress: None,
        started_at: at(1_000),
        expected_ms: None,
    }
}

/// Ended by the clock on the wall after 9 s, though what was measured is less.
fn ended(number: u128, to: &str, error: Option<Error>) -> Ended {
    let operation = operation(number, to);
    let steps = vec![(Step::Pause, Duration::from_millis(250))];
    Ended { operation, at: at(10_000), error, steps, saved: None, restored: None }
}

#[test]
fn it_remembers_across_runs_and_is_private() {
    let (_folder, path, store) = store();
    store.began(&operation(1, "a"));
    store.ended(&ended(1, "a", None));
    store.began(&operation(2, "b"));
    store.ended(&ended(2, "b", Some(Error::new(Code::LoadFailed, "x"))));
    store.began(&operation(3, "c"));
    store.want(Some(&id("c")));
    drop(store);
    let store = Store::open(&path).unwrap();
    assert_eq!(store.wanted().unwrap().as_str(), "c");
    assert_eq!(store.last_served().unwrap().as_str(), "a", "a failed one does not count");
    let past: Vec<_> = store.history(10).unwrap().into_iter().map(|o| (o.to.unwrap(), o.total_ms, o.error)).collect();
    let expected = [(id("c"), None, None), (id("b"), Some(250), Some(Code::LoadFailed)), (id("a"), Some(250), None)];
    assert_eq!(past, expected);
    assert_eq!(store.history(1).unwrap().len(), 1);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    store.want(None);
    assert_eq!(store.wanted(), None);
}

#[test]
fn a_file_that_is_no_database_is_an_error_with_a_hint() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("corral.sqlite3");
    std::fs::write(&path, "not a database, and long enough to be looked at as one").unwrap();
    let error = Store::open(&path).unwrap_err();
    assert_eq!(error.code(), Code::Io);
    assert!(error.body().hint.is_some());
}

#[test]
fn the_phases_of_a_switch_are_kept() {
    let (_folder, _, store) = store();
    let millis = Duration::from_millis;
    let steps = [(Step::Prepare, 30), (Step::Pull, 1), (Step::Drain, 20), (Step::Save, 7), (Step::Stop, 40)];
    let more = [(Step::Start, 5), (Step::Load, 60), (Step::Restore, 8)];
    let mut end = ended(1, "b", None);
    end.steps = steps.into_iter().chain(more).map(|(step, took)| (step, millis(took))).collect();
    end.saved = Some(KeptContext { slots: 1, tokens: 4_000, bytes: 9 });
    end.restored = Some(KeptContext { slots: 2, tokens: 5_000, bytes: 9 });
    store.began(&operation(1, "b"));
    store.ended(&end);
    store.began(&operation(2, "b"));
    let past = store.history(10).unwrap();
    let phases = |past: &PastOperation| {
        [past.create_ms, past.drain_ms, past.save_ms, past.stop_ms, past.load_ms, past.restore_ms]
    };
    assert_eq!(phases(&past[1]), [31, 20, 7, 40, 65, 8].map(Some));
    assert_eq!((past[1].saved_tokens, past[1].restored_tokens), (Some(4_000), Some(5_000)));
    assert_eq!(phases(&past[0]), [None; 6], "what has not ended has none");
}

#[test]
fn the_answer_that_continues_says_what_the_cache_was_good_for() {
    let (_folder, _, store) = store();
    store.began(&operation(1, "b"));
    let answer = |input, continues, first_token_at| FirstAnswer {
        tokens: Tokens { input, cached: input - 1, output: 3 },
        continues,
        first_token_at: at(first_token_at),
    };
    let first = || {
        let past = store.history(1).unwrap().remove(0);
        [past.first_token_ms, past.first_prompt_tokens, past.first_cached_tokens]
    };
    let to = operation(1, "b").id;
    assert_eq!(first(), [None; 3]);
    store.first_answer(to, &answer(10, Some(false), 3_500));
    assert_eq!(first(), [2_500, 10, 9].map(Some));
    store.first_answer(to, &answer(20, Some(false), 4_000));
    assert_eq!(first(), [2_500, 10, 9].map(Some));
    store.first_answer(to, &answer(30, Some(true), 5_000));
    assert_eq!(first(), [2_500, 30, 29].map(Some), "the first token stays the first");
    store.first_answer(to, &answer(40, Some(true), 6_000));
    assert_eq!(first(), [2_500, 30, 29].map(Some));
}

/// Ends a switch or start after that long, of which it loaded for half.
fn loaded(store: &Store, number: u128, kind: OperationKind, took: u64, error: Option<Error>) {
    let mut end = ended(number, "b", error);
    end.operation.kind = kind;
    let half = Duration::from_millis(took / 2);
    end.steps = vec![(Step::Prepare, half / 2), (Step::Load, half / 2), (Step::Stop, half)];
    store.began(&end.operation);
    store.ended(&end);
}

#[test]
fn what_took_so_long_will_take_so_long() {
    let (_folder, _, store) = store();
    let expected = |kind| store.expected(kind, &id("b")).map(|expected| expected.as_millis());
    assert_eq!(expected(OperationKind::Switch), None);
    loaded(&store, 1, OperationKind::Start, 400, None);
    assert_eq!(expected(OperationKind::Switch), Some(200), "no switch to it yet: what loading took");
    for (number, took) in (2..).zip([9_000, 1_000, 2_000, 1_200, 800, 1_400]) {
        loaded(&store, number, OperationKind::Switch, took, None);
    }
    loaded(&store, 8, OperationKind::Switch, 90_000, Some(Error::new(Code::LoadFailed, "x")));
    // Loaded already: nothing was done.
    store.began(&operation(9, "b"));
    store.ended(&Ended { steps: Vec::new(), ..ended(9, "b", None) });
    assert_eq!(store.history(1).unwrap()[0].total_ms, Some(0));
    assert_eq!(expected(OperationKind::Switch), Some(1_200), "the middle of the last five");
    for kind in [OperationKind::Start, OperationKind::Restore, OperationKind::Restart] {
        assert_eq!(expected(kind), Some(600));
    }
    assert_eq!(store.expected(OperationKind::Switch, &id("a")), None);
    assert_eq!(expected(OperationKind::Stop), None);
}

#[test]
fn how_long_others_were_waited_for_says_nothing_of_the_next_switch() {
    let (_folder, _, store) = store();
    for (number, drain) in (1..).zip([Some(90_000), None, Some(40_000)]) {
        let mut end = ended(number, "b", None);
        end.steps = vec![(Step::Stop, Duration::from_millis(400)), (Step::Load, Duration::from_secs(2))];
        end.steps.extend(drain.map(|drain| (Step::Drain, Duration::from_millis(drain))));
        store.began(&end.operation);
        store.ended(&end);
    }
    assert_eq!(store.expected(OperationKind::Switch, &id("b")), Some(Duration::from_millis(2_400)));
    assert_eq!(store.history(1).unwrap()[0].total_ms, Some(42_400), "what it took is told whole");
}

#[test]
fn a_clock_that_is_set_changes_no_duration() {
    let (_folder, _, store) = store();
    for (number, hours) in (1..).zip([-3, 5]) {
        let mut end = ended(number, "b", None);
        end.at = at(1_000 + hours * 3_600_000);
        end.steps = vec![(Step::Stop, Duration::from_millis(400)), (Step::Load, Duration::from_secs(2))];
        store.began(&end.operation);
        store.ended(&end);
        let past = store.history(1).unwrap().remove(0);
        assert_eq!((past.total_ms, past.started_at), (Some(2_400), at(1_000)));
        assert_eq!(store.expected(OperationKind::Switch, &id("b")), Some(Duration::from_millis(2_400)));
    }
    let answer = FirstAnswer { tokens: Tokens::default(), continues: None, first_token_at: at(-9_000) };
    store.first_answer(operation(1, "b").id, &answer);
    assert_eq!(store.history(2).unwrap()[1].first_token_ms, Some(0));
}

#[test]
fn what_gave_way_to_another_has_no_duration() {
    let (_folder, _, store) = store();
    let end = Ended { steps: Vec::new(), ..ended(1, "b", Some(Error::new(Code::Superseded, "x"))) };
    store.began(&end.operation);
    store.ended(&end);
    let past = store.history(1).unwrap().remove(0);
    assert_eq!((past.total_ms, past.error), (None, Some(Code::Superseded)));
}

#[test]
fn sessions_begin_and_end() {
    let (_folder, path, store) = store();
    let session = SessionView {
        id: SessionId::new("s").unwrap(),
        label: Some("~/x".to_owned()),
        workspace: None,
        model: None,
        started_at: at(5),
    };
    store.session(&session, None);
    let connection = Connection::open(path).unwrap();
    let row = || {
        let row = connection.query_row("SELECT id, label, started_ms, ended_ms FROM sessions", [], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get(2)?, row.get(3)?))
        });
        row.unwrap()
    };
    let is = |ended: Option<i64>| ("s".to_owned(), "~/x".to_owned(), 5_i64, ended);
    store.session(&session, Some(at(9)));
    assert_eq!(row(), is(Some(9)));
    // It goes on with the next Corral, which knows nothing of its beginning.
    let later = SessionView { started_at: at(11), ..session };
    store.session(&later, None);
    assert_eq!(row(), is(None));
    store.session(&later, Some(at(12)));
    assert_eq!(row(), is(Some(12)));
}

#[test]
fn sessions_that_were_open_when_corral_ended_have_ended_with_their_last_request() {
    let (_folder, path, store) = store();
    let open = |id: &str| SessionView {
        id: SessionId::new(id).unwrap(),
        label: None,
        workspace: None,
        model: None,
        started_at: at(5_000),
    };
    for id in ["s", "idle"] {
        store.session(&open(id), None);
    }
    store.session(&open("ended"), None);
    store.session(&open("ended"), Some(at(6_000)));
    let request = |at| crate::ledger::tests::request(at, "b", 1);
    crate::batch::Writer::new(path.clone()).write(&[request(7_000), request(9_000), request(8_000)]).unwrap();
    drop(store);
    drop(Store::open(&path).unwrap());
    let connection = Connection::open(path).unwrap();
    let mut statement = connection.prepare("SELECT id, ended_ms FROM sessions ORDER BY id").unwrap();
    let rows = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, Option<i64>>(1)?))).unwrap();
    let ends: Vec<_> = rows.map(Result::unwrap).collect();
    let expected = [("ended", 6_000), ("idle", 5_000), ("s", 9_000)].map(|(id, at)| (id.to_owned(), Some(at)));
    assert_eq!(ends, expected);
}
