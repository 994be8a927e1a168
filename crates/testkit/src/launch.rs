//! A launch specification with nothing set that need not be.

use std::path::PathBuf;
use std::time::Duration;

use corral_core::ModelId;
use corral_core::launch::{Gpu, LaunchSpec, Runtime, Sampling};
use indexmap::IndexMap;

/// A model in `/srv/models/<id>.gguf` for a container of the image `example/llama:server`. Tests change what they need.
pub fn launch_spec(model: &str) -> LaunchSpec {
    LaunchSpec {
        model: ModelId::new(model).expect("a valid id"),
        runtime: Runtime::Docker,
        image: "example/llama:server".to_owned(),
        binary: PathBuf::from("llama-server"),
        models_dir: PathBuf::from("/srv/models"),
        file: PathBuf::from(format!("/srv/models/{model}.gguf")),
        mmproj: None,
        ctx: 4096,
        parallel: 1,
        gpu: Gpu::Auto,
        gpu_layers: None,
        tensor_split: Vec::new(),
        override_tensor: Vec::new(),
        cache_type_k: None,
        cache_type_v: None,
        cpu_moe: None,
        jinja: None,
        sampling: Sampling::default(),
        args: Vec::new(),
        env: IndexMap::new(),
        load_timeout: Duration::from_mins(1),
    }
}
