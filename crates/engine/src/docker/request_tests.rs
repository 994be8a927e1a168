use serde_json::{Value, json};

use super::*;
use crate::docker::gpu::{self, GpuKind, Nodes};
use crate::docker::mounts;
use corral_core::launch::Gpu;
use corral_testkit::launch_spec;

fn placement(spec: &LaunchSpec, kind: GpuKind) -> Placement {
    let nodes = Nodes {
        kfd: true,
        render: ["128", "129"].map(|n| format!("/dev/dri/renderD{n}").into()).to_vec(),
        groups: vec![44],
    };
    Placement {
        home_id: "h1".to_owned(),
        version: "1.2.3".to_owned(),
        api_key: Secret::new("k"),
        files: mounts::plan(spec, |path| Ok(path.to_owned())).expect("a plan"),
        slots_dir: PathBuf::from("/cache/slots"),
        gate: Some(PathBuf::from("/run/u/gates/m-1")),
        user: Some("1000:1000".to_owned()),
        gpu: gpu::access(kind, &spec.gpu, &nodes).expect("access"),
        selinux: false,
    }
}

fn request(spec: &LaunchSpec, kind: GpuKind) -> Value {
    serde_json::to_value(create_request(spec, &placement(spec, kind))).expect("plain data")
}

/// The request for a model on the CPU, whole.
fn cpu() -> Value {
    json!({
        "Image": "example/llama:server",
        "User": "1000:1000",
        "Cmd": [
            "-m", "/models/m.gguf", "--alias", "m", "--host", "0.0.0.0", "--port", "8080", "-c", "4096", "-np", "1",
            "--metrics", "--slot-save-path", "/slots", "--api-key-file", "/run/corral/gate",
        ],
        "Env": ["HOME=/tmp", "LLAMA_ARG_LOG_JSONL=1", "LLAMA_ARG_CORS_ORIGINS=localhost", "LLAMA_API_KEY=k"],
        "ExposedPorts": {"8080/tcp": {}},
        "Labels": {
            "dev.corral.home": "h1",
            "dev.corral.model": "m",
            "dev.corral.config-hash": launch_spec("m").hash().0,
            "dev.corral.version": "1.2.3",
        },
        "HostConfig": {
            "Init": true,
            "Mounts": [
                {"Type": "bind", "Source": "/srv/models", "Target": "/models", "ReadOnly": true},
                {"Type": "bind", "Source": "/cache/slots", "Target": "/slots", "ReadOnly": false},
                {"Type": "bind", "Source": "/run/u/gates/m-1", "Target": "/run/corral/gate", "ReadOnly": true},
            ],
            "PortBindings": {"8080/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]},
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges"],
            "ReadonlyRootfs": true,
            "Tmpfs": {"/tmp": "rw,nosuid,nodev,size=1g"},
            "PidsLimit": 4096,
            "RestartPolicy": {"Name": "no"},
            "LogConfig": {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "2"}},
        },
    })
}

/// `base` with values put in at JSON pointers; the last part of a pointer may be new.
fn with(mut base: Value, changes: Vec<(&str, Value)>) -> Value {
    for (pointer, value) in changes {
        let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
        base.pointer_mut(parent).expect("a parent")[key] = value;
    }
    base
}

#[test]
fn a_model_on_the_cpu() {
    assert_eq!(request(&launch_spec("m"), GpuKind::Unsaid), cpu());
}

#[test]
fn all_nvidia_gpus() {
    let expected = with(
        cpu(),
        vec![
            ("/HostConfig/DeviceRequests", json!([{"Count": -1, "Capabilities": [["gpu"]]}])),
            (
                "/Env",
                json!([
                    "HOME=/tmp",
                    "CUDA_DEVICE_ORDER=PCI_BUS_ID",
                    "LLAMA_ARG_LOG_JSONL=1",
                    "LLAMA_ARG_CORS_ORIGINS=localhost",
                    "LLAMA_API_KEY=k"
                ]),
            ),
        ],
    );
    assert_eq!(request(&launch_spec("m"), GpuKind::Nvidia), expected);
}

#[test]
fn two_nvidia_gpus() {
    let mut spec = launch_spec("m");
    spec.gpu = Gpu::Devices(vec![0, 1]);
    let expected = with(
        cpu(),
        vec![
            ("/HostConfig/DeviceRequests", json!([{"DeviceIDs": ["0", "1"], "Capabilities": [["gpu"]]}])),
            (
                "/Env",
                json!([
                    "HOME=/tmp",
                    "CUDA_DEVICE_ORDER=PCI_BUS_ID",
                    "LLAMA_ARG_LOG_JSONL=1",
                    "LLAMA_ARG_CORS_ORIGINS=localhost",
                    "LLAMA_API_KEY=k"
                ]),
            ),
            ("/Labels/dev.corral.config-hash", json!(spec.hash().0)),
        ],
    );
    assert_eq!(request(&spec, GpuKind::Nvidia), expected);
}

#[test]
fn rocm_and_vulkan() {
    let node = |path: &str| json!({"PathOnHost": path, "PathInContainer": path, "CgroupPermissions": "rw"});
    let groups = ("/HostConfig/GroupAdd", json!(["44"]));
    let rocm = ("/HostConfig/Devices", json!([node("/dev/kfd"), node("/dev/dri")]));
    assert_eq!(request(&launch_spec("m"), GpuKind::Rocm), with(cpu(), vec![groups.clone(), rocm]));
    let vulkan = ("/HostConfig/Devices", json!([node("/dev/dri")]));
    assert_eq!(request(&launch_spec("m"), GpuKind::Render), with(cpu(), vec![groups, vulkan]));
}

#[test]
fn a_file_outside_the_models_folder() {
    let mut spec = launch_spec("m");
    spec.file = PathBuf::from("/big/x.gguf");
    let mut expected = with(
        cpu(),
        vec![
            ("/Labels/dev.corral.config-hash", json!(spec.hash().0)),
            (
                "/HostConfig/Mounts",
                json!([
                    {"Type": "bind", "Source": "/srv/models", "Target": "/models", "ReadOnly": true},
                    {"Type": "bind", "Source": "/big/x.gguf", "Target": "/files/model/x.gguf", "ReadOnly": true},
                    {"Type": "bind", "Source": "/cache/slots", "Target": "/slots", "ReadOnly": false},
                    {"Type": "bind", "Source": "/run/u/gates/m-1", "Target": "/run/corral/gate", "ReadOnly": true},
                ]),
            ),
        ],
    );
    expected["Cmd"][1] = json!("/files/model/x.gguf");
    assert_eq!(request(&spec, GpuKind::Unsaid), expected);
}

#[test]
fn what_only_some_need() {
    let mut spec = launch_spec("m");
    spec.args = vec!["--mlock".to_owned()];
    let mut placement = placement(&spec, GpuKind::Unsaid);
    placement.selinux = true;
    placement.gate = None;
    placement.user = None;
    let request = serde_json::to_value(create_request(&spec, &placement)).expect("plain data");
    assert_eq!(request["HostConfig"]["Ulimits"], json!([{"Name": "memlock", "Soft": -1, "Hard": -1}]));
    assert_eq!(request["HostConfig"]["SecurityOpt"], json!(["no-new-privileges", "label=disable"]));
    assert_eq!(request["Cmd"].as_array().and_then(|cmd| cmd.last()), Some(&json!("--mlock")), "nothing holds it back");
    assert_eq!(request.get("User"), None);
}

#[test]
fn the_user_is_the_least_that_can_read_the_model() {
    let me = (1000, 1001);
    assert_eq!(user(None, false, me, false), Some(me));
    assert_eq!(user(Some("root"), false, me, false), Some(me));
    assert_eq!(user(Some("0:0"), false, me, false), Some(me));
    assert_eq!(user(Some("llama"), false, me, false), None, "the image has a user of its own");
    assert_eq!(user(None, true, me, true), None, "a rootless engine's root is the user");
    assert_eq!(user(None, false, (0, 0), true), Some((65534, 65534)));
    assert_eq!(user(None, false, (0, 0), false), None, "nobody but root can read the model");
}
