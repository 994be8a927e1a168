//! What the tray asks of the daemon and of the files, apart from where clicks are taken: answers may take a while.

use corral_api::dto::{HistoryList, ModelList, ModelState, ModelView, StartRequest, StopRequest, SwitchRequest};
use corral_client::{Client, Patience};
use corral_core::tray::TrayModel;
use corral_core::{ModelId, Result};
use corral_daemon::{Autostart, Environment, Paths, read_settings, recent_folders, whenever_changed};
use serde::Serialize;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::{JoinHandle, spawn_blocking};

use crate::app::Message;

/// Asks, and tells what was answered.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    env: Environment,
    paths: Paths,
    autostart: Autostart,
    happened: UnboundedSender<Message>,
}

impl Ask {
    /// Nothing is asked yet.
    pub(crate) fn new(
        env: Environment,
        paths: Paths,
        autostart: Autostart,
        happened: UnboundedSender<Message>,
    ) -> Self {
        Self { env, paths, autostart, happened }
    }

    /// Asks the daemon for a model. That it has taken the request is told by the next snapshot.
    pub(crate) fn load(&self, model: &ModelId) {
        self.post("/switch", SwitchRequest { model: model.to_string(), wait: false, force: false, dry_run: false });
    }

    /// Asks the daemon for the model used last, or the first of the catalog.
    pub(crate) fn start(&self) {
        self.post("/start", StartRequest { model: None, wait: false });
    }

    /// Asks the daemon to unload the model.
    pub(crate) fn stop(&self) {
        self.post("/stop", StopRequest { force: false, wait: false });
    }

    /// Asks the daemon for the model that was used last; nothing where none was.
    pub(crate) fn restore(&self) {
        let start = |client: &Client| {
            let history: HistoryList = client.parse(&client.get("/history?count=50")?)?;
            let mut ended =
                history.operations.into_iter().filter(|past| past.error.is_none() && past.total_ms.is_some());
            if let Some(model) = ended.find_map(|past| past.to) {
                let request = StartRequest { model: Some(model.to_string()), wait: false };
                client.post("/start", &request, Patience::Short)?;
            }
            Ok(None)
        };
        self.at_daemon(start, true);
    }

    /// Reads the models of the catalog.
    pub(crate) fn models(&self) {
        let read = |client: &Client| {
            let list: ModelList = client.parse(&client.get("/models")?)?;
            Ok(Some(Message::Models(list.models.into_iter().map(entry).collect())))
        };
        self.at_daemon(read, false);
    }

    /// Reads how much GPU memory is in use.
    pub(crate) fn memory(&self) {
        let read = |client: &Client| {
            let gpu: corral_core::gpu::GpuReading = client.parse(&client.get("/gpu")?)?;
            Ok(Some(Message::Memory(gpu.memory())))
        };
        self.at_daemon(read, false);
    }

    /// Reads folders, the entry for the login, and settings.
    pub(crate) fn desktop(&self) -> JoinHandle<()> {
        let ask = self.clone();
        spawn_blocking(move || {
            // At the end nobody wants to know any more.
            let _ = ask.read_desktop();
        })
    }

    /// Reads them again whenever somebody has changed them, by whatever way.
    pub(crate) async fn watch_desktop(self) {
        let files = vec![self.paths.settings.clone(), self.paths.autostart.clone()];
        whenever_changed(files, move || self.read_desktop().is_some()).await;
    }

    /// None where nobody wants to know any more.
    fn read_desktop(&self) -> Option<()> {
        let at_login = self.autostart.state().ok().map(|state| state.enabled);
        let folders = recent_folders(&self.paths);
        self.happened.send(Message::Desktop { folders, at_login }).ok()?;
        self.happened.send(Message::Settings(read_settings(&self.paths))).ok()
    }

    fn post<T: Serialize + Send + 'static>(&self, path: &'static str, body: T) {
        self.at_daemon(move |client| client.post(path, &body, Patience::Short).map(|_| None), true);
    }

    /// Does something with the daemon that waits; a failure is told where somebody asked for it.
    fn at_daemon(&self, work: impl FnOnce(&Client) -> Result<Option<Message>> + Send + 'static, asked: bool) {
        let (env, happened) = (self.env.clone(), self.happened.clone());
        spawn_blocking(move || {
            let message = match Client::of_home(&env).and_then(|client| work(&client)) {
                Ok(Some(message)) => message,
                Ok(None) => return,
                Err(error) if asked => Message::Failed(error),
                Err(error) => {
                    tracing::debug!("{error}");
                    return;
                }
            };
            let _ = happened.send(message);
        });
    }
}

fn entry(model: ModelView) -> TrayModel {
    let usable = !matches!(model.state, ModelState::Missing) && model.problem.is_none();
    let fit = model.fit.and_then(|fit| fit.brief());
    TrayModel { id: model.id, name: model.name, fit, usable }
}
