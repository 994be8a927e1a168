//! `GET /ui/…`: the dashboard's files. They hold no secret; the page asks for everything else with the token.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use corral_core::{Code, Error};
use http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderName,
    HeaderValue, IF_NONE_MATCH, LOCATION, REFERRER_POLICY, VARY,
};
use http::{HeaderMap, StatusCode, Uri};

use crate::failure::Failure;
use crate::quote::quoted;

/// One file of the dashboard.
#[derive(Debug, Clone, Copy)]
struct File {
    /// Where it is below `/ui/`.
    path: &'static str,
    /// As it was built.
    content: &'static [u8],
    /// Compressed by gzip, where that saves something.
    packed: Option<&'static [u8]>,
    /// Changes with the content.
    tag: &'static str,
}

/// What was built before this program was.
const FILES: &[File] = include!(concat!(env!("OUT_DIR"), "/ui.rs"));

/// The page that is there where no dashboard was built.
const STAND_IN: File =
    File { path: INDEX, content: include_bytes!("ui/stand-in.html"), packed: None, tag: "\"stand-in\"" };

/// The page that a browser comes in by: whatever dashboard was built, or none.
const ENTRANCE: [File; 2] = [
    File { path: "enter.html", content: include_bytes!("ui/enter.html"), packed: None, tag: "\"enter-1\"" },
    File { path: "enter.js", content: include_bytes!("ui/enter.js"), packed: None, tag: "\"enter-1\"" },
];

const INDEX: &str = "index.html";

/// Only what this server has, and nothing inline: a text of a model that gets into the page does nothing there.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// `GET /` and `GET /ui`
pub(crate) async fn to_index() -> Response {
    (StatusCode::TEMPORARY_REDIRECT, [(LOCATION, HeaderValue::from_static("/ui/"))]).into_response()
}

/// `GET /ui/` and what is below it.
pub(crate) async fn file(uri: Uri, headers: HeaderMap) -> Response {
    let path = uri.path().strip_prefix("/ui/").unwrap_or_default();
    if let Some(file) = find(FILES, if path.is_empty() { INDEX } else { path }) {
        return answer(&file, &headers);
    }
    let error = Error::new(Code::NotFound, format!("the dashboard has no file {}", quoted(path)));
    Failure::from(error.hint("it begins at /ui/")).into_response()
}

/// One file of the dashboard, for a window that needs no server for them; `index.html` is there in any case.
pub fn ui_file(path: &str) -> Option<&'static [u8]> {
    find(FILES, path).map(|file| file.content)
}

fn find(files: &[File], path: &str) -> Option<File> {
    let found = files.iter().chain(&ENTRANCE).find(|file| file.path == path).copied();
    found.or((files.is_empty() && path == INDEX).then_some(STAND_IN))
}

fn answer(file: &File, asked: &HeaderMap) -> Response {
    // What the build puts there has the hash of its content in its name.
    let cache = if file.path.starts_with("assets/") { "public, max-age=31536000, immutable" } else { "no-cache" };
    let mut headers = HeaderMap::new();
    let mut set = |name: HeaderName, value: &'static str| headers.insert(name, HeaderValue::from_static(value));
    set(CACHE_CONTROL, cache);
    set(CONTENT_SECURITY_POLICY, POLICY);
    set(REFERRER_POLICY, "no-referrer");
    set(HeaderName::from_static("cross-origin-opener-policy"), "same-origin");
    set(HeaderName::from_static("cross-origin-resource-policy"), "same-origin");
    set(ETAG, file.tag);
    set(VARY, "accept-encoding");
    let known = asked.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    if known.flat_map(|tags| tags.split(',')).any(|tag| tag.trim().trim_start_matches("W/") == file.tag) {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    set(CONTENT_TYPE, content_type(file.path));
    let content = match file.packed {
        Some(packed) if takes_gzip(asked) => {
            set(CONTENT_ENCODING, "gzip");
            packed
        }
        _ => file.content,
    };
    (headers, Body::from(content)).into_response()
}

/// Whether the client takes a body that is compressed by gzip.
fn takes_gzip(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let mut any = false;
    for coding in values.flat_map(|value| value.split(',')) {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        let weight = weight.trim().strip_prefix("q=").and_then(|weight| weight.trim().parse::<f32>().ok());
        let wanted = weight.is_none_or(|weight| weight > 0.0);
        match name.trim() {
            // What is said of it goes before what is said of all.
            name if name.eq_ignore_ascii_case("gzip") => return wanted,
            "*" => any = wanted,
            _ => {}
        }
    }
    any
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit_once('.').map_or("", |(_, ending)| ending) {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" | "map" => "application/json",
        "webmanifest" => "application/manifest+json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "webp" => "image/webp",
        "woff2" => "font/woff2",
        "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    const SCRIPT: File = File { path: "assets/a-1.js", content: b"let a;", packed: Some(b"packed"), tag: "\"t\"" };

    fn asked(name: HeaderName, value: &'static str) -> HeaderMap {
        [(name, HeaderValue::from_static(value))].into_iter().collect()
    }

    async fn body(response: Response) -> Vec<u8> {
        axum::body::to_bytes(response.into_body(), 1 << 24).await.expect("a body").to_vec()
    }

    #[tokio::test]
    async fn what_is_compressed_is_for_those_that_take_it() {
        let takes = ["gzip", "br, gzip;q=0.5", "GZIP", "*", "deflate, *;q=0.1"];
        let not = ["", "br", "gzip;q=0", "*;q=0", "gzip;q=0, *", "identity", "x-gzip"];
        for (values, expected) in [(&takes[..], true), (&not[..], false)] {
            for value in values {
                let response = answer(&SCRIPT, &asked(ACCEPT_ENCODING, value));
                let encoding = response.headers().get(CONTENT_ENCODING).is_some();
                assert_eq!(
                    (encoding, response.headers()[VARY].as_bytes()),
                    (expected, &b"accept-encoding"[..]),
                    "{value}"
                );
                assert_eq!(body(response).await == b"packed", expected, "{value}");
            }
        }
        assert_eq!(body(answer(&SCRIPT, &HeaderMap::new())).await, b"let a;");
    }

    #[tokio::test]
    async fn what_a_browser_has_is_not_sent_again() {
        for (value, status) in [("\"t\"", 304), ("\"x\", W/\"t\"", 304), ("\"x\"", 200), ("t", 200)] {
            let response = answer(&SCRIPT, &asked(IF_NONE_MATCH, value));
            assert_eq!(response.status(), status, "{value}");
            assert_eq!(response.headers()[CACHE_CONTROL], "public, max-age=31536000, immutable");
            assert_eq!(body(response).await.is_empty(), status == 304);
        }
    }

    #[test]
    fn without_a_dashboard_there_is_a_page_that_says_so() {
        assert_eq!(find(&[], INDEX).map(|file| file.tag), Some(STAND_IN.tag));
        assert!(find(&[], "other.html").is_none() && find(&[SCRIPT], INDEX).is_none());
        assert!(STAND_IN.content.windows(8).any(|words| words == b"make run"));
    }

    #[test]
    fn what_was_built_in_is_whole() {
        for file in FILES {
            assert_ne!(content_type(file.path), "application/octet-stream", "{} has a type", file.path);
            let Some(packed) = file.packed else { continue };
            let mut unpacked = Vec::new();
            flate2::read::GzDecoder::new(packed).read_to_end(&mut unpacked).expect("gzip");
            assert!(unpacked == file.content, "{}", file.path);
        }
    }
}
