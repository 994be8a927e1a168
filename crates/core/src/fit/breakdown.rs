//! What a load really took, as `llama-server` tells it.

use serde::Deserialize;
use serde_json::Value;

use super::{Need, Space};

const MIB: u64 = 1 << 20;

/// What was taken, in bytes, each to the next lower MiB, as `llama-server` counts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Taken {
    /// What was taken, by GPU and on the host. A GPU's overhead is what is missing there and nobody accounts for; that
    /// can be other programs as well.
    pub need: Need,
    /// The names of the GPUs, for instance `CUDA0`.
    pub names: Vec<String>,
}

#[derive(Deserialize)]
struct Record {
    unit: String,
    rows: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    kind: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    model: i64,
    #[serde(default)]
    context: i64,
    #[serde(default)]
    compute: i64,
    #[serde(default)]
    unaccounted: i64,
}

impl Taken {
    /// Reads a line of `--log-jsonl`; none where it is not the record `fit_memory_breakdown`. While it loads, a server
    /// writes two: what it expects, and what it took.
    ///
    /// ```
    /// use corral_core::fit::Taken;
    /// let line = r#"{"type":"fit_memory_breakdown","data":{"unit":"MiB","rows":[
    ///     {"kind":"host","name":"Host","self":8,"model":1,"context":2,"compute":5}]}}"#;
    /// let taken = Taken::of_line(line).unwrap();
    /// assert_eq!((taken.need.host.kv, taken.need.host.total()), (2 << 20, 8 << 20));
    /// ```
    pub fn of_line(line: &str) -> Option<Self> {
        let record: Value = serde_json::from_str(line).ok()?;
        if record.get("type")?.as_str()? != "fit_memory_breakdown" {
            return None;
        }
        let record: Record = serde_json::from_value(record.get("data")?.clone()).ok()?;
        if record.unit != "MiB" {
            return None;
        }
        let mut taken = Self::default();
        for row in record.rows {
            let bytes = |count: i64| u64::try_from(count).unwrap_or(0).saturating_mul(MIB);
            let mut space =
                Space { weights: bytes(row.model), kv: bytes(row.context), compute: bytes(row.compute), overhead: 0 };
            if row.kind == "device" {
                space.overhead = bytes(row.unaccounted);
                taken.need.gpus.push(space);
                taken.names.push(row.name);
            } else {
                // `host`, and what is on the host in another form (`CPU_REPACK`).
                let host = &mut taken.need.host;
                host.weights = host.weights.saturating_add(space.weights);
                host.kv = host.kv.saturating_add(space.kv);
                host.compute = host.compute.saturating_add(space.compute);
            }
        }
        Some(taken)
    }
}
