//! How far off the estimate of a model was, learned from its last load.

use serde::{Deserialize, Serialize};

use super::{Need, Profile, Space};
use crate::launch::LaunchSpec;

/// Beyond these an estimate is not off but about something else: another server, another model.
const LEAST: f64 = 0.25;
const MOST: f64 = 4.0;
/// Below this, counting in whole MiB says more than the estimate's error, in bytes.
const TOO_LITTLE: u64 = 16 << 20;

/// By what the estimates of one model are multiplied from now on. The default changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Correction {
    /// Of the weights.
    pub weights: f64,
    /// Of the KV cache.
    pub kv: f64,
    /// Of the compute buffers.
    pub compute: f64,
    /// What the driver takes on each GPU, in bytes; none where no GPU was used.
    pub overhead: Option<u64>,
}

impl Default for Correction {
    fn default() -> Self {
        Self { weights: 1.0, kv: 1.0, compute: 1.0, overhead: None }
    }
}

impl Correction {
    /// What a load teaches. `estimated` is for the same settings and without a correction; all places count together,
    /// as `llama-server` may have placed the layers otherwise.
    pub fn learn(estimated: &Need, taken: &Need) -> Self {
        let (guess, real) = (estimated.everywhere(), taken.everywhere());
        let gpus = taken.gpus.iter().filter(|space| space.weights > 0);
        Self {
            weights: ratio(guess.weights, real.weights),
            kv: ratio(guess.kv, real.kv),
            compute: ratio(guess.compute, real.compute),
            // The smallest: elsewhere other programs are in it.
            overhead: gpus.map(|space| space.overhead).filter(|overhead| *overhead > 0).min(),
        }
    }

    /// The estimate as it should have been.
    #[must_use]
    pub fn apply(&self, estimated: &Need) -> Need {
        let corrected = |space: &Space| Space {
            weights: scaled(space.weights, self.weights),
            kv: scaled(space.kv, self.kv),
            compute: scaled(space.compute, self.compute),
            overhead: if space.overhead > 0 { self.overhead.unwrap_or(space.overhead) } else { 0 },
        };
        Need { gpus: estimated.gpus.iter().map(corrected).collect(), host: corrected(&estimated.host) }
    }
}

/// What loads of one model have taught.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Lesson {
    /// The size of the model's files in bytes: those of another model are not corrected by it.
    pub model_bytes: u64,
    /// The build of `llama-server` that has taught it: what another one takes is not corrected by it. None where that
    /// could not be told.
    pub build: Option<String>,
    /// How far off the estimate was.
    pub correction: Correction,
    /// Its server used no GPU though there were some for it: it was built without.
    pub on_cpu: bool,
    /// The settings that `on_cpu` holds for ([`Profile::devices`]): it may be their doing.
    pub devices: Vec<String>,
}

impl Lesson {
    /// Whether it holds for files of this size and this build, as far as that is known.
    pub fn holds_for(&self, model_bytes: u64, build: Option<&str>) -> bool {
        self.model_bytes == model_bytes && (build.is_none() || self.build.as_deref() == build)
    }

    /// Whether a server with these settings uses no GPU, as far as was learned.
    pub fn is_on_cpu(&self, spec: &LaunchSpec) -> bool {
        self.on_cpu && self.devices == Profile::devices(spec)
    }
}

#[expect(clippy::cast_precision_loss, reason = "a ratio of sizes")]
fn ratio(guess: u64, real: u64) -> f64 {
    if guess < TOO_LITTLE || real < TOO_LITTLE {
        return 1.0;
    }
    let ratio = real as f64 / guess as f64;
    if (LEAST..=MOST).contains(&ratio) { ratio } else { 1.0 }
}

#[expect(clippy::cast_precision_loss, reason = "a size, of which some bytes do not matter")]
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "times a number between 0.25 and 4")]
fn scaled(bytes: u64, by: f64) -> u64 {
    if by.is_finite() && (LEAST..=MOST).contains(&by) { (bytes as f64 * by) as u64 } else { bytes }
}
