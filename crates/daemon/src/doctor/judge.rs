//! What the facts mean.

use std::net::SocketAddr;
use std::path::PathBuf;

use corral_core::{Error, ModelId};
use corral_engine::docker::{DockerFacts, GpuKind, gpu_kind};

use super::{Finding, Status};

/// Where llama.cpp publishes its images; the tag says what they are for.
const REPOSITORY: &str = "ghcr.io/ggml-org/llama.cpp";

/// Everything that was looked at.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    /// The catalog file.
    pub catalog: PathBuf,
    /// It exists; without it the first `corral serve` makes one.
    pub catalog_exists: bool,
    /// Its mistakes.
    pub problems: Vec<Error>,
    /// Number of usable models.
    pub models: usize,
    /// Models whose file is not there.
    pub missing: Vec<(ModelId, PathBuf)>,
    /// The models folder, and whether it can be read.
    pub models_dir: (PathBuf, bool),
    /// The container engine, where the catalog uses it.
    pub docker: Option<Result<DockerFacts, Error>>,
    /// The images that models use, and whether each is here.
    pub images: Vec<(String, bool)>,
    /// The `llama-server` program, where the catalog uses it.
    pub binary: Option<Result<PathBuf, Error>>,
    /// This machine has an NVIDIA GPU with its driver loaded.
    pub nvidia: bool,
    /// This machine has render nodes: an AMD or Intel GPU.
    pub render: bool,
    /// Corral's ports.
    pub ports: Vec<Port>,
    /// The addresses at which a running daemon of this home answers.
    pub daemon: Vec<SocketAddr>,
}

/// One of Corral's ports.
#[derive(Debug, Clone)]
pub(super) struct Port {
    pub name: &'static str,
    pub address: SocketAddr,
    pub free: bool,
}

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    catalog(facts, &mut findings);
    files(facts, &mut findings);
    engine(facts, &mut findings);
    gpu(facts, &mut findings);
    ports(facts, &mut findings);
    findings
}

fn ok(check: &str, message: impl Into<String>) -> Finding {
    Finding { check: check.to_owned(), status: Status::Ok, message: message.into(), remedy: None }
}

fn bad(check: &str, status: Status, message: impl Into<String>, remedy: impl Into<String>) -> Finding {
    Finding { check: check.to_owned(), status, message: message.into(), remedy: Some(remedy.into()) }
}

fn from_error(check: &str, error: &Error) -> Finding {
    let body = error.body();
    Finding { check: check.to_owned(), status: Status::Problem, message: body.message, remedy: body.hint }
}

fn catalog(facts: &Facts, findings: &mut Vec<Finding>) {
    let path = facts.catalog.display();
    if !facts.catalog_exists {
        let message = format!("there is no {path} yet; `corral serve` makes one with examples");
        findings.push(bad("catalog", Status::Warning, message, "corral serve"));
        return;
    }
    findings.extend(facts.problems.iter().map(|problem| from_error("catalog", problem)));
    match facts.models {
        0 if facts.problems.is_empty() => {
            let remedy = format!("${{EDITOR:-nano}} {path}");
            findings.push(bad("catalog", Status::Problem, format!("{path} names no models"), remedy));
        }
        0 => {}
        count => findings.push(ok("catalog", format!("{path}: {}", counted(count, "model")))),
    }
}

fn files(facts: &Facts, findings: &mut Vec<Finding>) {
    let (folder, readable) = &facts.models_dir;
    if !readable {
        let message = format!("the models folder {} cannot be read", folder.display());
        findings.push(bad("models", Status::Warning, message, format!("mkdir -p {}", folder.display())));
    }
    if facts.missing.is_empty() {
        if *readable && facts.models > 0 {
            findings.push(ok("models", format!("the files of all models are there, in {}", folder.display())));
        }
        return;
    }
    // One usable model is enough to begin with.
    let status = if facts.missing.len() == facts.models { Status::Problem } else { Status::Warning };
    for (model, file) in facts.missing.iter().take(5) {
        let message = format!("the file of `{model}` is not there: {}", file.display());
        let remedy = format!("put it there, or mend `file` in {}", facts.catalog.display());
        findings.push(bad("models", status, message, remedy));
    }
    if facts.missing.len() > 5 {
        let message = format!("and {} more files are not there", facts.missing.len() - 5);
        findings.push(bad("models", status, message, "corral check"));
    }
}

fn engine(facts: &Facts, findings: &mut Vec<Finding>) {
    match &facts.docker {
        None => {}
        Some(Err(error)) => findings.push(from_error("engine", error)),
        Some(Ok(docker)) => {
            let rootless = if docker.rootless { ", rootless" } else { "" };
            let message = format!("Docker {} answers at {}{rootless}", docker.version, docker.endpoint);
            findings.push(ok("engine", message));
            for (image, present) in &facts.images {
                findings.push(if *present {
                    ok("image", format!("{image} is here"))
                } else {
                    let message = format!("{image} is not here; the first start pulls it, some gigabytes");
                    bad("image", Status::Warning, message, format!("docker pull {image}"))
                });
            }
        }
    }
    match &facts.binary {
        None => {}
        Some(Ok(path)) => findings.push(ok("engine", format!("llama-server is {}", path.display()))),
        Some(Err(error)) => findings.push(from_error("engine", error)),
    }
}

fn gpu(facts: &Facts, findings: &mut Vec<Finding>) {
    let kinds: Vec<GpuKind> = facts.images.iter().map(|(image, _)| gpu_kind(image)).collect();
    let cuda = kinds.contains(&GpuKind::Nvidia);
    let render = kinds.iter().any(|kind| matches!(kind, GpuKind::Rocm | GpuKind::Render));
    // The line as it is to stand there, below where it belongs.
    let edit = |tag: &str| {
        let path = facts.catalog.display();
        format!("in {path}, under [engine], or at the model that has its own:\nimage = \"{REPOSITORY}:{tag}\"")
    };
    if cuda && !facts.nvidia {
        let message = "the image is for NVIDIA GPUs, and this machine has none, or its driver is not loaded; \
                       `server` runs on every CPU";
        findings.push(bad("gpu", Status::Problem, message, edit("server")));
    } else if cuda {
        match &facts.docker {
            Some(Ok(docker)) if !docker.nvidia_runtime => {
                let remedy = "sudo apt-get install nvidia-container-toolkit && \
                              sudo nvidia-ctk runtime configure --runtime=docker && sudo systemctl restart docker";
                findings.push(bad("gpu", Status::Problem, "Docker cannot hand the NVIDIA GPU to a container", remedy));
            }
            Some(Ok(_)) => findings.push(ok("gpu", "Docker hands the NVIDIA GPU to containers")),
            _ => {}
        }
    }
    if render && !facts.render {
        let message = "the image is for AMD or Intel GPUs, and this machine has no /dev/dri/renderD*; \
                       `server` runs on every CPU";
        findings.push(bad("gpu", Status::Problem, message, edit("server")));
    } else if render {
        findings.push(ok("gpu", "the GPU's render node is there"));
    }
    if !cuda && !render && !facts.images.is_empty() && (facts.nvidia || facts.render) {
        let message = "this machine has a GPU, and the image runs on the CPU alone";
        let tag = if facts.nvidia { "server-cuda13" } else { "server-vulkan" };
        findings.push(bad("gpu", Status::Warning, message, edit(tag)));
    }
}

fn ports(facts: &Facts, findings: &mut Vec<Finding>) {
    for Port { name, address, free } in &facts.ports {
        if facts.daemon.contains(address) {
            findings.push(ok("ports", format!("Corral answers on its {name} port, {address}")));
        } else if *free {
            findings.push(ok("ports", format!("the {name} port {address} is free")));
        } else {
            let message = format!("another program has the {name} port {address}");
            let remedy = format!("ss -ltnp 'sport = :{}'", address.port());
            findings.push(bad("ports", Status::Problem, message, remedy));
        }
    }
}

fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

#[cfg(test)]
mod tests {
    use corral_core::Code;

    use super::*;

    fn docker(nvidia_runtime: bool) -> DockerFacts {
        DockerFacts {
            endpoint: "unix:///var/run/docker.sock".into(),
            version: "28.0".into(),
            api_version: "1.48".into(),
            rootless: false,
            nvidia_runtime,
        }
    }

    fn good() -> Facts {
        Facts {
            catalog: "/c/models.toml".into(),
            catalog_exists: true,
            problems: vec![],
            models: 2,
            missing: vec![],
            models_dir: ("/m".into(), true),
            docker: Some(Ok(docker(true))),
            images: vec![("llama.cpp:server-cuda13".into(), true)],
            binary: None,
            nvidia: true,
            render: false,
            ports: vec![Port { name: "management", address: ([127, 0, 0, 1], 8081).into(), free: true }],
            daemon: Vec::new(),
        }
    }

    /// What is not well, as `check: remedy`.
    fn complaints(facts: &Facts) -> Vec<String> {
        let bad = judge(facts).into_iter().filter(|finding| finding.status != Status::Ok);
        bad.map(|finding| format!("{}: {}", finding.check, finding.remedy.unwrap_or_default())).collect()
    }

    #[test]
    fn a_machine_that_is_well_has_no_complaints() {
        assert_eq!(complaints(&good()), Vec::<String>::new());
        assert_eq!(judge(&good()).len(), 6, "and says so for each check");
    }

    #[test]
    fn each_thing_that_is_wrong_names_what_mends_it() {
        let unreachable = Error::new(Code::EngineUnavailable, "no answer").hint("sudo systemctl start docker");
        let cpu = || vec![("llama.cpp:server".to_owned(), true)];
        let image = |tag: &str| {
            let place = "in /c/models.toml, under [engine], or at the model that has its own:";
            format!("gpu: {place}\nimage = \"ghcr.io/ggml-org/llama.cpp:{tag}\"")
        };
        let [server, cuda, vulkan] = ["server", "server-cuda13", "server-vulkan"].map(image);
        let cases: [(Facts, &str); 11] = [
            (Facts { docker: Some(Err(unreachable)), ..good() }, "engine: sudo systemctl start docker"),
            (Facts { images: vec![("x:server-cuda13".into(), false)], ..good() }, "image: docker pull x:server-cuda13"),
            (Facts { docker: Some(Ok(docker(false))), ..good() }, "gpu: sudo apt-get install nvidia-container-toolkit"),
            (Facts { nvidia: false, ..good() }, &server),
            (Facts { images: cpu(), ..good() }, &cuda),
            (Facts { images: cpu(), nvidia: false, render: true, ..good() }, &vulkan),
            (Facts { images: vec![("x:server-rocm".into(), true)], ..good() }, &server),
            (Facts { models_dir: ("/m".into(), false), ..good() }, "models: mkdir -p /m"),
            (
                Facts { missing: vec![(ModelId::new("a").unwrap(), "/m/a.gguf".into())], ..good() },
                "models: put it there, or mend `file` in /c/models.toml",
            ),
            (Facts { catalog_exists: false, ..good() }, "catalog: corral serve"),
            (
                Facts {
                    ports: vec![Port { name: "gateway", address: ([127, 0, 0, 1], 8080).into(), free: false }],
                    ..good()
                },
                "ports: ss -ltnp 'sport = :8080'",
            ),
        ];
        for (facts, expected) in cases {
            let complaints = complaints(&facts);
            assert!(complaints.iter().any(|said| said.starts_with(expected)), "{expected}: {complaints:?}");
        }
    }

    #[test]
    fn a_port_that_corral_itself_has_is_well() {
        let address: SocketAddr = ([127, 0, 0, 1], 8081).into();
        let ports = vec![Port { name: "management", address, free: false }];
        assert_eq!(complaints(&Facts { ports, daemon: vec![address], ..good() }), Vec::<String>::new());
    }

    #[test]
    fn one_missing_file_of_several_is_no_problem_but_all_are() {
        let missing = |ids: &[&str]| -> Vec<(ModelId, PathBuf)> {
            ids.iter().map(|id| (ModelId::new(*id).unwrap(), PathBuf::from(format!("/m/{id}.gguf")))).collect()
        };
        let worst = |facts: &Facts| judge(facts).iter().any(|finding| finding.status == Status::Problem);
        assert!(!worst(&Facts { missing: missing(&["a"]), ..good() }));
        assert!(worst(&Facts { missing: missing(&["a", "b"]), ..good() }));
    }
}
