//! `GET /metrics`: counters and gauges for Prometheus.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use corral_core::gpu::{GpuReading, Look};
use corral_core::ports::Ended;
use corral_core::snapshot::{OperationKind, Phase};
use corral_core::usage::{RequestEnd, RequestRecord};
use corral_core::{Code, Error};
use http::HeaderMap;
use http::header::{ACCEPT, CONTENT_TYPE};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use serde::Serialize;

use crate::dto::Requests;
use crate::failure::Failure;
use crate::router::{ApiState, Shared};

type Label = (&'static str, String);

const KINDS: [OperationKind; 6] = [
    OperationKind::Start,
    OperationKind::Stop,
    OperationKind::Switch,
    OperationKind::Restore,
    OperationKind::Restart,
    OperationKind::Unload,
];

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

/// Upper bounds in seconds of a whole answer: a count of tokens takes milliseconds, a long answer minutes.
const REQUEST: [f64; 13] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0];

/// Upper bounds in seconds of the wait for a first token, a switch included.
const FIRST_TOKEN: [f64; 12] = [0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0];

/// Upper bounds in seconds of what the gateway adds to a request.
const OVERHEAD: [f64; 14] = [
    0.000_005, 0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1,
];

/// A histogram for each value of a label.
type Histograms = Family<[Label; 1], Histogram, fn() -> Histogram>;

/// Counters that outlive a request. Everything else is read when it is asked for.
pub struct Metrics {
    operations: Family<[Label; 2], Counter>,
    seconds: Histograms,
    requests: Family<[Label; 3], Counter>,
    tokens: Family<[Label; 2], Counter>,
    energy: Family<[Label; 1], Counter<f64, AtomicU64>>,
    energy_requests: Family<[Label; 1], Counter>,
    request_seconds: Histograms,
    first_token_seconds: Histograms,
    overhead_seconds: Histogram,
    gateway: OnceLock<Box<dyn Fn() -> Requests + Send + Sync>>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Counters at zero.
    pub fn new() -> Self {
        let histograms = |new: fn() -> Histogram| Family::new_with_constructor(new);
        let metrics = Self {
            operations: Family::default(),
            seconds: histograms(|| Histogram::new(SECONDS)),
            requests: Family::default(),
            tokens: Family::default(),
            energy: Family::default(),
            energy_requests: Family::default(),
            request_seconds: histograms(|| Histogram::new(REQUEST)),
            first_token_seconds: histograms(|| Histogram::new(FIRST_TOKEN)),
            overhead_seconds: Histogram::new(OVERHEAD),
            gateway: OnceLock::new(),
        };
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
        if let Some(took) = ended.took() {
            self.seconds.get_or_create(&[("kind", word(kind))]).observe(took.as_secs_f64());
        }
    }

    /// Counts requests that have ended. It allocates: not for the path that requests take.
    pub fn requests(&self, records: &[RequestRecord]) {
        for record in records {
            // The gateway answers for models of the catalog only, so there are not many.
            let model = || record.model.as_ref().map(ToString::to_string).unwrap_or_default();
            let of_model = [("model", model())];
            let labels = [("model", model()), ("route", record.route.path().to_owned()), ("end", word(record.end))];
            self.requests.get_or_create(&labels).inc();
            if let Some(energy) = record.energy {
                self.energy.get_or_create(&of_model).inc_by(energy.joules());
                self.energy_requests.get_or_create(&of_model).inc();
            }
            // Where nobody answered there is nothing to be measured.
            if record.model.is_none() || record.end == RequestEnd::Refused {
                continue;
            }
            let tokens = record.tokens;
            for (kind, count) in [("in", tokens.input), ("out", tokens.output), ("cached", tokens.cached)] {
                self.tokens.get_or_create(&[("model", model()), ("kind", kind.to_owned())]).inc_by(count);
            }
            self.request_seconds.get_or_create(&of_model).observe(record.duration.as_secs_f64());
            if let Some(first_token) = record.first_token {
                self.first_token_seconds.get_or_create(&of_model).observe(first_token.as_secs_f64());
            }
            self.overhead_seconds.observe(record.overhead.as_secs_f64());
        }
    }

    /// Says where to ask for the requests at the gateway. What was said first holds.
    pub fn watch_gateway(&self, requests: impl Fn() -> Requests + Send + Sync + 'static) {
        let _ = self.gateway.set(Box::new(requests));
    }

    /// The requests at the gateway at this moment; none where nobody says.
    pub(crate) fn at_gateway(&self) -> Option<Requests> {
        self.gateway.get().map(|requests| requests())
    }

    fn register(&self, registry: &mut Registry) {
        registry.register("corral_requests", "Inference requests that have ended", self.requests.clone());
        registry.register("corral_tokens", "Tokens; those out of the cache count as in, too", self.tokens.clone());
        registry.register_with_unit(
            "corral_energy",
            "What the GPUs took for requests, where it was measured",
            Unit::Joules,
            self.energy.clone(),
        );
        registry.register(
            "corral_energy_requests",
            "Inference requests whose energy was measured: those of corral_energy_joules",
            self.energy_requests.clone(),
        );
        registry.register(
            "corral_request_duration_seconds",
            "From the arrival of a request to the end of its answer",
            self.request_seconds.clone(),
        );
        registry.register(
            "corral_first_token_seconds",
            "From the arrival of a request to the first of its answer",
            self.first_token_seconds.clone(),
        );
        registry.register(
            "corral_gateway_overhead_seconds",
            "What the gateway itself took of a request, without waiting for a model",
            self.overhead_seconds.clone(),
        );
        if let Some(Requests { running, waiting }) = self.at_gateway() {
            registry.register("corral_requests_waiting", "Requests that wait for a model", gauge(waiting));
            registry.register("corral_requests_running", "Requests that are being answered", gauge(running));
        }
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
pub(crate) fn word(variant: impl Serialize) -> String {
    match serde_json::to_value(variant) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}

/// `GET /metrics`
pub(crate) async fn metrics(State(shared): State<Shared>, headers: HeaderMap) -> Result<Response, Failure> {
    let gpu = shared.gpu.read(Look::Scrape).await;
    let text = exposition(&shared, &gpu)
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

fn exposition(api: &ApiState, gpu: &GpuReading) -> Result<String, std::fmt::Error> {
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
    crate::gpu::register(&mut registry, gpu);

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
