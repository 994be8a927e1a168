//! The whole request for a container, as one value.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use bollard::models::{
    ContainerCreateBody, DeviceMapping, HostConfig, HostConfigLogConfig, Mount, MountType, PortBinding,
    ResourcesUlimits, RestartPolicy, RestartPolicyNameEnum,
};
use corral_core::Secret;
use corral_core::launch::LaunchSpec;

use super::gate;
use super::gpu::Access;
use super::mounts::ModelMounts;
use crate::args::{Listen, ServerPaths, server_args, server_env};

/// The label that tells this home's containers from those of another.
pub(super) const HOME: &str = "dev.corral.home";
/// The label that names the model.
pub(super) const MODEL: &str = "dev.corral.model";
/// The label that holds the hash of the configuration.
pub(super) const CONFIG_HASH: &str = "dev.corral.config-hash";
/// The label that holds Corral's version.
const VERSION: &str = "dev.corral.version";
/// The port inside the container.
pub(super) const PORT: &str = "8080/tcp";
const PORT_NUMBER: u16 = 8080;
/// The folder for KV slots inside the container.
const SLOTS: &str = "/slots";

/// What a container needs beyond its [`LaunchSpec`].
#[derive(Debug, Clone)]
pub(super) struct Placement {
    /// The value of the label [`HOME`].
    pub home_id: String,
    /// Corral's version.
    pub version: String,
    /// The key that the server shall ask for.
    pub api_key: Secret,
    /// The model's files.
    pub files: ModelMounts,
    /// The folder for KV slots outside.
    pub slots_dir: PathBuf,
    /// The named pipe that holds the server back; none where pipes do not reach into containers.
    pub gate: Option<PathBuf>,
    /// `uid:gid`; none leaves the image's own user.
    pub user: Option<String>,
    /// The GPUs.
    pub gpu: Access,
    /// The engine labels for `SELinux`, which would hide the user's files.
    pub selinux: bool,
}

/// Everything about the container: what it may do and see is all here.
pub(super) fn create_request(spec: &LaunchSpec, placement: &Placement) -> ContainerCreateBody {
    ContainerCreateBody {
        image: Some(spec.image.clone()),
        cmd: Some(command(spec, placement)),
        env: Some(environment(spec, placement)),
        user: placement.user.clone(),
        exposed_ports: Some(vec![PORT.to_owned()]),
        labels: Some(strings([
            (HOME, placement.home_id.as_str()),
            (MODEL, spec.model.as_str()),
            (CONFIG_HASH, &spec.hash().0),
            (VERSION, &placement.version),
        ])),
        host_config: Some(host_config(spec, placement)),
        ..ContainerCreateBody::default()
    }
}

fn host_config(spec: &LaunchSpec, placement: &Placement) -> HostConfig {
    let loopback = PortBinding { host_ip: Some("127.0.0.1".to_owned()), host_port: Some(String::new()) };
    let mut security = vec!["no-new-privileges".to_owned()];
    if placement.selinux {
        security.push("label=disable".to_owned());
    }
    let locks_memory = spec.args.iter().any(|arg| arg == "--mlock");
    let memlock = || ResourcesUlimits { name: Some("memlock".to_owned()), soft: Some(-1), hard: Some(-1) };
    HostConfig {
        // As the first process of its namespace, llama-server would ignore SIGTERM while it loads.
        init: Some(true),
        mounts: Some(mounts(placement)),
        port_bindings: Some(HashMap::from([(PORT.to_owned(), Some(vec![loopback]))])),
        cap_drop: Some(vec!["ALL".to_owned()]),
        security_opt: Some(security),
        readonly_rootfs: Some(true),
        // Caches of compiled GPU code go to HOME, which is here.
        tmpfs: Some(strings([("/tmp", "rw,nosuid,nodev,size=1g")])),
        pids_limit: Some(4096),
        ulimits: locks_memory.then(|| vec![memlock()]),
        restart_policy: Some(RestartPolicy { name: Some(RestartPolicyNameEnum::NO), maximum_retry_count: None }),
        log_config: Some(HostConfigLogConfig {
            typ: Some("json-file".to_owned()),
            config: Some(strings([("max-size", "10m"), ("max-file", "2")])),
        }),
        device_requests: some(placement.gpu.requests.clone()),
        devices: some(placement.gpu.devices.iter().map(|path| device(path)).collect()),
        group_add: some(placement.gpu.groups.iter().map(ToString::to_string).collect()),
        ..HostConfig::default()
    }
}

fn command(spec: &LaunchSpec, placement: &Placement) -> Vec<String> {
    let paths = ServerPaths {
        model: placement.files.model.clone(),
        mmproj: placement.files.mmproj.clone(),
        slots_dir: Some(SLOTS.to_owned()),
    };
    let listen = Listen { host: "0.0.0.0".to_owned(), port: PORT_NUMBER };
    let mut command = server_args(spec, &paths, &listen);
    if placement.gate.is_some() {
        // The last one: whatever is wrong with the others shows before the server waits.
        command.extend(["--api-key-file".to_owned(), gate::TARGET.to_owned()]);
    }
    command
}

fn environment(spec: &LaunchSpec, placement: &Placement) -> Vec<String> {
    let home = ("HOME".to_owned(), "/tmp".to_owned());
    let ours = std::iter::once(home).chain(placement.gpu.env.iter().cloned());
    ours.filter(|(name, _)| !spec.env.contains_key(name))
        .chain(server_env(spec, &placement.api_key))
        .map(|(name, value)| format!("{name}={value}"))
        .collect()
}

fn mounts(placement: &Placement) -> Vec<Mount> {
    let bind = |source: &Path, target: &str, read_only: bool| Mount {
        typ: Some(MountType::BIND),
        source: Some(source.to_string_lossy().into_owned()),
        target: Some(target.to_owned()),
        read_only: Some(read_only),
        ..Mount::default()
    };
    let files = placement.files.binds.iter().map(|file| bind(&file.source, &file.target, true));
    let slots = std::iter::once(bind(&placement.slots_dir, SLOTS, false));
    let gate = placement.gate.iter().map(|path| bind(path, gate::TARGET, true));
    files.chain(slots).chain(gate).collect()
}

fn device(path: &Path) -> DeviceMapping {
    let path = path.to_string_lossy().into_owned();
    DeviceMapping {
        path_on_host: Some(path.clone()),
        path_in_container: Some(path),
        cgroup_permissions: Some("rw".to_owned()),
    }
}

fn strings<const N: usize>(pairs: [(&str, &str); N]) -> HashMap<String, String> {
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into_iter().collect()
}

fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

/// Which user a container runs as; none leaves the image's own.
///
/// An ordinary user's containers run as that user, and so can read just what the user can. Where Corral itself is root,
/// they run as nobody if nobody may read the model. A rootless engine's root is the user already.
pub(super) fn user(
    image_user: Option<&str>,
    rootless: bool,
    own: (u32, u32),
    readable_by_all: bool,
) -> Option<(u32, u32)> {
    let image_is_root = image_user.is_none_or(|user| matches!(user.split(':').next(), Some("" | "0" | "root")));
    match own {
        _ if rootless || !image_is_root => None,
        (0, _) => readable_by_all.then_some((NOBODY, NOBODY)),
        own => Some(own),
    }
}

/// The user who owns nothing.
const NOBODY: u32 = 65534;

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
