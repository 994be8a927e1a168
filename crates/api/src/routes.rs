//! The one table of routes, from which the router, the answers for unknown routes and the `OpenAPI` document are made.

use axum::routing::{MethodRouter, delete, get, patch, post, put};
use corral_core::Code;
use corral_core::configuration::{CatalogFile, CatalogPatch, SettingsFile};
use corral_core::log::LogRecord;
use corral_core::settings::Settings;
use corral_core::snapshot::{Notice, Snapshot};
use corral_core::usage::UsageBy;
use http::Method;
use schemars::{JsonSchema, Schema, SchemaGenerator};

use crate::dto::{
    CatalogEdit, CatalogText, FindingList, Health, HistoryList, ModelList, OperationAnswer, PlanAnswer, ProblemList,
    SessionAnswer, SessionRequest, StartRequest, Status, StopRequest, SwitchRequest, UsageList,
};
use crate::router::Shared;
use crate::{configuration, control, events, logs, machine, metrics, models, openapi, read, sessions, usage};

/// Makes a reference to the schema of a type.
pub(crate) type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

fn schema<T: JsonSchema>(schemas: &mut SchemaGenerator) -> Schema {
    schemas.subschema_for::<T>()
}

/// One route.
pub(crate) struct Route {
    /// The method; `HEAD` comes with `GET`.
    pub(crate) method: Method,
    /// The path.
    pub(crate) path: &'static str,
    /// Its name in generated clients.
    pub(crate) operation_id: &'static str,
    /// What it does, one line.
    pub(crate) summary: &'static str,
    /// Whether it answers without a token.
    pub(crate) open: bool,
    /// Whether the token of a session will do.
    pub(crate) sessions: bool,
    /// What may stand behind the question mark.
    pub(crate) query: &'static [Parameter],
    /// The body it takes, if any.
    pub(crate) request: Option<SchemaOf>,
    /// The answers to a request that went well.
    pub(crate) answers: &'static [Answer],
    /// The codes it may fail with, besides those of every route.
    pub(crate) codes: &'static [Code],
    /// Makes the handler.
    pub(crate) handler: fn() -> MethodRouter<Shared>,
}

/// A parameter behind the question mark.
pub(crate) struct Parameter {
    /// Its name.
    pub(crate) name: &'static str,
    /// What it does.
    pub(crate) summary: &'static str,
    /// The schema of its value.
    pub(crate) schema: SchemaOf,
}

/// An answer to a request that went well.
pub(crate) struct Answer {
    /// The HTTP status.
    pub(crate) status: u16,
    /// When it is given.
    pub(crate) summary: &'static str,
    /// What the body is.
    pub(crate) content: Content,
}

/// The body of an [`Answer`].
pub(crate) enum Content {
    /// One JSON value of one of these types.
    Json(&'static [SchemaOf]),
    /// A JSON object whose type another standard defines.
    Object,
    /// A stream of server-sent events: their names, and the types of their data.
    Events(&'static [(&'static str, SchemaOf)]),
    /// One JSON value of this type per line.
    Lines(SchemaOf),
    /// Plain text.
    Text,
    /// Nothing.
    Nothing,
}

/// The codes that an operation may end with.
const OPERATION: &[Code] = &[
    Code::InvalidRequest,
    Code::BodyTooLarge,
    Code::AlreadyRunning,
    Code::Superseded,
    Code::ShuttingDown,
    Code::UnknownModel,
    Code::CatalogInvalid,
    Code::ModelInvalid,
    Code::ModelFileMissing,
    Code::ModelFileTruncated,
    Code::ModelFileInvalid,
    Code::EngineUnavailable,
    Code::EngineFailed,
    Code::ImageMissing,
    Code::BinaryMissing,
    Code::GpuRuntimeMissing,
    Code::PortTaken,
    Code::LoadFailed,
    Code::LoadTimeout,
    Code::OutOfMemory,
    Code::ServerExited,
    Code::ServerKilled,
    Code::StopFailed,
    Code::Io,
];

const ACCEPTED: Answer =
    Answer { status: 202, summary: "The operation has begun.", content: Content::Json(&[schema::<OperationAnswer>]) };

const ENDED: Answer = Answer {
    status: 200,
    summary: "With `wait`: the operation has ended well.",
    content: Content::Json(&[schema::<OperationAnswer>]),
};

const SETTINGS: Answer =
    Answer { status: 200, summary: "The settings as they are now.", content: Content::Json(&[schema::<SettingsFile>]) };

const CATALOG: Answer =
    Answer { status: 200, summary: "The catalog as it is now.", content: Content::Json(&[schema::<CatalogFile>]) };

/// A route that is read and takes nothing.
const READ: Route = Route {
    method: Method::GET,
    path: "/",
    operation_id: "",
    summary: "",
    open: false,
    sessions: false,
    query: &[],
    request: None,
    answers: &[],
    codes: &[],
    handler: MethodRouter::new,
};

/// All routes, in the order of the document.
pub(crate) const ROUTES: &[Route] = &[
    Route {
        path: "/healthz",
        operation_id: "healthz",
        summary: "Whether the daemon answers.",
        open: true,
        answers: &[Answer { status: 200, summary: "It does.", content: Content::Json(&[schema::<Health>]) }],
        handler: || get(read::healthz),
        ..READ
    },
    Route {
        path: "/status",
        operation_id: "status",
        summary: "What runs, what is going on, and what is wrong; to a session no other sessions.",
        sessions: true,
        answers: &[Answer {
            status: 200,
            summary: "The present snapshot, the requests at the gateway, and whose requests may load a model.",
            content: Content::Json(&[schema::<Status>]),
        }],
        handler: || get(read::status),
        ..READ
    },
    Route {
        path: "/models",
        operation_id: "models",
        summary: "The models of the catalog, and what each of them is doing.",
        sessions: true,
        answers: &[Answer {
            status: 200,
            summary: "The models, in the order of the catalog.",
            content: Content::Json(&[schema::<ModelList>]),
        }],
        handler: || get(models::models),
        ..READ
    },
    Route {
        method: Method::POST,
        path: "/start",
        operation_id: "start",
        summary: "Load a model where none is.",
        request: Some(schema::<StartRequest>),
        answers: &[ENDED, ACCEPTED],
        codes: OPERATION,
        handler: || post(control::start),
        ..READ
    },
    Route {
        method: Method::POST,
        path: "/stop",
        operation_id: "stop",
        summary: "Unload the model.",
        request: Some(schema::<StopRequest>),
        answers: &[ENDED, ACCEPTED],
        codes: OPERATION,
        handler: || post(control::stop),
        ..READ
    },
    Route {
        method: Method::POST,
        path: "/switch",
        operation_id: "switch",
        summary: "Replace the loaded model, or load one where none is. A session may not use `force`.",
        sessions: true,
        request: Some(schema::<SwitchRequest>),
        answers: &[
            Answer {
                status: 200,
                summary: "With `wait`: the operation has ended well. With `dry_run`: what the switch would do.",
                content: Content::Json(&[schema::<OperationAnswer>, schema::<PlanAnswer>]),
            },
            ACCEPTED,
        ],
        codes: OPERATION,
        handler: || post(control::switch),
        ..READ
    },
    Route {
        method: Method::POST,
        path: "/sessions",
        operation_id: "open_session",
        summary: "Attach a session: a program whose requests are told apart by its token.",
        request: Some(schema::<SessionRequest>),
        answers: &[Answer {
            status: 201,
            summary: "The session is attached until it is detached or the daemon ends.",
            content: Content::Json(&[schema::<SessionAnswer>]),
        }],
        codes: &[Code::InvalidRequest, Code::BodyTooLarge, Code::ShuttingDown],
        handler: || post(sessions::open),
        ..READ
    },
    Route {
        method: Method::DELETE,
        path: "/sessions/{id}",
        operation_id: "close_session",
        summary: "Detach a session: its token is no longer taken.",
        answers: &[Answer { status: 204, summary: "It is detached.", content: Content::Nothing }],
        codes: &[Code::NotFound, Code::ShuttingDown],
        handler: || delete(sessions::close),
        ..READ
    },
    Route {
        path: "/settings",
        operation_id: "settings",
        summary: "What the app is set to.",
        answers: &[SETTINGS],
        handler: || get(configuration::settings),
        ..READ
    },
    Route {
        method: Method::PUT,
        path: "/settings",
        operation_id: "put_settings",
        summary: "Set the app: all keys, of which those that are missing get their defaults. Comments in the file stay.",
        request: Some(schema::<Settings>),
        answers: &[SETTINGS],
        codes: &[Code::InvalidRequest, Code::BodyTooLarge, Code::Io],
        handler: || put(configuration::put_settings),
        ..READ
    },
    Route {
        path: "/catalog",
        operation_id: "catalog",
        summary: "The text of the catalog, as it is on disk, and every mistake in it.",
        answers: &[CATALOG],
        codes: &[Code::CatalogInvalid, Code::Io],
        handler: || get(configuration::catalog),
        ..READ
    },
    Route {
        method: Method::PUT,
        path: "/catalog",
        operation_id: "put_catalog",
        summary: "Replace the text of the catalog. It is in force a moment later, as after a change in an editor.",
        request: Some(schema::<CatalogEdit>),
        answers: &[CATALOG],
        codes: &[Code::InvalidRequest, Code::BodyTooLarge, Code::CatalogChanged, Code::CatalogInvalid, Code::Io],
        handler: || put(configuration::put_catalog),
        ..READ
    },
    Route {
        method: Method::PATCH,
        path: "/catalog",
        operation_id: "patch_catalog",
        summary: "Set single keys of the catalog where they stand; everything else stays as it is.",
        request: Some(schema::<CatalogPatch>),
        answers: &[CATALOG],
        codes: &[Code::InvalidRequest, Code::BodyTooLarge, Code::CatalogInvalid, Code::Io],
        handler: || patch(configuration::patch_catalog),
        ..READ
    },
    Route {
        method: Method::POST,
        path: "/catalog/check",
        operation_id: "check_catalog",
        summary: "What would be wrong with a text as the catalog. Writes nothing.",
        request: Some(schema::<CatalogText>),
        answers: &[Answer { status: 200, summary: "Every mistake.", content: Content::Json(&[schema::<ProblemList>]) }],
        codes: &[Code::InvalidRequest, Code::BodyTooLarge],
        handler: || post(configuration::check),
        ..READ
    },
    Route {
        path: "/doctor",
        operation_id: "doctor",
        summary: "What is there of what models and the jail need, and what mends the rest.",
        answers: &[Answer { status: 200, summary: "The findings.", content: Content::Json(&[schema::<FindingList>]) }],
        handler: || get(machine::doctor),
        ..READ
    },
    Route {
        path: "/usage",
        operation_id: "usage",
        summary: "What requests cost, summed up.",
        query: &[
            Parameter { name: "by", summary: "What is summed up by; `model` unless said.", schema: schema::<UsageBy> },
            Parameter {
                name: "since",
                summary: "Requests from then on: a time (`2026-11-01T08:00:00Z`), so long ago (`30d`, `12h`, `90m`), or a \
                          day in the machine's time zone (`2026-11-01`); all that is kept unless said.",
                schema: schema::<String>,
            },
        ],
        answers: &[Answer { status: 200, summary: "The sums.", content: Content::Json(&[schema::<UsageList>]) }],
        codes: &[Code::InvalidRequest, Code::Io],
        handler: || get(usage::usage),
        ..READ
    },
    Route {
        path: "/history",
        operation_id: "history",
        summary: "Earlier operations, and how long their phases took.",
        query: &[Parameter { name: "count", summary: "How many at most; 20 unless said.", schema: schema::<u32> }],
        answers: &[Answer {
            status: 200,
            summary: "The latest operations, newest first.",
            content: Content::Json(&[schema::<HistoryList>]),
        }],
        codes: &[Code::InvalidRequest, Code::Io],
        handler: || get(usage::history),
        ..READ
    },
    Route {
        path: "/events",
        operation_id: "events",
        summary: "What changes, as it changes: the present snapshot first.",
        answers: &[Answer {
            status: 200,
            summary: "A stream that ends with the daemon. A slow reader misses snapshots, never the newest.",
            content: Content::Events(&[("snapshot", schema::<Snapshot>), ("notice", schema::<Notice>)]),
        }],
        handler: || get(events::events),
        ..READ
    },
    Route {
        path: "/logs",
        operation_id: "logs",
        summary: "The last lines of `llama-server`'s log, and those to come.",
        query: &[
            Parameter {
                name: "tail",
                summary: "How many lines back to begin; 200 unless said.",
                schema: schema::<usize>,
            },
            Parameter {
                name: "follow",
                summary: "`1` or `true`: go on with new lines as they come.",
                schema: |_| schemars::json_schema!({ "type": "string", "enum": ["0", "1", "false", "true"] }),
            },
        ],
        answers: &[Answer {
            status: 200,
            summary: "One record per line, oldest first.",
            content: Content::Lines(schema::<LogRecord>),
        }],
        codes: &[Code::InvalidRequest],
        handler: || get(logs::logs),
        ..READ
    },
    Route {
        path: "/metrics",
        operation_id: "metrics",
        summary: "Counters and gauges for Prometheus.",
        answers: &[Answer { status: 200, summary: "The text format.", content: Content::Text }],
        handler: || get(metrics::metrics),
        ..READ
    },
    Route {
        path: "/openapi.json",
        operation_id: "openapi",
        summary: "This description.",
        answers: &[Answer { status: 200, summary: "An OpenAPI 3.1 document.", content: Content::Object }],
        handler: || get(openapi::document),
        ..READ
    },
];

/// The methods that a path answers to; none where there is no such path.
pub(crate) fn methods(path: &str) -> Vec<&'static str> {
    let of_path = ROUTES.iter().filter(|route| route.is_at(path));
    of_path
        .flat_map(|route| match route.method {
            Method::GET => ["GET", "HEAD"].as_slice(),
            Method::DELETE => &["DELETE"],
            Method::PUT => &["PUT"],
            Method::PATCH => &["PATCH"],
            _ => &["POST"],
        })
        .copied()
        .collect()
}

impl Route {
    /// Whether this is the route of a path, in which anything may stand for a part in braces.
    fn is_at(&self, path: &str) -> bool {
        let (mut own, mut asked) = (self.path.split('/'), path.split('/'));
        loop {
            match (own.next(), asked.next()) {
                (None, None) => return true,
                (Some(own), Some(asked)) if own == asked || own.starts_with('{') && !asked.is_empty() => {}
                _ => return false,
            }
        }
    }

    /// The names of the parts of its path that stand in braces.
    pub(crate) fn path_parameters(&self) -> impl Iterator<Item = &'static str> {
        self.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
    }
}

/// The routes that the token of a session will do for, in words.
pub(crate) fn of_sessions() -> String {
    let routes: Vec<String> =
        ROUTES.iter().filter(|route| route.sessions).map(|route| format!("{} {}", route.method, route.path)).collect();
    let (last, others) = routes.split_last().map_or(("", &[][..]), |(last, others)| (last.as_str(), others));
    format!("{} and {last}", others.join(", "))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_table_is_sound() {
        let names: HashSet<_> = ROUTES.iter().map(|route| route.operation_id).collect();
        let routes: HashSet<_> = ROUTES.iter().map(|route| (&route.method, route.path)).collect();
        assert_eq!((names.len(), routes.len()), (ROUTES.len(), ROUTES.len()), "every name and every route occurs once");
        for route in ROUTES {
            assert!(route.path.len() > 1 && !route.answers.is_empty(), "{} is filled in", route.path);
            assert!(
                matches!(route.method, Method::GET | Method::POST | Method::PUT | Method::PATCH | Method::DELETE),
                "`methods` knows {}",
                route.method
            );
            assert_eq!(route.open, route.path == "/healthz", "{} needs the token", route.path);
        }
        assert_eq!(of_sessions(), "GET /status, GET /models and POST /switch");
    }

    #[test]
    fn paths_are_found_with_what_stands_in_them() {
        assert_eq!(methods("/sessions/a:1"), ["DELETE"]);
        assert_eq!(methods("/sessions"), ["POST"]);
        assert_eq!(methods("/status"), ["GET", "HEAD"]);
        assert!(methods("/sessions/a/b").is_empty() && methods("/sessions/").is_empty() && methods("/").is_empty());
    }
}
