//! Finding the `llama-server` program, and what of the environment it gets.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use corral_core::launch::{Gpu, LaunchSpec};
use corral_core::{Code, Error, Result, Secret};
use rustix::fs::Access;

use crate::args;
use crate::environment::Environment;

/// Where programs are looked for when the environment does not say.
const USUAL_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

const FULL_PATH: &str = "set `binary` under `[engine]` to the full path of llama-server";

/// The program as an absolute or at least explicit path.
pub fn find(binary: &Path, env: &Environment) -> Result<PathBuf> {
    let shown = binary.display();
    if binary.components().count() > 1 {
        return if is_program(binary) {
            // The server is started in another folder than this.
            std::path::absolute(binary)
                .map_err(|error| missing(format!("`{shown}` cannot be found"), FULL_PATH).because(error))
        } else if binary.is_file() {
            Err(missing(format!("`{shown}` is not executable"), &format!("`chmod +x {shown}` makes it so")))
        } else {
            Err(missing(format!("there is no program `{shown}`"), FULL_PATH))
        };
    }
    let path = env.get("PATH").unwrap_or(USUAL_PATH);
    let found = std::env::split_paths(path)
        // A relative entry would depend on where Corral was started.
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(binary))
        .find(|program| is_program(program));
    found.ok_or_else(|| {
        missing(
            format!("there is no program `{shown}` in PATH"),
            "install llama.cpp, set `binary` under `[engine]` to the program's full path, or set `runtime = \"docker\"`",
        )
    })
}

pub(super) fn missing(message: String, hint: &str) -> Error {
    Error::new(Code::BinaryMissing, message).hint(hint)
}

fn is_program(path: &Path) -> bool {
    path.is_file() && rustix::fs::access(path, Access::EXEC_OK).is_ok()
}

/// All variables of a server: those it needs of Corral's own environment, and then the catalog's and Corral's.
///
/// The rest stays out: a token in the shell that Corral was started from is no business of a model server, and a
/// `LLAMA_ARG_…` there would change what the catalog says.
pub(super) fn environment(spec: &LaunchSpec, api_key: &Secret, env: &Environment) -> BTreeMap<String, String> {
    let inherited = env.iter().filter(|(name, _)| is_inherited(name));
    let mut all: BTreeMap<String, String> =
        inherited.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    if let Gpu::Devices(devices) = &spec.gpu {
        all.extend(args::visible_devices(devices));
    }
    all.extend(args::server_env(spec, api_key));
    all
}

/// What programs need to run at all, and what GPU drivers and the libraries of llama.cpp read.
fn is_inherited(name: &str) -> bool {
    const NAMES: [&str; 9] =
        ["PATH", "HOME", "USER", "LOGNAME", "LANG", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "XDG_CACHE_HOME"];
    const PREFIXES: [&str; 25] = [
        "LC_",
        "CUDA_",
        "NVIDIA_",
        "NCCL_",
        "GGML_",
        "HIP_",
        "HSA_",
        "ROCR_",
        "ROCM_",
        "AMD_",
        "GPU_",
        "ROCBLAS_",
        "VK_",
        "MESA_",
        "RADV_",
        "DRI_",
        "ONEAPI_",
        "SYCL_",
        "ZE_",
        "ZES_",
        "OMP_",
        "GOMP_",
        "KMP_",
        "OPENBLAS_",
        "MKL_",
    ];
    NAMES.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_program_is_found_by_path_and_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("llama-server");
        let env: Environment =
            [("PATH", format!("relative:/nonexistent:{}", dir.path().display()))].into_iter().collect();
        let message = |binary: &Path| {
            let error = find(binary, &env).unwrap_err();
            assert!(error.body().hint.is_some_and(|hint| !hint.is_empty()), "{error}");
            error.to_string()
        };

        assert!(message(Path::new("llama-server")).ends_with("in PATH"));
        assert!(message(&program).starts_with("there is no program"));
        fs::write(&program, "").unwrap();
        assert!(message(&program).ends_with("is not executable"));
        assert!(message(Path::new("llama-server")).ends_with("in PATH"));
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(find(&program, &env).unwrap(), program);
        assert_eq!(find(Path::new("llama-server"), &env).unwrap(), program);
    }

    #[test]
    fn tokens_of_the_shell_stay_out() {
        let env: Environment = [
            ("PATH", "/bin"),
            ("CUDA_CACHE_PATH", "/c"),
            ("CUDA_VISIBLE_DEVICES", "0"),
            ("CORRAL_TOKEN", "t"),
            ("HF_TOKEN", "t"),
            ("LLAMA_ARG_CTX_SIZE", "1"),
            ("LLAMA_API_KEY", "theirs"),
        ]
        .into_iter()
        .collect();
        let mut spec = corral_testkit::launch_spec("m");
        spec.gpu = Gpu::Devices(vec![1, 2]);
        spec.env.insert("HF_HOME".to_owned(), "/hf".to_owned());
        let all = environment(&spec, &Secret::new("ours"), &env);
        let value = |name: &str| all.get(name).map(String::as_str);
        assert_eq!(value("PATH"), Some("/bin"));
        assert_eq!(value("CUDA_CACHE_PATH"), Some("/c"));
        assert_eq!(value("CUDA_VISIBLE_DEVICES"), Some("1,2"), "the catalog wins");
        assert_eq!(value("HF_HOME"), Some("/hf"));
        assert_eq!(value("LLAMA_API_KEY"), Some("ours"));
        for name in ["CORRAL_TOKEN", "HF_TOKEN", "LLAMA_ARG_CTX_SIZE"] {
            assert_eq!(value(name), None, "{name}");
        }
    }
}
