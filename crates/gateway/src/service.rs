//! One request from its head to its answer.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use corral_core::catalog::Catalog;
use corral_core::command::ControllerHandle;
use corral_core::ports::{Clock, FirstAnswer, Ledger};
use corral_core::snapshot::NoticeLevel;
use corral_core::usage::{InferenceRoute, RequestEnd, Tokens};
use corral_core::{Code, Error, Result, SessionId};
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_REQUEST_HEADERS, ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, VARY,
};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;

use crate::adapt;
use crate::answer::AnswerReader;
use crate::body::{Answer, Counted, KEEP_ALIVE, Waiting, server_gone};
use crate::door;
use crate::failure::{self, Dialect};
use crate::head::Verdict;
use crate::intake::{Intake, Taken};
use crate::meter::Meter;
use crate::models;
use crate::peek::{Peek, peek};
use crate::prompt::Prompt;
use crate::traffic::{Ask, Gate, Limits, Pass};
use crate::upstream::{self, Client};

/// How long a request is tried again whose server does not take connections: the controller hears of its end within
/// this time, and from then on the request waits for the next server.
const UNREACHABLE: Duration = Duration::from_secs(5);

/// How long llama-server's own error may take to come, in bytes and time.
const ERROR_BODY: usize = 1 << 20;

/// What `Retry-After` says, in seconds.
const RETRY_AFTER_SECONDS: u16 = 5;

/// What requests are served with.
pub(crate) struct Service {
    pub(crate) gate: Gate,
    pub(crate) controller: ControllerHandle,
    pub(crate) ledger: Arc<dyn Ledger>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) client: Client,
    pub(crate) intake: Intake,
    /// The generation that was last asked whether its template takes `system` entries anywhere, and its answer.
    pub(crate) takes_system: Mutex<Option<(u64, bool)>>,
}

/// What is remembered of a request until its answer ends.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) route: InferenceRoute,
    pub(crate) dialect: Dialect,
    /// None for a probe, which is no part of a conversation.
    pub(crate) prompt: Option<Prompt>,
}

/// A request on its way to a model.
struct Exchange {
    head: Parts,
    body: Taken,
    ask: Ask,
    asked: Asked,
    is_stream: bool,
    meter: Option<Meter>,
    /// When its last byte had come.
    received: Instant,
}

impl Service {
    /// Answers a request, whatever it is.
    pub(crate) async fn answer(self: &Arc<Self>, request: Request<Incoming>, verdict: Verdict) -> Response<Answer> {
        let (head, body) = request.into_parts();
        let dialect = Dialect::of_path(head.uri.path());
        let origin = door::origin(&head.headers).cloned();
        let mut response = match door::check(&head, verdict) {
            Ok(()) => self.route(head, body, dialect).await.unwrap_or_else(|error| refusal(dialect, &error)),
            Err(error) => refusal(dialect, &error),
        };
        let headers = response.headers_mut();
        if verdict != Verdict::Sound {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if let Some(origin) = origin {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers.append(VARY, HeaderValue::from_static("origin"));
        }
        response
    }

    async fn route(self: &Arc<Self>, head: Parts, body: Incoming, dialect: Dialect) -> Result<Response<Answer>> {
        let session = door::token(&head.headers).and_then(|token| self.controller.session_of(token));
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
                json(StatusCode::OK, &models::list(&self.controller.catalog(), &self.controller.snapshot()))
            }
            "/health" | "/v1/health" => {
                let (status, body) = models::health(&self.controller.snapshot());
                json(StatusCode::from_u16(status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE), &body)
            }
            _ if let Some(name) = named.filter(|_| reads) => {
                json(StatusCode::OK, &models::one(&self.controller.catalog(), &self.controller.snapshot(), name)?)
            }
            _ if upstream::is_page(path) || matches!(path, "/props" | "/slots") => {
                if !reads {
                    return Err(wrong_method(&head, "GET"));
                }
                if session.is_some() {
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
        let pass = self.gate.try_admit(&Ask { model: None, session: false }).ok_or_else(|| {
            Error::new(Code::EngineUnavailable, "no model serves at the moment").hint("`corral status` says why")
        })?;
        let request = upstream::request(head, pass.upstream(), Bytes::new())?;
        let response = self.client.request(request).await.map_err(|_| server_gone())?;
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
        let mut meter = Meter::new(self.ledger.clone(), self.clock.now(), route);
        meter.note(|record| record.session.clone_from(&session));
        let read = async {
            let taken = self.intake.read(body).await?;
            let peeked = peek(route, &taken.bytes)?;
            Ok((taken, peeked))
        };
        let (taken, peeked) = match read.await {
            Ok(read) => read,
            Err(error) => {
                meter.fail(&error);
                return Err(error);
            }
        };
        let received = Instant::now();
        let Peek { model, stream, max_tokens, session: told, prompt } = peeked;
        let catalog = self.controller.catalog();
        // Names that no model has, as Claude Code's own, go to the model that is loaded.
        let model = model.and_then(|name| catalog.find(&name).map(|(id, _)| id.clone()));
        let ask = Ask { model, session: session.is_some() };
        if session.is_none() {
            meter.note(|record| record.session = told);
        }
        let is_part =
            max_tokens != Some(1) && !matches!(route, InferenceRoute::CountTokens | InferenceRoute::Embeddings);
        let asked = Asked { route, dialect, prompt: is_part.then_some(prompt) };
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
                let mut response = Response::new(Answer::Waiting(Box::new(Waiting::new(work, began, dialect))));
                let headers = response.headers_mut();
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
                headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
                Ok(response)
            }
        }
    }

    /// Sends a request to the model it is for, as soon as that serves, and again where the server went away before it
    /// said anything.
    async fn exchange(self: &Arc<Self>, exchange: &mut Exchange, catalog: &Catalog) -> Result<Response<Answer>> {
        let limits = Limits { queue: catalog.gateway.queue as usize, hold_timeout: catalog.gateway.hold_timeout };
        let mut unreachable_since: Option<Instant> = None;
        let mut was_sent = false;
        loop {
            let pass = match self.gate.try_admit(&exchange.ask) {
                Some(pass) => pass,
                None => self.gate.admit(&exchange.ask, &limits).await?,
            };
            let upstream = pass.upstream().clone();
            let body = self.adapted(exchange, &pass, catalog).await;
            let request = upstream::request(&exchange.head, &upstream, body)?;
            if let Some(meter) = &mut exchange.meter {
                let since = exchange.received.elapsed();
                meter.note(|record| {
                    record.held += pass.held();
                    record.model = Some(upstream.model.clone());
                    record.overhead = since.saturating_sub(record.held);
                });
            }
            let answered = tokio::select! {
                biased;
                answered = self.client.request(request) => answered,
                why = pass.cut() => return Err(why),
            };
            let error = match answered {
                Ok(response) => return self.respond(exchange, pass, response).await,
                Err(error) => error,
            };
            if let Some(why) = pass.is_cut() {
                return Err(why);
            }
            tracing::debug!(%error, model = %upstream.model, "llama-server did not answer");
            if !error.is_connect() && std::mem::replace(&mut was_sent, true) {
                // It may be this very request that ends the server: twice is enough.
                return Err(server_gone());
            }
            let since = unreachable_since.get_or_insert_with(Instant::now).elapsed();
            if since > UNREACHABLE {
                return Err(server_gone());
            }
            drop(pass);
            tokio::time::sleep((since / 2).clamp(Duration::from_millis(10), Duration::from_millis(250))).await;
        }
    }

    /// The body as the model's template takes it.
    async fn adapted(&self, exchange: &mut Exchange, pass: &Pass, catalog: &Catalog) -> Bytes {
        let body = &exchange.body.bytes;
        let anthropic = matches!(exchange.asked.route, InferenceRoute::Messages | InferenceRoute::CountTokens);
        let model = catalog.models.get(&pass.upstream().model);
        if !anthropic || model.is_some_and(|model| !model.adapt_requests) {
            return body.clone();
        }
        let merge = adapt::needs_merge(body) && !self.takes_system(pass).await;
        if merge {
            exchange.asked.prompt = exchange.asked.prompt.take().map(Prompt::with_system_merged);
        }
        adapt::adapt(body, merge).unwrap_or_else(|| body.clone())
    }

    /// Whether the template of the model that serves takes `system` entries anywhere. Asked once for each server.
    async fn takes_system(&self, pass: &Pass) -> bool {
        let generation = pass.upstream().generation;
        let known = *self.takes_system.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, takes)) = known.filter(|(known, _)| *known == generation) {
            return takes;
        }
        // Where that cannot be told, merging does no harm.
        let takes = upstream::template_takes_system(&self.client, pass.upstream()).await.unwrap_or(false);
        *self.takes_system.lock().unwrap_or_else(PoisonError::into_inner) = Some((generation, takes));
        takes
    }

    async fn respond(
        self: &Arc<Self>,
        exchange: &mut Exchange,
        pass: Pass,
        response: Response<Incoming>,
    ) -> Result<Response<Answer>> {
        let came = Instant::now();
        let (mut parts, incoming) = response.into_parts();
        upstream::keep_for_client(&mut parts.headers);
        let Asked { route, dialect, .. } = exchange.asked;
        let Some(mut meter) = exchange.meter.take() else {
            return Err(Error::new(Code::Internal, "a request was answered twice"));
        };
        meter.note(|record| record.status = parts.status.as_u16());
        if !parts.status.is_success() {
            meter.note(|record| record.end = RequestEnd::Refused);
            let body = upstream::read_whole(incoming, ERROR_BODY).await.ok_or_else(server_gone)?;
            let body = failure::rewrite_error(dialect, &body).unwrap_or(body);
            parts.headers.remove(CONTENT_LENGTH);
            return Ok(Response::from_parts(parts, Answer::whole(body)));
        }
        let event_stream = |value: &HeaderValue| value.as_bytes().starts_with(b"text/event-stream");
        let is_stream = exchange.is_stream && parts.headers.get(CONTENT_TYPE).is_some_and(event_stream);
        let prompt = exchange.asked.prompt.take();
        let asked = Asked { route, dialect, prompt };
        meter.note(|record| record.overhead += came.elapsed());
        let counted = Counted {
            incoming,
            reader: AnswerReader::new(route, is_stream),
            pass,
            meter,
            service: self.clone(),
            asked,
            is_stream,
            ended: false,
            cut: None,
        };
        Ok(Response::from_parts(parts, Answer::Counted(Box::new(counted))))
    }

    /// Learns from an answer that is complete.
    pub(crate) fn answered(&self, asked: &mut Asked, pass: &Pass, meter: &Meter, tokens: Tokens) {
        use std::sync::atomic::Ordering::Relaxed;
        let Some(prompt) = asked.prompt.take() else { return };
        let upstream = pass.upstream();
        let _ = prompt;
        let (continues, alarm): (Option<bool>, Option<String>) = (None, None);
        let is_first = !upstream.first.swap(true, Relaxed);
        // What was brought back shows only in an answer that continues a conversation.
        let shows = upstream.restored && continues == Some(true) && !upstream.continued.swap(true, Relaxed);
        if !is_first && !shows && alarm.is_none() {
            return;
        }
        let first_token_at = meter.record().and_then(|record| {
            let after = jiff::SignedDuration::try_from(record.first_token?).ok()?;
            record.at.checked_add(after).ok()
        });
        let answer =
            FirstAnswer { tokens, continues, first_token_at: first_token_at.unwrap_or_else(|| self.clock.now()) };
        let (controller, instance) = (self.controller.clone(), upstream.instance.clone());
        tokio::spawn(async move {
            if is_first || shows {
                // A controller that has ended needs no news.
                let _ = controller.first_answer(instance, answer).await;
            }
            if let Some(alarm) = alarm {
                let _ = controller.tell(NoticeLevel::Warning, alarm, None).await;
            }
        });
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

fn json(status: StatusCode, body: &serde_json::Value) -> Result<Response<Answer>> {
    let mut response = Response::new(Answer::whole(body.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
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
