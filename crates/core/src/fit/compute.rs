//! What graphs hold while they run: the compute buffers.
//!
//! Which tensors are in memory at the same time is seen in the buffers of llama.cpp's scheduler and allocator, on the
//! CPU and on devices of its Vulkan backend; the rules are the scheduler's, the same for all backends.

use super::memory::{F32, Need, cache, experts_stay};
use super::{Architecture, Layer, Profile};

/// How often the embedding lies in a graph: on the CPU, on the device with the first layer, and on the others.
const ON_CPU: u64 = 5;
const ON_FIRST: u64 = 4;
const ON_OTHERS: u64 = 2;

/// `GGML_SCHED_MAX_COPIES`: several devices that have all layers work on so many micro-batches at the same time.
const COPIES: u64 = 4;
/// How often the embedding lies on the first device, on the others, and on the host for the sake of those copies.
const PIPELINED: (u64, u64, u64) = (11, 6, 10);

/// The compute buffers: a graph needs the same on each device that has a part of it, and its inputs lie on the host.
pub(super) fn compute(model: &Architecture, profile: &Profile, places: &[Option<usize>], need: &mut Need) {
    if need.gpus.is_empty() {
        on_host(model, profile, need);
    } else {
        on_devices(model, profile, places, need);
    }
    // The output's place sees what is said, of each slot one token.
    let tokens = profile.graph_tokens();
    let said = u64::from(profile.parallel).min(tokens).saturating_mul(model.vocabulary).saturating_mul(F32);
    let output = places.last().copied().flatten().and_then(|gpu| need.gpus.get_mut(gpu)).unwrap_or(&mut need.host);
    output.compute = output.compute.max(said.saturating_add(masks(model, profile)));
    for space in &mut need.gpus {
        if space.weights > 0 || space.compute > 0 {
            space.overhead = super::OVERHEAD;
        }
    }
}

fn on_host(model: &Architecture, profile: &Profile, need: &mut Need) {
    let graphs = model.layers.iter().map(|layer| graph(model, layer, profile, ON_CPU));
    need.host.compute = graphs.max().unwrap_or(0).saturating_add(masks(model, profile));
}

fn on_devices(model: &Architecture, profile: &Profile, places: &[Option<usize>], need: &mut Need) {
    let (masks, embedding) = (masks(model, profile), embedding(model, profile));
    // `llama_context` does so with all layers on several devices, and nothing left on the host.
    let all = places.iter().all(Option::is_some) && profile.cpu_moe.is_none() && profile.offload_cache;
    let pipelined = all && need.gpus.len() > 1;
    let copies = if pipelined { COPIES } else { 1 };
    let inputs = |times: u64| embedding.saturating_mul(times).saturating_add(masks.saturating_mul(copies));
    need.host.compute = inputs(if pipelined { PIPELINED.2 } else { ON_FIRST });

    for (layer, place) in model.layers.iter().zip(places) {
        let Some(gpu) = *place else { continue };
        let is_first = *place == places.first().copied().flatten();
        let through = if is_first || pipelined { ON_FIRST } else { ON_OTHERS };
        let beside = match (pipelined, is_first) {
            (false, _) => 0,
            (true, true) => PIPELINED.0,
            (true, false) => PIPELINED.1,
        };
        let graph = graph(model, layer, profile, through).saturating_add(inputs(beside));
        if let Some(space) = need.gpus.get_mut(gpu) {
            space.compute = space.compute.max(graph);
        }
    }
    // For long prompts the first GPU works on what lies on the host as well, and takes copies of it, layer by layer.
    let lent = model.layers.iter().zip(places).enumerate().map(|(index, (layer, place))| {
        let mut most = 0;
        if place.is_none() || experts_stay(profile, index) {
            most = lent_weights(model, layer, profile);
        }
        if place.is_none() || !profile.offload_cache {
            most = most.max(lent_cache(model, layer, profile));
        }
        if most > 0 { most.saturating_add(masks) } else { 0 }
    });
    let lent = lent.max().unwrap_or(0);
    if let Some(first) = need.gpus.first_mut() {
        first.compute = first.compute.max(lent);
    }
}

/// Bytes of all tokens' embeddings.
fn embedding(model: &Architecture, profile: &Profile) -> u64 {
    model.width.saturating_add(model.layer_inputs).saturating_mul(profile.graph_tokens()).saturating_mul(F32)
}

/// Bytes of the masks that say which token sees which: one for all tokens, one for windows.
fn masks(model: &Architecture, profile: &Profile) -> u64 {
    if model.layers.iter().all(|layer| layer.k == 0) {
        return 0;
    }
    let (cells, _) = profile.cells();
    let windows = model.window().map_or(0, |window| profile.window_cells(window));
    let width = if profile.flash_attention { 2 } else { F32 };
    cells.saturating_add(windows).saturating_mul(profile.graph_tokens()).saturating_mul(width)
}

/// The elements of all experts' answers, where those do not fit into what gate and up leave.
fn answers(model: &Architecture, layer: &Layer) -> u64 {
    let answers = model.width.saturating_mul(layer.experts_used);
    if answers > layer.feed_forward { answers } else { 0 }
}

/// The elements that attention holds: queries, keys and values before and after their rotation, and what comes of them.
fn attention(model: &Architecture, layer: &Layer) -> u64 {
    layer.q.saturating_mul(2).saturating_add(layer.k).saturating_add(layer.v).saturating_add(model.width * 2)
}

/// Bytes of so many elements for each token of a graph.
fn for_each_token(elements: u64, profile: &Profile) -> u64 {
    elements.saturating_mul(profile.graph_tokens()).saturating_mul(F32)
}

/// Bytes on a device that holds a copy of the layer's largest tensor: as gate and up come out, or the experts' answers.
fn lent_weights(model: &Architecture, layer: &Layer, profile: &Profile) -> u64 {
    let up = layer.feed_forward.saturating_mul(2).saturating_add(model.width.saturating_mul(ON_CPU));
    let down = match answers(model, layer) {
        0 => 0,
        answers => layer.feed_forward.saturating_add(answers).saturating_add(model.width.saturating_mul(ON_FIRST)),
    };
    layer.largest_tensor.saturating_add(for_each_token(up.max(down), profile))
}

/// Bytes on a device that holds a copy of the layer's cache.
fn lent_cache(model: &Architecture, layer: &Layer, profile: &Profile) -> u64 {
    if layer.k == 0 {
        return 0;
    }
    cache(layer, profile).saturating_add(for_each_token(attention(model, layer), profile))
}

/// Bytes that a graph holds at the same time while it is in one layer, the embedding so many times all through it.
///
/// Seen in llama.cpp's allocator: beside that three times the inner width of the feed-forward network, and the experts'
/// answers.
fn graph(model: &Architecture, layer: &Layer, profile: &Profile, times: u64) -> u64 {
    let tokens = profile.graph_tokens();
    let through = model.width.saturating_mul(times).saturating_add(model.layer_inputs.saturating_mul(2));
    let forward = layer.feed_forward.saturating_mul(3).saturating_add(answers(model, layer)).saturating_add(through);
    let mut bytes = for_each_token(forward.max(attention(model, layer)), profile);
    if layer.inner > 0 {
        let row = layer.inner.saturating_mul(6).saturating_add(model.width.saturating_mul(3));
        let states = layer.state.saturating_mul(u64::from(profile.parallel));
        bytes = bytes.max(row.saturating_mul(tokens).saturating_add(states).saturating_mul(F32));
    }
    if !profile.flash_attention && layer.k > 0 {
        // Each token by all tokens, for each head.
        let (all, _) = profile.cells();
        let cells = layer.window.map_or(all, |window| profile.window_cells(window));
        let scores = cells.saturating_mul(tokens).saturating_mul(layer.heads).saturating_mul(F32);
        let beside = layer.q.saturating_mul(2).saturating_add(model.width.saturating_mul(5));
        bytes = bytes.max(scores.saturating_add(for_each_token(beside, profile)));
    }
    bytes
}
