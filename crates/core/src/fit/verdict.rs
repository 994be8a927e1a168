//! Does it fit, and if not, what would, and who is in the way?

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Architecture, Correction, MARGIN, Need, Placement, Profile, SMALLEST_CONTEXT, estimate};
use crate::launch::{Gpu, GpuLayers};

/// Contexts are cut to a multiple of this.
const STEP: u32 = 1024;

/// The memory of a GPU or of the host, in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Memory {
    /// As a person calls it, for instance `GPU 0 (RTX 4090)`.
    pub name: String,
    /// All of it.
    pub total: u64,
    /// What is free now.
    pub free: u64,
    /// Nobody has looked: it sleeps.
    pub assumed: bool,
    /// More of it may be had than is told: a model is never refused for the lack of it.
    pub unsure: bool,
    /// So much of it is the host's, which lacks what is used of that: the graphics of a processor have some.
    pub shared: u64,
    /// What the model that is loaded now gives back before the new one comes.
    pub given_back: u64,
    /// Who has some of the rest, the model that is loaded now excluded.
    pub holders: Vec<Holder>,
}

impl Memory {
    fn available(&self) -> u64 {
        self.free.saturating_add(self.given_back).min(self.total)
    }

    /// What the host lacks where so much is needed here, in bytes: what is its own is used first.
    fn of_host(&self, needed: u64) -> u64 {
        needed.saturating_sub(self.total.saturating_sub(self.shared)).min(self.shared)
    }
}

/// Somebody who has memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Holder {
    /// For instance a program's name, with its process id where several have that name.
    pub name: String,
    /// How much it has, in bytes.
    pub bytes: u64,
}

/// The memory there is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Machine {
    /// The GPUs, in the order of their indexes.
    pub gpus: Vec<Memory>,
    /// The host's: what is available without swapping.
    pub host: Memory,
}

/// What the model would have less of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reduction {
    /// So many layers work on the CPU, slowly. `llama-server` does that by itself.
    LayersOnCpu(u32),
    /// It fits only with this context, in tokens, which has to be configured; layers may go to the CPU as well.
    Context(u32),
}

/// Whether it fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// As it is configured.
    Fits,
    /// Only with less.
    Reduced(Reduction),
    /// In no useful way.
    No,
}

impl Verdict {
    /// In one word: `fits`, `reduced` or `no`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Fits => "fits",
            Self::Reduced(_) => "reduced",
            Self::No => "no",
        }
    }
}

/// The answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Fit {
    /// Whether it fits.
    pub verdict: Verdict,
    /// What it needs as it is configured.
    pub configured: Need,
    /// The context that is configured, in tokens.
    pub configured_ctx: u32,
    /// What it takes in the form that the verdict is about; of one that does not fit, as it is configured.
    pub need: Need,
    /// The context that this is for, in tokens.
    pub ctx: u32,
    /// How many layers, the output among them, are on GPUs.
    pub gpu_layers: u32,
    /// How many layers are on the CPU that should be on GPUs.
    pub layers_on_cpu: u32,
    /// Why, one sentence.
    pub reason: String,
    /// Who has the memory that is missing, most first. Empty where it fits.
    pub in_the_way: Vec<Holder>,
    /// What there is for it on the GPUs that it may use, in bytes.
    pub vram_free: u64,
    /// What there is for it on the host, in bytes.
    pub host_free: u64,
    /// It does not fit, and nothing that is only guessed speaks for that.
    pub hopeless: bool,
}

/// Judges whether a model fits.
///
/// Where the number of layers on GPUs is left to `llama-server`, it leaves [`MARGIN`] free on each and moves what does
/// not fit to the host. Otherwise all has to be where it is told to be.
pub fn judge(model: &Architecture, profile: &Profile, machine: &Machine, correction: &Correction) -> Fit {
    let mut fit = judged(model, profile, machine, correction);
    if fit.verdict == Verdict::No && !profile.rough && model.is_known() {
        let mut roomy = machine.clone();
        // What is guessed of a GPU's driver, and the bounds that the estimate keeps on known models.
        let guessed = (super::OVERHEAD / 2).saturating_add(fit.need.vram() / 20);
        let by_itself = profile.gpu_layers == GpuLayers::Auto;
        for gpu in &mut roomy.gpus {
            // Where llama-server chooses the layers, it does without a GPU that has no room.
            let more = if gpu.unsure || by_itself { u64::MAX / 4 } else { guessed };
            gpu.free = gpu.free.saturating_add(more);
            gpu.total = gpu.total.saturating_add(more);
        }
        if profile.mapped {
            // Mapped weights that have no room are read from the disk again and again: that is slow, but goes on.
            roomy.host.free = roomy.host.free.saturating_add(model.weights());
            roomy.host.total = roomy.host.total.saturating_add(model.weights());
        }
        fit.hopeless = judged(model, profile, &roomy, correction).verdict == Verdict::No;
    }
    fit
}

/// What a model needs as it is configured, with so many layers on the GPUs.
pub fn need_of(model: &Architecture, profile: &Profile, machine: &Machine, layers: u32) -> Need {
    let correction = &Correction::default();
    Case { model, profile, machine, correction, used: used(profile, machine) }.need(profile.ctx, layers)
}

fn judged(model: &Architecture, profile: &Profile, machine: &Machine, correction: &Correction) -> Fit {
    let case = Case { model, profile, machine, correction, used: used(profile, machine) };
    let all = u32::try_from(model.layers.len()).unwrap_or(u32::MAX).saturating_add(1);
    let (wanted, by_itself) = match profile.gpu_layers {
        _ if case.used.is_empty() => (0, false),
        GpuLayers::Auto => (all, true),
        GpuLayers::All => (all, false),
        GpuLayers::Count(layers) => (layers.min(all), false),
    };
    let as_configured = case.form(profile.ctx, wanted);
    if case.lacks(&as_configured.need, by_itself).is_empty() {
        return case.fit(Verdict::Fits, as_configured, None, by_itself);
    }
    // The more layers the better: the first that fits is taken.
    let most = |ctx: u32, below: u32| {
        let mut forms = (0..below).rev().map(|layers| case.form(ctx, layers));
        forms.find(|form| case.lacks(&form.need, true).is_empty())
    };
    if let Some(form) = by_itself.then(|| most(profile.ctx, wanted)).flatten() {
        let verdict = Verdict::Reduced(Reduction::LayersOnCpu(wanted - form.layers));
        return case.fit(verdict, as_configured, Some(form), by_itself);
    }
    let least = if by_itself { 0 } else { wanted };
    let fits = |ctx: u32| case.lacks(&case.need(ctx, least), by_itself).is_empty();
    let Some(ctx) = largest(profile.ctx, fits) else {
        return case.fit(Verdict::No, as_configured, None, by_itself);
    };
    let form = by_itself.then(|| most(ctx, wanted + 1)).flatten().unwrap_or_else(|| case.form(ctx, least));
    case.fit(Verdict::Reduced(Reduction::Context(ctx)), as_configured, Some(form), by_itself)
}

/// The largest context below `ctx` that fits, given that a smaller one needs no more.
fn largest(ctx: u32, fits: impl Fn(u32) -> bool) -> Option<u32> {
    let (mut low, mut high) = (SMALLEST_CONTEXT / STEP, ctx.saturating_sub(1) / STEP);
    if high < low || !fits(low * STEP) {
        return None;
    }
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        if fits(middle * STEP) { low = middle } else { high = middle - 1 }
    }
    Some(low * STEP)
}

/// The GPUs that a model may use, by index.
fn used(profile: &Profile, machine: &Machine) -> Vec<usize> {
    match &profile.gpu {
        Gpu::None => Vec::new(),
        Gpu::Auto => {
            // As llama.cpp does: GPUs with memory of their own, and a processor's graphics only where there are none.
            let own = |gpu: &usize| machine.gpus.get(*gpu).is_some_and(|memory| memory.shared == 0);
            let any = machine.gpus.iter().any(|memory| memory.shared == 0);
            (0..machine.gpus.len()).filter(|gpu| !any || own(gpu)).collect()
        }
        Gpu::Devices(devices) => {
            devices.iter().map(|device| *device as usize).filter(|device| *device < machine.gpus.len()).collect()
        }
    }
}

/// One question, with what it is asked of.
struct Case<'a> {
    model: &'a Architecture,
    profile: &'a Profile,
    machine: &'a Machine,
    correction: &'a Correction,
    used: Vec<usize>,
}

/// One way to run the model.
#[derive(Debug, Clone)]
struct Form {
    need: Need,
    /// In tokens.
    ctx: u32,
    /// How many of them are on GPUs.
    layers: u32,
}

/// Where how much is missing.
struct Lack<'a> {
    memory: &'a Memory,
    /// With what is to be left free there.
    needed: u64,
}

impl Case<'_> {
    fn need(&self, ctx: u32, layers: u32) -> Need {
        let profile = Profile { ctx, ..self.profile.clone() };
        // As `llama-server` does: by what is free, unless it is told.
        #[expect(clippy::cast_precision_loss, reason = "shares")]
        let share = |(position, gpu): (usize, &usize)| match self.profile.tensor_split.as_slice() {
            [] => self.machine.gpus.get(*gpu).map_or(0.0, |memory| memory.available() as f64),
            given => given.get(position).copied().unwrap_or(0.0).max(0.0),
        };
        let gpus = self.used.iter().enumerate().map(share).collect();
        self.correction.apply(&estimate(self.model, &profile, &Placement { gpus, layers }))
    }

    fn lacks(&self, need: &Need, by_itself: bool) -> Vec<Lack<'_>> {
        let margin = if by_itself { MARGIN } else { 0 };
        let gpus = self.used.iter().zip(&need.gpus).filter_map(|(gpu, space)| {
            let (memory, needed) = (self.machine.gpus.get(*gpu)?, space.total());
            let left = if needed > 0 { margin } else { 0 };
            let needed = needed.saturating_add(left);
            (needed > memory.available()).then_some(Lack { memory, needed })
        });
        let here = self.used.iter().zip(&need.gpus);
        let shared = here.filter_map(|(gpu, space)| Some(self.machine.gpus.get(*gpu)?.of_host(space.total())));
        let needed = shared.fold(need.host.total(), u64::saturating_add);
        let host = Lack { memory: &self.machine.host, needed };
        let host = (host.needed > host.memory.available()).then_some(host);
        gpus.chain(host).collect()
    }

    fn form(&self, ctx: u32, layers: u32) -> Form {
        Form { need: self.need(ctx, layers), ctx, layers }
    }

    /// The answer, where `reduced` is the form it would have with less.
    fn fit(&self, verdict: Verdict, configured: Form, reduced: Option<Form>, by_itself: bool) -> Fit {
        let wanted = configured.layers;
        let lacks = self.lacks(&configured.need, by_itself);
        let mut in_the_way: Vec<Holder> = lacks.iter().flat_map(|lack| lack.memory.holders.clone()).collect();
        in_the_way.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.name.cmp(&b.name)));
        in_the_way.dedup();
        let form = reduced.unwrap_or_else(|| configured.clone());
        let layers_on_cpu = wanted.saturating_sub(form.layers);
        let reason = self.reason(verdict, &configured.need, layers_on_cpu, &lacks, &in_the_way);
        let gpus = self.used.iter().filter_map(|gpu| self.machine.gpus.get(*gpu)).map(Memory::available);
        let (vram_free, host_free) = (gpus.fold(0, u64::saturating_add), self.machine.host.available());
        Fit {
            verdict,
            configured: configured.need,
            configured_ctx: configured.ctx,
            need: form.need,
            ctx: form.ctx,
            gpu_layers: form.layers,
            layers_on_cpu,
            reason,
            in_the_way,
            vram_free,
            host_free,
            hopeless: false,
        }
    }

    fn reason(
        &self,
        verdict: Verdict,
        configured: &Need,
        layers_on_cpu: u32,
        lacks: &[Lack<'_>],
        in_the_way: &[Holder],
    ) -> String {
        let places = match (configured.vram(), configured.host.total()) {
            (0, host) => format!("{} of memory", human(host)),
            (vram, host) => format!("{} of GPU memory and {} of the host's", human(vram), human(host)),
        };
        let all = self.model.layers.len() + 1;
        let mut text = match verdict {
            Verdict::Fits => format!("it needs {places}, and there is as much"),
            Verdict::Reduced(Reduction::LayersOnCpu(layers)) => {
                format!("{layers} of {all} layers go to the CPU, which is slow: {}", short(lacks))
            }
            Verdict::Reduced(Reduction::Context(ctx)) => {
                let and = match layers_on_cpu {
                    0 => String::new(),
                    layers => format!(" and {layers} of {all} layers on the CPU, which is slow,"),
                };
                format!("it fits with a context of {ctx}{and} and not with {}: {}", self.profile.ctx, short(lacks))
            }
            Verdict::No => format!("{}, and a smaller context does not help", short(lacks)),
        };
        if let Some(holder) = in_the_way.first() {
            text = format!("{text}; {} has {}", holder.name, human(holder.bytes));
        }
        if let Some(gpu) = self.used.iter().filter_map(|gpu| self.machine.gpus.get(*gpu)).find(|gpu| gpu.assumed) {
            text = format!("{text} ({} sleeps and was not woken: all its memory counts as free)", gpu.name);
        }
        if self.profile.rough {
            text.push_str(" (tensors are moved by arguments or variables that are not followed here: this is a guess)");
        } else if !self.model.is_known() {
            text = format!("{text} (models of the kind `{}` are not known here: this is a guess)", self.model.name);
        }
        text
    }
}

/// What is missing where.
fn short(lacks: &[Lack<'_>]) -> String {
    let list = lacks.iter().map(|lack| {
        format!(
            "{} has {} to give, {} are needed",
            lack.memory.name,
            human(lack.memory.available()),
            human(lack.needed)
        )
    });
    list.collect::<Vec<_>>().join(", ")
}

/// For instance `4.7 GB`.
pub(super) fn human(bytes: u64) -> String {
    let tenths = bytes.div_ceil(100_000_000);
    if tenths >= 10 {
        format!("{}.{} GB", tenths / 10, tenths % 10)
    } else {
        format!("{} MB", bytes.div_ceil(1_000_000))
    }
}
