//! What a model file tells about the memory that its model takes.

use super::window::windows;
use crate::error::{Code, Error, Result};
use crate::gguf::{Model, Tensor, Value};

/// `LLAMA_MAX_LAYERS`
const MOST_LAYERS: u64 = 512;
/// No width, head or vocabulary is larger: it keeps all products far from the largest number.
const MOST: u64 = 1 << 32;

/// The figures of a model, as far as memory goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Architecture {
    /// For instance `llama`.
    pub name: String,
    /// The layers that are loaded, front to back.
    pub layers: Vec<Layer>,
    /// The embedding's length.
    pub width: u64,
    /// Number of tokens in the vocabulary.
    pub vocabulary: u64,
    /// Trained context in tokens; none where the file does not say.
    pub context: Option<u64>,
    /// Bytes of the token embedding, which stays on the host.
    pub input_bytes: u64,
    /// Bytes of the output layer, which counts as the layer behind the last.
    pub output_bytes: u64,
    /// The embedding is the output matrix as well: a GPU gets a copy.
    pub tied: bool,
    /// The embedding is of a type that the CPU multiplies with in another order than the file's.
    pub repacked: bool,
    /// Length of the embedding that each layer has of its own, times their number; 0 in most models.
    pub layer_inputs: u64,
}

/// The figures of one layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Layer {
    /// Bytes of its tensors, without the experts.
    pub bytes: u64,
    /// Bytes of its experts, which can stay on the host by themselves.
    pub expert_bytes: u64,
    /// Bytes of its largest tensor.
    pub largest_tensor: u64,
    /// Elements that the K cache has for each token; 0 without a cache.
    pub k: u64,
    /// Elements that the V cache has for each token.
    pub v: u64,
    /// How many tokens it sees; none where it sees all.
    pub window: Option<u64>,
    /// Elements of the state that it keeps for each sequence, of four bytes each; 0 without one.
    pub state: u64,
    /// Number of attention heads.
    pub heads: u64,
    /// Elements of all heads' queries together.
    pub q: u64,
    /// Width of the feed-forward network; of all experts that a token goes through together.
    pub feed_forward: u64,
    /// Number of experts that a token goes through; 0 without experts.
    pub experts_used: u64,
    /// Inner width of a state-space layer.
    pub inner: u64,
}

/// `Q4_0`, `Q4_K` and `IQ4_NL`: what an x86 CPU with AVX2 repacks. Others repack more types; a load tells.
const REPACKED: [u32; 3] = [2, 12, 20];

/// The kinds whose estimates the benchmark holds against `llama-server`, and those that are built like them.
const KNOWN: [&str; 20] = [
    "deepseek2",
    "gemma",
    "gemma2",
    "gemma3",
    "glm4",
    "glm4moe",
    "gpt-oss",
    "granite",
    "llama",
    "mamba",
    "mistral3",
    "olmo2",
    "phi3",
    "qwen2",
    "qwen2moe",
    "qwen3",
    "qwen3moe",
    "qwen3next",
    "smollm3",
    "starcoder2",
];

impl Architecture {
    /// Takes the figures out of a model's files. Fails with [`Code::ModelFileInvalid`] where one is missing or is
    /// beyond all reason.
    pub fn of(model: &Model) -> Result<Self> {
        let needed = |key: &str| {
            let number = model.number(key).filter(|number| (1..=MOST).contains(number));
            number.ok_or_else(|| missing(model, key))
        };
        let width = needed("embedding_length")?;
        let blocks = needed("block_count")?;
        let layers = blocks.saturating_sub(model.number("nextn_predict_layers").unwrap_or(0));
        if layers == 0 || blocks > MOST_LAYERS {
            return Err(missing(model, "block_count"));
        }
        let vocabulary = match model.values.get("tokenizer.ggml.tokens") {
            Some(Value::Items(count)) => *count,
            Some(Value::Numbers(numbers)) => numbers.len() as u64,
            _ => model.number("vocab_size").unwrap_or(0),
        };
        let windows = windows(model, layers);
        let mut architecture = Self {
            name: model.architecture.clone(),
            layers: (0..layers)
                .zip(windows)
                .map(|(layer, window)| figures(model, layer, layers, width, window))
                .collect(),
            width,
            vocabulary: vocabulary.min(MOST),
            context: model.number("context_length"),
            input_bytes: 0,
            output_bytes: 0,
            tied: true,
            repacked: false,
            layer_inputs: bounded(model.number("embedding_length_per_layer_input")) * layers,
        };
        for tensor in &model.tensors {
            architecture.add(tensor);
        }
        Ok(architecture)
    }

    fn add(&mut self, tensor: &Tensor) {
        let bytes = tensor.bytes.unwrap_or(0);
        let Some((block, rest)) = tensor.name.strip_prefix("blk.").and_then(|name| name.split_once('.')) else {
            let input = ["token_embd", "per_layer_token_embd", "position_embd", "token_types"];
            if input.iter().any(|name| tensor.name.starts_with(name)) {
                self.input_bytes = self.input_bytes.saturating_add(bytes);
                self.repacked |= tensor.name == "token_embd.weight" && REPACKED.contains(&tensor.kind);
            } else {
                self.tied &= tensor.name != "output.weight";
                self.output_bytes = self.output_bytes.saturating_add(bytes);
            }
            return;
        };
        // Behind the layers are those that predict further tokens, which are not loaded.
        let Some(layer) = block.parse().ok().and_then(|block: usize| self.layers.get_mut(block)) else { return };
        let part = if is_expert(rest) { &mut layer.expert_bytes } else { &mut layer.bytes };
        *part = part.saturating_add(bytes);
        layer.largest_tensor = layer.largest_tensor.max(bytes);
    }

    /// Bytes of all weights, each once.
    pub fn weights(&self) -> u64 {
        let layers = self.layers.iter().map(|layer| layer.bytes.saturating_add(layer.expert_bytes));
        layers.fold(self.input_bytes.saturating_add(self.output_bytes), u64::saturating_add)
    }

    /// Whether what is said of models of this kind has been held against `llama-server`. Weights are right for others,
    /// too; of their caches nobody knows.
    pub fn is_known(&self) -> bool {
        KNOWN.contains(&self.name.as_str())
    }

    /// Some layers see only a window.
    pub fn window(&self) -> Option<u64> {
        self.layers.iter().filter_map(|layer| layer.window).max()
    }
}

/// `\.ffn_(up|down|gate|gate_up)_(ch|)exps`, what `--cpu-moe` keeps on the host.
fn is_expert(name: &str) -> bool {
    let Some(part) = name.strip_prefix("ffn_") else { return false };
    ["up", "down", "gate", "gate_up"].iter().any(|which| {
        part.strip_prefix(which).is_some_and(|rest| rest.starts_with("_exps") || rest.starts_with("_chexps"))
    })
}

fn missing(model: &Model, key: &str) -> Error {
    let text = format!("the model file names no usable `{}.{key}`", model.architecture);
    Error::new(Code::ModelFileInvalid, text).hint("download another conversion of the model")
}

/// A figure of the file, or 0, kept where products of it stay numbers.
fn bounded(figure: Option<u64>) -> u64 {
    figure.unwrap_or(0).min(MOST)
}

fn figures(model: &Model, layer: u64, layers: u64, width: u64, window: Option<u64>) -> Layer {
    let of = |key: &str| model.of_layer(key, layer).map(|figure| figure.min(MOST));
    let heads = of("attention.head_count").unwrap_or(0);
    let kv_heads = of("attention.head_count_kv").unwrap_or(heads);
    let head = width.checked_div(model.number("attention.head_count").unwrap_or(0)).unwrap_or(0);
    let length = |key: &str| {
        let narrow = window.and_then(|_| of(&format!("attention.{key}_length_swa")));
        narrow.or_else(|| of(&format!("attention.{key}_length"))).unwrap_or(head)
    };
    let latent = of("attention.key_length_mla").filter(|length| *length > 0);
    let recurrence = recurrence(model, layer, kv_heads);
    // Later layers use the cache of earlier ones.
    let shared = match model.architecture.as_str() {
        "gemma3n" => layer >= 20,
        _ => layer >= layers.saturating_sub(bounded(model.number("attention.shared_kv_layers"))),
    };
    let cached = recurrence != Recurrence::Alone && !shared;
    let indexer = of("attention.indexer.key_length").unwrap_or(0);
    let used = of("expert_used_count").unwrap_or(0);
    let dense = layer < bounded(model.number("leading_dense_block_count")) || used == 0;
    let feed_forward = of("feed_forward_length").unwrap_or(0);
    // Without a length of their own, the experts have the network's.
    let expert = of("expert_feed_forward_length").filter(|length| *length > 0).unwrap_or(feed_forward);
    Layer {
        k: if cached { length("key").saturating_mul(kv_heads).saturating_add(indexer) } else { 0 },
        v: if cached && latent.is_none() { length("value").saturating_mul(kv_heads) } else { 0 },
        window,
        state: if recurrence == Recurrence::None { 0 } else { state(model, width, heads) },
        heads,
        // Latent queries are as long as what is cached.
        q: length("key").saturating_mul(heads),
        feed_forward: if dense { feed_forward } else { expert.saturating_mul(used) },
        experts_used: if dense { 0 } else { used },
        inner: if recurrence == Recurrence::None { 0 } else { of("ssm.inner_size").unwrap_or(0) },
        ..Layer::default()
    }
}

/// Whether a layer keeps a state instead of a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Recurrence {
    None,
    /// Besides a cache.
    Beside,
    Alone,
}

fn recurrence(model: &Model, layer: u64, kv_heads: u64) -> Recurrence {
    let alone = |yes: bool| if yes { Recurrence::Alone } else { Recurrence::None };
    if let Some(named) = model.of_layer("attention.recurrent_layers", layer) {
        return alone(named != 0);
    }
    match model.architecture.as_str() {
        "mamba" | "mamba2" | "rwkv6" | "rwkv6qwen2" | "rwkv7" | "arwkv7" => Recurrence::Alone,
        "falcon-h1" => Recurrence::Beside,
        "qwen3next" | "qwen35" | "qwen35moe" | "qwen4exp" | "minimax-01" => {
            let interval = model.number("full_attention_interval").unwrap_or(4).max(1);
            alone(!(layer + 1).is_multiple_of(interval))
        }
        // A layer of theirs can also be a feed-forward network alone; then it has no inner state, and no cache.
        "nemotron_h" | "nemotron_h_moe" if kv_heads == 0 && model.of_layer("feed_forward_length", layer) != Some(0) => {
            Recurrence::None
        }
        _ => {
            alone(kv_heads == 0 && (model.own("ssm.inner_size").is_some() || model.own("shortconv.l_cache").is_some()))
        }
    }
}

/// `n_embd_r` and `n_embd_s` of `llama_hparams`: the elements of one sequence's state in one layer.
fn state(model: &Model, width: u64, heads: u64) -> u64 {
    let of = |key: &str| bounded(model.number(key));
    let convolution = of("ssm.conv_kernel").saturating_sub(1);
    if let head @ 1.. = of("wkv.head_size") {
        let shifts = model.number("token_shift_count").unwrap_or(2).min(16);
        return shifts.saturating_mul(width).saturating_add(width.saturating_mul(head));
    }
    if let cache @ 1.. = of("shortconv.l_cache") {
        return width.saturating_mul(cache - 1);
    }
    if let head @ 1.. = of("kda.head_dim") {
        let inner = heads.saturating_mul(head);
        return inner.saturating_mul(3 * convolution).saturating_add(inner.saturating_mul(head));
    }
    let (inner, size) = (of("ssm.inner_size"), of("ssm.state_size"));
    let groups = of("ssm.group_count").saturating_mul(size).saturating_mul(2);
    convolution.saturating_mul(inner.saturating_add(groups)).saturating_add(size.saturating_mul(inner))
}
