//! The port by which the controller asks for verdicts.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;

use super::FitView;
use crate::id::InstanceId;
use crate::launch::LaunchSpec;

/// For whose sake memory is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// For a list: a reading of a minute ago does where a GPU would rather sleep.
    List,
    /// One model is about to be loaded, or somebody asks about it: as it is now.
    Load,
}

/// A server that has loaded its model, or ended.
#[derive(Debug, Clone)]
pub struct Load {
    /// Its id.
    pub instance: InstanceId,
    /// What it was started with.
    pub spec: Arc<LaunchSpec>,
    /// What it says about its memory is not older.
    pub since: Timestamp,
    /// It runs, and holds that memory.
    pub runs: bool,
}

/// Knows the memory that models take, and the memory there is. It never fails: what it does not know, it leaves out.
#[async_trait]
pub trait ModelMemory: Send + Sync {
    /// Whether each of these models fits, in their order. `given_back` is what the server that runs gives back of the
    /// host's memory, in bytes; what it has of GPUs is seen there. None where it cannot be told: a file
    /// that cannot be read or was not read yet, a GPU that does not say how large it is.
    async fn fits(&self, specs: &[Arc<LaunchSpec>], given_back: u64, ask: Ask) -> Vec<Option<FitView>>;

    /// Whether GPU memory is held by a server of Corral's, as of now. None where it is not; else who holds how much,
    /// for people.
    async fn held(&self) -> Option<String>;

    /// A server has loaded its model, or ended: what it says that it took corrects what is estimated from then on.
    async fn learn(&self, load: Load);
}

/// Where nothing is known of memory.
#[derive(Debug, Clone, Copy, Default)]
pub struct UnknownMemory;

#[async_trait]
impl ModelMemory for UnknownMemory {
    async fn fits(&self, specs: &[Arc<LaunchSpec>], _: u64, _: Ask) -> Vec<Option<FitView>> {
        vec![None; specs.len()]
    }

    async fn held(&self) -> Option<String> {
        None
    }

    async fn learn(&self, _: Load) {}
}
