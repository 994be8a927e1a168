use std::collections::BTreeMap;
use std::time::Duration;

use corral_core::ports::Journal;
use corral_core::snapshot::SessionView;
use corral_core::usage::{InferenceRoute, Millijoules, RequestEnd, RequestRecord, Tokens};
use corral_core::{ModelId, SessionId};
use jiff::tz::Offset;
use proptest::prelude::*;

use super::*;
use crate::batch::{MOST, Writer};

const HOUR: i64 = 3_600_000;

fn time(at: i64) -> Timestamp {
    Timestamp::from_millisecond(at).unwrap()
}

fn records() -> impl Strategy<Value = Vec<RequestRecord>> {
    let name = || prop::option::of(prop::sample::select(vec!["a", "b", "c"]));
    let route = prop::sample::select(InferenceRoute::ALL.to_vec());
    let end = prop::sample::select(vec![
        RequestEnd::Complete,
        RequestEnd::Refused,
        RequestEnd::Broken,
        RequestEnd::Cut,
        RequestEnd::Abandoned,
    ]);
    let tokens = (0..=MOST, 0..1_000_u64, 0..1_000_u64);
    let record = (-3 * HOUR..48 * HOUR, name(), name(), (route, end), tokens, 0..1_u64 << 40).prop_map(
        |(at, session, model, (route, end), (input, cached, output), micros)| RequestRecord {
            at: time(at),
            session: session.map(|id| SessionId::new(id).unwrap()),
            model: model.map(|id| ModelId::new(id).unwrap()),
            route,
            status: 200,
            end,
            tokens: Tokens { input, cached, output },
            first_token: (micros % 2 == 0).then(|| Duration::from_micros(micros / 2)),
            duration: Duration::from_micros(micros),
            held: Duration::ZERO,
            overhead: Duration::from_micros(9),
            energy: (micros % 3 == 0).then_some(Millijoules(micros / 9 % 4 * 25_000)),
        },
    );
    prop::collection::vec(record, 0..60)
}

/// The sums, taken one by one: requests, tokens in, out and cached, microseconds, millijoules, and how many had those.
fn expected(
    records: &[RequestRecord],
    (since, until): (Option<i64>, Option<i64>),
    key: impl Fn(&RequestRecord) -> String,
) -> BTreeMap<String, [u64; 7]> {
    let mut all = BTreeMap::<String, [u64; 7]>::new();
    for record in records {
        let at = record.at.as_millisecond();
        if since.is_some_and(|since| at < since) || until.is_some_and(|until| at >= until) {
            continue;
        }
        let Tokens { input, cached, output } = record.tokens;
        let micros = u64::try_from(record.duration.as_micros()).unwrap();
        let energy = record.energy.map_or(0, |energy| energy.0);
        let measured = u64::from(record.energy.is_some());
        let sums = all.entry(key(record)).or_default();
        for (sum, more) in sums.iter_mut().zip([1, input, output, cached, micros, energy, measured]) {
            *sum += more;
        }
    }
    all
}

#[expect(clippy::cast_precision_loss, reason = "as it is done for people")]
fn rows(sums: BTreeMap<String, [u64; 7]>) -> Vec<UsageRow> {
    let row =
        |(key, [requests, tokens_in, tokens_out, tokens_cached, micros, energy, measured]): (String, [u64; 7])| {
            UsageRow {
                key,
                label: None,
                requests,
                tokens_in,
                tokens_out,
                tokens_cached,
                seconds: micros as f64 / 1e6,
                energy_joules: (measured > 0).then(|| energy as f64 / 1e3),
                energy_requests: Some(measured),
            }
        };
    sums.into_iter().map(row).collect()
}

/// Seconds, some of them at the edge of a bucket.
fn moment() -> impl Strategy<Value = Option<i64>> {
    let edge = (-20..200_i64).prop_map(|bucket| bucket * BUCKET_MS);
    prop::option::of(prop_oneof![-4 * HOUR..50 * HOUR, edge])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn sums_are_those_of_the_records(
        records in records(),
        span in (moment(), moment()),
        batch in 1..20_usize,
        offset in prop::sample::select(vec![0, 20_700, -12_600]),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("corral.sqlite3");
        let store = Store::open(&path).unwrap();
        let mut writer = Writer::new(path);
        for batch in records.chunks(batch) {
            writer.write(batch).unwrap();
        }
        let zone = TimeZone::fixed(Offset::from_seconds(offset).unwrap());
        let usage = |by| store.usage(by, span.0.map(time), span.1.map(time), &zone).unwrap();

        let by_day = expected(&records, span, |record| zone.to_datetime(record.at).date().to_string());
        prop_assert_eq!(usage(UsageBy::Day), rows(by_day));

        let model = |record: &RequestRecord| record.model.as_ref().map(ToString::to_string).unwrap_or_default();
        let session = |record: &RequestRecord| record.session.as_ref().map(ToString::to_string).unwrap_or_default();
        for (by, sums) in [
            (UsageBy::Model, expected(&records, span, model)),
            (UsageBy::Session, expected(&records, span, session)),
        ] {
            let mut found = usage(by);
            let order: Vec<_> = found.iter().map(|row| row.tokens_in + row.tokens_out).collect();
            prop_assert!(order.is_sorted_by(|a, b| a >= b), "the most tokens first");
            found.sort_by(|a, b| a.key.cmp(&b.key));
            prop_assert_eq!(found, rows(sums));
        }
    }
}

#[test]
fn a_session_is_shown_with_its_label() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("corral.sqlite3");
    let store = Store::open(&path).unwrap();
    let record = |session: Option<&str>, input| RequestRecord {
        session: session.map(|id| SessionId::new(id).unwrap()),
        ..crate::ledger::tests::request(HOUR, "named", input)
    };
    Writer::new(path).write(&[record(Some("named"), 30), record(Some("plain"), 20), record(None, 10)]).unwrap();
    for (id, label) in [("named", Some("~/x")), ("plain", None), ("elsewhere", Some("~/y"))] {
        let id = SessionId::new(id).unwrap();
        store.session(
            &SessionView { id, label: label.map(str::to_owned), workspace: None, model: None, started_at: time(0) },
            None,
        );
    }
    let rows = store.usage(UsageBy::Session, None, None, &TimeZone::UTC).unwrap();
    let labels: Vec<_> = rows.iter().map(|row| (row.key.as_str(), row.label.as_deref())).collect();
    assert_eq!(labels, [("named", Some("~/x")), ("plain", None), ("", None)]);
    let models = store.usage(UsageBy::Model, None, None, &TimeZone::UTC).unwrap();
    assert!(models.iter().all(|row| row.label.is_none()), "a model of a session's name has no label");
}

#[test]
fn impossible_numbers_do_no_harm() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("corral.sqlite3");
    let store = Store::open(&path).unwrap();
    let huge = RequestRecord {
        at: Timestamp::MAX,
        session: None,
        model: None,
        route: InferenceRoute::Embeddings,
        status: u16::MAX,
        end: RequestEnd::Broken,
        tokens: Tokens { input: u64::MAX, cached: u64::MAX, output: u64::MAX },
        first_token: Some(Duration::MAX),
        duration: Duration::MAX,
        held: Duration::MAX,
        overhead: Duration::MAX,
        energy: None,
    };
    let early = RequestRecord { at: Timestamp::MIN, ..huge.clone() };
    Writer::new(path).write(&[early, huge.clone(), huge]).unwrap();
    for by in [UsageBy::Model, UsageBy::Session, UsageBy::Day] {
        let rows = store.usage(by, Some(Timestamp::MIN), None, &TimeZone::UTC).unwrap();
        assert_eq!(
            rows.iter().map(|row| (row.requests, row.tokens_in)).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1)),
            (3, 3 * MOST)
        );
    }
    assert_eq!(store.usage(UsageBy::Model, Some(Timestamp::MAX), Some(Timestamp::MIN), &TimeZone::UTC).unwrap(), []);
}

#[test]
fn spans_are_whole_buckets_and_a_rest() {
    let of = |since: i64, until: i64| Span::of(Some(time(since)), Some(time(until)));
    let b = BUCKET_MS;
    assert_eq!(of(1, 3 * b + 5), Span { buckets: (1, 3), rest: [(1, b), (3 * b, 3 * b + 5)] });
    assert_eq!(of(b, 2 * b), Span { buckets: (1, 2), rest: [(b, b), (2 * b, 2 * b)] });
    assert_eq!(of(5, 9), Span { buckets: (0, 0), rest: [(5, 9), (0, 0)] });
    assert_eq!(of(-b - 1, -b + 1), Span { buckets: (0, 0), rest: [(-b - 1, -b + 1), (0, 0)] });
    assert_eq!(of(9, 5).rest, [(9, 9), (0, 0)]);
}
