//! Carrying out what the lifecycle asks for. Each long one is a task whose result comes back as an event.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::memory::explained;
use super::service::cut;
use super::{Controller, service, view};
use crate::command::OperationResult;
use crate::error::{Code, Error, Result};
use crate::id::{ModelId, OperationId};
use crate::lifecycle::{Attempt, Effect, Event, Held};
use crate::ports::{Ended, Endpoint, Instance, Job, Ports};
use crate::snapshot::{NoticeLevel, OperationKind, OperationView};

/// The first and the longest pause between two looks at whether requests still run.
const DRAIN_PAUSES: (Duration, Duration) = (Duration::from_millis(25), Duration::from_millis(500));

impl Controller {
    pub(super) fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Began(view) => self.ports.journal.began(&view),
                Effect::Prepare { op, spec, refuse } => self.prepare(op, spec, refuse),
                Effect::CancelPrepare(op) => self.cancel_operation(op),
                Effect::Start(attempt, instance) => self.start(attempt, instance),
                Effect::AwaitReady { attempt, op, held, endpoint } => self.await_ready(attempt, op, held, endpoint),
                Effect::Drain(attempt, instance, endpoint) => self.drain(attempt, instance, endpoint),
                Effect::Save(attempt, instance, endpoint) => self.save(attempt, instance, endpoint),
                Effect::Restore(attempt, instance, endpoint) => self.restore(attempt, instance, endpoint),
                Effect::Pause(op, pause) => self.pause(op, pause),
                Effect::CancelAttempt(attempt) => {
                    if let Some(token) = self.attempts.remove(&attempt) {
                        token.cancel();
                    }
                }
                Effect::Stop(attempt, instance) => {
                    self.ports.traffic.cut(&cut());
                    self.stop(attempt, instance);
                }
                Effect::Remove(attempt, instance) => {
                    self.spawn(
                        move |ports| async move { Event::Removed(attempt, ports.engine.discard(&instance).await) },
                    );
                }
                Effect::LookAgain => self.look(Duration::ZERO),
                Effect::Discard(instance) => {
                    let engine = self.ports.engine.clone();
                    self.tasks.spawn(async move {
                        if let Err(error) = engine.discard(&instance).await {
                            tracing::warn!(instance = %instance.id, %error, "could not remove an instance");
                        }
                    });
                }
                Effect::Finish { operation, result } => self.finish(operation, result),
                Effect::Want(model) => self.ports.journal.want(model.as_ref()),
                Effect::Crashed(model, cause) => {
                    let message = format!("{} stopped: {cause}", self.name_of(&model));
                    self.notice(NoticeLevel::Error, message, Some(&cause));
                    self.crashed = Some((model, cause));
                }
            }
        }
    }

    pub(super) fn spawn<F, Fut>(&self, work: F)
    where
        F: FnOnce(Ports) -> Fut,
        Fut: Future<Output = Event> + Send + 'static,
    {
        let events = self.events.clone();
        let work = work(self.ports.clone());
        self.tasks.spawn(async move {
            let _ = events.send(work.await);
        });
    }

    pub(super) fn job(&mut self, op: OperationId) -> Job {
        let events = self.events.clone();
        let token = self.operations.entry(op).or_default().clone();
        let report = move |step, progress| {
            let _ = events.send(Event::Progress { op, step, progress });
        };
        Job::new(report, token)
    }

    fn cancel_operation(&mut self, op: OperationId) {
        if let Some(token) = self.operations.remove(&op) {
            token.cancel();
        }
    }

    /// A job that ends with the attempt. It reports progress as the operation's.
    fn attempt_job(&mut self, attempt: Attempt, op: OperationId) -> Job {
        let mut job = self.job(op);
        job.cancelled = self.attempt_token(attempt);
        job
    }

    pub(super) fn attempt_token(&mut self, attempt: Attempt) -> CancellationToken {
        let token = CancellationToken::new();
        self.attempts.insert(attempt, token.clone());
        token
    }

    fn await_ready(&mut self, attempt: Attempt, op: OperationId, held: Held, endpoint: Endpoint) {
        let job = self.attempt_job(attempt, op);
        let (ports, events, spec) = (self.ports.clone(), self.events.clone(), self.spec_of_instance(&held.instance));
        self.tasks.spawn(async move {
            let result = ports.engine.await_ready(&held.instance, &endpoint, held.load_timeout, &job).await;
            let result = explained(&ports, spec.as_deref(), result).await;
            if !job.cancelled.is_cancelled() {
                let _ = events.send(Event::Loaded(attempt, result));
            }
        });
    }

    fn drain(&mut self, attempt: Attempt, instance: Instance, endpoint: Endpoint) {
        let token = self.attempt_token(attempt);
        let bound = self.catalog.gateway.drain_timeout;
        let (ports, events) = (self.ports.clone(), self.events.clone());
        self.tasks.spawn(async move {
            tokio::select! {
                () = token.cancelled() => return,
                () = ports.clock.sleep(bound) => {}
                // Requests through the gateway are known exactly; llama-server knows those that went round it.
                () = async { ports.traffic.drained().await; until_idle(&ports, &instance, &endpoint).await } => {}
            }
            let _ = events.send(Event::Drained(attempt));
        });
    }

    fn finish(&mut self, operation: OperationView, result: Result<()>) {
        self.cancel_operation(operation.id);
        let at = self.ports.clock.now();
        let steps = self.steps.take(operation.id, self.ports.clock.uptime());
        let service::Kept { saved, restored } = std::mem::take(&mut self.kept);
        let error = result.as_ref().err().cloned();
        let ended = Ended { operation: operation.clone(), at, error, steps, saved, restored };
        // Not from the start to the end: the time of day may have been set in between.
        let took = ended.took().unwrap_or_default();
        let seconds = took.as_secs_f64();
        match (&result, self.crashed.take_if(|_| result.is_ok())) {
            // It takes the place of the notice that it crashed: the cause is still to be read.
            (Ok(()), Some((model, cause))) if operation.kind == OperationKind::Restart => {
                let name = self.name_of(&model);
                let message = format!("{name} stopped and was started again in {seconds:.1} s: {cause}");
                self.notice(NoticeLevel::Warning, message, Some(&cause));
            }
            (Ok(()), _) => {
                let message = match (operation.kind, &operation.from, &operation.to) {
                    (OperationKind::Stop, Some(from), _) => format!("{} stopped", self.name_of(from)),
                    (OperationKind::Stop, None, _) => "nothing was loaded".to_owned(),
                    (_, Some(from), Some(to)) if from != to => {
                        format!("switched from {} to {} in {seconds:.1} s", self.name_of(from), self.name_of(to))
                    }
                    (OperationKind::Unload, Some(from), _) => {
                        format!("{} was unloaded: nobody has used it for a while", self.name_of(from))
                    }
                    (OperationKind::Restore | OperationKind::Restart, _, Some(to)) => {
                        format!("{} serves again", self.name_of(to))
                    }
                    (_, _, Some(to)) => format!("{} is ready after {seconds:.1} s", self.name_of(to)),
                    (_, _, None) => "done".to_owned(),
                };
                self.notice(NoticeLevel::Info, message, None);
            }
            (Err(error), _) if matches!(error.code(), Code::Superseded | Code::ShuttingDown) => {}
            (Err(error), _) => self.notice(NoticeLevel::Error, error.to_string(), Some(error)),
        }
        if result.is_ok() {
            self.loaded_by = self.lifecycle.live().map(|live| (live.attempt, operation.id));
        }
        self.ports.journal.ended(&ended);
        let Some(waiter) = self.waiters.remove(&operation.id) else { return };
        let url = self.lifecycle.live().and_then(view::endpoint).map(|endpoint| endpoint.url.clone());
        let OperationView { id, kind, from, to, started_at, .. } = operation;
        let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let _ = waiter.send(result.map(|()| OperationResult {
            id,
            kind,
            from,
            to,
            started_at,
            ended_at: at,
            took_ms,
            url,
        }));
    }

    pub(super) fn name_of(&self, model: &ModelId) -> String {
        self.catalog.models.get(model).map_or_else(|| model.to_string(), |entry| entry.name.clone())
    }

    pub(super) fn notice(&self, level: NoticeLevel, message: String, error: Option<&Error>) {
        self.tell().notice(level, message, error);
    }
}

/// Returns once no request runs. An engine that cannot say is taken for idle: there is nothing to wait for.
pub(super) async fn until_idle(ports: &Ports, instance: &Instance, endpoint: &Endpoint) {
    let (mut pause, longest) = DRAIN_PAUSES;
    while ports.engine.busy(instance, endpoint).await.is_ok_and(|requests| requests > 0) {
        ports.clock.sleep(pause).await;
        pause = (pause * 2).min(longest);
    }
}
