//! The operation in progress, and what it wants.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::Effect;
use crate::error::Error;
use crate::id::{ConfigHash, ModelId};
use crate::launch::LaunchSpec;
use crate::ports::Instance;
use crate::snapshot::{OperationView, Step};

/// What an operation wants to be true.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Target {
    /// No model.
    Nothing,
    /// This model, as configured here.
    Model(Arc<LaunchSpec>, ConfigHash),
    /// The instance that was found running, as it is; where it does not come up, the wanted model afresh.
    Adopted { model: ModelId, hash: ConfigHash, otherwise: Option<Arc<LaunchSpec>> },
}

impl Target {
    pub(super) fn of(spec: Arc<LaunchSpec>) -> Self {
        let hash = spec.hash();
        Self::Model(spec, hash)
    }

    pub(super) fn model(&self) -> Option<&ModelId> {
        match self {
            Self::Nothing => None,
            Self::Model(spec, _) => Some(&spec.model),
            Self::Adopted { model, .. } => Some(model),
        }
    }

    pub(super) fn is_met_by(&self, instance: &Instance) -> bool {
        match self {
            Self::Nothing => false,
            Self::Model(spec, hash) => instance.model == spec.model && instance.config_hash == *hash,
            Self::Adopted { model, hash, .. } => instance.model == *model && instance.config_hash == *hash,
        }
    }
}

/// The operation in progress.
#[derive(Debug, Clone)]
pub(super) struct Operation {
    pub(super) view: OperationView,
    /// Later requests for the very same thing; they end with this one.
    pub(super) joined: Vec<OperationView>,
    pub(super) target: Target,
    pub(super) force: bool,
    /// The new instance, created and not started.
    pub(super) staged: Option<Instance>,
    /// Why it failed; it goes on until the old model serves again.
    pub(super) failure: Option<Error>,
    /// Something failed because the engine was out of reach.
    pub(super) engine_gone: bool,
    /// What became of the old model while this went on, for people.
    pub(super) meanwhile: Option<String>,
    /// How long to wait before each further try; only a restart has any.
    pub(super) pauses: VecDeque<Duration>,
    /// It waits for the end of a pause.
    pub(super) paused: bool,
}

impl Operation {
    pub(super) fn new(view: OperationView, target: Target, force: bool) -> Self {
        Self {
            view,
            joined: Vec::new(),
            target,
            force,
            staged: None,
            failure: None,
            engine_gone: false,
            meanwhile: None,
            pauses: VecDeque::new(),
            paused: false,
        }
    }

    /// Does nothing for a while.
    pub(super) fn pause(&mut self, pause: Duration, effects: &mut Vec<Effect>) {
        self.paused = true;
        self.step(Step::Pause);
        effects.push(Effect::Pause(self.view.id, pause));
    }

    pub(super) fn step(&mut self, step: Step) {
        if self.view.step != step {
            self.view.step = step;
            self.view.progress = None;
        }
    }
}
