//! A [`LaunchSpec`] as the command line and the environment of `llama-server`.
//!
//! The command line holds what every `llama-server` of the last years knows. What only newer ones know goes through the
//! environment, where an older one ignores it: so nothing has to be asked of an image before it can be used.

use corral_core::Secret;
use corral_core::launch::{CpuMoe, Gpu, GpuLayers, LaunchSpec, Sampling};

/// The files of a model as `llama-server` sees them, inside its container or outside of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerPaths {
    /// The model file, the first part where there are several.
    pub model: String,
    /// The multimodal projector.
    pub mmproj: Option<String>,
    /// The folder for saved KV slots.
    pub slots_dir: Option<String>,
}

/// Where `llama-server` listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// An address, or the path of a Unix socket.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// The arguments, without the program itself. The catalog's own `args` come last, so that they win.
pub fn server_args(spec: &LaunchSpec, paths: &ServerPaths, listen: &Listen) -> Vec<String> {
    let mut args = Args::default();
    args.value("-m", &paths.model);
    args.value("--alias", &spec.model);
    args.value("--host", &listen.host);
    args.value("--port", &listen.port);
    args.value("-c", &spec.ctx);
    args.value("-np", &spec.parallel);
    args.flag("--metrics");
    args.option("--slot-save-path", paths.slots_dir.as_deref());
    args.option("--mmproj", paths.mmproj.as_deref());
    if spec.gpu == Gpu::None {
        // Not `-ngl 0`, with which a GPU still works on long prompts.
        args.value("--device", &"none");
    }
    args.option(
        "-ngl",
        spec.gpu_layers.map(|layers| match layers {
            GpuLayers::Auto => "auto".to_owned(),
            // The word `all` is newer than the number that every model has fewer layers than.
            GpuLayers::All => "999".to_owned(),
            GpuLayers::Count(count) => count.to_string(),
        }),
    );
    args.list("--tensor-split", &spec.tensor_split);
    // One argument: of several, newer servers take the last only.
    args.list("-ot", &spec.override_tensor);
    args.option("-ctk", spec.cache_type_k.as_deref());
    args.option("-ctv", spec.cache_type_v.as_deref());
    match spec.cpu_moe {
        Some(CpuMoe::All) => args.flag("--cpu-moe"),
        Some(CpuMoe::Layers(layers)) => args.value("--n-cpu-moe", &layers),
        None => {}
    }
    match spec.jinja {
        Some(true) => args.flag("--jinja"),
        Some(false) => args.flag("--no-jinja"),
        None => {}
    }
    args.sampling(&spec.sampling);
    args.0.extend(spec.args.iter().cloned());
    args.0
}

/// The environment that Corral gives `llama-server`. The catalog's own `env` wins over all but the API key.
pub fn server_env(spec: &LaunchSpec, api_key: &Secret) -> Vec<(String, String)> {
    let ours = [("LLAMA_ARG_LOG_JSONL", "1"), ("LLAMA_ARG_CORS_ORIGINS", "localhost")];
    let mut env: Vec<(String, String)> = ours
        .into_iter()
        .filter(|(name, _)| !spec.env.contains_key(*name))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let theirs = spec.env.iter().filter(|(name, _)| name.as_str() != API_KEY);
    env.extend(theirs.map(|(name, value)| (name.clone(), value.clone())));
    env.push((API_KEY.to_owned(), api_key.expose().to_owned()));
    env
}

/// The variable that holds the API key: on the command line everybody on the machine could read it.
pub const API_KEY: &str = "LLAMA_API_KEY";

/// The variables that show a server only some of the GPUs, for each kind of GPU, where nothing else does that. Indexes
/// count in the order of the PCI bus, as NVML and Docker count them.
pub fn visible_devices(devices: &[u32]) -> Vec<(String, String)> {
    let list = join(devices);
    [
        ("CUDA_DEVICE_ORDER", "PCI_BUS_ID".to_owned()),
        ("CUDA_VISIBLE_DEVICES", list.clone()),
        ("HIP_VISIBLE_DEVICES", list.clone()),
        ("GGML_VK_VISIBLE_DEVICES", list.clone()),
        ("ONEAPI_DEVICE_SELECTOR", format!("level_zero:{list}")),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec()
}

#[derive(Default)]
struct Args(Vec<String>);

impl Args {
    fn flag(&mut self, name: &str) {
        self.0.push(name.to_owned());
    }

    fn value(&mut self, name: &str, value: &impl ToString) {
        self.0.extend([name.to_owned(), value.to_string()]);
    }

    fn option(&mut self, name: &str, value: Option<impl ToString>) {
        if let Some(value) = value {
            self.value(name, &value);
        }
    }

    fn list(&mut self, name: &str, values: &[impl ToString]) {
        if !values.is_empty() {
            self.value(name, &join(values));
        }
    }

    fn sampling(&mut self, sampling: &Sampling) {
        self.option("--temp", sampling.temperature);
        self.option("--top-p", sampling.top_p);
        self.option("--top-k", sampling.top_k);
        self.option("--min-p", sampling.min_p);
        self.option("--repeat-penalty", sampling.repeat_penalty);
        self.option("--presence-penalty", sampling.presence_penalty);
        self.option("--frequency-penalty", sampling.frequency_penalty);
    }
}

fn join(values: &[impl ToString]) -> String {
    values.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use corral_testkit::launch_spec;

    fn args(spec: &LaunchSpec) -> String {
        let paths = ServerPaths { model: "/models/m.gguf".to_owned(), mmproj: None, slots_dir: None };
        server_args(spec, &paths, &Listen { host: "0.0.0.0".to_owned(), port: 8080 }).join(" ")
    }

    const PLAIN: &str = "-m /models/m.gguf --alias m --host 0.0.0.0 --port 8080 -c 4096 -np 1 --metrics";

    #[test]
    fn a_plain_model_gets_only_what_it_needs() {
        assert_eq!(args(&launch_spec("m")), PLAIN);
    }

    type Change = fn(&mut LaunchSpec);

    #[test]
    fn every_key_has_its_argument() {
        let table: [(&str, Change); 13] = [
            ("--device none", |spec| spec.gpu = Gpu::None),
            ("-ngl auto", |spec| spec.gpu_layers = Some(GpuLayers::Auto)),
            ("-ngl 999", |spec| spec.gpu_layers = Some(GpuLayers::All)),
            ("-ngl 7", |spec| spec.gpu_layers = Some(GpuLayers::Count(7))),
            ("--tensor-split 3,1.5", |spec| spec.tensor_split = vec![3.0, 1.5]),
            ("-ot a=CPU,b=CUDA0", |spec| spec.override_tensor = vec!["a=CPU".to_owned(), "b=CUDA0".to_owned()]),
            ("-ctk q8_0 -ctv q4_0", |spec| {
                spec.cache_type_k = Some("q8_0".to_owned());
                spec.cache_type_v = Some("q4_0".to_owned());
            }),
            ("--cpu-moe", |spec| spec.cpu_moe = Some(CpuMoe::All)),
            ("--n-cpu-moe 12", |spec| spec.cpu_moe = Some(CpuMoe::Layers(12))),
            ("--jinja", |spec| spec.jinja = Some(true)),
            ("--no-jinja", |spec| spec.jinja = Some(false)),
            (
                "--temp 0.7 --top-p 0.95 --top-k 40 --min-p 0.01 --repeat-penalty 1.1 --presence-penalty 1 \
                 --frequency-penalty 0.5",
                |spec| {
                    spec.sampling = Sampling {
                        temperature: Some(0.7),
                        top_p: Some(0.95),
                        top_k: Some(40),
                        min_p: Some(0.01),
                        repeat_penalty: Some(1.1),
                        presence_penalty: Some(1.0),
                        frequency_penalty: Some(0.5),
                    };
                },
            ),
            ("--temp 0.2 -c 9", |spec| {
                spec.sampling.temperature = Some(0.2);
                spec.args = vec!["-c".to_owned(), "9".to_owned()];
            }),
        ];
        for (expected, change) in table {
            let mut spec = launch_spec("m");
            change(&mut spec);
            assert_eq!(args(&spec), format!("{PLAIN} {expected}"));
        }
    }

    #[test]
    fn the_files_are_those_the_server_sees() {
        let paths = ServerPaths {
            model: "/models/m.gguf".to_owned(),
            mmproj: Some("/models/mm.gguf".to_owned()),
            slots_dir: Some("/slots".to_owned()),
        };
        let args = server_args(&launch_spec("m"), &paths, &Listen { host: "127.0.0.1".to_owned(), port: 1 }).join(" ");
        assert!(args.ends_with("--metrics --slot-save-path /slots --mmproj /models/mm.gguf"), "{args}");
    }

    #[test]
    fn the_catalogs_environment_wins_over_all_but_the_key() {
        let mut spec = launch_spec("m");
        spec.env.insert("LLAMA_ARG_CORS_ORIGINS".to_owned(), "*".to_owned());
        spec.env.insert(API_KEY.to_owned(), "theirs".to_owned());
        let env = server_env(&spec, &Secret::new("ours"));
        let expected = [("LLAMA_ARG_LOG_JSONL", "1"), ("LLAMA_ARG_CORS_ORIGINS", "*"), (API_KEY, "ours")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(env, expected);
        assert!(!args(&spec).contains("ours"), "the key never is an argument");
    }
}
