//! The `OpenAPI` 3.1 document, made from the table of routes and the schemas of the types.

use std::collections::BTreeMap;

use axum::Json;
use corral_core::Code;
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::dto::ErrorAnswer;
use crate::failure::status_of;
use crate::routes::{Answer, Content, ROUTES, Route, SchemaOf};

const ABOUT: &str = "What a running Corral can be asked for over HTTP on loopback. Every call but `GET /healthz` and the \
dashboard's files bears the token in Corral's runtime folder; `Host` must name the loopback, and requests from web pages of other sites are \
refused. Fields and codes are only ever added.";

/// The codes that every route may answer with.
const COMMON: &[Code] = &[Code::ForbiddenHost, Code::ForbiddenOrigin, Code::Internal];

/// `GET /openapi.json`
pub(crate) async fn document() -> Json<Value> {
    Json(openapi())
}

/// The description of the API, in a stable order.
pub fn openapi() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    // What Corral takes may leave out defaults; what it sends has every field.
    let mut taken = settings.clone().for_deserialize().into_generator();
    let mut sent = settings.for_serialize().into_generator();

    let mut paths = Map::new();
    for route in ROUTES {
        let item = paths.entry(route.documented_path()).or_insert_with(|| json!({}));
        item[route.method.as_str().to_ascii_lowercase()] = operation(route, &mut taken, &mut sent);
    }
    let mut schemas: BTreeMap<String, Value> = taken.take_definitions(true).into_iter().collect();
    schemas.extend(sent.take_definitions(true));

    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Corral management API",
            "version": env!("CARGO_PKG_VERSION"),
            "description": ABOUT,
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "security": [{ "token": [] }],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "token": { "type": "http", "scheme": "bearer", "description": "The token in Corral's runtime folder." },
                "session": { "type": "http", "scheme": "bearer", "description": "The token of a session." },
            },
            "schemas": schemas,
        },
    })
}

fn operation(route: &Route, taken: &mut SchemaGenerator, sent: &mut SchemaGenerator) -> Value {
    let mut operation = json!({ "operationId": route.operation_id, "summary": route.summary });
    if route.open {
        operation["security"] = json!([]);
    }
    if route.sessions {
        // Either of them.
        operation["security"] = json!([{ "token": [] }, { "session": [] }]);
    }
    let of_path = route
        .path_parameters()
        .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }));
    let of_query = route.query.iter().map(|parameter| {
        let schema = (parameter.schema)(taken);
        json!({ "name": parameter.name, "in": "query", "description": parameter.summary, "schema": schema })
    });
    let parameters: Vec<Value> = of_path.chain(of_query).collect();
    if !parameters.is_empty() {
        operation["parameters"] = json!(parameters);
    }
    if let Some(schema) = route.request {
        operation["requestBody"] = json!({ "content": { "application/json": { "schema": schema(taken) } } });
    }
    let mut responses: BTreeMap<String, Value> = route
        .answers
        .iter()
        .map(|answer| {
            let mut response = json!({ "description": answer.summary });
            if let Some(content) = content(answer, sent) {
                response["content"] = content;
            }
            (answer.status.to_string(), response)
        })
        .collect();
    for (status, codes) in codes_by_status(route) {
        let response = json!({
            "description": format!("`error.code` is {codes}."),
            "content": { "application/json": { "schema": sent.subschema_for::<ErrorAnswer>() } },
        });
        responses.insert(status.to_string(), response);
    }
    operation["responses"] = json!(responses);
    operation
}

fn content(answer: &Answer, sent: &mut SchemaGenerator) -> Option<Value> {
    Some(match answer.content {
        Content::Nothing => return None,
        Content::Json([schema]) => json!({ "application/json": { "schema": schema(sent) } }),
        Content::Json(schemas) => {
            let any: Vec<_> = schemas.iter().map(|schema: &SchemaOf| schema(sent)).collect();
            json!({ "application/json": { "schema": { "anyOf": any } } })
        }
        Content::Object => json!({ "application/json": { "schema": { "type": "object" } } }),
        // OpenAPI 3.1 has no words for the parts of a stream.
        Content::Events(events) => {
            let events: Map<String, Value> =
                events.iter().map(|(name, schema)| ((*name).to_owned(), json!(schema(sent)))).collect();
            json!({ "text/event-stream": { "schema": { "type": "string" }, "x-events": events } })
        }
        Content::Lines(schema) => {
            json!({ "application/x-ndjson": { "schema": { "type": "string" }, "x-line": schema(sent) } })
        }
        Content::File => json!({ "*/*": { "schema": { "type": "string", "format": "binary" } } }),
        Content::Text => json!({ "text/plain": { "schema": { "type": "string" } } }),
    })
}

fn codes_by_status(route: &Route) -> BTreeMap<u16, String> {
    let mut by_status = BTreeMap::<u16, Vec<String>>::new();
    let token = match route {
        Route { open: true, .. } => &[][..],
        Route { sessions: true, .. } => &[Code::Unauthorized],
        _ => &[Code::Unauthorized, Code::Forbidden],
    };
    for code in COMMON.iter().chain(token).chain(route.codes) {
        by_status.entry(status_of(*code).as_u16()).or_default().push(format!("`{}`", code.as_str()));
    }
    by_status.into_iter().map(|(status, codes)| (status, codes.join(", "))).collect()
}
