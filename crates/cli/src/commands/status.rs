//! `corral status`

use anstyle::Style;
use corral_core::ErrorBody;
use corral_core::launch::Runtime;
use corral_core::snapshot::{EngineView, OperationView, Phase, Snapshot};
use corral_daemon::Environment;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::Outcome;
use crate::client::Client;
use crate::exit;
use crate::output::{BAD, BUSY, DIM, GOOD, Output, Paint};
use crate::table::{Cell, table};
use crate::text;

/// Shows the snapshot.
pub(crate) fn status(env: &Environment, out: &mut Output) -> Outcome {
    let client = Client::of_home(env)?;
    let body = client.get("/status")?;
    if out.json {
        out.raw(&body)?;
    } else {
        let snapshot = client.parse(&body)?;
        out.text(&render(&snapshot, Timestamp::now(), &TimeZone::system(), out.paint))?;
    }
    Ok(exit::DONE)
}

fn render(snapshot: &Snapshot, now: Timestamp, zone: &TimeZone, paint: Paint) -> String {
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
    if !snapshot.sessions.is_empty() {
        rows.add("sessions", snapshot.sessions.len().to_string());
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
    format!("{}  {}  {elapsed}{progress}", text::change(operation), text::step(operation.step))
}

#[cfg(test)]
mod tests {
    use corral_core::snapshot::{CatalogView, OperationKind, Progress, Step};
    use corral_core::{Code, ConfigHash, Error, InstanceId, ModelId, OperationId};

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
            catalog: CatalogView { path: "/c/models.toml".to_owned(), models: 1, problems: Vec::new() },
        }
    }

    fn shown(snapshot: &Snapshot) -> String {
        render(snapshot, at("2026-05-04T12:03:05Z"), &TimeZone::UTC, Paint(false))
    }

    #[test]
    fn nothing_loaded_is_short() {
        assert_eq!(shown(&stopped()), "phase    stopped\ncatalog  1 model in /c/models.toml\n");
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
