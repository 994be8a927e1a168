//! A gate, a real controller over fakes, and the scheduler between them, on paused time.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use corral_core::catalog::{Catalog, Reading, Surroundings};
use corral_core::command::{Accepted, ControllerHandle};
use corral_core::controller::{Controller, ControllerConfig};
use corral_core::ports::Clock;
use corral_core::snapshot::{Phase, Snapshot};
use corral_core::{Code, Error, ModelId, Result};
use corral_testkit::fakes::{FakeEngine, Memory, ports};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::traffic::{Ask, Gate, Limits, Pass};

pub(super) fn limits() -> Limits {
    Limits::new(512, Duration::from_mins(15))
}

/// Three models, one of which is unloaded when nobody uses it.
const MODELS: &str = "[models.a]\nfile = \"a.gguf\"\n[models.b]\nfile = \"b.gguf\"\n[models.c]\nfile = \"c.gguf\"\n\
                      [models.idle]\nfile = \"idle.gguf\"\nidle_unload = \"1m\"\n";

pub(super) struct World {
    pub(super) engine: Arc<FakeEngine>,
    pub(super) memory: Arc<Memory>,
    pub(super) controller: ControllerHandle,
    pub(super) gate: Gate,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) shutdown: CancellationToken,
    pub(super) scheduler: JoinHandle<()>,
    answered: Answered,
}

type Answered = Arc<Mutex<Vec<String>>>;

fn request(gate: &Gate, answered: &Answered, label: &str, text: &str) {
    let (gate, ask, label, answered) = (gate.clone(), ask(text), label.to_owned(), answered.clone());
    tokio::spawn(async move {
        let by = match gate.admit(&ask, &limits()).await {
            Ok(pass) => pass.upstream().model.to_string(),
            Err(error) => error.code().as_str(),
        };
        answered.lock().expect("not poisoned").push(format!("{label} {by}"));
    });
}

pub(super) fn read(gateway: &str) -> Reading {
    let surroundings =
        Surroundings { path: "models.toml".into(), home: "/home/u".into(), models_dir: "/models".into() };
    Catalog::read(&format!("schema = 1\n[gateway]\n{gateway}\n{MODELS}"), &surroundings)
}

/// A request for `a`; for `*`, whatever is loaded; `!` at the end is a session's.
pub(super) fn ask(text: &str) -> Ask {
    let name = text.trim_end_matches('!');
    let model = (name != "*").then(|| ModelId::new(name).expect("a model id"));
    Ask { model, session: text.ends_with('!') }
}

/// Lets everything happen that needs no time.
pub(super) async fn settle() {
    pass_time(Duration::ZERO).await;
}

/// Lets this much time pass, and everything happen in it, what is due at its very end included.
pub(super) async fn pass_time(time: Duration) {
    tokio::time::sleep(time + Duration::from_millis(1)).await;
}

pub(super) fn out_of_memory() -> Error {
    Error::new(Code::OutOfMemory, "the GPU's memory ran out").hint("a smaller `ctx`")
}

impl World {
    pub(super) fn new(gateway: &str) -> Self {
        Self::asked_early(gateway, Arc::default(), &[])
    }

    /// A world where these requests come, and the scheduler sees them, before the controller knows what runs.
    pub(super) fn asked_early(gateway: &str, memory: Arc<Memory>, requests: &[(&str, &str)]) -> Self {
        let engine = Arc::<FakeEngine>::default();
        let mut ports = ports(&engine, &memory);
        let clock = ports.clock.clone();
        let gate = Gate::new(clock.clone());
        ports.traffic = Arc::new(gate.clone());
        let config = ControllerConfig { version: "1".into(), catalog_path: "models.toml".into(), gateway: None };
        let (controller, actor) = Controller::new(config, ports, read(gateway), Catalog::default());
        let shutdown = CancellationToken::new();
        let schedule = super::schedule(gate.clone(), controller.clone(), clock.clone(), shutdown.clone());
        let answered = Arc::default();
        for (label, model) in requests {
            request(&gate, &answered, label, model);
        }
        let scheduler = tokio::spawn(schedule);
        tokio::spawn(actor.run());
        Self { engine, memory, controller, gate, clock, shutdown, scheduler, answered }
    }

    /// Asks, and keeps the pass until the answer is taken.
    pub(super) fn asks(&self, text: &str) -> JoinHandle<Result<Pass>> {
        let (gate, ask) = (self.gate.clone(), ask(text));
        tokio::spawn(async move { gate.admit(&ask, &limits()).await })
    }

    /// A whole request, which ends as soon as it was admitted. It is noted which model answered it, or why none did.
    pub(super) fn request(&self, label: &str, text: &str) {
        request(&self.gate, &self.answered, label, text);
    }

    /// What became of the requests, in the order of their ends, since this was last asked.
    pub(super) fn answered(&self) -> Vec<String> {
        std::mem::take(&mut *self.answered.lock().expect("not poisoned"))
    }

    /// Loads a model as a person does.
    pub(super) async fn load(&self, model: &str) {
        self.switch(model).await.end.await.expect("answered").expect("it loads");
    }

    /// Asks for a model as a person does, and does not wait for it.
    pub(super) async fn switch(&self, model: &str) -> Accepted {
        self.controller.switch(model.to_owned(), false).await.expect("accepted")
    }

    /// Unloads the model as a person does.
    pub(super) async fn stop(&self) {
        let accepted = self.controller.stop(false).await.expect("accepted");
        accepted.end.await.expect("answered").expect("it stops");
    }

    /// The models of the servers that were started, in order.
    pub(super) fn starts(&self) -> Vec<String> {
        let calls = self.engine.calls();
        calls.iter().filter_map(|call| call.strip_prefix("start ")).map(str::to_owned).collect()
    }

    pub(super) fn snapshot(&self) -> Arc<Snapshot> {
        self.controller.snapshot()
    }

    pub(super) fn loaded(&self) -> Option<String> {
        let snapshot = self.snapshot();
        snapshot.model.as_ref().filter(|_| snapshot.phase == Phase::Ready).map(ToString::to_string)
    }
}

/// The pass of a request that is admitted within a moment.
pub(super) async fn admitted(request: JoinHandle<Result<Pass>>) -> Pass {
    tokio::time::timeout(Duration::from_millis(1), request).await.expect("not held").expect("no panic").expect("let in")
}

/// Why a request is refused within a moment.
pub(super) async fn refused(request: JoinHandle<Result<Pass>>) -> Error {
    let answer = tokio::time::timeout(Duration::from_millis(1), request).await.expect("not held").expect("no panic");
    answer.expect_err("it is refused")
}
