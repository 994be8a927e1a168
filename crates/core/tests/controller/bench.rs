//! A controller over fakes.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use corral_core::Result;
use corral_core::catalog::{Catalog, Surroundings};
use corral_core::command::{Accepted, ControllerHandle, OperationResult};
use corral_core::controller::{Controller, ControllerConfig};
use corral_core::ports::{Clock, Ports};
use corral_core::snapshot::Snapshot;
use corral_testkit::fakes::{FakeEngine, FakeFit, Memory, ports};

pub(crate) const MODELS: &str = "schema = 1\n[models.a]\nfile = \"a.gguf\"\n[models.b]\nfile = \"b.gguf\"\naliases = [\"bee-*\"]\n\
                      [models.c]\nfile = \"c.gguf\"\n";

pub(crate) struct Bench {
    pub(crate) engine: Arc<FakeEngine>,
    pub(crate) memory: Arc<Memory>,
    pub(crate) fit: Arc<FakeFit>,
    pub(crate) controller: ControllerHandle,
}

pub(crate) fn read(text: &str) -> corral_core::catalog::Reading {
    let surroundings =
        Surroundings { path: "models.toml".into(), home: PathBuf::from("/home/u"), models_dir: "/models".into() };
    Catalog::read(text, &surroundings)
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self::with(Arc::default(), Arc::default())
    }

    pub(crate) fn with(engine: Arc<FakeEngine>, memory: Arc<Memory>) -> Self {
        let ports = ports(&engine, &memory);
        Self::on(engine, memory, ports)
    }

    pub(crate) fn at(clock: Arc<dyn Clock>) -> Self {
        let (engine, memory) = (Arc::default(), Arc::default());
        let ports = Ports { clock, ..ports(&engine, &memory) };
        Self::on(engine, memory, ports)
    }

    fn on(engine: Arc<FakeEngine>, memory: Arc<Memory>, ports: Ports) -> Self {
        let config = ControllerConfig { version: "1.2.3".into(), catalog_path: "models.toml".into(), gateway: None };
        let fallback = read("schema = 1\n").catalog.expect("an empty catalog is fine");
        let fit = Arc::<FakeFit>::default();
        let ports = Ports { memory: fit.clone(), ..ports };
        let (handle, controller) = Controller::new(config, ports, read(MODELS), fallback);
        tokio::spawn(controller.run());
        Self { engine, memory, fit, controller: handle }
    }

    pub(crate) async fn switch(&self, model: &str) -> Result<OperationResult> {
        end(self.controller.switch(model.to_owned(), false).await).await
    }

    /// What is removed is removed behind the caller's back.
    pub(crate) async fn until_holds(&self, wanted: &[(&str, char)]) {
        let wanted: Vec<_> = wanted.iter().map(|(model, state)| ((*model).to_owned(), *state)).collect();
        corral_testkit::eventually(Duration::from_secs(10), || async { self.engine.holds() == wanted }).await;
    }

    pub(crate) async fn shut_down(&self, keep: bool) {
        let ended = tokio::time::timeout(Duration::from_secs(10), self.controller.shut_down(keep)).await;
        ended.expect("it ends within 10 s").expect("it ends");
    }

    pub(crate) async fn until(&self, what: impl FnMut(&Arc<Snapshot>) -> bool) -> Arc<Snapshot> {
        let mut watch = self.controller.watch_snapshot();
        let waited = tokio::time::timeout(Duration::from_secs(10), watch.wait_for(what)).await;
        waited.expect("it comes true within 10 s").expect("the controller runs").clone()
    }
}

pub(crate) async fn end(accepted: Result<Accepted>) -> Result<OperationResult> {
    let end = tokio::time::timeout(Duration::from_secs(10), accepted?.end).await;
    end.expect("it ends within 10 s").expect("every caller is answered")
}
