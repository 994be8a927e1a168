//! What only a model has: its devices, its layers, its lists and its environment.

use std::ops::Range;

use indexmap::IndexMap;
use serde_json::{Value, json};
use toml::de::DeValue;

use super::owned;
use super::reader::{Node, Reader, Setting};
use super::values::{self, Int};
use crate::launch::{CpuMoe, Gpu, GpuLayers};

/// The types that `--cache-type-k` and `--cache-type-v` take.
const CACHE_TYPES: [&str; 9] = ["f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "iq4_nl", "q5_0", "q5_1"];

/// More than any model has.
type Layers = Int<0, 9999>;

/// The elements of an array, each read by itself; none where one is wrong.
fn elements<T>(
    node: &Node<'_>,
    reader: &mut Reader<'_>,
    expected: &str,
    mut read: impl FnMut(&Node<'_>, &mut Reader<'_>) -> Option<T>,
) -> Option<Vec<T>> {
    let DeValue::Array(nodes) = node.get_ref() else {
        reader.expected(node, expected);
        return None;
    };
    // Every element is read, so that every mistake is told.
    let read: Vec<Option<T>> =
        nodes.iter().enumerate().map(|(index, node)| reader.item(index, |reader| read(node, reader))).collect();
    read.into_iter().collect()
}

impl Setting for Gpu {
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let expected = "\"auto\", \"none\", or the indices of devices";
        match node.get_ref() {
            DeValue::String(text) if text == "auto" => Some(Self::Auto),
            DeValue::String(text) if text == "none" => Some(Self::None),
            DeValue::Array(nodes) if !nodes.is_empty() => {
                let mut devices: Vec<u32> = Vec::new();
                elements(node, reader, expected, |node, reader| {
                    let Int(device) = Int::<0, 63>::read(node, reader)?;
                    if devices.contains(&device) {
                        reader.problem(node.span(), &format!("device {device} is named twice"));
                        return None;
                    }
                    devices.push(device);
                    Some(())
                })?;
                Some(Self::Devices(devices))
            }
            _ => {
                reader.expected(node, expected);
                None
            }
        }
    }

    fn schema() -> Value {
        let devices = json!({ "type": "array", "items": Int::<0, 63>::schema(), "minItems": 1, "uniqueItems": true });
        json!({ "anyOf": [{ "enum": ["auto", "none"] }, devices] })
    }
}

impl Setting for GpuLayers {
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        match node.get_ref() {
            DeValue::String(text) if text == "auto" => return Some(Self::Auto),
            DeValue::String(text) if text == "all" => return Some(Self::All),
            value => {
                if let Some(count) = Layers::of(value) {
                    return Some(Self::Count(count));
                }
            }
        }
        reader.expected(node, "\"auto\", \"all\", or a number of layers");
        None
    }

    fn schema() -> Value {
        json!({ "anyOf": [{ "enum": ["auto", "all"] }, Layers::schema()] })
    }
}

/// `cpu_moe`; `false` undoes what `[defaults]` says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Experts(pub(super) Option<CpuMoe>);

impl Setting for Experts {
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        match (node.get_ref(), Layers::of(node.get_ref())) {
            (DeValue::Boolean(true), _) => Some(Self(Some(CpuMoe::All))),
            (DeValue::Boolean(false), _) | (_, Some(0)) => Some(Self(None)),
            (_, Some(layers)) => Some(Self(Some(CpuMoe::Layers(layers)))),
            _ => {
                reader.expected(node, "true, false, or a number of layers");
                None
            }
        }
    }

    fn schema() -> Value {
        json!({ "anyOf": [{ "type": "boolean" }, Layers::schema()] })
    }
}

/// The type of one half of the KV cache.
#[derive(Debug, Clone)]
pub(super) struct CacheType(pub(super) String);

impl Setting for CacheType {
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let expected = format!("one of {}", CACHE_TYPES.join(", "));
        let known = |text: &str| CACHE_TYPES.contains(&text);
        values::text(node, reader, known, &expected).map(|text| Self(text.to_owned()))
    }

    fn schema() -> Value {
        json!({ "enum": CACHE_TYPES })
    }
}

/// The shares of `tensor_split`.
#[derive(Debug, Clone)]
pub(super) struct Shares(pub(super) Vec<f64>);

impl Setting for Shares {
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let shares = elements(node, reader, "an array of numbers", |node, reader| {
            let share = values::number(node.get_ref()).filter(|share| *share >= 0.0);
            if share.is_none() {
                reader.expected(node, "a number from 0 up");
            }
            share
        })?;
        if !shares.is_empty() && shares.iter().all(|share| *share <= 0.0) {
            reader.problem(node.span(), "at least one share must be above 0");
            return None;
        }
        Some(Self(shares))
    }

    fn schema() -> Value {
        json!({ "type": "array", "items": { "type": "number", "minimum": 0 } })
    }
}

/// The patterns of `override_tensor`, one or several.
#[derive(Debug, Clone)]
pub(super) struct Overrides(pub(super) Vec<String>);

impl Setting for Overrides {
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let one = |node: &Node<'_>, reader: &mut Reader<'_>| {
            let fits = |text: &str| text.split_once('=').is_some_and(|(name, to)| !name.is_empty() && !to.is_empty());
            values::text(node, reader, fits, "`<tensor pattern>=<buffer type>`").map(str::to_owned)
        };
        match node.get_ref() {
            DeValue::String(_) => one(node, reader).map(|text| Self(vec![text])),
            _ => elements(node, reader, "a string or an array of strings", one).map(Self),
        }
    }

    fn schema() -> Value {
        let one = json!({ "type": "string", "pattern": "^[^=]+=.+" });
        json!({ "anyOf": [one, { "type": "array", "items": one }] })
    }
}

/// Other names, each with its place: whether they are free shows only when all models are read.
#[derive(Debug, Clone)]
pub(super) struct Aliases(pub(super) Vec<(Range<usize>, String)>);

impl Setting for Aliases {
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let fits = |text: &str| {
            let stem = text.strip_suffix('*').unwrap_or(text);
            let plain = |c: char| !c.is_whitespace() && !c.is_control() && c != '*';
            (1..=128).contains(&text.len()) && stem.chars().all(plain)
        };
        elements(node, reader, "an array of strings", |node, reader| {
            let expected = "a name without spaces, with `*` only at its end";
            values::text(node, reader, fits, expected).map(|text| (node.span(), text.to_owned()))
        })
        .map(Self)
    }

    fn schema() -> Value {
        let one = json!({ "type": "string", "pattern": "^[^\\s*]*\\*?$", "minLength": 1, "maxLength": 128 });
        json!({ "type": "array", "items": one })
    }
}

/// Arguments for `llama-server`, less those that Corral gives itself.
#[derive(Debug, Clone)]
pub(super) struct Args(pub(super) Vec<String>);

impl Setting for Args {
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        elements(node, reader, "an array of strings", |node, reader| {
            let arg = values::text(node, reader, |text| !text.contains('\0'), "a string")?;
            if let Some(instead) = owned::argument(arg) {
                let flag = arg.split_once('=').map_or(arg, |(flag, _)| flag);
                let what = format!("`{flag}` is not for `args`: {instead}");
                reader.problem_with(node.span(), &what, format!("take `{flag}` out of `args`"));
                return None;
            }
            Some(arg.to_owned())
        })
        .map(Self)
    }

    fn schema() -> Value {
        json!({ "type": "array", "items": { "type": "string" } })
    }
}

/// More environment for `llama-server`, less what Corral sets itself.
#[derive(Debug, Clone)]
pub(super) struct Env(pub(super) IndexMap<String, String>);

impl Setting for Env {
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let DeValue::Table(entries) = node.get_ref() else {
            reader.expected(node, "a table of strings");
            return None;
        };
        let mut env = IndexMap::new();
        for (key, value) in entries {
            let (name, span) = (key.get_ref().as_ref(), key.span());
            reader.under(name, |reader| {
                if !owned::is_variable_name(name) {
                    let hint = "letters, digits and `_`, the first no digit";
                    reader.problem_with(span.clone(), "not a name of an environment variable", hint);
                } else if let Some(instead) = owned::variable(name) {
                    let what = format!("not for `env`: {instead}");
                    reader.problem_with(span.clone(), &what, format!("take `{name}` out of `env`"));
                }
                let text = values::text(value, reader, |text| !text.contains('\0'), "a string");
                env.extend(text.map(|text| (name.to_owned(), text.to_owned())));
            });
        }
        Some(Self(env))
    }

    fn merge(self, fallback: &Self) -> Self {
        let mut env = fallback.0.clone();
        env.extend(self.0);
        Self(env)
    }

    fn schema() -> Value {
        json!({
            "type": "object",
            "propertyNames": { "pattern": "^[A-Za-z_][A-Za-z0-9_]*$" },
            "additionalProperties": { "type": "string" },
        })
    }
}
