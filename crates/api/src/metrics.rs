//! `GET /metrics`: counters and gauges for Prometheus.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use corral_core::ports::Ended;
use corral_core::snapshot::{OperationKind, Phase};
use corral_core::{Code, Error};
use http::HeaderMap;
use http::header::{ACCEPT, CONTENT_TYPE};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use serde::Serialize;

use crate::failure::Failure;
use crate::router::{ApiState, Shared};

type Label = (&'static str, String);

const KINDS: [OperationKind; 4] =
    [OperationKind::Start, OperationKind::Stop, OperationKind::Switch, OperationKind::Restore];

const PHASES: [Phase; 8] = [
    Phase::Stopped,
    Phase::Pulling,
    Phase::Starting,
    Phase::Loading,
    Phase::Ready,
    Phase::Draining,
    Phase::Stopping,
    Phase::Failed,
];

/// Upper bounds in seconds: a stop takes less than one, a large model from a slow disk takes minutes.
const SECONDS: [f64; 11] = [0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0];

/// Counters that outlive a request. Everything else is read when it is asked for.
#[derive(Debug)]
pub struct Metrics {
    operations: Family<[Label; 2], Counter>,
    seconds: Family<[Label; 1], Histogram, fn() -> Histogram>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Counters at zero.
    pub fn new() -> Self {
        let seconds: fn() -> Histogram = || Histogram::new(SECONDS);
        let metrics = Self { operations: Family::default(), seconds: Family::new_with_constructor(seconds) };
        // A series that begins at zero lets a rate be computed over its first event.
        for kind in KINDS {
            drop(metrics.operations.get_or_create(&outcome(kind, None)));
            drop(metrics.seconds.get_or_create(&[("kind", word(kind))]));
        }
        metrics
    }

    /// Counts an operation that has ended.
    pub fn operation_ended(&self, ended: &Ended) {
        let kind = ended.operation.kind;
        self.operations.get_or_create(&outcome(kind, ended.error.as_ref().map(Error::code))).inc();
        let seconds = ended.at.duration_since(ended.operation.started_at).as_secs_f64();
        // The time of day may have been set back in between.
        self.seconds.get_or_create(&[("kind", word(kind))]).observe(seconds.max(0.0));
    }

    fn register(&self, registry: &mut Registry) {
        registry.register(
            "corral_operations",
            "Operations that have ended; the outcome is done or an error code",
            self.operations.clone(),
        );
        registry.register("corral_operation_seconds", "How long operations took", self.seconds.clone());
    }
}

fn outcome(kind: OperationKind, code: Option<Code>) -> [Label; 2] {
    [("kind", word(kind)), ("outcome", code.map_or_else(|| "done".to_owned(), Code::as_str))]
}

/// A unit variant as it appears in JSON.
fn word(variant: impl Serialize) -> String {
    match serde_json::to_value(variant) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}

/// `GET /metrics`
pub(crate) async fn metrics(State(shared): State<Shared>, headers: HeaderMap) -> Result<Response, Failure> {
    let text = exposition(&shared)
        .map_err(|error| Error::new(Code::Internal, "the metrics cannot be written").because(error))?;
    // The text is valid in both formats; only its name differs.
    let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let name = if accept.contains("application/openmetrics-text") {
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    } else {
        "text/plain; version=0.0.4; charset=utf-8"
    };
    Ok(([(CONTENT_TYPE, name)], text).into_response())
}

fn exposition(api: &ApiState) -> Result<String, std::fmt::Error> {
    let (snapshot, catalog) = (api.controller.snapshot(), api.controller.catalog());
    let mut registry = Registry::default();

    let build = Family::<[Label; 1], Gauge>::default();
    build.get_or_create(&[("version", api.version.clone())]).set(1);
    registry.register("corral_build_info", "Always 1, labelled with the version", build);

    let phase = Family::<[Label; 1], Gauge>::default();
    for each in PHASES {
        phase.get_or_create(&[("phase", word(each))]).set(i64::from(each == snapshot.phase));
    }
    registry.register("corral_phase", "1 for the phase that the server is in", phase);

    registry.register("corral_catalog_models", "Models that can be used", gauge(catalog.models.len() as u64));
    let problems = snapshot.catalog.problems.len() as u64;
    registry.register("corral_catalog_problems", "Mistakes in the catalog file", gauge(problems));

    api.metrics.register(&mut registry);

    // Absent rather than wrong where there is no /proc.
    if let Some(bytes) = std::fs::read_to_string("/proc/self/status").ok().and_then(|status| resident_bytes(&status)) {
        registry.register("process_resident_memory_bytes", "Memory that Corral itself occupies", gauge(bytes));
    }

    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

fn gauge(value: u64) -> Gauge<u64, std::sync::atomic::AtomicU64> {
    let gauge = Gauge::default();
    gauge.set(value);
    gauge
}

/// The resident set in bytes, from the text of `/proc/PID/status`.
fn resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_resident_set_is_found() {
        assert_eq!(resident_bytes("Name:\tcorral\nVmHWM:\t 9000 kB\nVmRSS:\t    1234 kB\n"), Some(1234 * 1024));
        assert_eq!(resident_bytes("Name:\tkthreadd\n"), None);
    }
}
