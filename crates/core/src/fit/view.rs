//! Whether a model fits, as surfaces show it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::verdict::human;
use super::{Fit, Holder, Reduction, Verdict};
use crate::error::{Code, Error, ErrorBody};
use crate::id::ModelId;

/// The verdict in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FitVerdict {
    /// It fits as it is configured.
    Fits,
    /// It fits with layers on the CPU, which are `layers_on_cpu` then; where that is 0, with the smaller context `ctx`.
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
    /// GPU memory that it needs, in bytes.
    pub vram_bytes: u64,
    /// Host memory that it needs, in bytes.
    pub host_bytes: u64,
    /// The context, in tokens, that the verdict holds for: less than the model's own where it is reduced by its context.
    pub ctx: u32,
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
    /// In a few words, where there is something to be said: `8k context`, `20 layers on the CPU`, `too big`.
    pub fn brief(&self) -> Option<String> {
        match (self.verdict, self.layers_on_cpu) {
            (FitVerdict::Fits, _) => None,
            (FitVerdict::No, _) => Some("too big".to_owned()),
            (FitVerdict::Reduced, 0) if self.ctx >= 1024 => Some(format!("{}k context", self.ctx / 1024)),
            (FitVerdict::Reduced, 0) => Some(format!("context of {}", self.ctx)),
            (FitVerdict::Reduced, 1) => Some("1 layer on the CPU".to_owned()),
            (FitVerdict::Reduced, layers) => Some(format!("{layers} layers on the CPU")),
        }
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
            FitVerdict::Reduced => self.layers_on_cpu == 0,
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
        let short = self.host_bytes > self.host_free_bytes;
        let killed = error.code() == Code::ServerKilled;
        if killed && !(short && error.to_string().contains("SIGKILL")) {
            return error.clone();
        }
        // The numbers of what is reduced are those of its reduced form; why it is reduced says more.
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
        let (verdict, layers_on_cpu) = match fit.verdict {
            Verdict::Fits => (FitVerdict::Fits, 0),
            Verdict::Reduced(Reduction::LayersOnCpu(layers)) => (FitVerdict::Reduced, layers),
            Verdict::Reduced(Reduction::Context(_)) => (FitVerdict::Reduced, 0),
            Verdict::No => (FitVerdict::No, 0),
        };
        Self {
            verdict,
            vram_bytes: fit.need.vram(),
            host_bytes: fit.need.host.total(),
            ctx: fit.ctx,
            layers_on_cpu,
            vram_free_bytes: fit.vram_free,
            host_free_bytes: fit.host_free,
            in_the_way: fit.in_the_way,
            hopeless: fit.hopeless,
            reason: Some(fit.reason),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_words_say_by_what_it_is_reduced() {
        let view = |verdict, ctx, layers_on_cpu| FitView {
            verdict,
            vram_bytes: 0,
            host_bytes: 0,
            ctx,
            layers_on_cpu,
            vram_free_bytes: 0,
            host_free_bytes: 0,
            in_the_way: Vec::new(),
            hopeless: false,
            reason: None,
        };
        let table = [
            (FitVerdict::Fits, 8192, 0, None),
            (FitVerdict::Reduced, 8192, 0, Some("8k context")),
            (FitVerdict::Reduced, 512, 0, Some("context of 512")),
            (FitVerdict::Reduced, 8192, 1, Some("1 layer on the CPU")),
            (FitVerdict::Reduced, 8192, 20, Some("20 layers on the CPU")),
            (FitVerdict::No, 8192, 0, Some("too big")),
        ];
        for (verdict, ctx, layers, words) in table {
            assert_eq!(view(verdict, ctx, layers).brief().as_deref(), words);
        }
        let json = serde_json::to_value(view(FitVerdict::Reduced, 1, 0)).unwrap();
        assert_eq!(json["verdict"], "reduced");
    }

    #[test]
    fn what_was_reduced_and_ran_out_is_explained_by_why_it_is_reduced() {
        let fit = FitView {
            verdict: FitVerdict::Reduced,
            vram_bytes: 7,
            host_bytes: 0,
            ctx: 8192,
            layers_on_cpu: 0,
            vram_free_bytes: 8,
            host_free_bytes: 0,
            in_the_way: Vec::new(),
            hopeless: false,
            reason: Some("it fits with 8192 and not with 131072".to_owned()),
        };
        let error = fit.explain(&Error::new(Code::OutOfMemory, "cudaMalloc failed")).to_string();
        assert!(error.contains("not with 131072") && !error.contains("something took memory"), "{error}");
    }
}
