//! The state as every surface sees it.

use super::{Controller, ControllerConfig};
use crate::catalog::Catalog;
use crate::error::Error;
use crate::lifecycle::{Lifecycle, Live, Stage};
use crate::ports::Endpoint;
use crate::snapshot::{CatalogView, ContextView, EngineView, SessionView, Snapshot};
use std::sync::Arc;

impl Controller {
    /// Publishes the snapshot if it changed.
    pub(super) fn publish(&mut self) {
        self.publish_key();
        self.steer_traffic();
        self.steps.follow(self.lifecycle.operation(), self.ports.clock.uptime());
        let beside = Beside {
            key_file: self.published.as_ref().and_then(|(_, file)| file.clone()),
            context: self.context.map(|(_, context)| context),
            sessions: self.sessions.clone(),
            revision: self.revision,
        };
        let snapshot = snapshot(&self.config, &self.lifecycle, &self.catalog, &self.problems, beside);
        self.ends.snapshot.send_if_modified(|current| {
            let changed = **current != snapshot;
            if changed {
                *current = Arc::new(snapshot);
            }
            changed
        });
    }

    /// Keeps the endpoint file in step with the instance that serves.
    fn publish_key(&mut self) {
        let ready = self.lifecycle.live().filter(|live| matches!(live.stage, Stage::Ready(_) | Stage::Draining(_)));
        let ready = ready.map(|live| &live.held.instance);
        if ready.map(|instance| &instance.id) == self.published.as_ref().map(|(id, _)| id) {
            return;
        }
        let file = self.ports.endpoint_file.publish(ready.map(|instance| &instance.api_key));
        self.published = ready.map(|instance| (instance.id.clone(), file));
    }
}

/// What the snapshot has from elsewhere than the lifecycle.
#[derive(Default)]
pub(super) struct Beside {
    pub(super) key_file: Option<String>,
    pub(super) context: Option<ContextView>,
    pub(super) sessions: Vec<SessionView>,
    pub(super) revision: u64,
}

/// Puts the snapshot together.
pub(super) fn snapshot(
    config: &ControllerConfig,
    lifecycle: &Lifecycle,
    catalog: &Catalog,
    problems: &[Error],
    beside: Beside,
) -> Snapshot {
    Snapshot {
        version: config.version.clone(),
        phase: lifecycle.phase(),
        model: lifecycle.model().cloned(),
        operation: lifecycle.operation().cloned(),
        engine: lifecycle.live().map(|live| engine(live, catalog, beside.key_file, beside.context)),
        error: lifecycle.error().map(Error::body),
        gateway: config.gateway.clone(),
        sessions: beside.sessions,
        catalog: CatalogView {
            path: config.catalog_path.display().to_string(),
            revision: beside.revision,
            models: catalog.models.len(),
            problems: problems.iter().map(Error::body).collect(),
        },
    }
}

fn engine(live: &Live, catalog: &Catalog, key_file: Option<String>, context: Option<ContextView>) -> EngineView {
    let instance = &live.held.instance;
    let endpoint = endpoint(live);
    let configured = catalog.models.get(&instance.model).map(|model| model.launch.hash());
    EngineView {
        runtime: instance.runtime,
        container_id: instance.id.clone(),
        image: instance.image.clone(),
        started_at: endpoint.map(|endpoint| endpoint.started_at),
        url: endpoint.map(|endpoint| endpoint.url.clone()),
        key_file,
        config_hash: instance.config_hash.clone(),
        config_changed: configured.as_ref() != Some(&instance.config_hash),
        context,
    }
}

/// Where the live instance answers, once it runs.
pub(super) fn endpoint(live: &Live) -> Option<&Endpoint> {
    match &live.stage {
        Stage::Loading(endpoint)
        | Stage::Restoring(endpoint)
        | Stage::Ready(endpoint)
        | Stage::Draining(endpoint)
        | Stage::Saving(endpoint) => Some(endpoint),
        Stage::Starting | Stage::Stopping | Stage::Removing => None,
    }
}
