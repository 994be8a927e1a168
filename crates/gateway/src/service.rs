//! One request from its head to its answer.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use bytes::Bytes;
use corral_core::command::ControllerHandle;
use corral_core::listen::Via;
use corral_core::ports::{Clock, Ledger};
use corral_core::usage::InferenceRoute;
use corral_core::{Code, Error, Result, SessionId};
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_REQUEST_HEADERS, ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, RETRY_AFTER, VARY,
};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;

use crate::body::{Answer, KEEP_ALIVE, Waiting, server_gone};
use crate::conversation::Conversations;
use crate::door;
use crate::exchange::{Asked, Exchange};
use crate::failure::{self, Dialect};
use crate::head::Framing;
use crate::intake::Intake;
use crate::meter::Meter;
use crate::models;
use crate::peek::{Peek, peek};
use crate::pool::{NoAnswer, Pool};
use crate::traffic::{Ask, Gate};
use crate::upstream;

/// What `Retry-After` says, in seconds.
const RETRY_AFTER_SECONDS: u16 = 5;

/// What all threads serve requests with.
pub(crate) struct Shared {
    pub(crate) gate: Gate,
    pub(crate) controller: ControllerHandle,
    pub(crate) ledger: Arc<dyn Ledger>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) intake: Intake,
    pub(crate) conversations: Mutex<Conversations>,
    /// The generation that was last asked whether its template takes `system` entries anywhere, and its answer.
    pub(crate) takes_system: Mutex<Option<(u64, bool)>>,
}

impl Shared {
    pub(crate) fn new(
        gate: Gate,
        controller: ControllerHandle,
        ledger: Arc<dyn Ledger>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let (conversations, takes_system) = (Mutex::default(), Mutex::default());
        Self { gate, controller, ledger, clock, intake: Intake::new(), conversations, takes_system }
    }
}

/// What one thread serves requests with.
pub(crate) struct Service {
    pub(crate) shared: Arc<Shared>,
    pub(crate) pool: Pool,
}

impl Service {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, pool: Pool::default() }
    }

    /// Answers a request, whatever it is.
    pub(crate) async fn answer(
        self: &Arc<Self>,
        request: Request<Incoming>,
        framing: Framing,
        via: Option<&Via>,
    ) -> Response<Answer> {
        let (head, body) = request.into_parts();
        let dialect = Dialect::of_path(head.uri.path());
        let origin = door::origin(&head.headers).cloned();
        let mut response = match door::check(&head, framing) {
            Ok(()) => self.route(head, body, dialect, via).await.unwrap_or_else(|error| refusal(dialect, &error)),
            Err(error) => refusal(dialect, &error),
        };
        let headers = response.headers_mut();
        if framing != Framing::Sound {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if let Some(origin) = origin {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers.append(VARY, HeaderValue::from_static("origin"));
        }
        response
    }

    async fn route(
        self: &Arc<Self>,
        head: Parts,
        body: Incoming,
        dialect: Dialect,
        via: Option<&Via>,
    ) -> Result<Response<Answer>> {
        // The way by which it came says more than any token.
        let session = match via {
            Some(via) => Some(via.session.clone()),
            None => door::tokens(&head.headers).find_map(|token| self.shared.controller.session_of(token)),
        };
        let path = head.uri.path();
        if let Some(route) = InferenceRoute::of(path) {
            return match head.method {
                Method::POST => self.inference(route, dialect, head, body, session).await,
                Method::OPTIONS => Ok(preflight(&head.headers)),
                _ => Err(wrong_method(&head, "POST")),
            };
        }
        let reads = matches!(head.method, Method::GET | Method::HEAD);
        let named = path.strip_prefix("/v1/models/").filter(|name| !name.is_empty());
        match path {
            "/v1/models" | "/health" | "/v1/health" if head.method == Method::OPTIONS => Ok(preflight(&head.headers)),
            "/v1/models" | "/health" | "/v1/health" if !reads => Err(wrong_method(&head, "GET")),
            "/v1/models" => {
                let (catalog, snapshot) = (self.shared.controller.catalog(), self.shared.controller.snapshot());
                Ok(json(StatusCode::OK, &models::list(&catalog, &snapshot)))
            }
            "/health" | "/v1/health" => {
                let (status, body) = models::health(&self.shared.controller.snapshot());
                Ok(json(StatusCode::from_u16(status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE), &body))
            }
            _ if let Some(name) = named.filter(|_| reads) => {
                let (catalog, snapshot) = (self.shared.controller.catalog(), self.shared.controller.snapshot());
                Ok(json(StatusCode::OK, &models::one(&catalog, &snapshot, name)?))
            }
            _ if upstream::is_page(path) || matches!(path, "/props" | "/slots") => {
                if !reads {
                    return Err(wrong_method(&head, "GET"));
                }
                let mut tokens = door::tokens(&head.headers);
                if via.is_some() || tokens.any(|token| self.shared.controller.is_session_token(token)) {
                    let what = format!("a session may not use {}", door::shown(path));
                    return Err(Error::new(Code::Forbidden, what).hint("it is for the user of this machine alone"));
                }
                self.relay(&head).await
            }
            _ => Err(Error::new(Code::NotFound, format!("there is no {} here", door::shown(path))).hint(format!(
                "the routes are {}, /v1/models and /health",
                InferenceRoute::ALL.map(InferenceRoute::path).join(", ")
            ))),
        }
    }

    /// Passes a question about the server itself on, where one serves.
    async fn relay(self: &Arc<Self>, head: &Parts) -> Result<Response<Answer>> {
        let pass = self.shared.gate.try_admit(&Ask { model: None, session: false }).ok_or_else(|| {
            Error::new(Code::EngineUnavailable, "no model serves at the moment").hint("`corral status` says why")
        })?;
        let ask =
            || self.pool.request(&pass.upstream().authority, upstream::request(head, pass.upstream(), Bytes::new()));
        let response = match ask().await {
            Err(NoAnswer::Stale) => ask().await,
            answered => answered,
        };
        let response = response.map_err(|_| server_gone())?;
        let (mut parts, incoming) = response.into_parts();
        upstream::keep_for_client(&mut parts.headers);
        Ok(Response::from_parts(parts, Answer::Relayed(Box::new((incoming, pass)))))
    }

    async fn inference(
        self: &Arc<Self>,
        route: InferenceRoute,
        dialect: Dialect,
        head: Parts,
        body: Incoming,
        session: Option<SessionId>,
    ) -> Result<Response<Answer>> {
        let mut meter = Meter::new(self.shared.ledger.clone(), self.shared.clock.now(), route);
        meter.note(|record| record.session.clone_from(&session));
        if let Some(session) = &session {
            meter.runs(self.shared.gate.tally().begin(session.clone()));
        }
        let read = async {
            let taken = self.shared.intake.read(body).await?;
            let received = Instant::now();
            let peeked = peek(route, &taken.bytes)?;
            Ok((taken, received, peeked))
        };
        let (taken, received, peeked) = match read.await {
            Ok(read) => read,
            Err(error) => {
                meter.fail(&error);
                return Err(error);
            }
        };
        let Peek { model, stream, max_tokens, session: told, prompt } = peeked;
        let catalog = self.shared.controller.catalog();
        // Names that no model has, as Claude Code's own, go to the model that is loaded.
        let model = model.and_then(|name| catalog.find(&name).map(|(id, _)| id.clone()));
        let ask = Ask { model, session: session.is_some() };
        if session.is_none() {
            meter.note(|record| record.session = told);
        }
        // Of these there are no streams, whatever the body says.
        let stream = stream && !matches!(route, InferenceRoute::CountTokens | InferenceRoute::Embeddings);
        let is_part =
            max_tokens != Some(1) && !matches!(route, InferenceRoute::CountTokens | InferenceRoute::Embeddings);
        let asked = Asked { route, dialect, prompt: is_part.then_some(prompt) };
        let told_early = meter.told_early();
        let mut exchange = Exchange { head, body: taken, ask, asked, is_stream: stream, meter: Some(meter), received };
        let this = self.clone();
        let began = tokio::time::Instant::now();
        let work = async move {
            let answered = this.exchange(&mut exchange, &catalog).await;
            if let (Err(error), Some(meter)) = (&answered, &mut exchange.meter) {
                meter.fail(error);
            }
            answered
        };
        if !stream {
            return work.await;
        }
        let mut work = Box::pin(work);
        tokio::select! {
            biased;
            answered = &mut work => answered,
            () = tokio::time::sleep(KEEP_ALIVE) => {
                told_early.store(true, Ordering::Relaxed);
                let mut response = Response::new(Answer::Waiting(Box::new(Waiting::new(work, began, dialect))));
                let headers = response.headers_mut();
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
                headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
                Ok(response)
            }
        }
    }
}

/// An error in the client's own protocol.
fn refusal(dialect: Dialect, error: &Error) -> Response<Answer> {
    let mut response = Response::new(Answer::whole(failure::body(dialect, error)));
    *response.status_mut() = StatusCode::from_u16(error.code().http_status()).unwrap_or(StatusCode::BAD_GATEWAY);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    match error.code().http_status() {
        405 => drop(headers.insert(ALLOW, HeaderValue::from_static("GET, POST, OPTIONS"))),
        502..=504 => drop(headers.insert(RETRY_AFTER, RETRY_AFTER_SECONDS.into())),
        // What is left of the body is not read.
        408 | 413 | 431 => drop(headers.insert(CONNECTION, HeaderValue::from_static("close"))),
        _ => {}
    }
    response
}

fn wrong_method(head: &Parts, right: &str) -> Error {
    let what = format!("{} does not take {}", door::shown(head.uri.path()), head.method);
    Error::new(Code::MethodNotAllowed, what).hint(format!("use {right}"))
}

fn json(status: StatusCode, body: &serde_json::Value) -> Response<Answer> {
    let mut response = Response::new(Answer::whole(body.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Tells a page of this machine that it may ask; that it is of this machine has been checked.
fn preflight(asked: &HeaderMap) -> Response<Answer> {
    let mut response = Response::new(Answer::whole(Bytes::new()));
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST"));
    if let Some(wanted) = asked.get(ACCESS_CONTROL_REQUEST_HEADERS) {
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone());
    }
    response
}
