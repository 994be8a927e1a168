//! What the container around a model may do, as Docker tells it and as it shows from inside.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "test code: a panic is how it fails")]

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use corral_tests::api::instance;
use corral_tests::{Daemon, Inference, Models};
use serde_json::{Value, json};

#[test]
fn a_model_is_locked_in() {
    let daemon = Daemon::start(Models::docker().tiny(&["a"]).home());
    let status = daemon.api().switched("a");
    let (id, docker) = (instance(&status), daemon.docker());
    let seen = docker.inspect(&id).expect("the container");
    let host = &seen["HostConfig"];

    told_by_docker(&seen);
    published_on_loopback_only(&seen);

    // The same by its effects. Each thing that fails stands beside one that works, so that it fails for its reason.
    let shell = |command: &str| docker.shell(&id, command);
    let (works, user) = shell("id -u");
    assert!(works && user != "0", "it runs as an ordinary user, not as {user}");
    for folder in ["/", "/usr/bin", "/etc", "/models"] {
        let (written, told) = shell(&format!("touch {folder}/x"));
        assert!(!written && told.contains("Read-only"), "{folder} is read-only: {told}");
    }
    assert!(shell("test -r /models/a.gguf || ls -R /models | grep -q gguf").0, "the model can be read");
    let status_of_1 = shell("cat /proc/1/status").1;
    let field = |name: &str| status_of_1.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim();
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        assert_eq!(field(set), "0000000000000000", "{set} in\n{status_of_1}");
    }
    assert_eq!((field("NoNewPrivs:"), field("Seccomp:")), ("1", "2"), "{status_of_1}");

    // The kernel's own word, under either version of its control groups.
    let (_, limit) = shell("cat /sys/fs/cgroup/pids.max /sys/fs/cgroup/pids/pids.max 2>/dev/null");
    assert_eq!(limit, host["PidsLimit"].to_string(), "the number of its processes is limited");
    for program in ["chroot /", "mount -t tmpfs none /tmp", "chown 1 /tmp", "kill -0 1"] {
        let (done, told) = shell(program);
        assert!(!done || program == "kill -0 1", "{program} is refused: {told}");
    }
    Inference::of(&status).assert_answers("a");
}

fn told_by_docker(seen: &Value) {
    let host = &seen["HostConfig"];
    assert_eq!(host["CapDrop"], json!(["ALL"]), "{host:#}");
    assert!(host["CapAdd"].as_array().is_none_or(Vec::is_empty), "{host:#}");
    assert!(host["SecurityOpt"].to_string().contains("no-new-privileges"), "{host:#}");
    assert!(!host["SecurityOpt"].to_string().contains("unconfined"), "{host:#}");
    assert_eq!((&host["ReadonlyRootfs"], &host["Privileged"]), (&json!(true), &json!(false)), "{host:#}");
    assert!(host["PidsLimit"].as_u64().is_some_and(|limit| (1..=4096).contains(&limit)), "{host:#}");
    assert_eq!(host["Init"], true, "{host:#}");
    assert_eq!(host["RestartPolicy"]["Name"].as_str().unwrap_or("no"), "no", "Corral alone starts it: {host:#}");
    for shared in ["NetworkMode", "PidMode", "IpcMode", "UTSMode", "UsernsMode"] {
        assert_ne!(host[shared], "host", "{shared}");
    }
    assert!(!matches!(seen["Config"]["User"].as_str(), None | Some("" | "0" | "root" | "0:0")), "{:#}", seen["Config"]);

    let mounts = seen["Mounts"].as_array().expect("mounts");
    assert!(mounts.iter().all(|mount| !mount["Source"].as_str().unwrap_or_default().contains("docker.sock")));
    let models: Vec<_> = mounts.iter().filter(|mount| mount["Source"].to_string().contains("/data/models")).collect();
    assert!(!models.is_empty() && models.iter().all(|mount| mount["RW"] == false), "{mounts:#?}");

    // The key is in the environment, which other users cannot read, and in nothing that `ps` or a label shows.
    let config = &seen["Config"];
    let env: Vec<_> = config["Env"].as_array().expect("variables").iter().filter_map(Value::as_str).collect();
    let key = env.iter().find_map(|variable| variable.strip_prefix("LLAMA_API_KEY=")).expect("a key");
    assert!(key.len() >= 32, "it cannot be guessed");
    for open in ["Cmd", "Entrypoint", "Labels", "Healthcheck"] {
        assert!(!config[open].to_string().contains(key), "{open} holds the key");
    }
    assert!(!seen["Args"].to_string().contains(key));
}

fn published_on_loopback_only(seen: &Value) {
    let ports = seen["NetworkSettings"]["Ports"].as_object().expect("ports");
    let published: Vec<_> = ports.values().filter_map(Value::as_array).flatten().collect();
    assert_eq!(published.len(), 1, "{ports:#?}");
    assert_eq!(published[0]["HostIp"], "127.0.0.1", "{ports:#?}");
    let port: u16 = published[0]["HostPort"].as_str().and_then(|port| port.parse().ok()).expect("a port");
    let connect =
        |address: Ipv4Addr| TcpStream::connect_timeout(&SocketAddr::from((address, port)), Duration::from_secs(2));
    connect(Ipv4Addr::LOCALHOST).expect("it answers on the loopback");
    for address in own_addresses() {
        assert!(connect(address).is_err(), "it answers on {address}, where others can reach it");
    }
}

/// This machine's addresses that are not of the loopback.
fn own_addresses() -> Vec<Ipv4Addr> {
    let local = std::fs::read_to_string("/proc/net/fib_trie").expect("the kernel's table of addresses");
    let mut last = None;
    let mut addresses = Vec::new();
    for line in local.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            last = address.parse::<Ipv4Addr>().ok();
        } else if line.starts_with("/32 host LOCAL") {
            addresses.extend(last.filter(|address| !address.is_loopback() && !addresses.contains(address)));
        }
    }
    addresses
}
