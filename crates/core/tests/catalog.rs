//! What a good catalog means: defaults, merging, paths, names, and the catalog Corral comes with.

#![allow(clippy::unwrap_used, reason = "in a test, what is missing has failed it")]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use corral_core::Code;
use corral_core::catalog::{Catalog, DEFAULT_CATALOG, Model, Reading, Surroundings, json_schema};
use corral_core::id::ModelId;
use corral_core::launch::{CpuMoe, Gpu, GpuLayers, Runtime};
use proptest::prelude::*;
use serde_json::Value;

fn read(text: &str) -> Reading {
    let surroundings = Surroundings {
        path: PathBuf::from("models.toml"),
        home: PathBuf::from("/home/ada"),
        models_dir: PathBuf::from("/data/models"),
    };
    Catalog::read(text, &surroundings)
}

fn good(text: &str) -> Catalog {
    let reading = read(text);
    let problems: Vec<String> = reading.problems.iter().map(ToString::to_string).collect();
    assert_eq!(problems, Vec::<String>::new(), "{text}");
    reading.catalog.unwrap()
}

/// The only model of a catalog.
fn model(text: &str) -> Model {
    let catalog = good(text);
    assert_eq!(catalog.models.len(), 1);
    catalog.models.into_values().next().unwrap()
}

/// A model with these lines in it.
fn with(lines: &str) -> Model {
    model(&format!("schema = 1\n[models.m]\nfile = \"m.gguf\"\n{lines}"))
}

#[test]
fn the_least_catalog_has_all_the_defaults() {
    let catalog = good("schema = 1");
    assert_eq!(catalog.server.gateway.to_string(), "127.0.0.1:8080");
    assert_eq!(catalog.server.management.to_string(), "127.0.0.1:8081");
    assert_eq!(catalog.gateway.drain_timeout, Duration::from_mins(5));
    assert_eq!(catalog.engine.models_dir, Path::new("/data/models"));
    assert!(catalog.models.is_empty());

    let model = with("");
    assert_eq!((model.name.as_str(), model.description, model.aliases.len()), ("m", None, 0));
    assert_eq!((model.idle_unload, model.keep_context), (None, true));
    let launch = model.launch;
    assert_eq!(launch.model.as_str(), "m");
    assert_eq!(launch.runtime, Runtime::Docker);
    assert_eq!(launch.image, "ghcr.io/ggml-org/llama.cpp:server-cuda13");
    assert_eq!(launch.binary, Path::new("llama-server"));
    assert_eq!(launch.file, Path::new("/data/models/m.gguf"));
    assert_eq!((launch.ctx, launch.parallel, launch.gpu, launch.gpu_layers), (65_536, 1, Gpu::Auto, None));
    assert_eq!(launch.load_timeout, Duration::from_mins(10));
    assert_eq!((launch.mmproj, launch.cpu_moe, launch.jinja), (None, None, None));
}

#[test]
fn every_key_arrives() {
    let model = with(
        r#"
        name = "The Model"
        description = "does things"
        mmproj = "/elsewhere/mm.gguf"
        aliases = ["a", "b-*"]
        ctx = 0x1000
        parallel = 4
        gpu = [1, 0]
        gpu_layers = 33
        tensor_split = [3, 1.5]
        override_tensor = ["a=CPU", "b=CUDA0"]
        cache_type_k = "q8_0"
        cache_type_v = "iq4_nl"
        cpu_moe = 12
        image = "img:1"
        env = { A = "1" }
        idle_unload = "1h30m"
        load_timeout = "90s"
        keep_context = false
        jinja = true
        args = ["--flash-attn", "on"]
        [models.m.sampling]
        temperature = 1
        top_p = 0.9
        top_k = 20
        min_p = 0.0
        repeat_penalty = 1.05
        presence_penalty = -1
        frequency_penalty = 0.5
    "#,
    );
    assert_eq!((model.name.as_str(), model.description.as_deref()), ("The Model", Some("does things")));
    assert_eq!(model.aliases.iter().map(|alias| alias.0.as_str()).collect::<Vec<_>>(), ["a", "b-*"]);
    assert_eq!((model.idle_unload, model.keep_context), (Some(Duration::from_mins(90)), false));
    let launch = model.launch;
    assert_eq!(launch.mmproj.as_deref(), Some(Path::new("/elsewhere/mm.gguf")));
    assert_eq!((launch.ctx, launch.parallel), (4096, 4));
    assert_eq!((launch.gpu, launch.gpu_layers), (Gpu::Devices(vec![1, 0]), Some(GpuLayers::Count(33))));
    assert_eq!((launch.tensor_split, launch.override_tensor), (vec![3.0, 1.5], vec!["a=CPU".into(), "b=CUDA0".into()]));
    assert_eq!((launch.cache_type_k.as_deref(), launch.cache_type_v.as_deref()), (Some("q8_0"), Some("iq4_nl")));
    assert_eq!((launch.cpu_moe, launch.jinja), (Some(CpuMoe::Layers(12)), Some(true)));
    assert_eq!((launch.image.as_str(), launch.env["A"].as_str()), ("img:1", "1"));
    assert_eq!(launch.load_timeout, Duration::from_secs(90));
    let sampling = launch.sampling;
    assert_eq!((sampling.temperature, sampling.top_p, sampling.top_k), (Some(1.0), Some(0.9), Some(20)));
    assert_eq!((sampling.min_p, sampling.repeat_penalty), (Some(0.0), Some(1.05)));
    assert_eq!((sampling.presence_penalty, sampling.frequency_penalty), (Some(-1.0), Some(0.5)));
    assert_eq!(launch.args, ["--flash-attn", "on"]);
}

#[test]
fn words_and_single_values_have_their_meaning() {
    assert_eq!(with("gpu = \"none\"").launch.gpu, Gpu::None);
    assert_eq!(with("gpu = \"auto\"").launch.gpu, Gpu::Auto);
    assert_eq!(with("gpu_layers = \"all\"").launch.gpu_layers, Some(GpuLayers::All));
    assert_eq!(with("gpu_layers = \"auto\"").launch.gpu_layers, Some(GpuLayers::Auto));
    assert_eq!(with("cpu_moe = true").launch.cpu_moe, Some(CpuMoe::All));
    assert_eq!(with("cpu_moe = 0").launch.cpu_moe, None);
    assert_eq!(with("override_tensor = \"a=CPU\"").launch.override_tensor, ["a=CPU"]);
    assert_eq!(with("idle_unload = \"1s250ms\"").idle_unload, Some(Duration::from_millis(1250)));
}

#[test]
fn defaults_are_merged_under_every_model() {
    let catalog = good(
        r#"
        schema = 1
        [defaults]
        ctx = 8192
        cpu_moe = true
        idle_unload = "5m"
        image = "all:1"
        args = ["--x"]
        sampling = { temperature = 0.5, top_k = 40 }
        env = { A = "1", B = "1" }
        [models.plain]
        file = "p.gguf"
        [models.own]
        file = "o.gguf"
        ctx = 4096
        cpu_moe = false
        idle_unload = "never"
        args = []
        sampling = { top_k = 20, min_p = 0.1 }
        env = { B = "2", C = "2" }
    "#,
    );
    let plain = &catalog.models[0];
    assert_eq!(
        (plain.launch.ctx, plain.launch.cpu_moe, plain.idle_unload),
        (8192, Some(CpuMoe::All), Some(Duration::from_mins(5)))
    );
    assert_eq!((plain.launch.args.as_slice(), plain.launch.image.as_str()), (["--x".to_owned()].as_slice(), "all:1"));
    let own = &catalog.models[1];
    assert_eq!((own.launch.ctx, own.launch.cpu_moe, own.idle_unload), (4096, None, None));
    assert_eq!(own.launch.args, Vec::<String>::new(), "arrays replace");
    let sampling = &own.launch.sampling;
    assert_eq!((sampling.temperature, sampling.top_k, sampling.min_p), (Some(0.5), Some(20), Some(0.1)));
    let env: Vec<_> = own.launch.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(env, ["A=1", "B=2", "C=2"]);
}

#[test]
fn paths_are_resolved() {
    let file = |engine: &str, file: &str| {
        model(&format!("schema = 1\n[engine]\n{engine}\n[models.m]\nfile = \"{file}\"")).launch.file
    };
    assert_eq!(file("", "a/b.gguf"), Path::new("/data/models/a/b.gguf"));
    assert_eq!(file("", "/abs/b.gguf"), Path::new("/abs/b.gguf"));
    assert_eq!(file("", "~/b.gguf"), Path::new("/home/ada/b.gguf"));
    assert_eq!(file("models_dir = \"~/models\"", "b.gguf"), Path::new("/home/ada/models/b.gguf"));
    assert_eq!(file("models_dir = \"/srv\"", "b.gguf"), Path::new("/srv/b.gguf"));
    let process =
        model("schema = 1\n[engine]\nruntime = \"process\"\nbinary = \"~/bin/llama-server\"\n[models.m]\nfile = \"b\"");
    assert_eq!(
        (process.launch.runtime, process.launch.binary.as_path()),
        (Runtime::Process, Path::new("/home/ada/bin/llama-server"))
    );
}

#[test]
fn addresses_may_be_any_loopback_ones_and_both_ephemeral() {
    let server = |text: &str| good(&format!("schema = 1\n[server]\n{text}")).server;
    let both = server("gateway = \"[::1]:9000\"\nmanagement = \"127.0.0.2:9000\"");
    assert_eq!((both.gateway.to_string(), both.management.to_string()), ("[::1]:9000".into(), "127.0.0.2:9000".into()));
    let free = server("gateway = \"127.0.0.1:0\"\nmanagement = \"127.0.0.1:0\"");
    assert_eq!((free.gateway.port(), free.management.port()), (0, 0));
}

#[test]
fn models_keep_the_order_of_the_file() {
    let catalog =
        good("schema = 1\n[models.z]\nfile = \"z\"\n[models.a]\nfile = \"a\"\n[models.\"m.1\"]\nfile = \"m\"");
    assert_eq!(catalog.models.keys().map(ModelId::as_str).collect::<Vec<_>>(), ["z", "a", "m.1"]);
}

#[test]
fn names_resolve_to_ids_then_aliases_then_the_longest_wildcard() {
    let catalog = good(
        r#"
        schema = 1
        [models.glm]
        file = "a"
        aliases = ["claude-*", "exact", "q*"]
        [models.qwen]
        file = "b"
        aliases = ["claude-haiku-*", "exact*", "claude-haiku-4"]
    "#,
    );
    let resolved = |name: &str| catalog.resolve(name).map(|(id, _)| id.as_str()).unwrap();
    for (name, id) in [
        ("glm", "glm"),
        ("qwen", "qwen"), // its own id, although `q*` matches too
        ("qwen2", "glm"),
        ("exact", "glm"),
        ("exactly", "qwen"),
        ("claude-opus-4", "glm"),
        ("claude-haiku-4", "qwen"),
        ("claude-haiku-4-5", "qwen"),
    ] {
        assert_eq!(resolved(name), id, "{name}");
    }
}

#[test]
fn an_unknown_name_says_what_is_near() {
    let catalog = good(
        "schema = 1\n[models.glm-flash]\nname = \"GLM Flash\"\nfile = \"a\"\n\
            aliases = [\"sonnet-*\"]\n[models.qwen3-coder]\nfile = \"b\"",
    );
    let hint = |name: &str| {
        let error = catalog.resolve(name).unwrap_err();
        assert_eq!((error.code(), error.to_string()), (Code::UnknownModel, format!("no model is called `{name}`")));
        error.body().hint.unwrap()
    };
    assert_eq!(hint("glm-flsh"), "did you mean `glm-flash`? `corral list` shows all models");
    assert_eq!(hint("GLM-Flash"), "did you mean `glm-flash`? `corral list` shows all models");
    assert_eq!(hint("GLM Flash"), "did you mean `glm-flash`? `corral list` shows all models");
    assert_eq!(hint("sonet-"), "did you mean `glm-flash`? `corral list` shows all models");
    assert_eq!(hint("coder"), "did you mean `qwen3-coder`? `corral list` shows all models");
    assert_eq!(hint("mixtral"), "`corral list` shows all models");
    let error = good("schema = 1").resolve("x").unwrap_err();
    assert_eq!(error.body().hint.unwrap(), "the catalog has no models: add one to models.toml");
}

#[test]
fn the_default_catalog_is_right() {
    let catalog = good(DEFAULT_CATALOG);
    assert!(catalog.models.len() >= 4);
    for (id, model) in &catalog.models {
        assert!(model.launch.sampling.temperature.is_some(), "{id}");
        assert!(model.description.is_some(), "{id}");
        assert_eq!(model.launch.file.parent(), Some(Path::new("/data/models")), "{id}");
    }
}

/// The example entry of the default catalog, with its comment signs taken off, is right and shows every key.
#[test]
fn the_example_in_the_default_catalog_is_right() {
    let (_, example) = DEFAULT_CATALOG.split_once("# [models.example]\n").unwrap();
    let lines: Vec<&str> = example.lines().map(|line| line.strip_prefix("# ").unwrap()).collect();
    let text = format!("schema = 1\n[models.example]\n{}", lines.join("\n"));
    good(&text);
    for key in keys(&json_schema()["properties"]["models"]["additionalProperties"]) {
        let shown = DEFAULT_CATALOG.lines().any(|line| line.trim_start_matches("# ").starts_with(&format!("{key} ")));
        assert!(shown, "the default catalog does not show `{key}`");
    }
}

fn keys(schema: &Value) -> BTreeSet<String> {
    schema["properties"].as_object().unwrap().keys().cloned().collect()
}

#[test]
fn the_schema_has_exactly_the_keys_that_are_read() {
    let schema = json_schema();
    let model = &schema["properties"]["models"]["additionalProperties"];
    let tables = [
        ("", schema.clone()),
        ("[server]", schema["properties"]["server"].clone()),
        ("[gateway]", schema["properties"]["gateway"].clone()),
        ("[engine]", schema["properties"]["engine"].clone()),
        ("[models.m]", model.clone()),
        ("[models.m.sampling]", model["properties"]["sampling"].clone()),
    ];
    for (header, table) in tables {
        // The reader lists its keys when it meets one that it does not know.
        let error = read(&format!("schema = 1\n{header}\nxxxxxxxxxxxxxxxxxxxx = 1")).problems.into_iter();
        let hint = error.map(|error| error.body().hint.unwrap()).find(|hint| hint.starts_with("the keys here are "));
        let hint = hint.unwrap();
        let read: BTreeSet<String> = hint["the keys here are ".len()..].split(", ").map(str::to_owned).collect();
        assert_eq!(read, keys(&table), "{header}");
        assert_eq!(table["additionalProperties"], false, "{header}");
    }
}

#[test]
fn the_examples_of_the_schema_are_right() {
    let schema = json_schema();
    let model = &schema["properties"]["models"]["additionalProperties"]["properties"];
    let mut text = "schema = 1\n[models.m]\n".to_owned();
    for (key, property) in model.as_object().unwrap() {
        assert!(property["description"].as_str().is_some_and(|text| !text.is_empty()), "{key}");
        let example: toml::Value = serde_json::from_value(property["examples"][0].clone()).unwrap();
        writeln!(text, "{key} = {example}").unwrap();
    }
    assert_eq!(good(&text).models.len(), 1);
    for key in ["server", "gateway", "engine", "defaults", "models"] {
        let example: toml::Value = serde_json::from_value(schema["properties"][key]["examples"][0].clone()).unwrap();
        good(&format!("schema = 1\n{key} = {example}"));
        for (inner, property) in schema["properties"][key]["properties"].as_object().into_iter().flatten() {
            let example: toml::Value = serde_json::from_value(property["examples"][0].clone()).unwrap();
            good(&format!("schema = 1\n[{key}]\n{inner} = {example}"));
        }
    }
}

#[test]
fn ten_thousand_models_are_read_in_time() {
    let mut text = String::from("schema = 1\n[defaults]\nctx = 8192\nsampling = { temperature = 0.7 }\n");
    for index in 0..10_000 {
        write!(text, "\n[models.m{index}]\nname = \"Model {index}\"\nfile = \"m{index}.gguf\"\n").unwrap();
        writeln!(text, "aliases = [\"a{index}\", \"b{index}-*\"]\nsampling = {{ top_p = 0.9 }}").unwrap();
        writeln!(text, "args = [\"--flash-attn\", \"on\"]").unwrap();
    }
    let start = Instant::now();
    let catalog = good(&text);
    let taken = start.elapsed();
    assert_eq!(catalog.models.len(), 10_000);
    assert_eq!(catalog.resolve("b9999-x").unwrap().0.as_str(), "m9999");
    // Quadratic work would take minutes; without optimisation, on a busy machine, this takes half a second.
    assert!(taken < Duration::from_secs(5), "{taken:?}");
}

/// Text out of what catalogs are made of, so that more of the reader is reached than by plain noise.
fn fragments() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("schema = 1\n".to_owned()),
        Just("[models.m]\n".to_owned()),
        Just("[server]\n".to_owned()),
        Just("[engine]\n".to_owned()),
        Just("[defaults]\n".to_owned()),
        Just("file = \"m.gguf\"\n".to_owned()),
        "(ctx|gpu|gpu_layers|cpu_moe|env|sampling|aliases|args|gateway|idle_unload|models|é|name|x) = ",
        "(-?[0-9]{1,20}|\"[ \
            -~é]{0,9}\"|true|[0-9]e999|inf|nan|1979-05-27|\\[\\]|\\{\\}|\\[0, \"a\"\\]|\\{ a = 1 \\})\n",
        "\\[+[a-z.\"]{0,6}\\]+\n",
        ".{0,6}",
    ];
    proptest::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in prop_oneof![fragments(), any::<String>()]) {
        let reading = read(&text);
        // Whatever is not usable says why.
        prop_assert!(reading.catalog.is_some() || !reading.problems.is_empty());
        let file_is_broken = reading.problems.iter().any(|problem| problem.code() == Code::CatalogInvalid);
        prop_assert_eq!(reading.catalog.is_none(), file_is_broken);
    }
}
