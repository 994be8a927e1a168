//! What surfaces ask of the controller, and what they get.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use crate::catalog::{Catalog, Reading};
use crate::error::{Code, Error, ErrorBody, Result};
use crate::fit::FitView;
use crate::id::{InstanceId, ModelId, OperationId, Secret};
use crate::ports::FirstAnswer;
use crate::session::{About, SessionId, SessionTokens};
use crate::snapshot::{Notice, NoticeLevel, OperationKind, OperationView, SessionView, Snapshot};

/// What a surface asks of the controller.
#[derive(Debug)]
pub enum Command {
    /// Load a model where none is.
    Start {
        /// An id or alias; none means the one used last, else the first of the catalog.
        model: Option<String>,
        /// Leave an operation in progress alone: [`Code::Busy`] where there is one.
        unless_busy: bool,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<Accepted>>,
    },
    /// Unload.
    Stop {
        /// Cut running requests rather than let them end.
        force: bool,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<Accepted>>,
    },
    /// Replace the loaded model, or load one where none is.
    Switch {
        /// An id or alias.
        model: String,
        /// Cut running requests rather than let them end, and load what does not fit all the same.
        force: bool,
        /// Leave an operation in progress alone: [`Code::Busy`] where there is one.
        unless_busy: bool,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<Accepted>>,
    },
    /// Unload a model because nobody uses it. [`Code::Busy`] where it is not loaded or an operation is in progress.
    Unload {
        /// The model that is thought to be loaded.
        model: ModelId,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<Accepted>>,
    },
    /// Attach a session.
    OpenSession {
        /// What people are told of it.
        about: About,
        /// The token that an earlier daemon gave it, or none for a new one. [`Code::InvalidRequest`] where this daemon
        /// knows it already.
        token: Option<Secret>,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<OpenedSession>>,
    },
    /// Detach a session; its token is no longer taken. [`Code::NotFound`] where there is none of that id.
    CloseSession {
        /// Which.
        id: SessionId,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<()>>,
    },
    /// A server has given its first answer since it was loaded.
    FirstAnswer {
        /// Which server.
        instance: InstanceId,
        /// The answer.
        answer: FirstAnswer,
    },
    /// Tell people something.
    Tell {
        /// How loud.
        level: NoticeLevel,
        /// One sentence.
        message: String,
        /// The error behind it.
        error: Option<Error>,
    },
    /// Say what a switch would do, and do nothing.
    DryRun {
        /// An id or alias.
        model: String,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<SwitchPlan>>,
    },
    /// Say of each model of the catalog whether it fits into the memory there is. What cannot be told is left out.
    Fits {
        /// Where the answer goes.
        reply: oneshot::Sender<HashMap<ModelId, FitView>>,
    },
    /// A new reading of the catalog file.
    Catalog(Box<Reading>),
    /// End: stop what runs, or leave it.
    Shutdown {
        /// Leave the model running; the next start of Corral adopts it.
        keep: bool,
        /// Answered when everything is done.
        reply: oneshot::Sender<()>,
    },
}

/// An operation that was accepted, and its end.
#[derive(Debug)]
pub struct Accepted {
    /// The operation as it began.
    pub operation: OperationView,
    /// Answered exactly once, however it ends.
    pub end: oneshot::Receiver<Result<OperationResult>>,
}

/// A session that was attached, and the token that its requests carry.
#[derive(Debug, Clone)]
pub struct OpenedSession {
    /// The session.
    pub session: SessionView,
    /// Its token.
    pub token: Secret,
}

/// How an operation ended well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OperationResult {
    /// The operation's id.
    pub id: OperationId,
    /// What kind of change.
    pub kind: OperationKind,
    /// The model that served before.
    pub from: Option<ModelId>,
    /// The model that serves now.
    pub to: Option<ModelId>,
    /// When it was asked for.
    pub started_at: Timestamp,
    /// When it had ended.
    pub ended_at: Timestamp,
    /// How many milliseconds it took, whatever the time of day did meanwhile.
    pub took_ms: u64,
    /// Where `llama-server` answers now.
    pub url: Option<String>,
}

/// What a switch would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SwitchPlan {
    /// The model that serves now.
    pub from: Option<ModelId>,
    /// The model that would serve.
    pub to: ModelId,
    /// Nothing would change: the model is loaded with its present configuration.
    pub already_loaded: bool,
    /// Sessions attached to the present model.
    pub sessions: u32,
    /// Requests that the present model works on or has queued; they would be let end, or cut with `force`.
    pub requests_running: u32,
    /// Whether the model fits, given what the present one gives back; none where that cannot be told.
    #[serde(default)]
    pub fit: Option<FitView>,
    /// Why it would fail, where that can be told without trying.
    pub problem: Option<ErrorBody>,
}

/// The one way to the controller. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ControllerHandle {
    commands: mpsc::Sender<Command>,
    snapshot: watch::Receiver<Arc<Snapshot>>,
    catalog: watch::Receiver<Arc<Catalog>>,
    tokens: watch::Receiver<Arc<SessionTokens>>,
    notices: broadcast::Sender<Notice>,
}

/// The controller's side of a [`ControllerHandle`].
#[derive(Debug)]
pub struct ControllerEnds {
    /// What surfaces ask for; bounded, so that a flood waits rather than grows.
    pub commands: mpsc::Receiver<Command>,
    /// Where the truth goes.
    pub snapshot: watch::Sender<Arc<Snapshot>>,
    /// Where the catalog in force goes.
    pub catalog: watch::Sender<Arc<Catalog>>,
    /// Where the tokens of the sessions attached go.
    pub tokens: watch::Sender<Arc<SessionTokens>>,
    /// Where notices go.
    pub notices: broadcast::Sender<Notice>,
}

/// A handle and the ends that a controller, or a test in its place, holds.
pub fn channel(snapshot: Snapshot, catalog: Catalog) -> (ControllerHandle, ControllerEnds) {
    let (command_tx, commands) = mpsc::channel(256);
    let (snapshot_tx, snapshot_rx) = watch::channel(Arc::new(snapshot));
    let (catalog_tx, catalog_rx) = watch::channel(Arc::new(catalog));
    let (tokens_tx, tokens) = watch::channel(Arc::default());
    let (notices, _) = broadcast::channel(64);
    let handle = ControllerHandle {
        commands: command_tx,
        snapshot: snapshot_rx,
        catalog: catalog_rx,
        tokens,
        notices: notices.clone(),
    };
    (handle, ControllerEnds { commands, snapshot: snapshot_tx, catalog: catalog_tx, tokens: tokens_tx, notices })
}

impl ControllerHandle {
    /// The present truth.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.borrow().clone()
    }

    /// The present truth and every later one; a slow reader sees only the newest.
    pub fn watch_snapshot(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshot.clone()
    }

    /// The catalog in force.
    pub fn catalog(&self) -> Arc<Catalog> {
        self.catalog.borrow().clone()
    }

    /// The catalog in force and every later one.
    pub fn watch_catalog(&self) -> watch::Receiver<Arc<Catalog>> {
        self.catalog.clone()
    }

    /// Whose token this is.
    pub fn session_of(&self, token: &str) -> Option<SessionId> {
        self.tokens.borrow().session(token).cloned()
    }

    /// Whether this is, or was, the token of a session.
    pub fn is_session_token(&self, token: &str) -> bool {
        self.tokens.borrow().is_known(token)
    }

    /// Notices from now on.
    pub fn notices(&self) -> broadcast::Receiver<Notice> {
        self.notices.subscribe()
    }

    /// Asks for a model where none is loaded.
    pub async fn start(&self, model: Option<String>) -> Result<Accepted> {
        self.ask(|reply| Command::Start { model, unless_busy: false, reply }).await?
    }

    /// Asks for the model used last, for the sake of a request; an operation in progress goes first.
    pub async fn start_for_request(&self) -> Result<Accepted> {
        self.ask(|reply| Command::Start { model: None, unless_busy: true, reply }).await?
    }

    /// Asks to unload.
    pub async fn stop(&self, force: bool) -> Result<Accepted> {
        self.ask(|reply| Command::Stop { force, reply }).await?
    }

    /// Asks for another model.
    pub async fn switch(&self, model: String, force: bool) -> Result<Accepted> {
        self.ask(|reply| Command::Switch { model, force, unless_busy: false, reply }).await?
    }

    /// Asks for another model for the sake of a request that waits for it; an operation in progress goes first.
    pub async fn switch_for_request(&self, model: &ModelId) -> Result<Accepted> {
        let model = model.to_string();
        self.ask(|reply| Command::Switch { model, force: false, unless_busy: true, reply }).await?
    }

    /// Asks to unload a model that nobody uses.
    pub async fn unload(&self, model: ModelId) -> Result<Accepted> {
        self.ask(|reply| Command::Unload { model, reply }).await?
    }

    /// Attaches a session.
    pub async fn open_session(&self, label: Option<String>) -> Result<OpenedSession> {
        let about = About::label(label);
        self.ask(|reply| Command::OpenSession { about, token: None, reply }).await?
    }

    /// Attaches a session that has a token already, from an earlier daemon.
    pub async fn resume_session(&self, about: About, token: Secret) -> Result<OpenedSession> {
        self.ask(|reply| Command::OpenSession { about, token: Some(token), reply }).await?
    }

    /// Detaches a session.
    pub async fn close_session(&self, id: SessionId) -> Result<()> {
        self.ask(|reply| Command::CloseSession { id, reply }).await?
    }

    /// Reports the first answer that a server has given since it was loaded.
    pub async fn first_answer(&self, instance: InstanceId, answer: FirstAnswer) -> Result<()> {
        self.commands.send(Command::FirstAnswer { instance, answer }).await.map_err(|_| gone())
    }

    /// Tells people something.
    pub async fn tell(&self, level: NoticeLevel, message: String, error: Option<Error>) -> Result<()> {
        self.commands.send(Command::Tell { level, message, error }).await.map_err(|_| gone())
    }

    /// Asks what a switch would do.
    pub async fn dry_run(&self, model: String) -> Result<SwitchPlan> {
        self.ask(|reply| Command::DryRun { model, reply }).await?
    }

    /// Asks of all models of the catalog whether they fit. What cannot be told is left out.
    pub async fn fits(&self) -> Result<HashMap<ModelId, FitView>> {
        self.ask(|reply| Command::Fits { reply }).await
    }

    /// Hands over a new reading of the catalog file.
    pub async fn catalog_read(&self, reading: Reading) -> Result<()> {
        self.commands.send(Command::Catalog(Box::new(reading))).await.map_err(|_| gone())
    }

    /// Ends the controller.
    pub async fn shut_down(&self, keep: bool) -> Result<()> {
        self.ask(|reply| Command::Shutdown { keep, reply }).await
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())
    }
}

fn gone() -> Error {
    Error::new(Code::ShuttingDown, "Corral is shutting down").hint("start it again with `corral serve`")
}
