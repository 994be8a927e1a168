//! What a container needs to see the GPUs it may use.

use std::path::{Path, PathBuf};

use bollard::models::DeviceRequest;
use corral_core::launch::Gpu;
use corral_core::{Code, Error, Result};

use crate::args::visible_devices;

/// The kind of GPU that an image was built for, as its name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GpuKind {
    /// None, or one that the name does not say.
    Unsaid,
    /// NVIDIA, through the engine's NVIDIA runtime.
    Nvidia,
    /// AMD, through `ROCm`.
    Rocm,
    /// Any GPU with a render node: Vulkan, or Intel's SYCL.
    Render,
}

/// The kind that an image's reference says, for instance `ghcr.io/ggml-org/llama.cpp:server-cuda13`.
pub fn gpu_kind(image: &str) -> GpuKind {
    let lower = image.to_ascii_lowercase();
    let any = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    if any(&["cuda", "nvidia"]) {
        GpuKind::Nvidia
    } else if any(&["rocm", "-hip"]) {
        GpuKind::Rocm
    } else if any(&["vulkan", "intel", "sycl"]) {
        GpuKind::Render
    } else {
        GpuKind::Unsaid
    }
}

/// The device nodes of this machine's GPUs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Nodes {
    /// `/dev/kfd` is there, which `ROCm` computes through.
    pub kfd: bool,
    /// The render nodes, for instance `/dev/dri/renderD128`.
    pub render: Vec<PathBuf>,
    /// The groups that own any of them, root's excepted.
    pub groups: Vec<u32>,
}

impl Nodes {
    /// Looks at `/dev`.
    pub(super) fn find() -> Self {
        use std::os::unix::fs::MetadataExt;
        let mut nodes = Self::default();
        let mut render: Vec<PathBuf> = std::fs::read_dir("/dev/dri")
            .map(|entries| entries.filter_map(|entry| Some(entry.ok()?.path())).collect())
            .unwrap_or_default();
        render.retain(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("renderD")));
        render.sort();
        let kfd = Path::new("/dev/kfd");
        nodes.kfd = kfd.exists();
        for path in render.iter().map(PathBuf::as_path).chain(nodes.kfd.then_some(kfd)) {
            if let Ok(meta) = std::fs::metadata(path)
                && meta.gid() != 0
                && !nodes.groups.contains(&meta.gid())
            {
                nodes.groups.push(meta.gid());
            }
        }
        nodes.render = render;
        nodes
    }
}

/// What a container is given.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Access {
    /// For the engine's GPU runtime.
    pub requests: Vec<DeviceRequest>,
    /// Device nodes, or folders of them.
    pub devices: Vec<PathBuf>,
    /// Groups that may use the nodes.
    pub groups: Vec<u32>,
    /// Variables that narrow the choice.
    pub env: Vec<(String, String)>,
}

/// Works out what a container of an image of this kind needs for `gpu`.
///
/// An image whose name says no kind gets none with `auto`, and NVIDIA's where GPUs are named.
pub(super) fn access(kind: GpuKind, gpu: &Gpu, nodes: &Nodes) -> Result<Access> {
    let named = match gpu {
        Gpu::None => return Ok(Access::default()),
        Gpu::Auto => None,
        Gpu::Devices(devices) => Some(devices.as_slice()),
    };
    match kind {
        GpuKind::Unsaid if named.is_none() => Ok(Access::default()),
        GpuKind::Unsaid | GpuKind::Nvidia => Ok(nvidia(named)),
        GpuKind::Rocm => of_nodes(nodes, named, nodes.kfd, &["/dev/kfd", "/dev/dri"]),
        GpuKind::Render => of_nodes(nodes, named, true, &["/dev/dri"]),
    }
}

fn nvidia(named: Option<&[u32]>) -> Access {
    let request = DeviceRequest {
        count: named.is_none().then_some(-1),
        device_ids: named.map(|devices| devices.iter().map(ToString::to_string).collect()),
        capabilities: Some(vec![vec!["gpu".to_owned()]]),
        ..DeviceRequest::default()
    };
    // The order in which the engine and NVML count, so that `tensor_split` means the same GPUs.
    let env = vec![("CUDA_DEVICE_ORDER".to_owned(), "PCI_BUS_ID".to_owned())];
    Access { requests: vec![request], env, ..Access::default() }
}

fn of_nodes(nodes: &Nodes, named: Option<&[u32]>, complete: bool, paths: &[&str]) -> Result<Access> {
    let there = complete && !nodes.render.is_empty();
    let Some(devices) = named else {
        // Without a GPU such an image runs on the CPU.
        let paths = if there { paths } else { &[] };
        return Ok(Access {
            devices: paths.iter().map(PathBuf::from).collect(),
            groups: if there { nodes.groups.clone() } else { Vec::new() },
            ..Access::default()
        });
    };
    let missing = devices.iter().find(|index| usize::try_from(**index).map_or(true, |at| at >= nodes.render.len()));
    match missing {
        _ if !there => Err(missing_nodes("this machine has no device nodes for a GPU that this image can use")),
        Some(index) => {
            let count = nodes.render.len();
            Err(missing_nodes(&format!("`gpu` names GPU {index}, but there are {count}, counted from 0")))
        }
        None => Ok(Access {
            devices: paths.iter().map(PathBuf::from).collect(),
            groups: nodes.groups.clone(),
            env: visible_devices(devices),
            ..Access::default()
        }),
    }
}

fn missing_nodes(message: &str) -> Error {
    Error::new(Code::GpuRuntimeMissing, message)
        .hint("see whether the GPU's driver is loaded: `ls -l /dev/dri /dev/kfd`; or set `gpu = \"auto\"`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_an_image_says_its_kind() {
        for (tag, expected) in [
            ("server", GpuKind::Unsaid),
            ("server-cuda", GpuKind::Nvidia),
            ("server-cuda13-b7000", GpuKind::Nvidia),
            ("server-rocm", GpuKind::Rocm),
            ("server-vulkan", GpuKind::Render),
            ("server-intel", GpuKind::Render),
        ] {
            assert_eq!(gpu_kind(&format!("ghcr.io/ggml-org/llama.cpp:{tag}")), expected, "{tag}");
        }
    }

    #[test]
    fn named_gpus_must_be_there_and_auto_ones_need_not() {
        let none = Nodes::default();
        let one = Nodes { kfd: false, render: vec![PathBuf::from("/dev/dri/renderD128")], groups: vec![44] };
        let code = |kind, gpu, nodes| access(kind, &gpu, nodes).map_err(|error| error.code());
        assert_eq!(code(GpuKind::Render, Gpu::Auto, &none), Ok(Access::default()));
        assert_eq!(code(GpuKind::Rocm, Gpu::Auto, &one), Ok(Access::default()), "ROCm needs /dev/kfd as well");
        assert_eq!(code(GpuKind::Rocm, Gpu::Devices(vec![0]), &one), Err(Code::GpuRuntimeMissing));
        assert_eq!(code(GpuKind::Render, Gpu::Devices(vec![1]), &one), Err(Code::GpuRuntimeMissing));
        assert!(code(GpuKind::Render, Gpu::Devices(vec![0]), &one).is_ok());
        assert_eq!(code(GpuKind::Nvidia, Gpu::None, &one), Ok(Access::default()));
        assert_eq!(code(GpuKind::Unsaid, Gpu::Auto, &one), Ok(Access::default()));
        let named = code(GpuKind::Unsaid, Gpu::Devices(vec![0]), &none).expect("asked for by name");
        assert_eq!(named.requests.len(), 1);
    }
}
