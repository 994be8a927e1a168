//! The table itself.

use axum::routing::{MethodRouter, delete, get, patch, post, put};
use corral_core::Code;
use corral_core::configuration::{CatalogFile, CatalogPatch, SettingsFile};
use corral_core::gpu::{GpuHistory, GpuReading};
use corral_core::live::{Live, Speed};
use corral_core::log::LogRecord;
use corral_core::machine::AutostartState;
use corral_core::settings::Settings;
use corral_core::snapshot::{Notice, Snapshot};
use corral_core::usage::UsageBy;
use http::Method;

use super::{Answer, Content, Parameter, Route, schema};
use crate::dto::{
    AutostartRequest, CatalogEdit, CatalogText, DashboardAnswer, EnterRequest, FindingList, Health, HistoryList,
    ModelList, OperationAnswer, PlanAnswer, ProblemList, SessionAnswer, SessionRequest, StartRequest, Status,
    StopRequest, SwitchRequest, TokenAnswer, UsageList,
};
use crate::{
    configuration, control, entrance, events, gpu, live, logs, machine, metrics, models, openapi, read, sessions, ui,
    usage,
};

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
    Code::InsufficientMemory,
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

const AUTOSTART: Answer =
    Answer { status: 200, summary: "How it is now.", content: Content::Json(&[schema::<AutostartState>]) };

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
    page: false,
    query: &[],
    request: None,
    answers: &[],
    codes: &[],
    handler: MethodRouter::new,
};

/// A page, or what belongs to one.
const PAGE: Route = Route {
    open: true,
    page: true,
    answers: &[
        Answer { status: 200, summary: "The file.", content: Content::File },
        Answer { status: 304, summary: "It is the one that `If-None-Match` names.", content: Content::Nothing },
    ],
    codes: &[Code::Forbidden],
    handler: || get(ui::file),
    ..READ
};

/// Where pages are.
const TO_PAGES: Route = Route {
    answers: &[Answer { status: 307, summary: "The dashboard is at `/ui/`.", content: Content::Nothing }],
    handler: || get(ui::to_index),
    ..PAGE
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
        summary: "End a session: its token is no longer taken, and what runs in its jail, if it has one, is told to end.",
        answers: &[Answer { status: 204, summary: "It is ended.", content: Content::Nothing }],
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
        path: "/autostart",
        operation_id: "autostart",
        summary: "Whether the desktop starts Corral at login.",
        answers: &[AUTOSTART],
        codes: &[Code::Io],
        handler: || get(machine::autostart),
        ..READ
    },
    Route {
        method: Method::PUT,
        path: "/autostart",
        operation_id: "set_autostart",
        summary: "Let the desktop start Corral at login, or not.",
        request: Some(schema::<AutostartRequest>),
        answers: &[AUTOSTART],
        codes: &[Code::InvalidRequest, Code::BodyTooLarge, Code::ProgramMissing, Code::Io],
        handler: || put(machine::set_autostart),
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
        path: "/live",
        operation_id: "live",
        summary: "What goes on at this moment.",
        answers: &[Answer { status: 200, summary: "A reading.", content: Content::Json(&[schema::<Live>]) }],
        handler: || get(live::live),
        ..READ
    },
    Route {
        path: "/gpu",
        operation_id: "gpu",
        summary: "What the GPUs are doing, and whose the processes on them are.",
        answers: &[Answer { status: 200, summary: "A reading.", content: Content::Json(&[schema::<GpuReading>]) }],
        handler: || get(gpu::gpu),
        ..READ
    },
    Route {
        path: "/gpu/history",
        operation_id: "gpu_history",
        summary: "What the GPUs did in the last minutes, as far as they were read for somebody. It has none read.",
        answers: &[Answer {
            status: 200,
            summary: "The readings, as columns.",
            content: Content::Json(&[schema::<GpuHistory>]),
        }],
        handler: || get(gpu::history),
        ..READ
    },
    Route {
        path: "/events",
        operation_id: "events",
        summary: "What changes, as it changes: the present snapshot first.",
        query: &[
            Parameter {
                name: "live",
                summary: "`1` or `true`: what goes on, too, each second.",
                schema: |_| schemars::json_schema!({ "type": "string", "enum": ["0", "1", "false", "true"] }),
            },
            Parameter {
                name: "gpu",
                summary: "`1` or `true`: what the GPUs are doing, too, each second.",
                schema: |_| schemars::json_schema!({ "type": "string", "enum": ["0", "1", "false", "true"] }),
            },
        ],
        codes: &[Code::InvalidRequest],
        answers: &[Answer {
            status: 200,
            summary: "A stream that ends with the daemon. A slow reader misses snapshots, never the newest.",
            content: Content::Events(&[
                ("snapshot", schema::<Snapshot>),
                ("notice", schema::<Notice>),
                ("speed", schema::<Speed>),
                ("live", schema::<Live>),
                ("gpu", schema::<GpuReading>),
            ]),
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
    Route {
        method: Method::POST,
        path: "/dashboard",
        operation_id: "dashboard",
        summary: "A way into the dashboard for a browser of this user: good once, and soon.",
        answers: &[Answer {
            status: 200,
            summary: "Where it is.",
            content: Content::Json(&[schema::<DashboardAnswer>]),
        }],
        handler: || post(entrance::way),
        ..READ
    },
    Route { path: "/", operation_id: "root", summary: "To the dashboard.", ..TO_PAGES },
    Route { path: "/ui", operation_id: "ui", summary: "To the dashboard.", ..TO_PAGES },
    Route { path: "/ui/", operation_id: "ui_index", summary: "The dashboard.", ..PAGE },
    Route {
        path: "/ui/{*file}",
        operation_id: "ui_file",
        summary: "A file of the dashboard.",
        codes: &[Code::Forbidden, Code::NotFound],
        ..PAGE
    },
    Route {
        method: Method::POST,
        path: "/dashboard/token",
        operation_id: "enter",
        summary: "The management token, for the code that `POST /dashboard` has given.",
        request: Some(schema::<EnterRequest>),
        answers: &[Answer { status: 200, summary: "It.", content: Content::Json(&[schema::<TokenAnswer>]) }],
        codes: &[Code::InvalidRequest, Code::BodyTooLarge, Code::Unauthorized, Code::Forbidden],
        handler: || post(entrance::token),
        ..PAGE
    },
];
