//! The tables of the file, key by key. What is written here is also what `corral schema` says.

use std::ops::Range;

use serde_json::{Value, json};
use toml::de::DeValue;

use super::AutoSwitch;
use super::choices::{Aliases, Args, CacheType, Env, Experts, Overrides, Shares};
use super::gateway::Size;
use super::reader::{Node, Reader, Setting, quoted};
use super::table::table;
use super::values::{FilePath, Folder, Idle, Image, Int, Line, Loopback, Number, Period, Program};
use crate::error::Code;
use crate::id::{InvalidModelId, ModelId};
use crate::launch::{Gpu, GpuLayers, Runtime};

table! {
    /// The models that Corral runs, and how.
    Root {
        /// The version of this format: 1.
        schema: Version => "1",
        /// Where Corral listens.
        server: ServerTable => "{ gateway = \"127.0.0.1:8080\" }",
        /// How requests are treated while models change.
        gateway: GatewayTable => "{ drain_timeout = \"5m\" }",
        /// What runs the models.
        engine: EngineTable => "{ runtime = \"docker\" }",
        /// Keys for every model that does not set them itself; tables are merged key by key.
        defaults: Defaults => "{ ctx = 65536 }",
        /// The models by their ids.
        models: Models => "{ small = { file = \"small.gguf\" } }",
    }
}

table! {
    /// Where Corral listens: loopback only, port 0 for any free one.
    ServerTable {
        /// The inference port that clients use.
        gateway: Loopback => "\"127.0.0.1:8080\"",
        /// The port of the management API and the dashboard.
        management: Loopback => "\"127.0.0.1:8081\"",
    }
}

table! {
    /// How requests are treated while models change.
    GatewayTable {
        /// How long running requests may take to end before a switch cuts them.
        drain_timeout: Period<0> => "\"5m\"",
        /// Whose requests for a model that is not loaded switch to it: `always` everybody's, `sessions` those of
        /// registered sessions, `never` nobody's.
        auto_switch: AutoSwitch => "\"always\"",
        /// How long a model stays loaded at least before a request for another one switches.
        min_stay: Period<0> => "\"10s\"",
        /// How long a request waits for a model at most.
        hold_timeout: Period<1> => "\"15m\"",
        /// How many requests wait at most.
        queue: Int<0, 65_536> => "512",
        /// What all saved conversations together may take on disk; `0 B` saves none.
        slot_cache: Size => "\"8 GiB\"",
        /// How long the usage of each request is kept.
        keep_usage: Period<1> => "\"365d\"",
    }
}

table! {
    /// What runs the models.
    EngineTable {
        /// `docker` for a container, `process` for a child process.
        runtime: Runtime => "\"docker\"",
        /// The image that containers are made of.
        image: Image => "\"ghcr.io/ggml-org/llama.cpp:server-cuda13\"",
        /// The program for `runtime = "process"`: a name found in `PATH`, or a path.
        binary: Program => "\"llama-server\"",
        /// The folder that `file` and `mmproj` are relative to.
        models_dir: Folder => "\"~/models\"",
    }
}

table! {
    /// One model: what it is, and how `llama-server` runs it.
    ModelTable {
        /// The name people see; the id where there is none.
        name: Line => "\"GLM 4.7 Flash\"",
        /// A sentence about it.
        description: String => "\"quick, good with tools\"",
        /// The GGUF file: relative to `models_dir`, from `~/`, or absolute. Of a split model, the first part.
        file: FilePath => "\"GLM-4.7-Flash-Q4_K_M.gguf\"",
        /// The multimodal projector, found like `file`.
        mmproj: FilePath => "\"mmproj-F16.gguf\"",
        /// Other names clients may ask for; one `*` at the end stands for any rest.
        aliases: Aliases => "[\"claude-haiku-*\"]",
        /// Context of the whole server in tokens, shared by the slots.
        ctx: Int<256, 16_777_216> => "65536",
        /// Number of requests served at a time.
        parallel: Int<1, 64> => "1",
        /// `auto` for all there are, `none` for the CPU alone, or the indices of devices.
        gpu: Gpu => "[0, 1]",
        /// Layers on the GPU: `auto`, `all`, or how many.
        gpu_layers: GpuLayers => "\"auto\"",
        /// The share of each GPU.
        tensor_split: Shares => "[3, 1]",
        /// Where tensors go by name: `<pattern>=<buffer type>`, one or several.
        override_tensor: Overrides => "\"blk\\\\.[0-9]+\\\\.ffn_.*_exps=CPU\"",
        /// Type of the K cache.
        cache_type_k: CacheType => "\"q8_0\"",
        /// Type of the V cache.
        cache_type_v: CacheType => "\"q8_0\"",
        /// Experts on the CPU: all of them, or those of the first N layers.
        cpu_moe: Experts => "true",
        /// The image for this model.
        image: Image => "\"ghcr.io/ggml-org/llama.cpp:server-cuda13\"",
        /// More environment for `llama-server`.
        env: Env => "{ GGML_CUDA_ENABLE_UNIFIED_MEMORY = \"1\" }",
        /// Stop the model when nothing was asked of it for this long, or `never`.
        idle_unload: Idle => "\"30m\"",
        /// How long loading may take.
        load_timeout: Period<1> => "\"10m\"",
        /// Save the context when the model stops, and restore it when it is back.
        keep_context: bool => "true",
        /// Change requests so that every chat template takes them and the cache survives a new session of Claude Code.
        adapt_requests: bool => "true",
        /// Use the Jinja template of the model for chats.
        jinja: bool => "true",
        /// Samplers for requests that name none.
        sampling: SamplingTable => "{ temperature = 0.7, top_p = 0.95 }",
        /// More arguments for `llama-server`, as they are.
        args: Args => "[\"--flash-attn\", \"on\"]",
    }
}

table! {
    /// Samplers for requests that name none.
    SamplingTable {
        /// Randomness: 0 is greedy.
        temperature: Number<0, 5> => "0.7",
        /// Keep the most likely tokens whose probabilities add up to this.
        top_p: Number<0, 1> => "0.95",
        /// Keep the K most likely tokens; 0 keeps all.
        top_k: Int<0, 1_000_000> => "40",
        /// Drop tokens below this share of the most likely one.
        min_p: Number<0, 1> => "0.01",
        /// Penalty on repeated tokens; 1 is none.
        repeat_penalty: Number<1, 4> => "1.05",
        /// Penalty on tokens that occurred at all; 0 is none.
        presence_penalty: Number<{ -2 }, 2> => "0",
        /// Penalty by how often a token occurred; 0 is none.
        frequency_penalty: Number<{ -2 }, 2> => "0",
    }
}

/// The version of the format.
#[derive(Debug, Clone, Copy)]
pub(super) struct Version;

impl Setting for Version {
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let version = Int::<1, 1>::of(node.get_ref());
        if version.is_none() {
            reader.expected(node, "1, the format that this Corral reads");
        }
        version.map(|_| Self)
    }

    fn schema() -> Value {
        json!({ "const": 1 })
    }
}

/// The keys that say which model it is, and so are none of `[defaults]`.
const OWN_KEYS: [&str; 5] = ["name", "description", "file", "mmproj", "aliases"];

/// What every model has underneath.
#[derive(Debug, Clone)]
pub(super) struct Defaults(pub(super) ModelTable);

impl Setting for Defaults {
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        for (key, _) in node.get_ref().as_table().into_iter().flatten() {
            let name = key.get_ref().as_ref();
            if OWN_KEYS.contains(&name) {
                let hint = format!("put it into `[models.<id>]`; `[defaults]` has no {}", OWN_KEYS.join(", "));
                reader.under(name, |reader| reader.problem_with(key.span(), "belongs to one model", hint));
            }
        }
        ModelTable::read(node, reader).map(Self)
    }

    fn schema() -> Value {
        let mut schema = ModelTable::schema();
        if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
            properties.retain(|key, _| !OWN_KEYS.contains(&key.as_str()));
        }
        schema
    }

    fn keys() -> &'static [&'static str] {
        ModelTable::keys()
    }
}

/// One entry of `[models]`.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) id: ModelId,
    pub(super) table: ModelTable,
    /// Whether nothing was wrong with it.
    pub(super) sound: bool,
}

/// The models, in the order of the file.
#[derive(Debug, Clone, Default)]
pub(super) struct Models(pub(super) Vec<Entry>);

impl Setting for Models {
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let DeValue::Table(tables) = node.get_ref() else {
            reader.expected(node, "a table for each model: `[models.<id>]`");
            return None;
        };
        let mut sorted: Vec<_> = tables.iter().collect();
        sorted.sort_by_key(|(key, _)| key.span().start);
        reader.code = Code::ModelInvalid;
        let entries = sorted.into_iter().filter_map(|(key, node)| {
            let (id, span) = (key.get_ref().as_ref(), key.span());
            reader.model(id, |reader| entry(id, &span, node, reader))
        });
        let models = Self(entries.collect());
        reader.code = Code::CatalogInvalid;
        Some(models)
    }

    fn schema() -> Value {
        let mut model = ModelTable::schema();
        if let Some(fields) = model.as_object_mut() {
            fields.insert("required".to_owned(), json!(["file"]));
        }
        json!({
            "type": "object",
            "propertyNames": { "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$" },
            "additionalProperties": model,
        })
    }
}

fn entry(id: &str, span: &Range<usize>, node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Entry> {
    let before = reader.count();
    let checked = ModelId::new(id);
    if checked.is_err() {
        reader.problem_with(span.clone(), "not an id of a model", InvalidModelId.to_string());
    }
    if split_by_a_dot(id, node, reader) {
        return None;
    }
    reader.example = "small = { file = \"small.gguf\" }";
    let table = ModelTable::read(node, reader)?;
    if table.file.is_none() && !node.get_ref().as_table().is_some_and(|keys| keys.contains_key("file")) {
        reader.example = "file = \"small.gguf\"";
        reader.under("file", |reader| reader.problem(span.clone(), "missing: every model needs its file"));
    }
    Some(Entry { id: checked.ok()?, table, sound: reader.count() == before })
}

/// Notes ids such as `qwen2.5`, which TOML without quotes reads as a table `5` in a table `qwen2`.
fn split_by_a_dot(id: &str, node: &Node<'_>, reader: &mut Reader<'_>) -> bool {
    let before = reader.count();
    for (key, inner) in node.get_ref().as_table().into_iter().flatten() {
        let name = key.get_ref().as_ref();
        let known = |name: &str| ModelTable::keys().contains(&name);
        let is_model = inner.get_ref().as_table().is_some_and(|keys| keys.keys().any(|key| known(key.get_ref())));
        if !known(name) && is_model {
            let hint = format!("write `[models.{}]`", quoted(&format!("{id}.{name}")));
            reader.under(name, |reader| {
                reader.problem_with(key.span(), "an id with a dot needs quotes", hint);
            });
        }
    }
    reader.count() > before
}
