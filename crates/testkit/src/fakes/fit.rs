//! Verdicts, as a test says.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use corral_core::ModelId;
use corral_core::fit::{Ask, FitVerdict, FitView, Holder, Load, ModelMemory};
use corral_core::launch::LaunchSpec;

/// Tells what it is told, and notes what it is asked.
#[derive(Debug, Default)]
pub struct FakeFit {
    fits: Mutex<HashMap<ModelId, FitView>>,
    held: Mutex<(usize, usize)>,
    learned: Mutex<Vec<String>>,
}

impl FakeFit {
    /// What is said of a model from now on.
    pub fn say(&self, model: &str, fit: FitView) {
        self.fits.lock().unwrap().insert(ModelId::new(model).unwrap(), fit);
    }

    /// So many looks from now on find that the GPU's memory is not free yet.
    pub fn hold(&self, looks: usize) {
        *self.held.lock().unwrap() = (looks, 0);
    }

    /// How often it was looked whether memory is free, since [`FakeFit::hold`].
    pub fn looks(&self) -> usize {
        self.held.lock().unwrap().1
    }

    /// The loads that were learned from: each model, with a `+` where its server ran and a `-` where it had ended.
    pub fn learned(&self) -> Vec<String> {
        self.learned.lock().unwrap().clone()
    }
}

/// A verdict on a model that needs nothing of a machine that has nothing, with a configured context of 65,536 tokens.
pub fn fit_view(verdict: FitVerdict) -> FitView {
    FitView {
        verdict,
        vram_bytes: 0,
        host_bytes: 0,
        vram_reduced_bytes: None,
        host_reduced_bytes: None,
        ctx: 65_536,
        ctx_configured: 65_536,
        layers_on_cpu: 0,
        vram_free_bytes: 0,
        host_free_bytes: 0,
        in_the_way: Vec::new(),
        hopeless: false,
        reason: None,
    }
}

/// A verdict on a model that needs 8 GB of GPU memory, of which 2 GB are there.
pub fn too_big() -> FitView {
    FitView {
        vram_bytes: 8_000_000_000,
        host_bytes: 1_000_000_000,
        vram_free_bytes: 2_000_000_000,
        host_free_bytes: 16_000_000_000,
        in_the_way: vec![Holder { name: "blender (process 7)".to_owned(), bytes: 5_000_000_000 }],
        hopeless: true,
        reason: Some("it does not fit, with no context: GPU 0 has 2.0 GB to give, 8.0 GB are needed".to_owned()),
        ..fit_view(FitVerdict::No)
    }
}

#[async_trait]
impl ModelMemory for FakeFit {
    async fn fits(&self, specs: &[Arc<LaunchSpec>], _: u64, _: Ask) -> Vec<Option<FitView>> {
        let fits = self.fits.lock().unwrap();
        specs.iter().map(|spec| fits.get(&spec.model).cloned()).collect()
    }

    async fn held(&self) -> Option<String> {
        let mut held = self.held.lock().unwrap();
        held.1 += 1;
        (held.1 <= held.0).then(|| "GPU 0: llama-server (process 7) has 6.0 GB".to_owned())
    }

    async fn learn(&self, load: Load) {
        let mark = if load.runs { '+' } else { '-' };
        self.learned.lock().unwrap().push(format!("{mark}{}", load.spec.model));
    }
}
