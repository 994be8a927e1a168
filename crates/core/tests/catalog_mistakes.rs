//! What people get wrong in a catalog, and what they are told.

#![allow(clippy::unwrap_used, reason = "in a test, what is missing has failed it")]

use std::path::PathBuf;

use corral_core::Code;
use corral_core::catalog::{Catalog, Reading, Surroundings};
use corral_core::id::ModelId;

fn read(text: &str) -> Reading {
    let surroundings = Surroundings {
        path: PathBuf::from("models.toml"),
        home: PathBuf::from("/home/ada"),
        models_dir: PathBuf::from("/data/models"),
    };
    Catalog::read(text, &surroundings)
}

fn messages(reading: &Reading) -> Vec<String> {
    reading.problems.iter().map(ToString::to_string).collect()
}

fn hint(text: &str) -> String {
    read(text).problems[0].body().hint.unwrap()
}

/// A text, and everything that is wrong with it.
type Case = (&'static str, &'static [&'static str]);

/// Mistakes that leave no catalog.
const FILES: &[Case] = &[
    ("", &["models.toml:1: schema: missing"]),
    ("schema = 2\nnew = 1", &["models.toml:1: schema: expected 1, the format that this Corral reads, found 2"]),
    (
        "schema = \"1\"",
        &[r#"models.toml:1: schema: expected 1, the format that this Corral reads, found the string "1""#],
    ),
    ("schema = 1\nmodles = 1", &["models.toml:2: modles: unknown key; did you mean `models`?"]),
    ("schema = 1\nctx = 4096", &["models.toml:2: ctx: unknown key; did you mean `defaults.ctx`?"]),
    ("schema = 1\nzzz = 1", &["models.toml:2: zzz: unknown key"]),
    ("schema = 1\nserver = 1", &["models.toml:2: server: expected a table, found 1"]),
    ("schema = 1\n[server]\nport = 8080", &["models.toml:3: server.port: unknown key; did you mean `gateway`?"]),
    (
        "schema = 1\n[server]\ngateway = 8080",
        &["models.toml:3: server.gateway: expected a loopback address with a port, found 8080"],
    ),
    (
        "schema = 1\n[server]\ngateway = \"0.0.0.0:8080\"",
        &["models.toml:3: server.gateway: 0.0.0.0 is not a loopback address: Corral serves this machine only"],
    ),
    (
        "schema = 1\n[server]\ngateway = \"192.168.1.2:8080\"",
        &["models.toml:3: server.gateway: 192.168.1.2 is not a loopback address: Corral serves this machine only"],
    ),
    (
        "schema = 1\n[server]\ngateway = \"localhost:8080\"",
        &[concat!(
            r#"models.toml:3: server.gateway: expected a loopback address with a port, found "#,
            r#"the string "localhost:8080""#
        )],
    ),
    (
        "schema = 1\n[server]\ngateway = \"127.0.0.1:8081\"",
        &["models.toml:3: server.gateway: 127.0.0.1:8081 is taken: `gateway` and `management` need a port each"],
    ),
    (
        "schema = 1\n[server]\nmanagement = \"127.0.0.1:9\"\ngateway = \"127.0.0.1:9\"",
        &["models.toml:4: server.gateway: 127.0.0.1:9 is taken: `gateway` and `management` need a port each"],
    ),
    (
        "schema = 1\n[gateway]\ndrain_timeout = 300",
        &[r#"models.toml:3: gateway.drain_timeout: expected a duration such as "90s", "5m" or "1h30m", found 300"#],
    ),
    (
        "schema = 1\n[gateway]\ndrain_timeout = \"5 min\"",
        &[concat!(
            r#"models.toml:3: gateway.drain_timeout: expected a duration such as "90s", "5m" "#,
            r#"or "1h30m", found the string "5 min""#
        )],
    ),
    (
        "schema = 1\n[engine]\nruntime = \"podman\"",
        &[r#"models.toml:3: engine.runtime: expected "docker" or "process", found the string "podman""#],
    ),
    (
        "schema = 1\n[engine]\nimage = \"-v /:/x\"",
        &[r#"models.toml:3: engine.image: expected the reference of an image, found the string "-v /:/x""#],
    ),
    (
        "schema = 1\n[engine]\nmodels_dir = \"models\"",
        &[r#"models.toml:3: engine.models_dir: expected a folder: absolute, or from `~/`, found the string "models""#],
    ),
    (
        "schema = 1\n[engine]\nbinary = \"./llama-server\"",
        &[concat!(
            r#"models.toml:3: engine.binary: expected a program: a name found in `PATH`, or a "#,
            r#"path that is absolute or from `~/`, found the string "./llama-server""#
        )],
    ),
    ("schema = 1\n[defaults]\nfile = \"x\"", &["models.toml:3: defaults.file: belongs to one model"]),
    (
        "schema = 1\n[defaults]\nctx = 1",
        &["models.toml:3: defaults.ctx: expected a whole number from 256 to 16777216, found 1"],
    ),
    (
        "schema = 1\n[defaults.sampling]\ntemprature = 1",
        &["models.toml:3: defaults.sampling.temprature: unknown key; did you mean `temperature`?"],
    ),
    ("schema = 1\nmodels = 3", &["models.toml:2: models: expected a table for each model: `[models.<id>]`, found 3"]),
    (
        "schema = 1\n[[models]]\nfile = \"x\"",
        &["models.toml:2: models: expected a table for each model: `[models.<id>]`, found an array"],
    ),
    ("schema = 1\nfoo = bar", &["models.toml:2:7: string values must be quoted, expected literal string"]),
    ("schema = 1\nschema = 1", &["models.toml:2:1: duplicate key"]),
    (
        "schema = 1\n[models.a]\nfile = \"x\"\n[models.a]\nfile = \"y\"",
        &["models.toml:4:9: duplicate key", "models.toml:5:1: duplicate key"],
    ),
    ("schema = 1\n[models.a]\nfile = \"x", &[r#"models.toml:3:10: invalid basic string, expected `"`"#]),
    ("schema = 1\n[models.a\nfile = \"x\"", &["models.toml:2:10: unclosed table, expected `]`"]),
    ("schema = 1\nx = [1, 2\ny = {a = 1\n", &["models.toml:3:1: missing comma between array elements, expected `,`"]),
    (
        "schema = 1\n[models.a]\nfile = C:\\models\\x.gguf\nctx = 8k",
        &[
            "models.toml:3:8: string values must be quoted, expected literal string",
            "models.toml:4:7: string values must be quoted, expected literal string",
        ],
    ),
];

/// Mistakes in a line of a model, without their place `models.toml:4: models.m.`.
const LINES: &[Case] = &[
    ("tempature = 0.7", &["tempature: unknown key; did you mean `sampling.temperature`?"]),
    ("temp = 0.7", &["temp: unknown key; did you mean `sampling.temperature`?"]),
    ("n_gpu_layers = 3", &["n_gpu_layers: unknown key; did you mean `gpu_layers`?"]),
    ("top-p = 1", &["top-p: unknown key; did you mean `sampling.top_p`?"]),
    ("zzzzz = 1", &["zzzzz: unknown key"]),
    (r#"ctx = "64k""#, &[r#"ctx: expected a whole number from 256 to 16777216, found the string "64k""#]),
    ("ctx = 65536.0", &["ctx: expected a whole number from 256 to 16777216, found 65536.0"]),
    ("ctx = 128", &["ctx: expected a whole number from 256 to 16777216, found 128"]),
    ("ctx = -1", &["ctx: expected a whole number from 256 to 16777216, found -1"]),
    ("ctx = 99999999999999999999", &["ctx: expected a whole number from 256 to 16777216, found 99999999999999999999"]),
    ("parallel = 0", &["parallel: expected a whole number from 1 to 64, found 0"]),
    ("parallel = 65", &["parallel: expected a whole number from 1 to 64, found 65"]),
    (r#"name = """#, &[r#"name: expected a text on one line, found the string """#]),
    (r#"name = "a\nb""#, &[r#"name: expected a text on one line, found the string "a\nb""#]),
    ("description = 3", &["description: expected a string, found 3"]),
    (
        r#"mmproj = "~bob/x""#,
        &[r#"mmproj: expected a path: absolute, from `~/`, or relative to `models_dir`, found the string "~bob/x""#],
    ),
    (r#"gpu = "cuda""#, &[r#"gpu: expected "auto", "none", or the indices of devices, found the string "cuda""#]),
    ("gpu = []", &[r#"gpu: expected "auto", "none", or the indices of devices, found an empty array"#]),
    ("gpu = [0, 0]", &["gpu[1]: device 0 is named twice"]),
    (
        r#"gpu = [0, -1, "a"]"#,
        &[
            "gpu[1]: expected a whole number from 0 to 63, found -1",
            r#"gpu[2]: expected a whole number from 0 to 63, found the string "a""#,
        ],
    ),
    (
        r#"gpu_layers = "most""#,
        &[r#"gpu_layers: expected "auto", "all", or a number of layers, found the string "most""#],
    ),
    (r#"tensor_split = "3,1""#, &[r#"tensor_split: expected an array of numbers, found the string "3,1""#]),
    (r#"tensor_split = [1, "a"]"#, &[r#"tensor_split[1]: expected a number from 0 up, found the string "a""#]),
    ("tensor_split = [0, 0]", &["tensor_split: at least one share must be above 0"]),
    ("override_tensor = 3", &["override_tensor: expected a string or an array of strings, found 3"]),
    (
        r#"override_tensor = "exps""#,
        &[r#"override_tensor: expected `<tensor pattern>=<buffer type>`, found the string "exps""#],
    ),
    (
        r#"override_tensor = ["a=CPU", "b"]"#,
        &[r#"override_tensor[1]: expected `<tensor pattern>=<buffer type>`, found the string "b""#],
    ),
    (
        r#"cache_type_k = "q8""#,
        &[concat!(
            r#"cache_type_k: expected one of f32, f16, bf16, q8_0, q4_0, q4_1, iq4_nl, q5_0, "#,
            r#"q5_1, found the string "q8""#
        )],
    ),
    (
        r#"cache_type_v = "fp64""#,
        &[concat!(
            r#"cache_type_v: expected one of f32, f16, bf16, q8_0, q4_0, q4_1, iq4_nl, q5_0, "#,
            r#"q5_1, found the string "fp64""#
        )],
    ),
    (
        "cache_type_v = 8",
        &["cache_type_v: expected one of f32, f16, bf16, q8_0, q4_0, q4_1, iq4_nl, q5_0, q5_1, found 8"],
    ),
    (r#"cpu_moe = "all""#, &[r#"cpu_moe: expected true, false, or a number of layers, found the string "all""#]),
    (r#"image = """#, &[r#"image: expected the reference of an image, found the string """#]),
    ("env = { A = 1 }", &["env.A: expected a string, found 1"]),
    (r#"env = { "A-B" = "1" }"#, &["env.A-B: not a name of an environment variable"]),
    (
        r#"env = { LLAMA_API_KEY = "x" }"#,
        &["env.LLAMA_API_KEY: not for `env`: Corral makes a new API key for each start and keeps it to itself"],
    ),
    (r#"env = { LLAMA_ARG_CTX_SIZE = "x" }"#, &["env.LLAMA_ARG_CTX_SIZE: not for `env`: use `ctx`"]),
    ("env = []", &["env: expected a table of strings, found an empty array"]),
    (
        "idle_unload = 300",
        &[r#"idle_unload: expected "never", or a duration of at least 1s such as "90s", "5m" or "1h30m", found 300"#],
    ),
    (
        r#"idle_unload = "0s""#,
        &[concat!(
            r#"idle_unload: expected "never", or a duration of at least 1s such as "90s", "5m" "#,
            r#"or "1h30m", found the string "0s""#
        )],
    ),
    (
        r#"load_timeout = "10""#,
        &[r#"load_timeout: expected a duration of at least 1s such as "90s", "5m" or "1h30m", found the string "10""#],
    ),
    (
        r#"load_timeout = "500ms""#,
        &[concat!(
            r#"load_timeout: expected a duration of at least 1s such as "90s", "5m" or "#,
            r#""1h30m", found the string "500ms""#
        )],
    ),
    (
        r#"load_timeout = "999999999999h""#,
        &[concat!(
            r#"load_timeout: expected a duration of at least 1s such as "90s", "5m" or "#,
            r#""1h30m", found the string "999999999999h""#
        )],
    ),
    (r#"keep_context = "yes""#, &[r#"keep_context: expected true or false, found the string "yes""#]),
    ("jinja = 1", &["jinja: expected true or false, found 1"]),
    ("sampling = 1", &["sampling: expected a table, found 1"]),
    ("sampling = { temperature = 9 }", &["sampling.temperature: expected a number from 0 to 5, found 9"]),
    ("sampling = { temp = 1 }", &["sampling.temp: unknown key; did you mean `temperature`?"]),
    ("sampling = { top_p = inf }", &["sampling.top_p: expected a number from 0 to 1, found inf"]),
    ("sampling = { top_k = 1.5 }", &["sampling.top_k: expected a whole number from 0 to 1000000, found 1.5"]),
    ("sampling.min_p = 2", &["sampling.min_p: expected a number from 0 to 1, found 2"]),
    ("sampling.repeat_penalty = 0", &["sampling.repeat_penalty: expected a number from 1 to 4, found 0"]),
    (r#"aliases = "x""#, &[r#"aliases: expected an array of strings, found the string "x""#]),
    (
        r#"aliases = ["a*b"]"#,
        &[r#"aliases[0]: expected a name without spaces, with `*` only at its end, found the string "a*b""#],
    ),
    (
        r#"aliases = ["a b", ""]"#,
        &[
            r#"aliases[0]: expected a name without spaces, with `*` only at its end, found the string "a b""#,
            r#"aliases[1]: expected a name without spaces, with `*` only at its end, found the string """#,
        ],
    ),
    (r#"aliases = ["x", "x"]"#, &["aliases[1]: `x` is already an alias of this model"]),
    (r#"args = "--port 1""#, &[r#"args: expected an array of strings, found the string "--port 1""#]),
    (r#"args = ["--threads", 8]"#, &["args[1]: expected a string, found 8"]),
    (
        r#"args = ["--port", "80", "-c", "8"]"#,
        &[
            "args[0]: `--port` is not for `args`: Corral picks the address itself; clients use `gateway` in `[server]`",
            "args[2]: `-c` is not for `args`: use `ctx`",
        ],
    ),
    (r#"args = ["--ctx_size=8"]"#, &["args[0]: `--ctx_size` is not for `args`: use `ctx`"]),
    (
        r#"args = ["--models-preset", "x"]"#,
        &["args[0]: `--models-preset` is not for `args`: Corral switches models itself; \
                give each one a table `[models.<id>]`"],
    ),
    (
        "idle_unload = 2024-01-01",
        &[concat!(
            r#"idle_unload: expected "never", or a duration of at least 1s such as "90s", "5m" "#,
            r#"or "1h30m", found a date"#
        )],
    ),
];

#[test]
fn mistakes_in_the_file_as_a_whole() {
    for (text, expected) in FILES {
        let reading = read(text);
        assert_eq!(messages(&reading), *expected, "{text}");
        assert!(reading.catalog.is_none(), "{text}");
        for problem in &reading.problems {
            assert_eq!(problem.code(), Code::CatalogInvalid, "{text}");
            assert!(problem.body().hint.is_some_and(|hint| !hint.is_empty()), "{text}");
        }
    }
}

#[test]
fn mistakes_in_a_model_take_out_that_model_only() {
    for (line, expected) in LINES {
        let text = format!("schema = 1\n[models.m]\nfile = \"m.gguf\"\n{line}\n[models.good]\nfile = \"g.gguf\"");
        let reading = read(&text);
        let expected: Vec<String> = expected.iter().map(|rest| format!("models.toml:4: models.m.{rest}")).collect();
        assert_eq!(messages(&reading), expected, "{line}");
        let ids: Vec<_> = reading.catalog.unwrap().models.into_keys().collect();
        assert_eq!(ids, [ModelId::new("good").unwrap()], "{line}");
        for problem in &reading.problems {
            assert_eq!(problem.code(), Code::ModelInvalid, "{line}");
            assert!(problem.body().hint.is_some_and(|hint| !hint.is_empty()), "{line}");
        }
    }
}

#[test]
fn models_without_a_file_or_a_usable_id() {
    for (model, expected) in [
        ("[models.m]\nctx = 4096", "models.toml:2: models.m.file: missing: every model needs its file"),
        ("[models]\nm = 3", "models.toml:3: models.m: expected a table, found 3"),
        ("[models.\"a b\"]\nfile = \"x\"", "models.toml:2: models.\"a b\": not an id of a model"),
        ("[models.qwen2.5]\nfile = \"x\"", "models.toml:2: models.qwen2.5: an id with a dot needs quotes"),
    ] {
        let reading = read(&format!("schema = 1\n{model}"));
        assert_eq!(messages(&reading), [expected]);
        assert_eq!(reading.problems[0].code(), Code::ModelInvalid);
        assert!(reading.catalog.unwrap().models.is_empty(), "{model}");
    }
    assert_eq!(hint("schema = 1\n[models.qwen2.5]\nfile = \"x\""), "write `[models.\"qwen2.5\"]`");
}

#[test]
fn an_alias_means_one_model() {
    let text = "schema = 1\n[models.z]\nfile = \"x\"\naliases = [\"x\", \"q-*\", \"z\"]\n[models.b]\n\
        file = \"x\"\naliases = [\"y\", \"x\", \"z\", \"q-*\"]";
    let reading = read(text);
    assert_eq!(
        messages(&reading),
        [
            "models.toml:7: models.b.aliases[1]: `x` is already an alias of `z`",
            "models.toml:7: models.b.aliases[2]: `z` is the id of another model",
            "models.toml:7: models.b.aliases[3]: `q-*` is already an alias of `z`",
        ]
    );
    // The first in the file keeps the name.
    assert_eq!(reading.catalog.unwrap().models.into_keys().collect::<Vec<_>>(), [ModelId::new("z").unwrap()]);
}

#[test]
fn all_mistakes_are_told_at_once_in_the_order_of_the_file() {
    let text = r#"
schema = 1

[models.b]
file = "b.gguf"
ctxx = 1          # é ü
parallel = "two"

[server]
gateway = "0.0.0.0:80"

[models.a]
gpu = "all"

[defaults]
jinja = "no"
"#;
    let reading = read(text);
    assert_eq!(
        messages(&reading),
        [
            "models.toml:6: models.b.ctxx: unknown key; did you mean `ctx`?",
            "models.toml:7: models.b.parallel: expected a whole number from 1 to 64, found the string \"two\"",
            "models.toml:10: server.gateway: 0.0.0.0 is not a loopback address: Corral serves this machine only",
            "models.toml:12: models.a.file: missing: every model needs its file",
            "models.toml:13: models.a.gpu: expected \"auto\", \"none\", or the indices of \
                devices, found the string \"all\"",
            "models.toml:16: defaults.jinja: expected true or false, found the string \"no\"",
        ]
    );
    assert!(reading.catalog.is_none());
}

#[test]
fn hints_say_what_to_do() {
    assert_eq!(hint(""), "begin the file with `schema = 1`");
    assert_eq!(hint("schema = 1\n[models.m]\nfile = \"f\"\nctx = \"64k\""), "for instance `ctx = 65536`");
    assert_eq!(hint("schema = 1\n[server]\nx = 1"), "the keys here are gateway, management");
    assert_eq!(hint("schema = 1\nfoo = bar"), "the line is `foo = bar`");
    assert_eq!(hint("schema = 1\n[models.m]\nfile = \"f\"\nargs = [\"-c\"]"), "take `-c` out of `args`");
}

#[test]
fn a_mistake_in_a_thousand_models_is_told_a_thousand_times() {
    let models: Vec<String> =
        (0..1000).map(|index| format!("[models.m{index}]\nfile = \"f\"\ntempature = 1\n")).collect();
    let reading = read(&format!("schema = 1\n{}", models.concat()));
    assert_eq!(reading.problems.len(), 1000);
    assert_eq!(
        reading.problems[999].to_string(),
        "models.toml:3001: models.m999.tempature: unknown key; did you mean `sampling.temperature`?"
    );
}

#[test]
fn long_and_strange_texts_are_shown_short() {
    let text = format!("schema = 1\n[models.m]\nfile = \"f\"\ngpu = \"{}\\u001b[2J\"", "x".repeat(1000));
    let message = messages(&read(&text)).remove(0);
    assert!(message.ends_with(&format!("found the string \"{}…\"", "x".repeat(40))), "{message}");
    let escape = messages(&read("schema = 1\n\"a\\u001b\" = 1")).remove(0);
    assert_eq!(escape, "models.toml:2: \"a\\u{1b}\": unknown key");
}
