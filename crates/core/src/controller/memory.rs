//! What the controller asks about memory: before a load, between two servers, and when a load has ended.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{broadcast, oneshot};

use super::Controller;
use crate::command::SwitchPlan;
use crate::error::{Error, Result};
use crate::fit::{Ask, FitView, Load};
use crate::id::{ModelId, OperationId};
use crate::launch::LaunchSpec;
use crate::lifecycle::{Attempt, Event, Stage};
use crate::ports::{Instance, Ports};
use crate::snapshot::{Notice, NoticeLevel, Step};

/// How long a load waits for the verdict on its model. It is loaded without one then.
const JUDGED_WITHIN: Duration = Duration::from_secs(5);

/// How long GPU memory of a server that has ended is waited for.
const FREED_WITHIN: Duration = Duration::from_secs(10);

/// The first and the longest pause between two looks at it.
const FREED_PAUSES: (Duration, Duration) = (Duration::from_millis(25), Duration::from_millis(400));

/// Tells people something from within a task.
#[derive(Clone)]
pub(super) struct Tell {
    ports: Ports,
    notices: broadcast::Sender<Notice>,
}

impl Tell {
    pub(super) fn notice(&self, level: NoticeLevel, message: String, error: Option<&Error>) {
        let notice = Notice { at: self.ports.clock.now(), level, message, error: error.map(Error::body) };
        self.ports.notifier.notify(&notice);
        // Nobody may be listening.
        let _ = self.notices.send(notice);
    }
}

impl Controller {
    pub(super) fn tell(&self) -> Tell {
        Tell { ports: self.ports.clone(), notices: self.ends.notices.clone() }
    }

    fn live_instance(&self) -> Option<Instance> {
        self.lifecycle.live().map(|live| live.held.instance.clone())
    }

    /// What an instance was started with, where the catalog still says the same.
    pub(super) fn spec_of_instance(&self, instance: &Instance) -> Option<Arc<LaunchSpec>> {
        self.spec_of(&instance.model).filter(|spec| spec.hash() == instance.config_hash)
    }

    /// Says of each model of the catalog whether it fits.
    pub(super) fn fits(&self, reply: oneshot::Sender<HashMap<ModelId, FitView>>) {
        let specs: Vec<_> = self.catalog.models.values().map(|model| Arc::new(model.launch.clone())).collect();
        let (ports, leaving) = (self.ports.clone(), self.live_instance());
        self.tasks.spawn(async move {
            let given_back = given_back(&ports, leaving.as_ref());
            let fits = ports.memory.fits(&specs, given_back, Ask::List).await;
            let named = specs.iter().zip(fits).filter_map(|(spec, fit)| Some((spec.model.clone(), fit?)));
            // Whoever has gone away needs no answer.
            let _ = reply.send(named.collect());
        });
    }

    /// Says what a switch would do.
    pub(super) fn dry_run(&self, name: &str, reply: oneshot::Sender<Result<SwitchPlan>>) {
        let spec = match self.resolve(name) {
            Ok(spec) => spec,
            Err(error) => {
                let _ = reply.send(Err(error));
                return;
            }
        };
        let live = self.lifecycle.live().and_then(|live| match &live.stage {
            Stage::Ready(endpoint) => Some((live.held.instance.clone(), endpoint.clone())),
            _ => None,
        });
        let (ports, leaving) = (self.ports.clone(), self.live_instance());
        let sessions = u32::try_from(self.sessions.len()).unwrap_or(u32::MAX);
        self.tasks.spawn(async move {
            let already_loaded =
                live.as_ref().is_some_and(|(i, _)| i.model == spec.model && i.config_hash == spec.hash());
            let requests_running = match &live {
                Some((instance, endpoint)) => ports.engine.busy(instance, endpoint).await.unwrap_or(0),
                None => 0,
            };
            let (checked, fit) = tokio::join!(ports.files.check(&spec), fit(&ports, &spec, leaving.as_ref()));
            let refused = fit.as_ref().filter(|fit| fit.hopeless && !already_loaded);
            let refused = refused.map(|fit| fit.refusal(&spec.model));
            let problem = checked.err().or(refused).map(|error| error.body());
            let from = live.map(|(instance, _)| instance.model);
            let to = spec.model.clone();
            let plan = SwitchPlan { from, to, already_loaded, sessions, requests_running, fit, problem };
            let _ = reply.send(Ok(plan));
        });
    }

    /// Checks the files and the memory, and has an instance made. What surely does not fit is refused where that is
    /// asked for; else people are told of the doubt.
    pub(super) fn prepare(&mut self, op: OperationId, spec: Arc<LaunchSpec>, refuse: bool) {
        let job = self.job(op);
        let (tasks, tell, leaving) = (self.tasks.clone(), self.tell(), self.live_instance());
        let name = self.name_of(&spec.model);
        self.spawn(move |ports| async move {
            let (checked, fit) = tokio::join!(ports.files.check(&spec), fit(&ports, &spec, leaving.as_ref()));
            let refused = fit.as_ref().filter(|fit| fit.hopeless && refuse).map(|fit| fit.refusal(&spec.model));
            let result = match checked.err().or(refused) {
                None => {
                    if let Some(warning) = fit.and_then(|fit| fit.warning(&name)) {
                        tell.notice(NoticeLevel::Warning, warning, None);
                    }
                    let (files, ahead, until) = (ports.files.clone(), spec.clone(), job.clone());
                    tasks.spawn(async move { files.prefetch(&ahead, &until).await });
                    ports.engine.prepare(&spec, &job).await
                }
                Some(error) => Err(error),
            };
            Event::Prepared { op, result }
        });
    }

    /// Starts an instance, once no server before it holds GPU memory any more; not at all where nobody wants it by then.
    pub(super) fn start(&mut self, attempt: Attempt, instance: Instance) {
        let op = self.lifecycle.operation().map(|operation| operation.id);
        let unwanted = self.attempt_token(attempt);
        let (events, tell, spec) = (self.events.clone(), self.tell(), self.spec_of_instance(&instance));
        self.spawn(move |ports| async move {
            let at = |step| {
                if let Some(op) = op {
                    let _ = events.send(Event::Progress { op, step, progress: None });
                }
            };
            let waited = unwanted.run_until_cancelled(until_freed(&ports, || at(Step::Free))).await;
            let Some(holder) = waited.filter(|_| !unwanted.is_cancelled()) else { return Event::NotStarted(attempt) };
            if let Some(holder) = holder {
                let message = format!("GPU memory is not free {} s after the end: {holder}", FREED_WITHIN.as_secs());
                tell.notice(NoticeLevel::Warning, message, None);
            }
            at(Step::Start);
            let started = ports.engine.start(&instance).await;
            Event::Started(attempt, explained(&ports, spec.as_deref(), started).await)
        });
    }

    /// Stops an instance, and hears what it says of its memory in the end.
    pub(super) fn stop(&mut self, attempt: Attempt, instance: Instance) {
        let (spec, since) = (self.spec_of_instance(&instance), self.ports.clock.now());
        self.spawn(move |ports| async move {
            let result = ports.engine.stop(&instance).await;
            if let (Ok(()), Some(spec)) = (&result, spec) {
                learn(&ports, Load { instance: instance.id, spec, since, runs: false });
            }
            Event::Stopped(attempt, result)
        });
    }

    /// A server has loaded: what it took is learned from.
    pub(super) fn learn_from_load(&self, attempt: Attempt) {
        let Some(live) = self.lifecycle.live().filter(|live| live.attempt == attempt) else { return };
        let Stage::Loading(endpoint) = &live.stage else { return };
        let instance = &live.held.instance;
        let Some(spec) = self.spec_of_instance(instance) else { return };
        let (instance, since) = (instance.id.clone(), endpoint.started_at);
        learn(&self.ports, Load { instance, spec, since, runs: true });
    }
}

/// Nobody waits for it, not even the end of the program.
fn learn(ports: &Ports, load: Load) {
    let memory = ports.memory.clone();
    tokio::spawn(async move { memory.learn(load).await });
}

/// What an instance gives back of the host's memory when it ends, in bytes.
fn given_back(ports: &Ports, leaving: Option<&Instance>) -> u64 {
    leaving.and_then(|instance| ports.engine.memory(instance)).unwrap_or(0)
}

async fn fit(ports: &Ports, spec: &Arc<LaunchSpec>, leaving: Option<&Instance>) -> Option<FitView> {
    let given_back = given_back(ports, leaving);
    tokio::select! {
        biased;
        fits = ports.memory.fits(std::slice::from_ref(spec), given_back, Ask::Load) => fits.into_iter().next().flatten(),
        // A disk or a driver that hangs must not hold up a load that may not need it.
        () = ports.clock.sleep(JUDGED_WITHIN) => None,
    }
}

/// The result with the numbers that explain it, where memory was the reason.
pub(super) async fn explained<T>(ports: &Ports, spec: Option<&LaunchSpec>, result: Result<T>) -> Result<T> {
    match (result, spec) {
        (Err(error), Some(spec)) if FitView::may_explain(&error) => {
            // It has ended: what is free now was free for it.
            let fit = fit(ports, &Arc::new(spec.clone()), None).await;
            Err(fit.map_or_else(|| error.clone(), |fit| fit.explain(&error)))
        }
        (result, _) => result,
    }
}

/// Returns once no server of Corral's holds GPU memory; else, after a bound, who does. `waits` is called where that takes
/// a while.
async fn until_freed(ports: &Ports, waits: impl Fn()) -> Option<String> {
    let mut holder = None;
    let freed = async {
        let (mut pause, longest) = FREED_PAUSES;
        while let Some(who) = ports.memory.held().await {
            if holder.replace(who).is_none() {
                waits();
            }
            ports.clock.sleep(pause).await;
            pause = (pause * 2).min(longest);
        }
    };
    let in_time = tokio::select! {
        biased;
        () = freed => true,
        () = ports.clock.sleep(FREED_WITHIN) => false,
    };
    holder.filter(|_| !in_time)
}
