//! Conversations on disk: the KV cache of each slot, saved by llama-server itself.

use async_trait::async_trait;
use corral_core::Result;
use corral_core::launch::LaunchSpec;
use corral_core::ports::{Contexts, Endpoint, Instance, KeptContext};

use crate::environment::EngineConfig;

/// [`Contexts`] in files of the slots folder.
#[derive(Debug)]
pub struct SlotFiles {}

impl SlotFiles {
    /// The slots folder of this home.
    pub fn new(_config: &EngineConfig) -> Self {
        Self {}
    }
}

#[async_trait]
impl Contexts for SlotFiles {
    async fn save(&self, _: &Instance, _: &Endpoint, _: &LaunchSpec, _: u64) -> Result<KeptContext> {
        Ok(KeptContext::default())
    }

    async fn restore(&self, _: &Instance, _: &Endpoint, _: &LaunchSpec) -> Result<KeptContext> {
        Ok(KeptContext::default())
    }
}
