//! How much memory is needed, and where.

use super::compute::compute;
use super::{Architecture, Layer, Profile};
use crate::gguf::TensorType;
use crate::launch::CpuMoe;

/// The elements that a graph works with are of four bytes.
pub(super) const F32: u64 = 4;

/// The memory that one device gives, or the host, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Space {
    /// The model's tensors.
    pub weights: u64,
    /// KV cache, states of sequences, the buffer for what is said.
    pub kv: u64,
    /// What one graph needs while it runs.
    pub compute: u64,
    /// What the driver takes beyond; 0 on the host.
    pub overhead: u64,
}

impl Space {
    /// All of it.
    pub fn total(&self) -> u64 {
        self.weights.saturating_add(self.kv).saturating_add(self.compute).saturating_add(self.overhead)
    }
}

/// What a model needs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Need {
    /// On each of the GPUs, in the order of [`Placement::gpus`].
    pub gpus: Vec<Space>,
    /// On the host.
    pub host: Space,
}

impl Need {
    /// Bytes on all GPUs.
    pub fn vram(&self) -> u64 {
        self.gpus.iter().map(Space::total).fold(0, u64::saturating_add)
    }

    /// Each kind of memory, everywhere together.
    pub fn everywhere(&self) -> Space {
        self.gpus.iter().chain([&self.host]).fold(Space::default(), |sum, space| Space {
            weights: sum.weights.saturating_add(space.weights),
            kv: sum.kv.saturating_add(space.kv),
            compute: sum.compute.saturating_add(space.compute),
            overhead: sum.overhead.saturating_add(space.overhead),
        })
    }
}

/// Which layer goes where.
#[derive(Debug, Clone, PartialEq)]
pub struct Placement {
    /// The share of the layers that each GPU gets.
    pub gpus: Vec<f64>,
    /// How many layers are on GPUs, from the last: the output counts as one behind them all.
    pub layers: u32,
}

/// Which GPU each layer and, behind them, the output goes to; none is the host.
pub fn place(layers: usize, placement: &Placement) -> Vec<Option<usize>> {
    let all = layers + 1;
    let on_gpus = if placement.gpus.is_empty() { 0 } else { all.min(placement.layers as usize) };
    let sum: f64 = placement.gpus.iter().sum();
    let mut shares = Vec::new();
    let mut so_far = 0.0;
    for share in &placement.gpus {
        so_far += share;
        shares.push(if sum > 0.0 { so_far / sum } else { 1.0 });
    }
    let first = all - on_gpus;
    (0..all)
        .map(|layer| {
            let position = layer.checked_sub(first)?;
            #[expect(clippy::cast_precision_loss, reason = "there are at most 513 layers")]
            let along = position as f64 / on_gpus as f64;
            Some(shares.iter().position(|share| *share > along).unwrap_or(shares.len().saturating_sub(1)))
        })
        .collect()
}

/// The memory that a model needs where its layers are placed so.
pub fn estimate(model: &Architecture, profile: &Profile, placement: &Placement) -> Need {
    let places = place(model.layers.len(), placement);
    let mut need = Need { gpus: vec![Space::default(); placement.gpus.len()], host: Space::default() };
    let at = |place: Option<usize>, need: &mut Need, change: &dyn Fn(&mut Space)| {
        let space = place.and_then(|gpu| need.gpus.get_mut(gpu));
        match space {
            Some(space) => change(space),
            None => change(&mut need.host),
        }
    };

    need.host.weights = model.input_bytes;
    let output = places.last().copied().flatten();
    // On the host it is used twice, unless it lies there in another order for the output; a GPU has a copy.
    let reordered = profile.repack && placement.gpus.is_empty() && model.repacked;
    let copied = if model.tied && (output.is_some() || reordered) { model.input_bytes } else { 0 };
    at(output, &mut need, &|space| {
        space.weights = space.weights.saturating_add(model.output_bytes).saturating_add(copied);
    });
    for (index, (layer, place)) in model.layers.iter().zip(&places).enumerate() {
        let experts_place = if experts_stay(profile, index) { None } else { *place };
        at(*place, &mut need, &|space| space.weights = space.weights.saturating_add(layer.bytes));
        at(experts_place, &mut need, &|space| space.weights = space.weights.saturating_add(layer.expert_bytes));
        let cache_place = if profile.offload_cache { *place } else { None };
        let kv = cache(layer, profile);
        at(cache_place, &mut need, &|space| space.kv = space.kv.saturating_add(kv));
    }
    // What is said comes to the host.
    let said = u64::from(profile.parallel).saturating_mul(model.vocabulary).saturating_mul(F32);
    need.host.kv = need.host.kv.saturating_add(said);
    if let Some(first) = need.gpus.first_mut() {
        first.weights = first.weights.saturating_add(profile.projector_bytes);
    } else {
        need.host.weights = need.host.weights.saturating_add(profile.projector_bytes);
    }
    compute(model, profile, &places, &mut need);
    need
}

pub(super) fn experts_stay(profile: &Profile, layer: usize) -> bool {
    match profile.cpu_moe {
        None => false,
        Some(CpuMoe::All) => true,
        Some(CpuMoe::Layers(layers)) => layer < layers as usize,
    }
}

/// Bytes of one layer's cache and states.
pub(super) fn cache(layer: &Layer, profile: &Profile) -> u64 {
    let (all, streams) = profile.cells();
    let cells = layer.window.map_or(all, |window| profile.window_cells(window)).saturating_mul(streams);
    let bytes = |kind: TensorType, elements: u64| kind.bytes_of(elements).saturating_mul(cells);
    let states = layer.state.saturating_mul(u64::from(profile.parallel)).saturating_mul(F32);
    bytes(profile.cache_k, layer.k).saturating_add(bytes(profile.cache_v, layer.v)).saturating_add(states)
}
