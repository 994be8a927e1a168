//! What the controller does for requests: where they may go, what becomes of conversations, who asks.

use std::sync::Arc;
use std::time::Duration;

use super::effects::until_idle;
use super::{Controller, shutting_down};
use crate::command::OpenedSession;
use crate::error::{Code, Error, Result};
use crate::id::{InstanceId, ModelId, OperationId, Secret};
use crate::lifecycle::{Attempt, Effect, Event, Restart, Stage, restart};
use crate::ports::{Endpoint, FirstAnswer, Instance, KeptContext, Route};
use crate::session::{About, SessionId, SessionTokens};
use crate::snapshot::{ContextOutcome, ContextView, NoticeLevel, OperationView, SessionView, Step};

/// How long llama-server may take to notice that the clients of cut requests are gone.
const AFTER_CUT: Duration = Duration::from_secs(2);

/// How long saving conversations, or bringing them back, may take.
const KEEPING: Duration = Duration::from_mins(1);

/// An operation shorter than this is not announced, only told of when it has ended.
const WORTH_ANNOUNCING: Duration = Duration::from_secs(3);

/// How long the steps of the operation in progress took.
#[derive(Debug, Default)]
pub(super) struct Steps {
    current: Option<(OperationId, Step, Duration)>,
    done: Vec<(Step, Duration)>,
}

impl Steps {
    /// Notes the step that the operation in progress is at.
    pub(super) fn follow(&mut self, operation: Option<&OperationView>, now: Duration) {
        // What has ended is closed by `take`.
        let Some(operation) = operation else { return };
        match self.current {
            Some((id, step, _)) if id == operation.id && step == operation.step => return,
            Some((id, ..)) if id == operation.id => self.close(now),
            _ => self.done.clear(),
        }
        self.current = Some((operation.id, operation.step, now));
    }

    fn close(&mut self, now: Duration) {
        let Some((_, step, since)) = self.current.take() else { return };
        let took = now.saturating_sub(since);
        match self.done.iter_mut().find(|(known, _)| *known == step) {
            Some((_, sum)) => *sum += took,
            None => self.done.push((step, took)),
        }
    }

    /// The steps of an operation that has ended.
    pub(super) fn take(&mut self, id: OperationId, now: Duration) -> Vec<(Step, Duration)> {
        if self.current.is_none_or(|(current, ..)| current != id) {
            return Vec::new();
        }
        self.close(now);
        std::mem::take(&mut self.done)
    }
}

/// What was saved and brought back for the sake of the operation in progress.
#[derive(Debug, Default)]
pub(super) struct Kept {
    pub(super) saved: Option<KeptContext>,
    pub(super) restored: Option<KeptContext>,
}

/// What becomes of requests that run when their server is stopped.
pub(super) fn cut() -> Error {
    Error::new(Code::Cut, "the model was switched or stopped before this answer was complete")
        .hint("ask again: the request waits for the model then")
}

impl Controller {
    /// Opens the way for requests to the instance that is ready, and closes it as soon as it is not.
    pub(super) fn steer_traffic(&mut self) {
        let ready = self.lifecycle.live().and_then(|live| match &live.stage {
            Stage::Ready(endpoint) => Some((live.attempt, live.held.instance.clone(), endpoint.clone())),
            _ => None,
        });
        let live = self.lifecycle.live().map(|live| live.attempt);
        self.context.take_if(|(attempt, _)| live != Some(*attempt));
        let attempt = ready.as_ref().map(|(attempt, ..)| *attempt);
        if attempt == self.open {
            return;
        }
        self.open = attempt;
        match ready {
            Some((_, instance, endpoint)) => {
                let restored = self.context.is_some_and(|(_, context)| context.outcome == ContextOutcome::Pending);
                self.ports.traffic.open(Route { instance, endpoint, restored });
            }
            None => self.ports.traffic.close(),
        }
    }

    /// Saves the conversations of an instance that is to be stopped, once nothing runs on it any more.
    pub(super) fn save(&mut self, attempt: Attempt, instance: Instance, endpoint: Endpoint) {
        let token = self.attempt_token(attempt);
        let spec = self.kept_spec(&instance);
        let budget = self.catalog.gateway.slot_cache;
        self.ports.traffic.cut(&cut());
        let (ports, events) = (self.ports.clone(), self.events.clone());
        self.tasks.spawn(async move {
            let save = async {
                let spec = spec.filter(|_| budget > 0)?;
                let quiet = async {
                    ports.traffic.drained().await;
                    until_idle(&ports, &instance, &endpoint).await;
                };
                tokio::select! {
                    () = quiet => {}
                    () = ports.clock.sleep(AFTER_CUT) => {}
                }
                Some(ports.contexts.save(&instance, &endpoint, &spec, budget).await)
            };
            let saved = tokio::select! {
                () = token.cancelled() => return,
                () = ports.clock.sleep(KEEPING) => Some(Err(too_slow("saving"))),
                saved = save => saved,
            };
            let _ = events.send(Event::Saved(attempt, saved));
        });
    }

    /// Brings the conversations back into an instance that has just loaded.
    pub(super) fn restore(&mut self, attempt: Attempt, instance: Instance, endpoint: Endpoint) {
        let token = self.attempt_token(attempt);
        let spec = self.kept_spec(&instance);
        let (ports, events) = (self.ports.clone(), self.events.clone());
        self.tasks.spawn(async move {
            let restore = async { Some(ports.contexts.restore(&instance, &endpoint, spec.as_deref()?).await) };
            let restored = tokio::select! {
                () = token.cancelled() => return,
                () = ports.clock.sleep(KEEPING) => Some(Err(too_slow("bringing back"))),
                restored = restore => restored,
            };
            let _ = events.send(Event::Restored(attempt, restored));
        });
    }

    /// Notes what was saved or brought back.
    pub(super) fn kept(&mut self, event: &Event) {
        let (restored, result) = match event {
            Event::Saved(_, Some(result)) => (None, result),
            Event::Restored(attempt, Some(result)) => (Some(*attempt), result),
            _ => return,
        };
        let kept = match result {
            Ok(kept) => *kept,
            Err(error) => {
                let verb = if restored.is_some() { "brought back" } else { "saved" };
                let message = format!("the conversations could not be {verb}: {error}");
                self.notice(NoticeLevel::Warning, message, Some(error));
                return;
            }
        };
        if kept.slots == 0 {
            return;
        }
        let Some(attempt) = restored else {
            self.kept.saved = Some(kept);
            return;
        };
        self.kept.restored = Some(kept);
        let (restored_tokens, outcome) = (kept.tokens, ContextOutcome::Pending);
        let context = ContextView { restored_tokens, outcome, prompt_tokens: None, cached_tokens: None };
        self.context = Some((attempt, context));
    }

    /// The configuration of an instance whose conversations are kept, where it still is the catalog's.
    fn kept_spec(&self, instance: &Instance) -> Option<Arc<crate::launch::LaunchSpec>> {
        let keeps = self.catalog.models.get(&instance.model).is_some_and(|model| model.keep_context);
        self.spec_of_instance(instance).filter(|_| keeps)
    }

    /// Waits until a restart may be tried again.
    pub(super) fn pause(&mut self, op: OperationId, pause: Duration) {
        let ended = self.lifecycle.operation().filter(|view| view.id == op).and_then(|view| view.to.clone());
        if let Some(model) = ended {
            let now = self.ports.clock.uptime();
            self.ends_seen.entry(model).or_default().push(now);
        }
        self.spawn(move |ports| async move {
            ports.clock.sleep(pause).await;
            Event::Resumed(op)
        });
    }

    /// The pauses that are left before a model that ends by itself stays ended.
    pub(super) fn pauses(&mut self, model: &ModelId) -> Vec<Duration> {
        let now = self.ports.clock.uptime();
        let seen = self.ends_seen.entry(model.clone()).or_default();
        seen.retain(|at| now.saturating_sub(*at) < restart::WINDOW);
        restart::pauses(seen.len())
    }

    /// How the model that serves would be started again.
    pub(super) fn restart(&mut self) -> Option<Restart> {
        let model = self.lifecycle.live()?.held.instance.model.clone();
        let spec = self.spec_of(&model).filter(|_| self.closing.is_none())?;
        let pauses = self.pauses(&model);
        Some(Restart { spec, id: self.ports.clock.operation_id(), at: self.ports.clock.now(), pauses })
    }

    /// Notes how long each operation that began will take, and announces it where that is long.
    pub(super) fn expect(&mut self, effects: &[Effect]) {
        for effect in effects {
            let Effect::Began(view) = effect else { continue };
            let Some(to) = &view.to else { continue };
            let Some(expected) = self.ports.journal.expected(view.kind, to) else { continue };
            self.lifecycle.expect(view.id, expected);
            if expected >= WORTH_ANNOUNCING {
                let message = format!("loading {}: about {:.0} s", self.name_of(to), expected.as_secs_f64());
                self.notice(NoticeLevel::Info, message, None);
            }
        }
    }

    pub(super) fn first_answer(&mut self, id: &InstanceId, answer: &FirstAnswer) {
        let Some(live) = self.lifecycle.live().filter(|live| live.held.instance.id == *id) else { return };
        let name = self.name_of(&live.held.instance.model);
        if let Some((_, operation)) = self.loaded_by.filter(|(attempt, _)| *attempt == live.attempt) {
            self.ports.journal.first_answer(operation, answer);
        }
        let Some((_, context)) =
            self.context.as_mut().filter(|(_, context)| context.outcome == ContextOutcome::Pending)
        else {
            return;
        };
        let tokens = answer.tokens;
        let was_used = tokens.cached >= tokens.input.min(context.restored_tokens) / 2;
        context.outcome = match (answer.continues, was_used) {
            // Another conversation tells nothing, and nor does one that nothing is known of but that it is not cached.
            (Some(false), _) | (None, false) => return,
            (_, true) => ContextOutcome::Kept,
            (Some(true), false) => ContextOutcome::Lost,
        };
        context.prompt_tokens = Some(tokens.input);
        context.cached_tokens = Some(tokens.cached);
        if context.outcome == ContextOutcome::Lost {
            let message = format!(
                "{} tokens of conversation were brought back into {name}, but of {} tokens it read only {} from there",
                context.restored_tokens, tokens.input, tokens.cached
            );
            self.notice(NoticeLevel::Warning, message, None);
        }
        self.publish();
    }

    pub(super) fn open_session(&mut self, about: About, token: Option<Secret>) -> Result<OpenedSession> {
        if self.closing.is_some() {
            return Err(shutting_down());
        }
        if token.as_ref().is_some_and(|token| self.ends.tokens.borrow().is_known(token.expose())) {
            return Err(Error::new(
                Code::InvalidRequest,
                "the token is that of another session, or of one that has ended",
            )
            .hint("begin a new session"));
        }
        let token = token.map_or_else(|| self.ports.clock.secret(), Ok)?;
        let id = SessionId::of(&token);
        let About { label, workspace, model } = about;
        let session = SessionView { id: id.clone(), label, workspace, model, started_at: self.ports.clock.now() };
        self.change_tokens(|tokens| tokens.insert(&token, id));
        self.ports.journal.session(&session, None);
        self.sessions.push(session.clone());
        self.publish();
        Ok(OpenedSession { session, token })
    }

    pub(super) fn close_session(&mut self, id: &SessionId) -> Result<()> {
        let at = self.sessions.iter().position(|session| session.id == *id).ok_or_else(|| {
            Error::new(Code::NotFound, format!("no session `{id}` is attached"))
                .hint("`corral status` shows those that are")
        })?;
        let session = self.sessions.remove(at);
        self.change_tokens(|tokens| tokens.remove(id));
        self.ports.journal.session(&session, Some(self.ports.clock.now()));
        self.publish();
        Ok(())
    }

    fn change_tokens(&self, change: impl FnOnce(&mut SessionTokens)) {
        self.ends.tokens.send_modify(|tokens| change(Arc::make_mut(tokens)));
    }

    /// Why a request for the sake of others is not taken.
    pub(super) fn busy(&self) -> Error {
        let what = match self.lifecycle.operation() {
            Some(OperationView { to: Some(to), .. }) => format!("`{to}` is being loaded"),
            Some(_) => "the model is being stopped".to_owned(),
            None => "what was in progress is being cleared away".to_owned(),
        };
        Error::new(Code::Busy, what).hint("ask again when that has ended")
    }
}

fn too_slow(what: &str) -> Error {
    Error::new(Code::Io, format!("{what} the conversations took longer than {} s", KEEPING.as_secs()))
        .hint("a faster disk, or a smaller `ctx`; `keep_context = false` does without")
}
