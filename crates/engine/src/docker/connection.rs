//! The connection to the engine: made when it is first needed, and what its failures mean.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use bollard::{API_DEFAULT_VERSION, Docker};
use corral_core::{Code, Error, Result};

use super::endpoint::{self, Endpoint, Host, LocalFiles};
use crate::environment::Environment;

/// How long the engine may take to begin an answer, in seconds. Starting a container with a GPU can take some.
const TIMEOUT: u64 = 120;

/// The hint for a failure that only Docker itself can explain.
const ASK_DOCKER: &str = "Docker's own log says more: `journalctl -u docker -e`";

/// What is asked of an engine once.
#[expect(clippy::struct_excessive_bools, reason = "independent facts, not a state")]
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct EngineFacts {
    /// Its version.
    pub version: String,
    /// It runs as an ordinary user: root inside a container is that user.
    pub rootless: bool,
    /// It labels processes and files for `SELinux`.
    pub selinux: bool,
    /// It shares this machine's kernel, so that named pipes reach from here into a container.
    pub same_kernel: bool,
    /// It can hand NVIDIA GPUs to containers.
    pub nvidia: bool,
}

/// An engine that answered.
#[derive(Debug, Clone)]
pub(super) struct Connected {
    /// The client: each request makes a connection of its own.
    pub docker: Docker,
    /// What the engine is.
    pub facts: Arc<EngineFacts>,
    /// Where it is.
    pub endpoint: Arc<Endpoint>,
}

/// An engine that may be absent and may come back.
#[derive(Debug)]
pub(super) struct Connection {
    env: Environment,
    connected: Mutex<Option<Connected>>,
}

impl Connection {
    /// Connects to nothing yet.
    pub(super) fn new(env: Environment) -> Self {
        Self { env, connected: Mutex::new(None) }
    }

    /// The engine, as it last answered; asks it when it has not answered yet.
    pub(super) async fn get(&self) -> Result<Connected> {
        if let Some(connected) = self.connected.lock().unwrap_or_else(PoisonError::into_inner).clone() {
            return Ok(connected);
        }
        let connected = self.connect().await?;
        *self.connected.lock().unwrap_or_else(PoisonError::into_inner) = Some(connected.clone());
        Ok(connected)
    }

    /// Forgets the engine: the next one to ask looks again where it is and what it can do.
    pub(super) fn forget(&self) {
        *self.connected.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    async fn connect(&self) -> Result<Connected> {
        let endpoint = endpoint::resolve(&self.env, &LocalFiles)?;
        let docker = match &endpoint.host {
            Host::Unix(path) => Docker::connect_with_unix(&path.to_string_lossy(), TIMEOUT, API_DEFAULT_VERSION),
            Host::Tcp(address) => Docker::connect_with_http(address, TIMEOUT, API_DEFAULT_VERSION),
        };
        let docker = docker.map_err(|error| unavailable(&endpoint, &error))?;
        let info = docker.info().await.map_err(|error| unavailable(&endpoint, &error))?;
        let options = info.security_options.unwrap_or_default();
        let has = |word: &str| options.iter().any(|option| option.contains(word));
        let facts = EngineFacts {
            version: info.server_version.unwrap_or_default(),
            rootless: has("name=rootless"),
            selinux: has("name=selinux"),
            // Docker Desktop runs its containers in a virtual machine, which under WSL has the same kernel.
            same_kernel: matches!(endpoint.host, Host::Unix(_))
                && info.operating_system.as_deref() != Some("Docker Desktop")
                && info.kernel_version.as_deref() == Some(&*rustix::system::uname().release().to_string_lossy()),
            nvidia: info.runtimes.unwrap_or_default().contains_key("nvidia")
                || info
                    .discovered_devices
                    .unwrap_or_default()
                    .iter()
                    .any(|device| device.id.as_deref().is_some_and(|id| id.starts_with("nvidia.com/gpu"))),
        };
        Ok(Connected { docker, facts: Arc::new(facts), endpoint: Arc::new(endpoint) })
    }
}

impl Connected {
    /// What went wrong when the engine was asked to do `what`, for instance "cannot create a container".
    pub(super) fn error(&self, what: &str, error: &bollard::errors::Error) -> Error {
        match error {
            bollard::errors::Error::DockerResponseServerError { status_code, message } => {
                refused(what, *status_code, message)
            }
            bollard::errors::Error::DockerStreamError { error } => refused(what, 500, error),
            other if is_connection(other) => unavailable(&self.endpoint, other),
            other => Error::new(Code::EngineFailed, format!("Docker {what}: {other}")).hint(ASK_DOCKER),
        }
    }

    /// The error for an engine that answered and then no more; `what` says how that was noticed.
    pub(super) fn silent(&self, what: &str) -> Error {
        Error::new(Code::EngineUnavailable, format!("the Docker engine at {} {what}", self.endpoint))
            .hint(start_hint(&self.endpoint))
    }
}

/// Whether the engine did not answer at all, as opposed to refusing.
pub(super) fn is_connection(error: &bollard::errors::Error) -> bool {
    use bollard::errors::Error as E;
    matches!(
        error,
        E::RequestTimeoutError
            | E::IOError { .. }
            | E::HyperResponseError { .. }
            | E::HyperLegacyError { .. }
            | E::SocketNotFoundError(_)
    )
}

/// The HTTP status with which the engine refused.
pub(super) fn status(error: &bollard::errors::Error) -> Option<u16> {
    match error {
        bollard::errors::Error::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

/// The error for an engine that does not answer.
pub(super) fn unavailable(endpoint: &Endpoint, error: &bollard::errors::Error) -> Error {
    let missing = matches!(error, bollard::errors::Error::SocketNotFoundError(_));
    let io = io_kind(error);
    let (why, hint) = match (&endpoint.host, io) {
        (Host::Unix(_), Some(io::ErrorKind::PermissionDenied)) => (
            "this user may not use it".to_owned(),
            "add yourself to its group and log in again: `sudo usermod -aG docker $USER`".to_owned(),
        ),
        (Host::Unix(_), _) if missing || io == Some(io::ErrorKind::NotFound) => {
            ("there is no such socket".to_owned(), start_hint(endpoint))
        }
        (Host::Unix(_), Some(io::ErrorKind::ConnectionRefused)) => {
            ("nothing listens there".to_owned(), start_hint(endpoint))
        }
        _ => (deepest(error), start_hint(endpoint)),
    };
    Error::new(Code::EngineUnavailable, format!("the Docker engine at {endpoint} does not answer: {why}")).hint(hint)
}

fn start_hint(endpoint: &Endpoint) -> String {
    match &endpoint.host {
        Host::Unix(socket) if socket.starts_with("/run/user") || socket.starts_with("/home") => {
            "start it: `systemctl --user start docker`".to_owned()
        }
        Host::Unix(_) => "start it: `sudo systemctl start docker`".to_owned(),
        Host::Tcp(_) => format!("see whether the engine that {} names runs", endpoint.source),
    }
}

fn io_kind(error: &(dyn std::error::Error + 'static)) -> Option<io::ErrorKind> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return Some(io.kind());
        }
        next = error.source();
    }
    None
}

fn deepest(error: &(dyn std::error::Error + 'static)) -> String {
    let mut last = error;
    while let Some(next) = last.source() {
        last = next;
    }
    last.to_string()
}

/// The error for an engine that answered with a refusal.
fn refused(what: &str, status: u16, message: &str) -> Error {
    let message = message.trim();
    let lower = message.to_ascii_lowercase();
    let any = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    if any(&[
        "could not select device driver",
        "nvidia-container",
        "libnvidia-ml",
        "nvml error",
        "cdi device injection",
    ]) {
        Error::new(Code::GpuRuntimeMissing, format!("Docker cannot hand the GPU to a container: {message}")).hint(
            "install nvidia-container-toolkit, then `sudo nvidia-ctk runtime configure --runtime=docker && sudo \
             systemctl restart docker`; or set `gpu = \"none\"`",
        )
    } else if any(&["port is already allocated", "address already in use"]) {
        Error::new(Code::PortTaken, format!("Docker {what}: {message}"))
            .hint("try again: every start takes another free port; `ss -tlnp` shows which program has this one")
    } else if any(&["error gathering device information"]) {
        Error::new(Code::GpuRuntimeMissing, format!("Docker {what}: {message}"))
            .hint("see whether the GPU's driver is loaded: `ls -l /dev/dri /dev/kfd`")
    } else if any(&["no space left on device"]) {
        Error::new(Code::EngineFailed, format!("Docker {what}: {message}")).hint("make room: `docker system df`")
    } else {
        Error::new(Code::EngineFailed, format!("Docker {what}: {message} (status {status})")).hint(ASK_DOCKER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_have_causes() {
        let table = [
            (
                "could not select device driver \"\" with capabilities: [[gpu]]",
                Code::GpuRuntimeMissing,
                "Docker cannot hand the GPU to a container: could not select device driver \"\" with \
                 capabilities: [[gpu]]",
            ),
            (
                "failed to create shim: OCI runtime create failed: nvidia-container-cli: initialization error",
                Code::GpuRuntimeMissing,
                "Docker cannot hand the GPU to a container: failed to create shim: OCI runtime create failed: \
                 nvidia-container-cli: initialization error",
            ),
            (
                "driver failed programming external connectivity: Bind for 127.0.0.1:80 failed: port is already \
                 allocated\n",
                Code::PortTaken,
                "Docker cannot start: driver failed programming external connectivity: Bind for 127.0.0.1:80 failed: \
                 port is already allocated",
            ),
            (
                "error gathering device information while adding custom device \"/dev/kfd\": no such file",
                Code::GpuRuntimeMissing,
                "Docker cannot start: error gathering device information while adding custom device \"/dev/kfd\": no \
                 such file",
            ),
            (
                "write /var/lib/docker/x: no space left on device",
                Code::EngineFailed,
                "Docker cannot start: write /var/lib/docker/x: no space left on device",
            ),
            ("conflict", Code::EngineFailed, "Docker cannot start: conflict (status 409)"),
        ];
        for (message, code, told) in table {
            let error = refused("cannot start", 409, message);
            assert_eq!((error.code(), error.to_string()), (code, told.to_owned()));
            assert!(error.body().hint.is_some(), "{error}");
        }
    }

    #[test]
    fn every_failure_has_a_hint() {
        use bollard::errors::Error as E;
        for host in [Host::Unix("/run/user/7/docker.sock".into()), Host::Tcp("127.0.0.1:2375".to_owned())] {
            let endpoint = Arc::new(Endpoint { host, source: "the default".to_owned() });
            let docker = Docker::connect_with_http("127.0.0.1:1", TIMEOUT, API_DEFAULT_VERSION).expect("a client");
            let connected = Connected { docker, facts: Arc::default(), endpoint };
            let table = [
                (connected.silent("went away"), Code::EngineUnavailable),
                (connected.error("cannot start", &E::RequestTimeoutError), Code::EngineUnavailable),
                (connected.error("cannot start", &io::Error::other("odd").into()), Code::EngineUnavailable),
                (connected.error("cannot start", &E::DockerStreamError { error: "odd".into() }), Code::EngineFailed),
                (connected.error("cannot start", &E::APIVersionParseError {}), Code::EngineFailed),
            ];
            for (error, code) in table {
                assert_eq!(error.code(), code, "{error}");
                assert!(error.body().hint.is_some_and(|hint| !hint.is_empty()), "{error}");
            }
        }
    }

    #[tokio::test]
    async fn an_absent_engine_is_named_with_its_reason() {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("docker.sock");
        let host = format!("unix://{}", socket.display());
        let connection = Connection::new([("DOCKER_HOST", host.as_str())].into_iter().collect());
        let missing = connection.get().await.expect_err("no socket");
        assert_eq!(missing.code(), Code::EngineUnavailable);
        assert_eq!(
            missing.to_string(),
            format!("the Docker engine at {host} (DOCKER_HOST) does not answer: there is no such socket")
        );
        drop(std::os::unix::net::UnixListener::bind(&socket).expect("a socket"));
        let refused = connection.get().await.expect_err("nobody listens");
        assert!(refused.to_string().ends_with("does not answer: nothing listens there"), "{refused}");
        assert_eq!(refused.body().hint.as_deref(), Some("start it: `sudo systemctl start docker`"));
    }
}
