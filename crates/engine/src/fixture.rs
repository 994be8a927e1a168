//! Values that unit tests share.

use std::path::PathBuf;
use std::time::Duration;

use corral_core::ModelId;
use corral_core::launch::{Gpu, LaunchSpec, Runtime, Sampling};
use indexmap::IndexMap;

/// A model `m` in `/srv/models/m.gguf` with nothing set that need not be.
pub(crate) fn spec() -> LaunchSpec {
    LaunchSpec {
        model: ModelId::new("m").expect("a valid id"),
        runtime: Runtime::Docker,
        image: "example/llama:server".to_owned(),
        binary: PathBuf::from("llama-server"),
        models_dir: PathBuf::from("/srv/models"),
        file: PathBuf::from("/srv/models/m.gguf"),
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
