//! A request's way to a model, and what is learnt from the answer.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use corral_core::catalog::Catalog;
use corral_core::ports::FirstAnswer;
use corral_core::snapshot::NoticeLevel;
use corral_core::usage::{InferenceRoute, RequestEnd, Tokens};
use corral_core::{Code, Error, Result};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderValue, Response};

use crate::adapt;
use crate::answer::AnswerReader;
use crate::body::{Answer, Counted, server_gone};
use crate::conversation::{Answered, Verdict};
use crate::events::WholeEvents;
use crate::failure::{self, Dialect};
use crate::intake::Taken;
use crate::meter::Meter;
use crate::pool::{NoAnswer, Received};
use crate::prompt::Prompt;
use crate::service::Service;
use crate::traffic::{Ask, Limits, Pass};
use crate::upstream;

/// How long a request is tried again whose server does not take connections: the controller hears of its end within
/// this time, and from then on the request waits for the next server.
const UNREACHABLE: Duration = Duration::from_secs(5);

/// A connection that had ended before it was used again says so within this time; later, the request may be the cause.
const STALE: Duration = Duration::from_millis(50);

/// How long it may take until the end of a server is known.
const KNOWN: Duration = Duration::from_secs(2);

/// How long llama-server's own error may be, in bytes, and how long it may take to come.
const ERROR_BODY: usize = 1 << 20;
const ERROR_TIME: Duration = Duration::from_secs(10);

/// What is remembered of a request until its answer ends.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) route: InferenceRoute,
    pub(crate) dialect: Dialect,
    /// None for a probe, which is no part of a conversation.
    pub(crate) prompt: Option<Prompt>,
}

/// A request on its way to a model.
pub(crate) struct Exchange {
    pub(crate) head: Parts,
    pub(crate) body: Taken,
    pub(crate) ask: Ask,
    pub(crate) asked: Asked,
    pub(crate) is_stream: bool,
    pub(crate) meter: Option<Meter>,
    /// When its last byte had come.
    pub(crate) received: Instant,
}

impl Exchange {
    /// The body as the model's template takes it.
    fn adapted(&mut self, merges: Option<bool>) -> Bytes {
        let body = &self.body.bytes;
        let Some(merges) = merges else { return body.clone() };
        if merges {
            self.asked.prompt = self.asked.prompt.take().map(Prompt::with_system_merged);
        }
        adapt::adapt(body, merges).unwrap_or_else(|| body.clone())
    }
}

impl Service {
    /// Sends a request to the model it is for, as soon as that serves, and again where the server went away before it
    /// said anything.
    pub(crate) async fn exchange(
        self: &Arc<Self>,
        exchange: &mut Exchange,
        catalog: &Catalog,
    ) -> Result<Response<Answer>> {
        let limits = Limits::new(catalog.gateway.queue as usize, catalog.gateway.hold_timeout);
        // Which opening of the gate led to a server that takes no connections, and since when.
        let mut unreachable = (0, Instant::now());
        let mut was_sent = false;
        let reading = exchange.received.elapsed();
        loop {
            let pass = match self.shared.gate.try_admit(&exchange.ask) {
                Some(pass) => pass,
                None => self.shared.gate.admit(&exchange.ask, &limits).await?,
            };
            let upstream = pass.upstream().clone();
            let merges = self.merges(exchange, &pass, catalog).await;
            let admitted = Instant::now();
            let body = exchange.adapted(merges);
            let request = upstream::request(&exchange.head, &upstream, body);
            if let Some(meter) = &mut exchange.meter {
                meter.sent(&upstream.model);
                meter.note(|record| {
                    record.held += pass.held();
                    record.overhead = reading + admitted.elapsed();
                });
            }
            let answered = tokio::select! {
                biased;
                answered = self.pool.request(&upstream.authority, request) => answered,
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
            if matches!(error, NoAnswer::Stale) && admitted.elapsed() < STALE {
                continue;
            }
            if !matches!(error, NoAnswer::Unreachable(_)) {
                if std::mem::replace(&mut was_sent, true) {
                    // It may be this very request that ends the server: twice is enough.
                    return Err(server_gone());
                }
                drop(pass);
                self.until_known(&exchange.ask, upstream.generation).await;
                continue;
            }
            if unreachable.0 != upstream.generation {
                unreachable = (upstream.generation, Instant::now());
            }
            let since = unreachable.1.elapsed();
            if since > UNREACHABLE {
                return Err(server_gone());
            }
            drop(pass);
            tokio::time::sleep((since / 2).clamp(Duration::from_millis(10), Duration::from_millis(250))).await;
        }
    }

    /// Waits until it is known that a server has ended, if that it has: until then Docker's proxy takes connections for
    /// it and closes them, as the server itself would if it ended once more.
    async fn until_known(&self, ask: &Ask, generation: u64) {
        let since = Instant::now();
        while since.elapsed() < KNOWN
            && self.shared.gate.try_admit(ask).is_some_and(|pass| pass.upstream().generation == generation)
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Whether the `system` entries amid a request's messages have to be moved; none where nothing is to be changed.
    async fn merges(&self, exchange: &Exchange, pass: &Pass, catalog: &Catalog) -> Option<bool> {
        let anthropic = matches!(exchange.asked.route, InferenceRoute::Messages | InferenceRoute::CountTokens);
        let model = catalog.models.get(&pass.upstream().model);
        if !anthropic || model.is_some_and(|model| !model.adapt_requests) {
            return None;
        }
        Some(adapt::needs_merge(&exchange.body.bytes) && !self.takes_system(pass).await)
    }

    /// Whether the template of the model that serves takes `system` entries anywhere. Asked once for each server.
    async fn takes_system(&self, pass: &Pass) -> bool {
        let generation = pass.upstream().generation;
        let known = *self.shared.takes_system.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, takes)) = known.filter(|(known, _)| *known == generation) {
            return takes;
        }
        // Where that cannot be told, merging does no harm.
        let takes = upstream::template_takes_system(&self.pool, pass.upstream()).await.unwrap_or(false);
        *self.shared.takes_system.lock().unwrap_or_else(PoisonError::into_inner) = Some((generation, takes));
        takes
    }

    async fn respond(
        self: &Arc<Self>,
        exchange: &mut Exchange,
        pass: Pass,
        response: Response<Received>,
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
            let body = tokio::select! {
                biased;
                body = upstream::read_whole(incoming, ERROR_BODY) => body.ok_or_else(server_gone),
                why = pass.cut() => Err(why),
                () = tokio::time::sleep(ERROR_TIME) => Err(server_gone()),
            };
            let body = body.inspect_err(|error| meter.fail(error))?;
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
            pass: Some(pass),
            meter,
            service: self.clone(),
            asked,
            is_stream,
            events: WholeEvents::default(),
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
        let answered = Answered { prompt, tokens, load: upstream.load };
        let Verdict { continues, alarm } =
            self.shared.conversations.lock().unwrap_or_else(PoisonError::into_inner).note(&upstream.model, answered);
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
        let answer = FirstAnswer {
            tokens,
            continues,
            first_token_at: first_token_at.unwrap_or_else(|| self.shared.clock.now()),
        };
        let (controller, instance) = (self.shared.controller.clone(), upstream.instance.clone());
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
