//! `corral status`

use anstyle::Style;
use corral_api::dto::{Requests, Status};
use corral_core::ErrorBody;
use corral_core::launch::Runtime;
use corral_core::snapshot::{ContextOutcome, ContextView, EngineView, OperationView, Phase, SessionView, Snapshot};
use corral_daemon::Environment;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::Outcome;
use crate::exit;
use crate::output::{BAD, BUSY, DIM, GOOD, Output, Paint};
use crate::table::{Cell, table};
use crate::text;
use corral_client::Client;

/// Shows the snapshot, and the requests at the gateway.
pub(crate) fn status(env: &Environment, out: &mut Output) -> Outcome {
    let client = Client::of_home(env)?;
    let body = client.get("/status")?;
    if out.json {
        out.raw(&body)?;
    } else {
        let Status { snapshot, requests, .. } = client.parse(&body)?;
        out.text(&render(&snapshot, requests, Timestamp::now(), &TimeZone::system(), out.paint))?;
    }
    Ok(exit::DONE)
}

fn render(snapshot: &Snapshot, requests: Option<Requests>, now: Timestamp, zone: &TimeZone, paint: Paint) -> String {
    let mut rows = Rows::default();
    let style = match snapshot.phase {
        Phase::Stopped => Style::new(),
        Phase::Ready => GOOD,
        Phase::Failed => BAD,
        _ => BUSY,
    };
    rows.styled("phase", phase(snapshot.phase), style);
    if let Some(model) = &snapshot.model {
        rows.add("model", model.as_str());
    }
    if let Some(engine) = &snapshot.engine {
        rows.engine(engine, now, zone);
    }
    if let Some(gateway) = &snapshot.gateway {
        rows.add("gateway", gateway);
    }
    if let Some(Requests { running, waiting }) = requests.filter(|requests| *requests != Requests::default()) {
        rows.add("requests", format!("{} running, {} waiting", text::grouped(running), text::grouped(waiting)));
    }
    for (at, session) in snapshot.sessions.iter().enumerate() {
        rows.add(if at == 0 { "sessions" } else { "" }, session_text(session, now, zone));
    }
    if let Some(operation) = &snapshot.operation {
        rows.add("operation", operation_text(operation, now));
    }
    let catalog = &snapshot.catalog;
    rows.add("catalog", format!("{} in {}", text::count(catalog.models, "model", "models"), catalog.path));
    for problem in &catalog.problems {
        rows.error("mistake", problem, BUSY);
    }
    if let Some(error) = &snapshot.error {
        rows.error("error", error, BAD);
    }
    table(&rows.0, paint)
}

/// Lines of a name and a value.
#[derive(Default)]
struct Rows(Vec<Vec<Cell>>);

impl Rows {
    fn add(&mut self, name: &str, value: impl Into<String>) {
        self.styled(name, value, Style::new());
    }

    fn styled(&mut self, name: &str, value: impl Into<String>, style: Style) {
        self.0.push(vec![Cell::new(name).style(DIM), Cell::new(value.into()).style(style)]);
    }

    fn engine(&mut self, engine: &EngineView, now: Timestamp, zone: &TimeZone) {
        if let Some(started) = engine.started_at {
            self.add("since", since(started, now, zone));
        }
        let id: String = engine.container_id.0.chars().take(12).collect();
        self.add(
            "engine",
            match (engine.runtime, &engine.image) {
                (Runtime::Docker, Some(image)) => format!("docker {id}, {image}"),
                (Runtime::Docker, None) => format!("docker {id}"),
                (Runtime::Process, _) => format!("process {id}"),
            },
        );
        if let Some(url) = &engine.url {
            self.add("url", url);
        }
        if let Some(key) = &engine.key_file {
            self.add("key", key);
        }
        if let Some(context) = engine.context {
            self.styled("context", context_text(context), context_style(context.outcome));
        }
        if engine.config_changed {
            let note = "the catalog has changed since: `corral switch` to the same model takes the change over";
            self.styled("note", note, BUSY);
        }
    }

    fn error(&mut self, name: &str, error: &ErrorBody, style: Style) {
        self.styled(name, &error.message, style);
        for line in &error.log {
            self.styled("log", line, DIM);
        }
        if let Some(hint) = &error.hint {
            self.add("hint", hint);
        }
    }
}

fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Stopped => "stopped",
        Phase::Pulling => "pulling",
        Phase::Starting => "starting",
        Phase::Loading => "loading",
        Phase::Ready => "ready",
        Phase::Draining => "draining",
        Phase::Stopping => "stopping",
        Phase::Failed => "failed",
    }
}

/// The time of day, with the date where that was not today, and how long ago.
fn since(then: Timestamp, now: Timestamp, zone: &TimeZone) -> String {
    let (at, today) = (then.to_zoned(zone.clone()), now.to_zoned(zone.clone()).date());
    let at = at.strftime(if at.date() == today { "%H:%M:%S" } else { "%Y-%m-%d %H:%M:%S" });
    format!("{at}, {} ago", text::duration(now.duration_since(then).as_secs_f64()))
}

fn operation_text(operation: &OperationView, now: Timestamp) -> String {
    let elapsed = text::duration(now.duration_since(operation.started_at).as_secs_f64());
    let progress = operation.progress.map_or_else(String::new, |progress| format!("  {}", text::progress(progress)));
    let expected = operation.expected_ms.map_or_else(String::new, |ms| format!(" of {}", text::about(ms)));
    format!("{}  {}  {elapsed}{expected}{progress}", text::change(operation), text::step(operation.step))
}

/// What became of the conversations that the model had when it was last stopped.
fn context_text(context: ContextView) -> String {
    let brought = text::grouped(context.restored_tokens);
    let prompt = text::grouped(context.prompt_tokens.unwrap_or(0));
    let cached = text::grouped(context.cached_tokens.unwrap_or(0));
    match context.outcome {
        ContextOutcome::Pending => {
            format!("{brought} tokens of conversation were brought back; the first answer that continues one will tell")
        }
        ContextOutcome::Kept => {
            format!(
                "kept: {brought} tokens of conversation were brought back, {cached} of a prompt's {prompt} were used"
            )
        }
        ContextOutcome::Lost => {
            format!(
                "lost: {brought} tokens of conversation were brought back, but only {cached} of a prompt's {prompt} used"
            )
        }
    }
}

fn context_style(outcome: ContextOutcome) -> Style {
    match outcome {
        ContextOutcome::Pending => Style::new(),
        ContextOutcome::Kept => GOOD,
        ContextOutcome::Lost => BUSY,
    }
}

/// A session by its label, else by its id.
fn session_text(session: &SessionView, now: Timestamp, zone: &TimeZone) -> String {
    let name = session.label.as_deref().unwrap_or(session.id.as_str());
    format!("{name}, since {}", since(session.started_at, now, zone))
}

#[cfg(test)]
mod tests {
    use corral_core::snapshot::{CatalogView, OperationKind, Progress, Step};
    use corral_core::{Code, ConfigHash, Error, InstanceId, ModelId, OperationId, SessionId};

    use super::*;

    fn id(text: &str) -> ModelId {
        ModelId::new(text).unwrap()
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn stopped() -> Snapshot {
        Snapshot {
            version: "0.1.0".to_owned(),
            phase: Phase::Stopped,
            model: None,
            operation: None,
            engine: None,
            error: None,
            gateway: None,
            sessions: Vec::new(),
            catalog: CatalogView { path: "/c/models.toml".to_owned(), revision: 1, models: 1, problems: Vec::new() },
        }
    }

    fn shown(snapshot: &Snapshot) -> String {
        shown_with(snapshot, None)
    }

    fn shown_with(snapshot: &Snapshot, requests: Option<Requests>) -> String {
        render(snapshot, requests, at("2026-05-04T12:03:05Z"), &TimeZone::UTC, Paint(false))
    }

    #[test]
    fn nothing_loaded_is_short() {
        assert_eq!(shown(&stopped()), "phase    stopped\ncatalog  1 model in /c/models.toml\n");
    }

    #[test]
    fn requests_are_shown_where_there_are_any() {
        let shown = |running, waiting| shown_with(&stopped(), Some(Requests { running, waiting }));
        assert_eq!(shown(0, 0), shown_with(&stopped(), None));
        let expected = "phase     stopped\nrequests  2 running, 5 waiting\ncatalog   1 model in /c/models.toml\n";
        assert_eq!(shown(2, 5), expected);
        assert!(shown(0, 1_000).contains("requests  0 running, 1,000 waiting\n"));
    }

    #[test]
    fn a_switch_shows_where_it_is() {
        let engine = EngineView {
            runtime: Runtime::Docker,
            container_id: InstanceId("0123456789abcdef".to_owned()),
            image: Some("llama:server".to_owned()),
            started_at: Some(at("2026-05-04T12:00:00Z")),
            context: None,
            url: Some("http://127.0.0.1:41234".to_owned()),
            key_file: Some("/run/api-key".to_owned()),
            config_hash: ConfigHash("0".to_owned()),
            config_changed: true,
        };
        let operation = OperationView {
            id: serde_json::from_str::<OperationId>("\"018f0000-0000-7000-8000-000000000000\"").unwrap(),
            kind: OperationKind::Switch,
            from: Some(id("a")),
            to: Some(id("b")),
            step: Step::Load,
            progress: Some(Progress { done_bytes: 1_200_000_000, total_bytes: Some(4_700_000_000) }),
            started_at: at("2026-05-04T12:03:01.8Z"),
            expected_ms: None,
        };
        let snapshot = Snapshot {
            phase: Phase::Loading,
            model: Some(id("b")),
            operation: Some(operation),
            engine: Some(engine),
            ..stopped()
        };
        let expected = concat!(
            "phase      loading\n",
            "model      b\n",
            "since      12:00:00, 3 min 5 s ago\n",
            "engine     docker 0123456789ab, llama:server\n",
            "url        http://127.0.0.1:41234\n",
            "key        /run/api-key\n",
            "note       the catalog has changed since: `corral switch` to the same model takes the change over\n",
            "operation  switch a → b  load  3.2 s  1.2 GB/4.7 GB\n",
            "catalog    1 model in /c/models.toml\n",
        );
        assert_eq!(shown(&snapshot), expected);
    }

    #[test]
    fn an_operation_shows_how_long_it_will_take() {
        let mut operation = OperationView {
            id: serde_json::from_str::<OperationId>("\"018f0000-0000-7000-8000-000000000000\"").unwrap(),
            kind: OperationKind::Start,
            from: None,
            to: Some(id("b")),
            step: Step::Load,
            progress: None,
            started_at: at("2026-05-04T12:03:02Z"),
            expected_ms: Some(12_300),
        };
        let now = at("2026-05-04T12:03:05Z");
        assert_eq!(operation_text(&operation, now), "start b  load  3.0 s of about 12 s");
        operation.expected_ms = None;
        assert_eq!(operation_text(&operation, now), "start b  load  3.0 s");
    }

    #[test]
    fn the_gateway_and_its_sessions_are_shown() {
        let session = |id: &str, label: Option<&str>, started_at: &str| SessionView {
            id: SessionId::new(id).unwrap(),
            label: label.map(str::to_owned),
            workspace: None,
            model: None,
            started_at: at(started_at),
        };
        let mut snapshot = Snapshot { gateway: Some("http://127.0.0.1:8080".to_owned()), ..stopped() };
        snapshot.sessions.push(session("0-1", Some("~/project"), "2026-05-04T12:00:00Z"));
        snapshot.sessions.push(session("0-2", None, "2026-05-03T12:03:05Z"));
        let expected = concat!(
            "phase     stopped\n",
            "gateway   http://127.0.0.1:8080\n",
            "sessions  ~/project, since 12:00:00, 3 min 5 s ago\n",
            "          0-2, since 2026-05-03 12:03:05, 1 d 0 h ago\n",
            "catalog   1 model in /c/models.toml\n",
        );
        assert_eq!(shown(&snapshot), expected);
    }

    #[test]
    fn what_became_of_conversations_is_said_in_words() {
        let context = |outcome, numbers: Option<(u64, u64)>| ContextView {
            restored_tokens: 4_096,
            outcome,
            prompt_tokens: numbers.map(|(prompt, _)| prompt),
            cached_tokens: numbers.map(|(_, cached)| cached),
        };
        let table = [
            (
                context(ContextOutcome::Pending, None),
                "4,096 tokens of conversation were brought back; the first answer that continues one will tell",
            ),
            (
                context(ContextOutcome::Kept, Some((5_000, 4_090))),
                "kept: 4,096 tokens of conversation were brought back, 4,090 of a prompt's 5,000 were used",
            ),
            (
                context(ContextOutcome::Lost, Some((5_000, 7))),
                "lost: 4,096 tokens of conversation were brought back, but only 7 of a prompt's 5,000 used",
            ),
        ];
        for (context, text) in table {
            assert_eq!(context_text(context), text);
        }
    }

    #[test]
    fn a_failure_shows_its_log_and_its_hint() {
        let error = Error::new(Code::OutOfMemory, "b does not fit").log(["oom".to_owned()]).hint("lower `ctx`");
        let mistake = Error::new(Code::ModelInvalid, "models.toml:3: models.c: no");
        let mut snapshot =
            Snapshot { phase: Phase::Failed, model: Some(id("b")), error: Some(error.body()), ..stopped() };
        snapshot.catalog.problems.push(mistake.body());
        let expected = concat!(
            "phase    failed\n",
            "model    b\n",
            "catalog  1 model in /c/models.toml\n",
            "mistake  models.toml:3: models.c: no\n",
            "error    b does not fit\n",
            "log      oom\n",
            "hint     lower `ctx`\n",
        );
        assert_eq!(shown(&snapshot), expected);
    }

    #[test]
    fn another_day_is_named() {
        let text = since(at("2026-05-01T10:00:00Z"), at("2026-05-04T12:00:00Z"), &TimeZone::UTC);
        assert_eq!(text, "2026-05-01 10:00:00, 3 d 2 h ago");
    }
}
