//! The arguments and variables of `llama-server` that Corral gives itself, and the key to use instead.

/// What belongs to Corral: flags, the variables that mean the same, and what to do instead.
struct Owned(&'static [&'static str], &'static [&'static str], &'static str);

const PORT: &str = "Corral picks the address itself; clients use `gateway` in `[server]`";
const SECRET: &str = "Corral makes a new API key for each start and keeps it to itself";
const ROUTER: &str = "Corral switches models itself; give each one a table `[models.<id>]`";
const LISTING: &str = "it prints something and ends; run llama-server by hand for that";
const TLS: &str = "the gateway speaks plain HTTP to llama-server on loopback";
const SLOTS: &str = "Corral uses it to keep the context over a switch; see `keep_context`";
const FILE: &str = "name the model with `file`";
const MMPROJ: &str = "name the projector with `mmproj`";

const OWNED: &[Owned] = &[
    Owned(&["--host", "--port", "--reuse-port"], &["LLAMA_ARG_HOST", "LLAMA_ARG_PORT", "LLAMA_ARG_REUSE_PORT"], PORT),
    Owned(&["--api-key", "--api-key-file"], &["LLAMA_API_KEY", "LLAMA_ARG_API_KEY_FILE"], SECRET),
    Owned(
        &["--ssl-key-file", "--ssl-cert-file", "--api-prefix"],
        &["LLAMA_ARG_SSL_KEY_FILE", "LLAMA_ARG_SSL_CERT_FILE", "LLAMA_ARG_API_PREFIX"],
        TLS,
    ),
    Owned(
        &["--models-dir", "--models-preset", "--models-max", "--models-autoload", "--no-models-autoload"],
        &["LLAMA_ARG_MODELS_DIR", "LLAMA_ARG_MODELS_PRESET", "LLAMA_ARG_MODELS_MAX", "LLAMA_ARG_MODELS_AUTOLOAD"],
        ROUTER,
    ),
    Owned(
        &["--slot-save-path", "--slots", "--no-slots"],
        &["LLAMA_ARG_SLOT_SAVE_PATH", "LLAMA_ARG_ENDPOINT_SLOTS"],
        SLOTS,
    ),
    Owned(
        &["-h", "--help", "--usage", "--version", "--list-devices", "-cl", "--cache-list", "--completion-bash"],
        &[],
        LISTING,
    ),
    Owned(
        &["-m", "--model", "-mu", "--model-url", "-hf", "-hfr", "--hf-repo", "-hff", "--hf-file"],
        &["LLAMA_ARG_MODEL", "LLAMA_ARG_MODEL_URL", "LLAMA_ARG_HF_REPO", "LLAMA_ARG_HF_FILE"],
        FILE,
    ),
    Owned(&["-dr", "--docker-repo"], &["LLAMA_ARG_DOCKER_REPO"], FILE),
    Owned(&["-mm", "--mmproj", "-mmu", "--mmproj-url"], &["LLAMA_ARG_MMPROJ", "LLAMA_ARG_MMPROJ_URL"], MMPROJ),
    Owned(&["-a", "--alias"], &["LLAMA_ARG_ALIAS"], "use `aliases`"),
    Owned(&["-c", "--ctx-size"], &["LLAMA_ARG_CTX_SIZE"], "use `ctx`"),
    Owned(&["-np", "--parallel"], &["LLAMA_ARG_N_PARALLEL"], "use `parallel`"),
    Owned(&["-dev", "--device"], &["LLAMA_ARG_DEVICE", "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES"], "use `gpu`"),
    Owned(&["-ngl", "--gpu-layers", "--n-gpu-layers"], &["LLAMA_ARG_N_GPU_LAYERS"], "use `gpu_layers`"),
    Owned(&["-ts", "--tensor-split"], &["LLAMA_ARG_TENSOR_SPLIT"], "use `tensor_split`"),
    Owned(&["-ot", "--override-tensor"], &["LLAMA_ARG_OVERRIDE_TENSOR"], "use `override_tensor`"),
    Owned(&["-ctk", "--cache-type-k"], &["LLAMA_ARG_CACHE_TYPE_K"], "use `cache_type_k`"),
    Owned(&["-ctv", "--cache-type-v"], &["LLAMA_ARG_CACHE_TYPE_V"], "use `cache_type_v`"),
    Owned(
        &["-cmoe", "--cpu-moe", "-ncmoe", "--n-cpu-moe"],
        &["LLAMA_ARG_CPU_MOE", "LLAMA_ARG_N_CPU_MOE"],
        "use `cpu_moe`",
    ),
    Owned(&["--jinja", "--no-jinja"], &["LLAMA_ARG_JINJA"], "use `jinja`"),
    Owned(&["--sleep-idle-seconds"], &["LLAMA_ARG_SLEEP_IDLE_SECONDS"], "use `idle_unload`"),
    Owned(&["--temp", "--temperature"], &["LLAMA_ARG_TEMPERATURE"], "use `sampling.temperature`"),
    Owned(&["--top-p"], &["LLAMA_ARG_TOP_P"], "use `sampling.top_p`"),
    Owned(&["--top-k"], &["LLAMA_ARG_TOP_K"], "use `sampling.top_k`"),
    Owned(&["--min-p"], &["LLAMA_ARG_MIN_P"], "use `sampling.min_p`"),
    Owned(&["--repeat-penalty"], &["LLAMA_ARG_REPEAT_PENALTY"], "use `sampling.repeat_penalty`"),
    Owned(&["--presence-penalty"], &["LLAMA_ARG_PRESENCE_PENALTY"], "use `sampling.presence_penalty`"),
    Owned(&["--frequency-penalty"], &["LLAMA_ARG_FREQUENCY_PENALTY"], "use `sampling.frequency_penalty`"),
];

/// What to do instead of passing this argument; none where it may be passed.
pub(super) fn argument(arg: &str) -> Option<&'static str> {
    if !arg.starts_with('-') {
        return None;
    }
    let flag = arg.split_once('=').map_or(arg, |(flag, _)| flag);
    // llama-server reads `_` in a long flag as `-`.
    let flag = if flag.starts_with("--") { flag.replace('_', "-") } else { flag.to_owned() };
    OWNED.iter().find(|Owned(flags, ..)| flags.contains(&flag.as_str())).map(|Owned(_, _, instead)| *instead)
}

/// What to do instead of setting this variable; none where it may be set.
pub(super) fn variable(name: &str) -> Option<&'static str> {
    OWNED.iter().find(|Owned(_, variables, _)| variables.contains(&name)).map(|Owned(_, _, instead)| *instead)
}

/// Whether a shell could set a variable of this name.
pub(super) fn is_variable_name(name: &str) -> bool {
    let starts_well = name.bytes().next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_');
    starts_well && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}
