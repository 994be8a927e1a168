//! How `llama-server` is to run a model, as far as memory goes.

use crate::gguf::TensorType;
use crate::launch::{CpuMoe, Gpu, GpuLayers, LaunchSpec};

/// `--batch-size` and `--ubatch-size` where nobody says otherwise.
const BATCH: u32 = 2048;
const MICRO_BATCH: u32 = 512;
/// `-np -1`
const SLOTS_BY_ITSELF: u32 = 4;

/// The settings that decide how much memory a server takes.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of llama-server")]
pub struct Profile {
    /// Context of the whole server in tokens.
    pub ctx: u32,
    /// Number of slots.
    pub parallel: u32,
    /// One cache for all slots, instead of a part for each.
    pub unified: bool,
    /// Type of the K cache.
    pub cache_k: TensorType,
    /// Type of the V cache.
    pub cache_v: TensorType,
    /// Tokens that are taken in at once.
    pub batch: u32,
    /// Tokens that one graph works on.
    pub micro_batch: u32,
    /// Attention without a matrix of all tokens by all tokens.
    pub flash_attention: bool,
    /// Sliding windows are cached in full.
    pub full_windows: bool,
    /// The cache lies where its layer is, and not on the host.
    pub offload_cache: bool,
    /// The CPU may keep weights in another order than the file's.
    pub repack: bool,
    /// Which GPUs, as indexes of [`Machine::gpus`](super::Machine::gpus).
    pub gpu: Gpu,
    /// Layers on the GPUs; by itself where that is left to `llama-server`.
    pub gpu_layers: GpuLayers,
    /// Share of each GPU; empty where that is left to `llama-server`.
    pub tensor_split: Vec<f64>,
    /// Experts that stay on the host.
    pub cpu_moe: Option<CpuMoe>,
    /// Bytes of the multimodal projector's file; 0 without one. It goes to the first GPU.
    pub projector_bytes: u64,
    /// Weights on the host are mapped from their file: what has no room is read again.
    pub mapped: bool,
    /// Something here moves tensors in a way that is not followed: the split between host and GPUs is a guess.
    pub rough: bool,
}

impl Profile {
    /// The settings of a start. The catalog's own arguments and environment are read as `llama-server` reads them, as
    /// far as they are about memory; what cannot be understood counts as not given.
    pub fn of(spec: &LaunchSpec) -> Self {
        let f16 = TensorType { name: "f16", block: 1, bytes: 2 };
        let kind = |name: Option<&str>| name.and_then(TensorType::named).unwrap_or(f16);
        let mut profile = Self {
            ctx: spec.ctx,
            parallel: spec.parallel.max(1),
            unified: false,
            cache_k: kind(spec.cache_type_k.as_deref()),
            cache_v: kind(spec.cache_type_v.as_deref()),
            batch: BATCH,
            micro_batch: MICRO_BATCH,
            flash_attention: true,
            full_windows: false,
            offload_cache: true,
            repack: true,
            gpu: spec.gpu.clone(),
            gpu_layers: spec.gpu_layers.unwrap_or(GpuLayers::Auto),
            tensor_split: spec.tensor_split.clone(),
            cpu_moe: spec.cpu_moe,
            projector_bytes: 0,
            mapped: true,
            rough: !spec.override_tensor.is_empty(),
        };
        for (name, value) in &spec.env {
            // What has no room in the GPU's memory is in the host's then.
            profile.rough |= name == "GGML_CUDA_ENABLE_UNIFIED_MEMORY";
            if let Some(option) = VARIABLES.iter().find(|(variable, _)| variable == name).map(|(_, option)| *option) {
                profile.option(option, Some(value));
            }
        }
        for (name, value) in options(&spec.args) {
            profile.option(name, value);
        }
        profile
    }

    /// What of a start's own settings may keep its server off a GPU, as it is given: a server with other settings may use
    /// one. Empty where nothing does.
    pub fn devices(spec: &LaunchSpec) -> Vec<String> {
        let given = |(name, value): (&str, Option<&str>)| format!("{name}={}", value.unwrap_or_default());
        let args = options(&spec.args).filter(|(name, _)| matches!(*name, "-dev" | "--device")).map(given);
        let is_about = |name: &str| name.ends_with("VISIBLE_DEVICES") || DEVICE_VARIABLES.contains(&name);
        let env = spec.env.iter().map(|(name, value)| (name.as_str(), Some(value.as_str())));
        let env = env.filter(|(name, _)| is_about(name)).map(given);
        let named = matches!(spec.gpu, Gpu::Devices(_)).then(|| format!("gpu={:?}", spec.gpu));
        let none = (Self::of(spec).gpu_layers == GpuLayers::Count(0)).then(|| "no layers".to_owned());
        args.chain(env).chain(named).chain(none).collect()
    }

    fn option(&mut self, name: &str, value: Option<&str>) {
        let number = value.and_then(|value| value.parse::<i64>().ok());
        let positive = number.and_then(|number| u32::try_from(number).ok()).filter(|number| *number > 0);
        let on = !matches!(value, Some("0" | "off" | "false" | "disabled"));
        let kind = value.and_then(TensorType::named);
        match name {
            "-c" | "--ctx-size" => self.ctx = positive.unwrap_or(self.ctx),
            "-np" | "--parallel" if number == Some(-1) => {
                self.parallel = SLOTS_BY_ITSELF;
                self.unified = true;
            }
            "-np" | "--parallel" => self.parallel = positive.unwrap_or(self.parallel),
            "-b" | "--batch-size" => self.batch = positive.unwrap_or(self.batch),
            "-ub" | "--ubatch-size" => self.micro_batch = positive.unwrap_or(self.micro_batch),
            "-ctk" | "--cache-type-k" => self.cache_k = kind.unwrap_or(self.cache_k),
            "-ctv" | "--cache-type-v" => self.cache_v = kind.unwrap_or(self.cache_v),
            "-fa" | "--flash-attn" => self.flash_attention = on,
            "-kvu" | "--kv-unified" => self.unified = true,
            "-no-kvu" | "--no-kv-unified" => self.unified = false,
            "--swa-full" => self.full_windows = true,
            "-nr" | "--no-repack" => self.repack = false,
            "--no-mmap" | "--mlock" => self.mapped = false,
            "-nkvo" | "--no-kv-offload" => self.offload_cache = false,
            "-ngl" | "--gpu-layers" | "--n-gpu-layers" => match (value, positive) {
                (Some("auto"), _) => self.gpu_layers = GpuLayers::Auto,
                (Some("all"), _) => self.gpu_layers = GpuLayers::All,
                (Some("0"), _) => self.gpu_layers = GpuLayers::Count(0),
                (_, Some(layers)) => self.gpu_layers = GpuLayers::Count(layers),
                _ => {}
            },
            "-cmoe" | "--cpu-moe" => self.cpu_moe = Some(CpuMoe::All),
            "-ncmoe" | "--n-cpu-moe" => self.cpu_moe = positive.map(CpuMoe::Layers).or(self.cpu_moe),
            "-dev" | "--device" if value == Some("none") => self.gpu = Gpu::None,
            "-ot" | "--override-tensor" | "-sm" | "--split-mode" | "-md" | "--model-draft" | "--lora" => {
                self.rough = true;
            }
            _ => {}
        }
    }

    /// Tokens in the cache of one slot, or of all where they share it; and how many such caches there are.
    pub fn cells(&self) -> (u64, u64) {
        let (all, slots) = (u64::from(self.ctx.max(1)).next_multiple_of(256), u64::from(self.parallel.max(1)));
        if self.unified { (all, 1) } else { ((all / slots).max(1).next_multiple_of(256), slots) }
    }

    /// Tokens that one graph works on at most.
    pub fn graph_tokens(&self) -> u64 {
        u64::from(self.micro_batch.min(self.batch).min(self.ctx).max(1))
    }

    /// Tokens in the cache of a layer that sees only a window of so many.
    pub fn window_cells(&self, window: u64) -> u64 {
        let (cells, _) = self.cells();
        if self.full_windows {
            return cells;
        }
        let slots = if self.unified { u64::from(self.parallel.max(1)) } else { 1 };
        let wanted = window.saturating_mul(slots).saturating_add(self.graph_tokens());
        cells.min(wanted).next_multiple_of(256)
    }
}

/// The arguments by name, each with its value: what stands behind `=`, or the next one, which may be a flag.
fn options(args: &[String]) -> impl Iterator<Item = (&str, Option<&str>)> {
    args.iter().enumerate().map(|(index, arg)| match arg.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (arg.as_str(), args.get(index + 1).map(String::as_str)),
    })
}

/// By these, too, drivers and `llama-server` are told which GPUs there are.
const DEVICE_VARIABLES: [&str; 4] =
    ["GPU_DEVICE_ORDINAL", "LLAMA_ARG_DEVICE", "ONEAPI_DEVICE_SELECTOR", "ZE_AFFINITY_MASK"];

/// The variables that are about memory, and the arguments they stand for.
const VARIABLES: [(&str, &str); 10] = [
    ("LLAMA_ARG_BATCH", "-b"),
    ("LLAMA_ARG_UBATCH", "-ub"),
    ("LLAMA_ARG_CACHE_TYPE_K", "-ctk"),
    ("LLAMA_ARG_CACHE_TYPE_V", "-ctv"),
    ("LLAMA_ARG_FLASH_ATTN", "-fa"),
    ("LLAMA_ARG_KV_UNIFIED", "-kvu"),
    ("LLAMA_ARG_SWA_FULL", "--swa-full"),
    ("LLAMA_ARG_N_GPU_LAYERS", "-ngl"),
    ("LLAMA_ARG_CPU_MOE", "-cmoe"),
    ("LLAMA_ARG_DEVICE", "-dev"),
];
