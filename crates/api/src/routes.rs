//! The one table of routes, from which the router, the answers for unknown routes and the `OpenAPI` document are made.

mod table;

use axum::routing::MethodRouter;
use corral_core::Code;
use http::Method;
use schemars::{JsonSchema, Schema, SchemaGenerator};

pub(crate) use self::table::ROUTES;
use crate::router::Shared;

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
    /// Whether it is for browsers, which show no token for it. Sessions do not get it.
    pub(crate) page: bool,
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
    /// A file of the dashboard, of any type.
    File,
    /// Nothing.
    Nothing,
}

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
                (Some(own), Some(asked)) if own.starts_with("{*") => return !asked.is_empty(),
                (Some(own), Some(asked)) if own == asked || own.starts_with('{') && !asked.is_empty() => {}
                _ => return false,
            }
        }
    }

    /// The names of the parts of its path that stand in braces.
    pub(crate) fn path_parameters(&self) -> impl Iterator<Item = &'static str> {
        self.path
            .split('/')
            .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
            .map(|name| name.trim_start_matches('*'))
    }

    /// Its path as `OpenAPI` writes it.
    pub(crate) fn documented_path(&self) -> String {
        self.path.replace("{*", "{")
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
            assert!(route.path.starts_with('/') && !route.answers.is_empty(), "{} is filled in", route.path);
            assert!(
                matches!(route.method, Method::GET | Method::POST | Method::PUT | Method::PATCH | Method::DELETE),
                "`methods` knows {}",
                route.method
            );
            assert_eq!(route.open, route.path == "/healthz" || route.page, "{} needs the token", route.path);
            let is_page = ["/", "/dashboard/token"].contains(&route.path) || route.path.split('/').nth(1) == Some("ui");
            assert_eq!(route.page, is_page, "{} is no page", route.path);
        }
        assert_eq!(of_sessions(), "GET /status, GET /models and POST /switch");
    }

    #[test]
    fn paths_are_found_with_what_stands_in_them() {
        assert_eq!(methods("/sessions/a:1"), ["DELETE"]);
        assert_eq!(methods("/sessions"), ["POST"]);
        assert_eq!(methods("/status"), ["GET", "HEAD"]);
        assert!(methods("/sessions/a/b").is_empty() && methods("/sessions/").is_empty());
        assert_eq!([methods("/"), methods("/ui/"), methods("/ui/a/b.js")], [const { ["GET", "HEAD"] }; 3]);
    }
}
