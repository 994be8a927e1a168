//! The reader over the real gate, and a stand-in for `llama-server` that counts how often it is asked.

use std::sync::atomic::{AtomicUsize, Ordering};

use corral_core::catalog::Catalog;
use corral_core::command::channel;
use corral_core::launch::Runtime;
use corral_core::ports::{Endpoint, Instance, Route, Traffic};
use corral_core::snapshot::{CatalogView, Phase, SessionView, Snapshot};
use corral_core::usage::{InferenceRoute, RequestEnd};
use corral_core::{ConfigHash, InstanceId, ModelId, Secret};
use corral_testkit::fakes::CountingClock;
use jiff::Timestamp;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

const SLOTS: &str = r#"[{"id":0,"n_ctx":100,"is_processing":false,"n_prompt_tokens":30},{"id":1,"n_ctx":100}]"#;

/// Where it answers, and how often it was asked.
async fn stand_in() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (url, asked) = (format!("http://{}", listener.local_addr().unwrap()), Arc::<AtomicUsize>::default());
    let count = asked.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = [0; 4096];
            let _ = stream.read(&mut head).await;
            count.fetch_add(1, Ordering::SeqCst);
            let length = SLOTS.len();
            let answer = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{SLOTS}");
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    (url, asked)
}

fn session(id: &str) -> SessionId {
    SessionId::new(id).unwrap()
}

fn record(at: &str, of: Option<&str>, input: u64, cached: u64) -> RequestRecord {
    RequestRecord {
        at: at.parse().unwrap(),
        session: of.map(session),
        model: None,
        route: InferenceRoute::Messages,
        status: 200,
        end: RequestEnd::Complete,
        tokens: Tokens { input, cached, output: 7 },
        first_token: None,
        duration: Duration::ZERO,
        held: Duration::ZERO,
        overhead: Duration::ZERO,
        energy: None,
    }
}

fn reader(sessions: Vec<SessionView>) -> (LiveReader, Gate) {
    let snapshot = Snapshot {
        version: "0".to_owned(),
        phase: Phase::Ready,
        model: None,
        operation: None,
        engine: None,
        error: None,
        gateway: None,
        sessions,
        catalog: CatalogView::default(),
    };
    let clock = Arc::new(CountingClock::default());
    let gate = Gate::new(clock.clone());
    let (handle, _ends) = channel(snapshot, Catalog::default());
    (LiveReader::new(gate.clone(), handle, clock, Arc::default()), gate)
}

fn route(url: &str) -> Route {
    let instance = Instance {
        id: InstanceId("i".to_owned()),
        runtime: Runtime::Process,
        model: ModelId::new("m").unwrap(),
        config_hash: ConfigHash("h".to_owned()),
        image: None,
        api_key: Secret::new("k"),
    };
    Route { instance, endpoint: Endpoint { url: url.to_owned(), started_at: Timestamp::UNIX_EPOCH }, restored: false }
}

/// Reads again as if what was read before were long ago.
async fn again(reader: &LiveReader) -> Live {
    reader.state.lock().await.last = None;
    reader.read().await
}

#[tokio::test]
async fn a_server_is_asked_only_where_something_may_have_changed() {
    let (url, asked) = stand_in().await;
    let (reader, gate) = reader(Vec::new());
    let asked = || asked.load(Ordering::SeqCst);
    assert_eq!((reader.read().await.context, asked()), (None, 0), "nothing serves");
    gate.open(route(&url));
    let context = again(&reader).await.context.unwrap();
    assert_eq!((context.used_tokens, context.total_tokens, context.slots.len(), asked()), (30, 200, 2, 1));
    for _ in 0..3 {
        assert_eq!(reader.read().await.context.as_ref(), Some(&context));
        assert_eq!(again(&reader).await.context.as_ref(), Some(&context), "it is as it was");
    }
    assert_eq!(asked(), 1, "nobody has asked it for anything since");
    gate.close();
    assert_eq!((again(&reader).await.context, asked()), (None, 1));
}

#[tokio::test]
async fn sums_are_of_sessions_attached_and_of_the_last_minutes() {
    let view = |id: &str| SessionView {
        id: session(id),
        label: Some("l".to_owned()),
        workspace: Some("/w".to_owned()),
        model: None,
        started_at: Timestamp::UNIX_EPOCH,
    };
    let (reader, _) = reader(vec![view("a"), view("b")]);
    assert_eq!(reader.read().await.cached_share, None);
    let now = Timestamp::now().to_string();
    reader.recent.take(&[record(&now, Some("a"), 100, 25), record(&now, Some("a"), 100, 75)], |_| true);
    reader.recent.take(&[record(&now, None, 200, 100)], |_| true);
    assert_eq!(again(&reader).await.sessions[0].energy_joules, None, "none was measured");
    let measured =
        |millijoules| RequestRecord { energy: Some(Millijoules(millijoules)), ..record(&now, Some("b"), 0, 0) };
    reader.recent.take(&[measured(1_000), record(&now, Some("b"), 0, 0), measured(500)], |_| true);
    let live = again(&reader).await;
    assert_eq!(live.cached_share, Some(0.5));
    let sums = |at: usize| {
        let of: &LiveSession = &live.sessions[at];
        (of.requests, of.tokens_in, of.tokens_out, of.tokens_cached)
    };
    assert_eq!((sums(0), sums(1)), ((2, 200, 14, 100), (3, 0, 21, 0)));
    assert_eq!((live.sessions[1].energy_joules, live.sessions[1].energy_requests), (Some(1.5), 2));
    assert_eq!(live.sessions[0].energy_requests, 0);
    assert_eq!(live.sessions[0].workspace.as_deref(), Some("/w"));
}

#[tokio::test]
async fn a_session_has_the_model_that_it_used_last() {
    let view = SessionView {
        id: session("a"),
        label: None,
        workspace: None,
        model: Some("begun-with".to_owned()),
        started_at: Timestamp::UNIX_EPOCH,
    };
    let (reader, _) = reader(vec![view]);
    let model = async || again(&reader).await.sessions[0].model.clone().unwrap();
    assert_eq!(model().await, "begun-with");
    let of = |model: Option<&str>| RequestRecord {
        model: model.map(|id| ModelId::new(id).unwrap()),
        ..record("2026-01-01T00:00:00Z", Some("a"), 1, 0)
    };
    reader.recent.take(&[of(Some("x")), of(Some("y"))], |_| true);
    assert_eq!(model().await, "y");
    // One that was refused used none.
    reader.recent.take(&[of(None)], |_| true);
    assert_eq!(model().await, "y");
}

#[tokio::test(start_paused = true)]
async fn while_nothing_runs_nothing_is_done_for_the_speed() {
    let clock = Arc::new(CountingClock::default());
    let gate = Gate::new(clock.clone());
    let (reader, _) = reader(Vec::new());
    let reader = Arc::new(LiveReader { gate, clock: clock.clone(), ..reader });
    let speed = reader.speed();
    let telling = tokio::spawn(reader.tell_speed());
    tokio::time::sleep(Duration::from_hours(1)).await;
    assert_eq!((clock.sleepers(), speed.has_changed().unwrap()), ((0, 0), false));
    telling.abort();
}

#[test]
fn minutes_go_by() {
    let recent = Recent::default();
    let at = |text: &str| text.parse::<Timestamp>().unwrap().as_second();
    recent.take(&[record("2026-01-01T00:00:30Z", None, 100, 0)], |_| true);
    recent.take(&[record("2026-01-01T00:10:00Z", None, 100, 100)], |_| true);
    assert_eq!(recent.cached_share(at("2026-01-01T00:14:59Z")), Some(0.5));
    assert_eq!(recent.cached_share(at("2026-01-01T00:15:00Z")), Some(1.0));
    assert_eq!(recent.cached_share(at("2026-01-01T00:25:00Z")), None);
    for number in 0..3 * SESSIONS {
        recent.take(&[record("2026-01-01T00:25:00Z", Some(&format!("s{number}")), 1, 0)], |_| false);
    }
    assert!(recent.0.lock().unwrap().sessions.len() <= SESSIONS, "what grows is bounded");
}

#[test]
fn rates_are_of_the_present() {
    assert_eq!(per_second(30, Duration::from_secs(2)), Some(15.0));
    assert_eq!((per_second(30, Duration::ZERO), per_second(30, STALE * 2)), (None, None));
    let slot = |task, evaluated| Slot { id: 0, total: 9, used: 0, busy: true, task: Some(task), evaluated };
    assert_eq!(evaluated(&[slot(1, 10)], &[slot(1, 30)]), 20);
    assert_eq!(evaluated(&[slot(1, 10)], &[slot(2, 30)]), 30, "another prompt");
    assert_eq!(evaluated(&[slot(1, 10)], &[slot(1, 0)]), 0, "it has ended");
}
