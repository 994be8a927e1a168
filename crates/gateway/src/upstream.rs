//! Speaking to llama-server.

use std::time::Duration;

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, header};
use http_body_util::{BodyExt, Collected, Full, Limited};
use hyper::body::Body;

use crate::door;
use crate::pool::Pool;
use crate::traffic::Upstream;

/// How long llama-server may take to say how it renders a small conversation.
const TEMPLATE_TIMEOUT: Duration = Duration::from_secs(5);

/// The request as it is sent on: the client's headers, less what is between it and Corral.
pub(crate) fn request(head: &Parts, upstream: &Upstream, body: Bytes) -> Request<Full<Bytes>> {
    let path = head.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = head.method.clone();
    *request.uri_mut() = path.into();
    let headers = request.headers_mut();
    headers.reserve(head.headers.len() + 2);
    headers.insert(header::HOST, upstream.host.clone());
    for (name, value) in end_to_end(&head.headers) {
        headers.append(name, value.clone());
    }
    headers.insert(AUTHORIZATION, upstream.authorization.clone());
    request
}

/// The headers that are meant for llama-server as well.
fn end_to_end(headers: &HeaderMap) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
    let is_named = |name: &HeaderName| {
        let mut named = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
        named.any(|list| list.split(',').any(|one| one.trim().eq_ignore_ascii_case(name.as_str())))
    };
    headers.iter().filter(move |(name, _)| !door::is_for_this_hop(name) && !is_named(name))
}

/// Takes out of llama-server's headers what is between it and Corral.
pub(crate) fn keep_for_client(headers: &mut HeaderMap) {
    for name in [header::CONNECTION, header::TRANSFER_ENCODING, header::UPGRADE, header::TRAILER] {
        headers.remove(name);
    }
    // Corral says itself who may ask and how long connections live.
    headers.remove("keep-alive");
    headers.remove(header::ACCESS_CONTROL_ALLOW_ORIGIN);
    headers.remove(header::ACCESS_CONTROL_ALLOW_CREDENTIALS);
}

/// Whether a path is part of llama-server's own web page.
pub(crate) fn is_page(path: &str) -> bool {
    const FILES: [&str; 9] = [
        "/",
        "/index.html",
        "/loading.html",
        "/bundle.js",
        "/bundle.css",
        "/favicon.ico",
        "/favicon.svg",
        "/manifest.webmanifest",
        "/sw.js",
    ];
    FILES.contains(&path)
        || ["/_app/", "/assets/"].iter().any(|folder| path.starts_with(folder)) && !path.contains("..")
}

/// A body of at most so many bytes; none where it is longer or breaks off.
pub(crate) async fn read_whole<B: Body<Data = Bytes>>(body: B, limit: usize) -> Option<Bytes>
where
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    Limited::new(body, limit).collect().await.ok().map(Collected::to_bytes)
}

/// Asks llama-server to render a conversation with a `system` entry in its middle, and whether all of it is there, in
/// its order: some templates refuse such an entry, others leave it out or put it in the place of the first. None where
/// llama-server does not answer.
pub(crate) async fn template_takes_system(pool: &Pool, upstream: &Upstream) -> Option<bool> {
    const CONVERSATION: &str = r#"{"messages":[{"role":"system","content":"first-mark"},
        {"role":"user","content":"second-mark"},{"role":"assistant","content":"third-mark"},
        {"role":"system","content":"fourth-mark"},{"role":"user","content":"fifth-mark"}]}"#;
    let request = Request::builder()
        .method(Method::POST)
        .uri("/apply-template")
        .header(header::HOST, upstream.host.clone())
        .header(AUTHORIZATION, upstream.authorization.clone())
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from_static(CONVERSATION.as_bytes())))
        .ok()?;
    let response =
        tokio::time::timeout(TEMPLATE_TIMEOUT, pool.request(&upstream.authority, request)).await.ok()?.ok()?;
    let status = response.status();
    // Read to its end, so that the connection can be used again.
    let rendered = tokio::time::timeout(TEMPLATE_TIMEOUT, read_whole(response.into_body(), 1 << 20)).await.ok()??;
    Some(status.is_success() && has_all_marks(&rendered))
}

/// Whether what was rendered has each part of the conversation, in its order.
fn has_all_marks(rendered: &[u8]) -> bool {
    let mut rest = rendered;
    ["first-mark", "second-mark", "third-mark", "fourth-mark", "fifth-mark"].iter().all(|mark| {
        let found = memchr::memmem::find(rest, mark.as_bytes());
        rest = found.and_then(|at| rest.get(at..)).unwrap_or_default();
        found.is_some()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_takes_a_conversation_only_whole_and_in_order() {
        assert!(has_all_marks(b"S first-mark U second-mark A third-mark S fourth-mark U fifth-mark"));
        let dropped = b"S first-mark U second-mark A third-mark U fifth-mark";
        let moved = b"S fourth-mark U second-mark A third-mark U fifth-mark";
        let merged = b"S first-mark fourth-mark U second-mark A third-mark U fifth-mark";
        assert!(!has_all_marks(dropped) && !has_all_marks(moved) && !has_all_marks(merged));
    }

    #[test]
    fn headers_that_a_client_names_as_its_own_hops_go_no_further() {
        let mut request = Request::builder().uri("/v1/messages").header("connection", "close, X-Mine");
        request = request.header("x-mine", "1").header("x-other", "2").header("te", "trailers");
        let head = request.body(()).expect("a request").into_parts().0;
        let kept: Vec<&str> = end_to_end(&head.headers).map(|(name, _)| name.as_str()).collect();
        assert_eq!(kept, ["x-other"]);
    }
}
