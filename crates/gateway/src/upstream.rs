//! Speaking to llama-server.

use std::time::Duration;

use bytes::Bytes;
use corral_core::{Code, Error, Result};
use http::header::AUTHORIZATION;
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Request, Uri, Version, header};
use http_body_util::{BodyExt, Collected, Full, Limited};
use hyper::body::Body;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use crate::door;
use crate::traffic::Upstream;

/// The pooled client.
pub(crate) type Client = legacy::Client<HttpConnector, Full<Bytes>>;

/// llama-server closes a connection that has been idle for 5 seconds (cpp-httplib's `CPPHTTPLIB_KEEPALIVE_TIMEOUT`);
/// one that is older than this is not used again.
const POOL_IDLE: Duration = Duration::from_secs(3);

/// How long llama-server may take to say how it renders a small conversation.
const TEMPLATE_TIMEOUT: Duration = Duration::from_secs(5);

pub(crate) fn client() -> Client {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(Duration::from_secs(5)));
    legacy::Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(POOL_IDLE)
        .build(connector)
}

/// The request as it is sent on: the client's headers, less what is between it and Corral.
pub(crate) fn request(head: &Parts, upstream: &Upstream, body: Bytes) -> Result<Request<Full<Bytes>>> {
    let path = head.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    let uri = Uri::builder().scheme("http").authority(upstream.authority.clone()).path_and_query(path).build();
    let uri = uri.map_err(|error| Error::new(Code::Internal, "llama-server has no address").because(error))?;
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = head.method.clone();
    *request.uri_mut() = uri;
    *request.version_mut() = Version::HTTP_11;
    let headers = request.headers_mut();
    headers.reserve(head.headers.len() + 2);
    for (name, value) in &head.headers {
        if !door::is_for_this_hop(name) {
            headers.append(name, value.clone());
        }
    }
    headers.insert(AUTHORIZATION, upstream.authorization.clone());
    Ok(request)
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

/// Asks llama-server to render a conversation with a `system` entry in its middle; none where it does not answer.
pub(crate) async fn template_takes_system(client: &Client, upstream: &Upstream) -> Option<bool> {
    const CONVERSATION: &str = r#"{"messages":[{"role":"system","content":"a"},{"role":"user","content":"b"},
        {"role":"assistant","content":"c"},{"role":"system","content":"d"},{"role":"user","content":"e"}]}"#;
    let uri = Uri::builder().scheme("http").authority(upstream.authority.clone()).path_and_query("/apply-template");
    let request = Request::builder()
        .method(Method::POST)
        .uri(uri.build().ok()?)
        .header(AUTHORIZATION, upstream.authorization.clone())
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from_static(CONVERSATION.as_bytes())))
        .ok()?;
    let response = tokio::time::timeout(TEMPLATE_TIMEOUT, client.request(request)).await.ok()?.ok()?;
    let status = response.status();
    // Read to its end, so that the connection can be used again.
    read_whole(response.into_body(), 1 << 20).await?;
    Some(status.is_success())
}
