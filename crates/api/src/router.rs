//! The router, and what every request passes on its way.

use std::ops::Deref;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use corral_core::command::ControllerHandle;
use corral_core::configuration::Configuration;
use corral_core::gpu::GpuWatch;
use corral_core::listen::Via;
use corral_core::live::LiveSource;
use corral_core::log::LogBuffer;
use corral_core::machine::Machine;
use corral_core::ports::UsageSource;
use corral_core::{Code, Error, Secret, SessionId};
use futures_util::FutureExt;
use http::header::{ALLOW, CACHE_CONTROL, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use http::{Method, Uri};
use tokio_util::sync::CancellationToken;

use crate::entrance::Codes;
use crate::failure::Failure;
use crate::guard::{bearer_of, check_host, check_origin, check_token};
use crate::live::Feed;
use crate::metrics::Metrics;
use crate::quote::quoted;
use crate::routes::{ROUTES, methods};
use corral_core::catalog::nearest;

/// What the API speaks for.
#[derive(Debug, Clone)]
pub struct ApiState {
    /// The one way to the controller.
    pub controller: ControllerHandle,
    /// `llama-server`'s log.
    pub logs: Arc<LogBuffer>,
    /// The token that every call but `GET /healthz` and the dashboard's files has to bear.
    pub token: Secret,
    /// Counters that outlive a request.
    pub metrics: Arc<Metrics>,
    /// What was written down about requests and operations.
    pub usage: Arc<dyn UsageSource>,
    /// The files that a person configures Corral by.
    pub configuration: Arc<dyn Configuration>,
    /// The machine and the desktop.
    pub machine: Arc<dyn Machine>,
    /// What goes on at this moment.
    pub live: Arc<dyn LiveSource>,
    /// What the GPUs are doing.
    pub gpu: Arc<dyn GpuWatch>,
    /// Corral's version.
    pub version: String,
}

/// What handlers share. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Shared(Arc<Inner>);

pub(crate) struct Inner {
    api: ApiState,
    /// The port that pages of Corral's own come from.
    port: u16,
    /// What lets browsers in.
    pub(crate) codes: Codes,
    /// Readings of what goes on, for those who listen.
    pub(crate) feed: Feed,
    /// Ends streams and waiting callers.
    pub(crate) shutdown: CancellationToken,
}

impl Deref for Shared {
    type Target = Inner;
    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl Deref for Inner {
    type Target = ApiState;
    fn deref(&self) -> &ApiState {
        &self.api
    }
}

/// The routes, guarded. `port` is the one that is listened on, `shutdown` ends streams and callers that wait.
pub fn router(state: ApiState, port: u16, shutdown: CancellationToken) -> Router {
    let feed = Feed::new(state.live.clone());
    let shared = Shared(Arc::new(Inner { api: state, port, codes: Codes::default(), feed, shutdown }));
    let mut router = Router::new();
    for route in ROUTES {
        let mut handler = (route.handler)();
        if route.page {
            handler = handler.route_layer(from_fn_with_state(shared.clone(), without_session));
        } else if !route.open {
            let asked = Asked { shared: shared.clone(), sessions: route.sessions };
            handler = handler.route_layer(from_fn_with_state(asked, with_token));
        }
        router = router.route(route.path, handler);
    }
    router
        .method_not_allowed_fallback(wrong_method)
        .fallback(unknown_route)
        .layer(from_fn_with_state(shared.clone(), guarded))
        .with_state(shared)
}

/// The session's listener by which a request came.
fn via(request: &Request) -> Option<&Via> {
    request.extensions().get::<Arc<Via>>().map(Arc::as_ref)
}

/// The session whose token a request bears.
#[derive(Debug, Clone)]
struct Caller(SessionId);

/// The session that asks; none where it is the user, with the management token.
pub(crate) fn caller(request: &Request) -> Option<&SessionId> {
    request.extensions().get::<Caller>().map(|Caller(session)| session)
}

/// Everything passes here first: `Host` and `Origin` are checked, a panic becomes an answer.
async fn guarded(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    let port = via(&request).map_or(shared.port, |via| via.port);
    let refused = check_host(request.uri(), request.headers()).and_then(|()| check_origin(request.headers(), port));
    let mut response = match refused {
        Err(error) => Failure::from(error).into_response(),
        Ok(()) => AssertUnwindSafe(next.run(request)).catch_unwind().await.unwrap_or_else(|_| {
            let defect = Error::new(Code::Internal, "the call failed because of a defect in Corral");
            Failure::from(defect.hint("Corral's own log says where")).into_response()
        }),
    };
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// What the guard of one route knows.
#[derive(Clone)]
struct Asked {
    shared: Shared,
    /// Whether the token of a session will do.
    sessions: bool,
}

async fn with_token(State(Asked { shared, sessions }): State<Asked>, mut request: Request, next: Next) -> Response {
    let via = via(&request);
    let mut caller = None;
    let session = |token: &str| {
        let session = shared.controller.session_of(token)?;
        let may = via.is_none_or(|via| via.session == session).then_some(sessions);
        caller = Some(session);
        may
    };
    // Where a session's own listener is, nobody comes in but that session.
    let management = via.is_none().then_some(&shared.token);
    if let Err(error) = check_token(request.headers(), management, session) {
        return Failure::from(error).into_response();
    }
    if let Some(session) = caller {
        request.extensions_mut().insert(Caller(session));
    }
    next.run(request).await
}

/// A jail gets no page that would ask its user for the management token.
async fn without_session(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    let of_session = |token: &str| shared.controller.is_session_token(token);
    if via(&request).is_some() || bearer_of(request.headers()).is_some_and(of_session) {
        let error = Error::new(Code::Forbidden, "the dashboard is not for sessions");
        return Failure::from(error.hint("open it outside of the session: `corral dashboard`")).into_response();
    }
    next.run(request).await
}

async fn wrong_method(method: Method, uri: Uri) -> Response {
    let allowed = methods(uri.path()).join(", ");
    let message = format!("{} does not take {}", uri.path(), quoted(method.as_str()));
    let error = Error::new(Code::MethodNotAllowed, message).hint(format!("it takes {allowed}"));
    let mut response = Failure::from(error).into_response();
    if let Ok(allowed) = HeaderValue::from_str(&allowed) {
        response.headers_mut().insert(ALLOW, allowed);
    }
    response
}

async fn unknown_route(uri: Uri) -> Failure {
    let routes = ROUTES.iter().filter(|route| !route.page);
    let meant = nearest(uri.path(), routes.map(|route| route.path));
    let hint = meant.map_or_else(list_of_routes, |meant| format!("did you mean {meant}?"));
    Error::new(Code::NotFound, format!("there is no route {}", quoted(uri.path()))).hint(hint).into()
}

fn list_of_routes() -> String {
    let routes: Vec<String> =
        ROUTES.iter().filter(|route| !route.page).map(|route| format!("{} {}", route.method, route.path)).collect();
    format!("there are {}", routes.join(", "))
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::routing::get;
    use corral_core::catalog::Catalog;
    use corral_core::command::channel;
    use corral_core::snapshot::{CatalogView, Phase, Snapshot};
    use tower::ServiceExt;

    use super::*;

    async fn broken() -> &'static str {
        panic!("a defect")
    }

    #[tokio::test]
    async fn a_panic_becomes_an_answer() {
        let snapshot = Snapshot {
            version: "0".to_owned(),
            phase: Phase::Stopped,
            model: None,
            operation: None,
            engine: None,
            error: None,
            gateway: None,
            sessions: Vec::new(),
            catalog: CatalogView::default(),
        };
        let api = ApiState {
            controller: channel(snapshot, Catalog::default()).0,
            logs: Arc::new(LogBuffer::new(1, 1)),
            token: Secret::new("t"),
            metrics: Arc::default(),
            usage: Arc::<corral_testkit::FakeUsage>::default(),
            configuration: Arc::<corral_testkit::FakeConfiguration>::default(),
            machine: Arc::<corral_testkit::FakeMachine>::default(),
            live: Arc::<corral_testkit::FakeLive>::default(),
            gpu: Arc::<corral_testkit::FakeGpu>::default(),
            version: "0".to_owned(),
        };
        let feed = Feed::new(api.live.clone());
        let shared =
            Shared(Arc::new(Inner { api, port: 1, codes: Codes::default(), feed, shutdown: CancellationToken::new() }));
        let app: Router = Router::new().route("/", get(broken)).layer(from_fn_with_state(shared, guarded));
        let request = Request::get("/").header("Host", "localhost").body(Body::empty()).expect("a request");
        let answer = app.oneshot(request).await.expect("an answer");
        assert_eq!(answer.status(), 500);
        let body = axum::body::to_bytes(answer.into_body(), 10_000).await.expect("a body");
        let body: crate::dto::ErrorAnswer = serde_json::from_slice(&body).expect("an error");
        assert_eq!(body.error.code, Code::Internal);
    }
}
