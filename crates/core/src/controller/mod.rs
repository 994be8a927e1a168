//! The one owner of the state: takes commands and events in turn, lets the [`Lifecycle`] decide, carries its effects
//! out through the ports, and publishes one [`Snapshot`].

mod effects;
mod memory;
mod service;
mod view;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::catalog::{Catalog, Reading};
use crate::command::{self, Accepted, Command, ControllerEnds, ControllerHandle, OperationResult};
use crate::error::{Code, Error, Result};
use crate::id::{InstanceId, ModelId, OperationId};
use crate::launch::LaunchSpec;
use crate::lifecycle::{Attempt, Event, Lifecycle, Request};
use crate::ports::{EngineEvent, Ports};
use crate::snapshot::{ContextView, OperationKind, SessionView};

/// How long an adopted instance may take to load when the catalog no longer says.
const DEFAULT_LOAD_TIMEOUT: Duration = Duration::from_mins(10);

/// How long an engine that could not say what it holds is left in peace.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// What the controller is told once.
#[derive(Debug, Clone)]
pub struct ControllerConfig {
    /// Corral's version.
    pub version: String,
    /// The catalog file, for people to see.
    pub catalog_path: PathBuf,
    /// The inference gateway's address, where one serves.
    pub gateway: Option<String>,
}

/// The actor. [`Controller::run`] ends when it was shut down.
pub struct Controller {
    config: ControllerConfig,
    ports: Ports,
    ends: ControllerEnds,
    lifecycle: Lifecycle,
    catalog: Arc<Catalog>,
    /// Of the catalog in force: when it came, in milliseconds since 1970, or one more than the one before.
    revision: u64,
    problems: Vec<Error>,
    events: mpsc::UnboundedSender<Event>,
    results: mpsc::UnboundedReceiver<Event>,
    waiters: HashMap<OperationId, oneshot::Sender<Result<OperationResult>>>,
    /// Tells the long jobs of an operation that it has ended.
    operations: HashMap<OperationId, CancellationToken>,
    /// Tells the waits of an attempt that nobody needs them any more.
    attempts: HashMap<Attempt, CancellationToken>,
    /// The instance whose key is in the endpoint file, and the file.
    published: Option<(InstanceId, Option<String>)>,
    /// The attempt that requests go to.
    open: Option<Attempt>,
    /// How long the steps of the operation in progress took.
    steps: service::Steps,
    /// What was saved and brought back for its sake.
    kept: service::Kept,
    /// The attempt that conversations were brought back into, and what became of them.
    context: Option<(Attempt, ContextView)>,
    /// The attempt that serves, and the operation that started it.
    loaded_by: Option<(Attempt, OperationId)>,
    /// What ended while it served, and why, until something serves again.
    crashed: Option<(ModelId, Error)>,
    /// When servers ended by themselves, by the clock that never jumps.
    ends_seen: HashMap<ModelId, Vec<Duration>>,
    sessions: Vec<SessionView>,
    tasks: TaskTracker,
    /// Ends the look at the engine that is pending, if one is.
    looking: CancellationToken,
    closing: Option<Closing>,
}

/// A shutdown under way.
struct Closing {
    keep: bool,
    reply: oneshot::Sender<()>,
}

impl Controller {
    /// A controller over these ports. Where the catalog cannot be read at all, `fallback` is in force until it can.
    pub fn new(
        config: ControllerConfig,
        ports: Ports,
        reading: Reading,
        fallback: Catalog,
    ) -> (ControllerHandle, Self) {
        let catalog = Arc::new(reading.catalog.unwrap_or(fallback));
        let (events, results) = mpsc::unbounded_channel();
        let lifecycle = Lifecycle::new(ports.journal.wanted());
        let revision = revision(&ports, 0);
        let beside = view::Beside { revision, ..view::Beside::default() };
        let snapshot = view::snapshot(&config, &lifecycle, &catalog, &reading.problems, beside);
        let (handle, ends) = command::channel(snapshot, Catalog::clone(&catalog));
        let controller = Self {
            config,
            ports,
            ends,
            lifecycle,
            catalog,
            revision,
            problems: reading.problems,
            events,
            results,
            waiters: HashMap::new(),
            operations: HashMap::new(),
            attempts: HashMap::new(),
            published: None,
            open: None,
            steps: service::Steps::default(),
            kept: service::Kept::default(),
            context: None,
            loaded_by: None,
            crashed: None,
            ends_seen: HashMap::new(),
            sessions: Vec::new(),
            tasks: TaskTracker::new(),
            looking: CancellationToken::new(),
            closing: None,
        };
        (handle, controller)
    }

    /// Takes over what the engine holds, then serves until it is shut down or every handle is gone.
    pub async fn run(mut self) {
        let mut engine_events = self.ports.engine.events();
        let found = self.find().await;
        self.apply(found);
        loop {
            tokio::select! {
                // What was done is known before what happened, and both before what is asked next.
                biased;
                Some(event) = self.results.recv() => self.apply(event),
                Some(event) = engine_events.recv() => self.engine_event(event),
                command = self.ends.commands.recv() => match command {
                    Some(command) => self.command(command),
                    None => break,
                },
            }
            let may_end = |closing: &Closing| {
                if closing.keep { self.lifecycle.may_be_left() } else { self.lifecycle.is_at_rest() }
            };
            if self.closing.as_ref().is_some_and(may_end) {
                break;
            }
        }
        self.close().await;
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Start { unless_busy: true, reply, .. } | Command::Switch { unless_busy: true, reply, .. }
                if !self.lifecycle.is_at_rest() =>
            {
                let _ = reply.send(Err(self.busy()));
            }
            Command::Start { model, reply, .. } => {
                let spec = model.map_or_else(|| self.usual_model(), |name| self.resolve(&name));
                let accepted = spec.and_then(|spec| self.submit(OperationKind::Start, Some(spec), false));
                let _ = reply.send(accepted);
            }
            Command::Stop { force, reply } => {
                let _ = reply.send(self.submit(OperationKind::Stop, None, force));
            }
            Command::Switch { model, force, reply, .. } => {
                let accepted =
                    self.resolve(&model).and_then(|spec| self.submit(OperationKind::Switch, Some(spec), force));
                let _ = reply.send(accepted);
            }
            Command::Unload { model, reply } => {
                let loaded = self.lifecycle.live().is_some_and(|live| live.held.instance.model == model);
                let free = loaded && self.lifecycle.is_at_rest();
                let accepted = if free { self.submit(OperationKind::Unload, None, false) } else { Err(self.busy()) };
                let _ = reply.send(accepted);
            }
            Command::OpenSession { about, token, reply } => {
                let _ = reply.send(self.open_session(about, token));
            }
            Command::CloseSession { id, reply } => {
                let _ = reply.send(self.close_session(&id));
            }
            Command::FirstAnswer { instance, answer } => self.first_answer(&instance, &answer),
            Command::Tell { level, message, error } => self.notice(level, message, error.as_ref()),
            Command::DryRun { model, reply } => self.dry_run(&model, reply),
            Command::Fits { reply } => self.fits(reply),
            Command::Catalog(reading) => {
                self.problems = reading.problems;
                // Their order is part of it, which their map leaves out.
                let is_same = |new: &Catalog, old: &Catalog| new == old && new.models.keys().eq(old.models.keys());
                if let Some(catalog) = reading.catalog
                    && !is_same(&catalog, &self.catalog)
                {
                    self.catalog = Arc::new(catalog);
                    self.revision = revision(&self.ports, self.revision);
                    self.ends.catalog.send_replace(self.catalog.clone());
                }
                self.publish();
            }
            Command::Shutdown { keep, reply } => {
                self.closing = Some(Closing { keep, reply });
                self.looking.cancel();
                if keep {
                    let effects = self.lifecycle.settle(&shutting_down());
                    self.carry_out(effects);
                    return;
                }
                let effects = self.lifecycle.abandon(&shutting_down());
                self.carry_out(effects);
                if self.lifecycle.holds_something() {
                    let _ = self.request(OperationKind::Stop, None, true);
                } else {
                    self.ports.journal.want(None);
                }
            }
        }
    }

    /// The model that a start without a name means.
    fn usual_model(&self) -> Result<Arc<LaunchSpec>> {
        let last = self.ports.journal.last_served();
        let last = last.and_then(|id| self.catalog.models.get(&id));
        let usual = last.or_else(|| self.catalog.models.values().next());
        usual.map(|model| Arc::new(model.launch.clone())).ok_or_else(|| {
            Error::new(Code::CatalogInvalid, "the catalog has no model that can be used")
                .hint(format!("add one to {}; `corral check` says what is wrong", self.config.catalog_path.display()))
        })
    }

    fn resolve(&self, name: &str) -> Result<Arc<LaunchSpec>> {
        let (_, model) = self.catalog.resolve(name)?;
        Ok(Arc::new(model.launch.clone()))
    }

    fn spec_of(&self, id: &ModelId) -> Option<Arc<LaunchSpec>> {
        self.catalog.models.get(id).map(|model| Arc::new(model.launch.clone()))
    }

    fn submit(&mut self, kind: OperationKind, spec: Option<Arc<LaunchSpec>>, force: bool) -> Result<Accepted> {
        if self.closing.is_some() {
            return Err(shutting_down());
        }
        self.request(kind, spec, force)
    }

    fn request(&mut self, kind: OperationKind, spec: Option<Arc<LaunchSpec>>, force: bool) -> Result<Accepted> {
        let id = self.ports.clock.operation_id();
        let at = self.ports.clock.now();
        let effects = self.lifecycle.request(Request { id, kind, spec, force, at })?;
        self.expect(&effects);
        let began = effects.iter().find_map(|effect| match effect {
            crate::lifecycle::Effect::Began(view) if view.id == id => Some(view.clone()),
            _ => None,
        });
        let operation = began.ok_or_else(|| Error::new(Code::Internal, "an operation began without a trace"))?;
        let (end_tx, end) = oneshot::channel();
        self.waiters.insert(id, end_tx);
        self.publish();
        self.carry_out(effects);
        Ok(Accepted { operation, end })
    }

    fn apply(&mut self, mut event: Event) {
        match &mut event {
            // Nothing is adopted or brought back by a program that is about to end.
            Event::Found { .. } | Event::NotFound(_) if self.closing.is_some() => return,
            Event::NotFound(_) => self.look(LOOK_AGAIN),
            // As it is wanted and configured now, not when the engine was asked.
            Event::Found { wanted, pauses, .. } => {
                *wanted = self.wanted();
                *pauses = wanted.as_ref().map(|spec| self.pauses(&spec.model)).unwrap_or_default();
            }
            Event::Exited { restart, .. } => *restart = self.restart(),
            Event::Loaded(attempt, result) => {
                drop(self.attempts.remove(attempt));
                if result.is_ok() {
                    self.learn_from_load(*attempt);
                }
            }
            // Its wait for memory is over.
            Event::Started(attempt, _) | Event::NotStarted(attempt) => drop(self.attempts.remove(attempt)),
            Event::Drained(attempt) | Event::Saved(attempt, _) | Event::Restored(attempt, _) => {
                drop(self.attempts.remove(attempt));
                self.kept(&event);
            }
            _ => {}
        }
        let effects = self.lifecycle.apply(event);
        self.expect(&effects);
        // Published first: whoever is told that it ended must find that true.
        self.publish();
        self.carry_out(effects);
    }

    fn engine_event(&mut self, event: EngineEvent) {
        match event {
            EngineEvent::Exited { instance, at, cause } => {
                self.apply(Event::Exited { instance, at, cause, restart: None });
            }
            EngineEvent::Lost { runtime, cause } => self.apply(Event::EngineLost { runtime, cause }),
            EngineEvent::Back { .. } => self.look(Duration::ZERO),
        }
    }

    /// Asks the engine what it holds, after a while.
    fn look(&mut self, after: Duration) {
        // One at a time: the newest knows best.
        self.looking.cancel();
        self.looking = CancellationToken::new();
        let (find, events, clock) = (self.find(), self.events.clone(), self.ports.clock.clone());
        let cancelled = self.looking.clone();
        self.tasks.spawn(async move {
            let found = async {
                if !after.is_zero() {
                    clock.sleep(after).await;
                }
                find.await
            };
            if let Some(found) = cancelled.run_until_cancelled(found).await {
                let _ = events.send(found);
            }
        });
    }

    /// The model that should be running, as it is configured now.
    fn wanted(&self) -> Option<Arc<LaunchSpec>> {
        self.ports.journal.wanted().and_then(|id| self.spec_of(&id))
    }

    /// Asks the engine what it holds.
    fn find(&self) -> impl Future<Output = Event> + Send + use<> {
        let ports = self.ports.clone();
        let catalog = self.catalog.clone();
        async move {
            match ports.engine.owned().await {
                Ok(owned) => {
                    let bounded = owned.into_iter().map(|owned| {
                        let model = catalog.models.get(&owned.instance.model);
                        (owned, model.map_or(DEFAULT_LOAD_TIMEOUT, |model| model.launch.load_timeout))
                    });
                    let id = ports.clock.operation_id();
                    let (owned, at) = (bounded.collect(), ports.clock.now());
                    Event::Found { owned, wanted: None, id, at, pauses: Vec::new() }
                }
                Err(cause) => Event::NotFound(cause),
            }
        }
    }

    /// The last things: callers answered, idle instances removed, results of what is under way awaited.
    async fn close(mut self) {
        let effects = self.lifecycle.abandon(&shutting_down());
        self.carry_out(effects);
        if self.closing.as_ref().is_none_or(|closing| !closing.keep) {
            self.ports.endpoint_file.publish(None);
        }
        for instance in self.lifecycle.idle_instances() {
            self.carry_out(vec![crate::lifecycle::Effect::Discard(instance)]);
        }
        for token in self.operations.values().chain(self.attempts.values()) {
            token.cancel();
        }
        self.tasks.close();
        self.tasks.wait().await;
        if let Some(closing) = self.closing {
            let _ = closing.reply.send(());
        }
    }
}

/// The revision of a catalog that comes now, after the one of this revision.
fn revision(ports: &Ports, before: u64) -> u64 {
    u64::try_from(ports.clock.now().as_millisecond()).unwrap_or_default().max(before + 1)
}

fn shutting_down() -> Error {
    Error::new(Code::ShuttingDown, "Corral is shutting down").hint("ask again once it runs: `corral serve`")
}
