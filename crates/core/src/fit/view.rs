//! Whether a model fits, as surfaces show it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::verdict::human;
use super::{Fit, Holder, Need, Verdict};
use crate::error::{Code, Error, ErrorBody};
use crate::id::ModelId;

/// The verdict in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FitVerdict {
    /// It fits as it is configured.
    Fits,
    /// It fits with `layers_on_cpu` layers on the CPU, which `llama-server` does by itself, or with the context `ctx`,
    /// which is smaller than `ctx_configured` then and has to be configured, or with both.
    Reduced,
    /// It does not fit in any useful way.
    No,
}

/// Whether a model fits into the memory there is: free now, and what the loaded model gives back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Fit")]
pub struct FitView {
    /// The verdict in one word.
    pub verdict: FitVerdict,
    /// GPU memory that it needs as it is configured, in bytes.
    pub vram_bytes: u64,
    /// Host memory that it needs as it is configured, in bytes.
    pub host_bytes: u64,
    /// GPU memory that it takes in the reduced form, in bytes; null where it is not reduced.
    #[serde(default)]
    pub vram_reduced_bytes: Option<u64>,
    /// Host memory that it takes in the reduced form, in bytes; null where it is not reduced.
    #[serde(default)]
    pub host_reduced_bytes: Option<u64>,
    /// The context, in tokens, that the verdict holds for: less than `ctx_configured` where it is reduced by its context.
    pub ctx: u32,
    /// The context that is configured, in tokens.
    #[serde(default)]
    pub ctx_configured: u32,
    /// So many layers work on the CPU, slowly, because the GPUs have no room for them; 0 where it is not reduced by layers.
    #[serde(default)]
    pub layers_on_cpu: u32,
    /// GPU memory that there is for it, in bytes: free now, and what the loaded model gives back.
    #[serde(default)]
    pub vram_free_bytes: u64,
    /// Host memory that there is for it, in bytes.
    #[serde(default)]
    pub host_free_bytes: u64,
    /// Who has the memory that is missing, the largest first.
    #[serde(default)]
    pub in_the_way: Vec<Holder>,
    /// It surely cannot be loaded: a start or switch without `force` is refused.
    #[serde(default)]
    pub hopeless: bool,
    /// Why, one sentence.
    pub reason: Option<String>,
}

impl FitView {
    /// In a few words, where there is something to be said: `8k context`, `20 layers on the CPU`, both, or `too big`.
    pub fn brief(&self) -> Option<String> {
        match self.verdict {
            FitVerdict::Fits => None,
            FitVerdict::No => Some("too big".to_owned()),
            FitVerdict::Reduced => {
                let context = self.is_cut().then(|| match self.ctx {
                    ctx @ ..1024 => format!("context of {ctx}"),
                    ctx => format!("{}k context", ctx / 1024),
                });
                let layers = match self.layers_on_cpu {
                    0 => None,
                    1 => Some("1 layer on the CPU".to_owned()),
                    layers => Some(format!("{layers} layers on the CPU")),
                };
                let words: Vec<_> = context.into_iter().chain(layers).collect();
                Some(if words.is_empty() { "reduced".to_owned() } else { words.join(", ") })
            }
        }
    }

    /// It fits only with a smaller context than is configured.
    fn is_cut(&self) -> bool {
        self.verdict == FitVerdict::Reduced && self.ctx < self.ctx_configured
    }

    /// The same without the names of other programs, for who need not know what else runs.
    #[must_use]
    pub fn without_names(self) -> Self {
        Self { in_the_way: Vec::new(), reason: None, ..self }
    }

    /// Why it is not loaded, and what would help.
    pub fn refusal(&self, model: &ModelId) -> Error {
        let mut text = format!("`{model}` does not fit into the memory there is");
        if let Some(reason) = &self.reason {
            text = format!("{text}: {reason}");
        }
        let mut steps = Vec::new();
        if let Some(holder) = self.in_the_way.first() {
            steps.push(format!("end {}", holder.name));
        }
        steps.push("fewer `gpu_layers`, `cpu_moe` or a smaller quantisation need less".to_owned());
        steps.push(format!("`corral switch {model} --force` tries all the same"));
        Error::new(Code::InsufficientMemory, text).hint(steps.join("; "))
    }

    /// What a person should hear of before it is loaded all the same; none where it fits, or is reduced by itself.
    pub fn warning(&self, name: &str) -> Option<String> {
        let doubtful = match self.verdict {
            FitVerdict::Fits => false,
            FitVerdict::Reduced => self.is_cut(),
            FitVerdict::No => true,
        };
        doubtful
            .then(|| format!("{name} may not fit: {}", self.reason.as_deref().unwrap_or("there is too little memory")))
    }
}

impl FitView {
    /// Whether an error of a load is one that memory can be the reason for.
    pub fn may_explain(error: &Error) -> bool {
        matches!(error.code(), Code::OutOfMemory | Code::ServerKilled)
    }

    /// The error of a load with the numbers that explain it. A server that was killed ran out of memory where the host
    /// has less than it needs: the kernel does not say so itself everywhere.
    #[must_use]
    pub fn explain(&self, error: &Error) -> Error {
        // Where llama-server may move layers and only a smaller context fits, those on the host had no room there.
        let short = self.host_bytes > self.host_free_bytes || (self.is_cut() && self.layers_on_cpu > 0);
        let killed = error.code() == Code::ServerKilled;
        if killed && !(short && error.to_string().contains("SIGKILL")) {
            return error.clone();
        }
        // How much it was going to take depends on what was moved; why it is reduced says more than numbers.
        if let (FitVerdict::Reduced, Some(reason), false) = (self.verdict, &self.reason, killed) {
            return error.clone().and(reason);
        }
        let mut text = match (self.vram_bytes, self.vram_free_bytes) {
            (0, _) => {
                format!("it needs about {}, and {} were free", human(self.host_bytes), human(self.host_free_bytes))
            }
            (vram, free) => format!(
                "it needs about {} of GPU memory and {} of the host's, and {} and {} were free",
                human(vram),
                human(self.host_bytes),
                human(free),
                human(self.host_free_bytes)
            ),
        };
        if !short && self.vram_bytes <= self.vram_free_bytes {
            text.push_str(", so something took memory meanwhile, or bounds this server");
        }
        if killed {
            text = format!("most likely because memory ran out: {text}");
        }
        if let Some(holder) = self.in_the_way.first() {
            text = format!("{text}; {} has {}", holder.name, human(holder.bytes));
        }
        let body = error.clone().and(&text).body();
        let hint = if killed { Some(LESS.to_owned()) } else { body.hint };
        Error::from(ErrorBody { code: Code::OutOfMemory, hint, ..body })
    }
}

/// What makes a model smaller.
const LESS: &str = "a smaller `ctx`, `cache_type_k` and `cache_type_v` of `q8_0`, fewer `gpu_layers` or a smaller \
                    quantisation need less";

impl From<Fit> for FitView {
    fn from(fit: Fit) -> Self {
        let (verdict, reduced) = match fit.verdict {
            Verdict::Fits => (FitVerdict::Fits, None),
            Verdict::Reduced(_) => (FitVerdict::Reduced, Some(&fit.need)),
            Verdict::No => (FitVerdict::No, None),
        };
        Self {
            verdict,
            vram_bytes: fit.configured.vram(),
            host_bytes: fit.configured.host.total(),
            vram_reduced_bytes: reduced.map(Need::vram),
            host_reduced_bytes: reduced.map(|need| need.host.total()),
            ctx: fit.ctx,
            ctx_configured: fit.configured_ctx,
            layers_on_cpu: fit.layers_on_cpu,
            vram_free_bytes: fit.vram_free,
            host_free_bytes: fit.host_free,
            in_the_way: fit.in_the_way,
            hopeless: fit.hopeless,
            reason: Some(fit.reason),
        }
    }
}
