//! Everything that decides how one `llama-server` is started, resolved from the catalog once.

use std::path::PathBuf;
use std::time::Duration;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::id::{ConfigHash, ModelId};

/// The variable that says which instance of Corral's a child process belongs to, in its environment.
pub const INSTANCE_VARIABLE: &str = "CORRAL_INSTANCE";

/// How `llama-server` runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Runtime {
    /// In a container.
    #[default]
    Docker,
    /// As a child process.
    Process,
}

/// Which GPUs a model may use.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Gpu {
    /// All there are; llama.cpp fits the layers.
    #[default]
    Auto,
    /// None: the CPU alone.
    None,
    /// These devices, by index.
    Devices(Vec<u32>),
}

/// How many layers go to the GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GpuLayers {
    /// As many as fit.
    Auto,
    /// All of them.
    All,
    /// This many.
    Count(u32),
}

/// Sampler defaults that `llama-server` uses when a request names none.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sampling {
    /// Randomness: 0 is greedy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// Keep the most likely tokens whose probabilities add up to this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f64>,
    /// Keep the K most likely tokens; 0 keeps all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_k: Option<u32>,
    /// Drop tokens below this share of the most likely one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_p: Option<f64>,
    /// Penalty on repeated tokens; 1 is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repeat_penalty: Option<f64>,
    /// Penalty on tokens that occurred at all; 0 is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub presence_penalty: Option<f64>,
    /// Penalty by how often a token occurred; 0 is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frequency_penalty: Option<f64>,
}

/// The resolved configuration of one start.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LaunchSpec {
    /// The model's key in the catalog.
    pub model: ModelId,
    /// Container or child process.
    pub runtime: Runtime,
    /// The image's reference, for [`Runtime::Docker`].
    pub image: String,
    /// The program, for [`Runtime::Process`]: a path, or a name looked up in `PATH`.
    pub binary: PathBuf,
    /// The models folder, absolute.
    pub models_dir: PathBuf,
    /// The model file, absolute.
    pub file: PathBuf,
    /// The multimodal projector file, absolute.
    pub mmproj: Option<PathBuf>,
    /// Context of the whole server in tokens, shared by the slots.
    pub ctx: u32,
    /// Number of slots.
    pub parallel: u32,
    /// Which GPUs.
    pub gpu: Gpu,
    /// Layers on the GPU; `None` leaves it to `llama-server`.
    pub gpu_layers: Option<GpuLayers>,
    /// Share of each GPU.
    pub tensor_split: Vec<f64>,
    /// `--override-tensor` patterns.
    pub override_tensor: Vec<String>,
    /// Type of the K cache, for instance `q8_0`.
    pub cache_type_k: Option<String>,
    /// Type of the V cache.
    pub cache_type_v: Option<String>,
    /// Keep the weights of the experts on the CPU: all of them, or those of the first N layers.
    pub cpu_moe: Option<CpuMoe>,
    /// Use the Jinja chat template; `None` leaves it to `llama-server`.
    pub jinja: Option<bool>,
    /// Sampler defaults.
    pub sampling: Sampling,
    /// More arguments, as they are.
    pub args: Vec<String>,
    /// More environment.
    pub env: IndexMap<String, String>,
    /// How long loading may take. Not part of the hash: it changes nothing about the server.
    #[serde(skip)]
    pub load_timeout: Duration,
}

/// Where the experts of a mixture-of-experts model stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CpuMoe {
    /// All on the CPU.
    All,
    /// Those of the first N layers on the CPU.
    Layers(u32),
}

impl LaunchSpec {
    /// The hash that tells whether a running instance still is what the catalog asks for.
    pub fn hash(&self) -> ConfigHash {
        // Plain data with string keys always serialises.
        let bytes = serde_json::to_vec(self).unwrap_or_default();
        let digest = Sha256::digest(&bytes);
        ConfigHash(digest.iter().take(8).fold(String::new(), |text, byte| text + &format!("{byte:02x}")))
    }
}
