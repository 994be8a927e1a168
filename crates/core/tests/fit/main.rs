//! Does a model fit: the arithmetic, on models of known shapes.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "test code")]

mod estimates;
mod files;
mod verdicts;

use std::fs::File;

use corral_testkit::gguf::{ShapedModel, shapes};
use corral_testkit::launch_spec;
use proptest::prelude::*;

use corral_core::fit::*;
use corral_core::gguf::{Model, Tensor, TensorType, Value, read};
use corral_core::launch::{CpuMoe, Gpu, GpuLayers, LaunchSpec};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

fn architecture(shape: &str) -> Architecture {
    let file = tempfile::NamedTempFile::new().unwrap();
    ShapedModel::named(shape).unwrap().write(file.path()).unwrap();
    let header = read(File::open(file.path()).unwrap()).unwrap();
    Architecture::of(&Model::join(vec![header]).unwrap()).unwrap()
}

fn profile(ctx: u32, args: &[&str]) -> Profile {
    let args = args.iter().map(|arg| (*arg).to_owned()).collect();
    Profile::of(&LaunchSpec { ctx, args, ..launch_spec("m") })
}

fn on_host(shape: &str, ctx: u32, args: &[&str]) -> Space {
    estimate(&architecture(shape), &profile(ctx, args), &Placement { gpus: Vec::new(), layers: 0 }).host
}

/// A model of one key each, and no tensors.
fn model_of(architecture: &str, values: &[(&str, Value)]) -> Model {
    let own = |key: &str| format!("{architecture}.{key}");
    let values = values.iter().map(|(key, value)| (own(key), value.clone()));
    Model { architecture: architecture.to_owned(), values: values.collect(), tensors: Vec::new(), size_bytes: 0 }
}

fn minimal(architecture: &str, layers: u64, more: &[(&str, Value)]) -> Model {
    let mut values = vec![
        ("embedding_length", Value::Number(64)),
        ("block_count", Value::Number(layers)),
        ("attention.head_count", Value::Number(2)),
    ];
    values.extend_from_slice(more);
    model_of(architecture, &values)
}

/// The layers that see everything, of so many.
fn full(model: &Model) -> Vec<usize> {
    let layers = Architecture::of(model).unwrap().layers;
    layers.iter().enumerate().filter(|(_, layer)| layer.window.is_none()).map(|(index, _)| index).collect()
}
