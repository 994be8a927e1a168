//! Why a `llama-server` ended, read from how it ended and from what it said last.

use corral_core::{Code, Error, ModelId};

use crate::logs::{self, Line};

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Exit {
    /// Its exit code, where it ended by itself.
    pub code: Option<i64>,
    /// The signal that ended it.
    pub signal: Option<i64>,
    /// The kernel ended it because memory ran out.
    pub oom_killed: bool,
}

impl Exit {
    /// From the status that a shell, or a container's init, reports: 128 and more is a signal.
    pub fn from_status(status: i64, oom_killed: bool) -> Self {
        match status {
            129..=192 => Self { code: None, signal: Some(status - 128), oom_killed },
            _ => Self { code: Some(status), signal: None, oom_killed },
        }
    }
}

/// What a server was doing when it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum During {
    /// It loaded its model.
    Load,
    /// It served.
    Service,
}

/// The error for a server that ended without being told to.
pub fn cause(exit: Exit, during: During, model: &ModelId, lines: &[Line]) -> Error {
    let (how, when) = (how(exit), when(during));
    let error = if exit.oom_killed {
        let message = format!("the system ended llama-server ({how}) {when}: memory ran out");
        Error::new(Code::OutOfMemory, message).hint(LESS_MEMORY)
    } else if let Some(known) = known_cause(model, lines) {
        known
    } else if matches!(exit.signal, Some(SIGKILL | SIGTERM | SIGINT)) {
        let message = format!("llama-server was ended from outside ({how}) {when}");
        Error::new(Code::ServerKilled, message)
            .hint("someone stopped it, or the system ran out of memory: `journalctl -k` shows the latter")
    } else if exit.signal == Some(SIGILL) {
        let message = format!("llama-server ended {when}: this CPU lacks instructions that it was built for ({how})");
        Error::new(code(during), message).hint("use an image or a binary that was built for this CPU")
    } else if exit.code == Some(0) && during == During::Service {
        // It only ends well when it is told to.
        let message = format!("llama-server was ended from outside ({how}) {when}");
        Error::new(Code::ServerKilled, message)
            .hint(format!("someone stopped it; `corral switch {model}` loads it again"))
    } else {
        Error::new(code(during), format!("llama-server ended {when} ({how})")).hint(MORE_IN_THE_LOG)
    };
    error.log(logs::relevant(lines))
}

/// The error for a server whose container somebody outside Corral removed; `during` where it ran until then.
pub fn removed(during: Option<During>, model: Option<&ModelId>, lines: &[Line]) -> Error {
    let message = match (during.map(when), model) {
        (Some(when), _) => format!("llama-server was ended from outside (its container was removed) {when}"),
        (None, Some(model)) => format!("the container of `{model}` is gone: it was removed from outside"),
        (None, None) => "the container is gone: it was removed from outside".to_owned(),
    };
    let remedy = match model {
        Some(model) => format!("`corral switch {model}` makes another one"),
        None => "`corral list` shows what can be loaded".to_owned(),
    };
    let hint = format!("someone removed it, as `docker rm -f` and `docker system prune` do; {remedy}");
    Error::new(Code::ServerKilled, message).hint(hint).log(logs::relevant(lines))
}

fn when(during: During) -> &'static str {
    match during {
        During::Load => "while it loaded the model",
        During::Service => "while it served",
    }
}

/// The error for a server that was loading its model, or serving, and whose end nothing explains.
fn code(during: During) -> Code {
    match during {
        During::Load => Code::LoadFailed,
        During::Service => Code::ServerExited,
    }
}

const SIGINT: i64 = 2;
const SIGILL: i64 = 4;
const SIGKILL: i64 = 9;
const SIGTERM: i64 = 15;

const MORE_IN_THE_LOG: &str = "`corral logs` shows all that it said; a newer image or binary may do better";

const LESS_MEMORY: &str = "use a smaller `ctx`, fewer `gpu_layers`, a smaller `cache_type_k` and `cache_type_v`, or a \
                           smaller quantisation";

fn how(exit: Exit) -> String {
    match (exit.signal, exit.code) {
        (Some(signal), _) => signal_name(signal).map_or_else(|| format!("signal {signal}"), str::to_owned),
        (None, Some(code)) => format!("exit code {code}"),
        (None, None) => "no exit code".to_owned(),
    }
}

fn signal_name(signal: i64) -> Option<&'static str> {
    Some(match signal {
        1 => "SIGHUP",
        SIGINT => "SIGINT",
        3 => "SIGQUIT",
        SIGILL => "SIGILL",
        5 => "SIGTRAP",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        SIGKILL => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        SIGTERM => "SIGTERM",
        _ => return None,
    })
}

/// Recognises what the last lines say. The order matters: running out of memory also fails the load.
fn known_cause(model: &ModelId, lines: &[Line]) -> Option<Error> {
    let find = |words: &[&str]| {
        lines.iter().map(|line| line.msg.as_str()).find(|msg| words.iter().any(|word| contains(msg, word)))
    };
    if let Some(msg) = find(&["error: invalid argument", "error: unknown argument"]) {
        let argument = msg.rsplit(": ").next().unwrap_or(msg);
        return Some(
            Error::new(Code::LoadFailed, format!("this llama-server does not know the argument `{argument}`")).hint(
                format!("look at `args` of `{model}` in models.toml; an older or newer llama-server may know it"),
            ),
        );
    }
    if let Some(msg) = find(&["error while handling argument", "error while handling environment variable"]) {
        return Some(
            Error::new(Code::LoadFailed, format!("llama-server refuses an argument: {}", told(msg)))
                .hint(format!("look at `args`, `env` and the other keys of `{model}` in models.toml")),
        );
    }
    if let Some(msg) = find(&["couldn't bind", "address already in use", "failed to bind"]) {
        return Some(
            Error::new(Code::PortTaken, format!("llama-server cannot listen: {}", told(msg)))
                .hint("try again: every start takes another free port"),
        );
    }
    if let Some(msg) = find(&OUT_OF_MEMORY) {
        return Some(Error::new(Code::OutOfMemory, format!("memory ran out: {}", told(msg))).hint(LESS_MEMORY));
    }
    if let Some(msg) = find(&["unknown model architecture"]) {
        return Some(
            Error::new(Code::LoadFailed, format!("this llama-server does not know the model's kind: {}", told(msg)))
                .hint("a newer image or binary may know it: `docker pull` the image again"),
        );
    }
    if let Some(msg) = find(&["invalid magic", "data is not within the file bounds"]) {
        return Some(
            Error::new(Code::LoadFailed, format!("the model file is damaged or no GGUF file: {}", told(msg)))
                .hint("download it again"),
        );
    }
    if let Some(msg) = find(&["failed to open GGUF file", "error loading model", "failed to load model"]) {
        return Some(
            Error::new(Code::LoadFailed, format!("llama-server cannot load the model: {}", told(msg)))
                .hint(MORE_IN_THE_LOG),
        );
    }
    None
}

/// What allocators of hosts and GPUs say. "Fit" messages are not among them: they come before a smaller attempt.
const OUT_OF_MEMORY: [&str; 11] = [
    "out of memory",
    "insufficient memory",
    "cudaMalloc failed",
    "hipMalloc failed",
    "ErrorOutOfDeviceMemory",
    "ErrorOutOfHostMemory",
    "std::bad_alloc",
    "cannot allocate memory",
    "failed to allocate buffer",
    "failed to allocate compute",
    "unable to allocate",
];

fn contains(text: &str, word: &str) -> bool {
    text.to_ascii_lowercase().contains(&word.to_ascii_lowercase())
}

/// A line without the names of the functions that it passed through: `a_load: error loading model: text` is `text`.
fn told(msg: &str) -> &str {
    const LEADS: [&str; 3] = ["error loading model: ", "llama_model_loader: ", "error: "];
    let rest = LEADS.iter().fold(msg, |rest, lead| rest.split_once(lead).map_or(rest, |(_, after)| after));
    match rest.split_once(": ") {
        Some((name, after)) if rest.len() == msg.len() && is_function(name) => after,
        _ => rest,
    }
}

/// `load_model`, or `srv    load_model`.
fn is_function(name: &str) -> bool {
    name.contains('_') || name.split_whitespace().count() == 2 && name.contains("  ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model() -> ModelId {
        ModelId::new("m").expect("a valid id")
    }

    fn after(raw: &[&str], exit: Exit, during: During) -> Error {
        let lines: Vec<Line> = raw.iter().flat_map(|raw| logs::parse(raw)).collect();
        cause(exit, during, &model(), &lines)
    }

    #[test]
    fn known_words_make_known_errors() {
        let table: [(&[&str], Code, &str); 13] = [
            (
                &["error: invalid argument: --flux"],
                Code::LoadFailed,
                "this llama-server does not know the argument `--flux`",
            ),
            (
                &["error while handling argument \"-c\": stoi", "usage:"],
                Code::LoadFailed,
                "llama-server refuses an argument: error while handling argument \"-c\": stoi",
            ),
            (
                &["E srv         start: couldn't bind HTTP server socket, hostname: 1.2.3.4, port: 8080"],
                Code::PortTaken,
                "llama-server cannot listen: couldn't bind HTTP server socket, hostname: 1.2.3.4, port: 8080",
            ),
            (
                &[
                    "E ggml_backend_cuda_buffer_type_alloc_buffer: allocating 8192.00 MiB on device 0: cudaMalloc \
                     failed: out of memory",
                    "E llama_model_load: error loading model: unable to allocate CUDA0 buffer",
                    "E llama_model_load_from_file_impl: failed to load model",
                ],
                Code::OutOfMemory,
                "memory ran out: allocating 8192.00 MiB on device 0: cudaMalloc failed: out of memory",
            ),
            (
                &["E alloc_tensor_range: failed to allocate ROCm0 buffer of size 1", "hipMalloc failed: hm"],
                Code::OutOfMemory,
                "memory ran out: hipMalloc failed: hm",
            ),
            (
                &["ggml_vulkan: Device memory allocation of size 1 failed. ErrorOutOfDeviceMemory"],
                Code::OutOfMemory,
                "memory ran out: Device memory allocation of size 1 failed. ErrorOutOfDeviceMemory",
            ),
            (
                &["terminate called after throwing an instance of 'std::bad_alloc'"],
                Code::OutOfMemory,
                "memory ran out: terminate called after throwing an instance of 'std::bad_alloc'",
            ),
            (
                &["E llama_model_load: error loading model: error loading model architecture: unknown model \
                    architecture: 'x'"],
                Code::LoadFailed,
                "this llama-server does not know the model's kind: error loading model architecture: unknown model \
                 architecture: 'x'",
            ),
            (
                &["E gguf_init_from_reader: invalid magic characters: 'nons', expected 'GGUF'"],
                Code::LoadFailed,
                "the model file is damaged or no GGUF file: invalid magic characters: 'nons', expected 'GGUF'",
            ),
            (
                &["E llama_model_load: error loading model: tensor 'a.weight' data is not within the file bounds"],
                Code::LoadFailed,
                "the model file is damaged or no GGUF file: tensor 'a.weight' data is not within the file bounds",
            ),
            (
                &["E gguf_init_from_file: failed to open GGUF file '/models/m.gguf' (No such file or directory)"],
                Code::LoadFailed,
                "llama-server cannot load the model: failed to open GGUF file '/models/m.gguf' (No such file or \
                 directory)",
            ),
            (
                &["E llama_model_load: error loading model: missing tensor 'x'", "E failed to load model"],
                Code::LoadFailed,
                "llama-server cannot load the model: missing tensor 'x'",
            ),
            (&["I hello"], Code::LoadFailed, "llama-server ended while it loaded the model (exit code 1)"),
        ];
        for (raw, code, message) in table {
            let error = after(raw, Exit::from_status(1, false), During::Load);
            assert_eq!((error.code(), error.to_string()), (code, message.to_owned()), "{raw:?}");
            assert!(
                !error.body().log.is_empty() && error.body().hint.is_some(),
                "the log and a hint are there to read"
            );
        }
    }

    #[test]
    fn a_container_that_was_removed_is_told_as_that() {
        let model = model();
        let table = [
            (
                removed(Some(During::Load), Some(&model), &logs::parse("I loading")),
                "llama-server was ended from outside (its container was removed) while it loaded the model",
            ),
            (
                removed(None, Some(&model), &logs::parse("I loading")),
                "the container of `m` is gone: it was removed from outside",
            ),
            (removed(None, None, &logs::parse("I loading")), "the container is gone: it was removed from outside"),
        ];
        for (error, message) in table {
            assert_eq!((error.code(), error.to_string().as_str()), (Code::ServerKilled, message));
            assert!(error.body().hint.is_some_and(|hint| hint.contains("`corral ")), "{error}");
            assert_eq!(error.body().log, ["loading"]);
        }
    }

    #[test]
    fn the_way_it_ended_counts() {
        let table = [
            (137, false, Code::ServerKilled, "llama-server was ended from outside (SIGKILL) while it served"),
            (143, false, Code::ServerKilled, "llama-server was ended from outside (SIGTERM) while it served"),
            (137, true, Code::OutOfMemory, "the system ended llama-server (SIGKILL) while it served: memory ran out"),
            (139, false, Code::ServerExited, "llama-server ended while it served (SIGSEGV)"),
            (170, false, Code::ServerExited, "llama-server ended while it served (signal 42)"),
            (0, false, Code::ServerKilled, "llama-server was ended from outside (exit code 0) while it served"),
            (1, false, Code::ServerExited, "llama-server ended while it served (exit code 1)"),
            (
                132,
                false,
                Code::ServerExited,
                "llama-server ended while it served: this CPU lacks instructions that it was built for (SIGILL)",
            ),
        ];
        for (status, oom, code, message) in table {
            let error = after(&["I hello"], Exit::from_status(status, oom), During::Service);
            assert_eq!((error.code(), error.to_string()), (code, message.to_owned()));
            assert!(error.body().hint.is_some(), "{error}");
        }
    }
}
