//! Which Docker engine is meant, by the rules of the `docker` command.

use std::fmt;
use std::path::{Path, PathBuf};

use corral_core::{Code, Error, Result};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::environment::Environment;

/// Where an engine listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Host {
    /// A Unix socket.
    Unix(PathBuf),
    /// Plain TCP: an address and a port.
    Tcp(String),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp://{address}"),
        }
    }
}

/// An engine's address, and where it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// The address.
    pub host: Host,
    /// Who says so, for instance `DOCKER_HOST`.
    pub source: String,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.host, self.source)
    }
}

/// The files that the choice depends on.
pub(super) trait Files {
    /// The text of a file; none where it cannot be read.
    fn read(&self, path: &Path) -> Option<String>;
    /// Whether a socket is there that this user may use.
    fn usable(&self, socket: &Path) -> bool;
}

/// The files of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct LocalFiles;

impl Files for LocalFiles {
    fn read(&self, path: &Path) -> Option<String> {
        std::fs::read_to_string(path).ok()
    }

    fn usable(&self, socket: &Path) -> bool {
        use rustix::fs::Access;
        rustix::fs::access(socket, Access::READ_OK | Access::WRITE_OK).is_ok()
    }
}

/// Chooses the engine: `DOCKER_HOST`, else the context that `DOCKER_CONTEXT` or the configuration names, else the
/// socket of the system's engine, or of the user's own where that is the one that can be used.
pub(super) fn resolve(env: &Environment, files: &impl Files) -> Result<Endpoint> {
    if let Some(host) = env.get("DOCKER_HOST") {
        // Any value turns it on, as for the `docker` command.
        let tls = ["DOCKER_TLS_VERIFY", "DOCKER_TLS"].iter().any(|name| env.get(name).is_some());
        return parse(host, "DOCKER_HOST", tls);
    }
    let config = env.get("DOCKER_CONFIG").map(PathBuf::from);
    let config = config.or_else(|| env.get("HOME").map(|home| Path::new(home).join(".docker")));
    let (context, source) = match (env.get("DOCKER_CONTEXT"), &config) {
        (Some(name), _) => (Some(name.to_owned()), "DOCKER_CONTEXT".to_owned()),
        (None, Some(config)) => {
            let path = config.join("config.json");
            (current_context(files, &path), path.display().to_string())
        }
        (None, None) => (None, String::new()),
    };
    match (context.filter(|name| name != "default"), config) {
        (Some(name), Some(config)) => of_context(files, &config, &name, &source),
        _ => Ok(default(env, files)),
    }
}

fn default(env: &Environment, files: &impl Files) -> Endpoint {
    let system = PathBuf::from("/var/run/docker.sock");
    let own = env.get("XDG_RUNTIME_DIR").map(|folder| Path::new(folder).join("docker.sock"));
    match own {
        Some(own) if !files.usable(&system) && files.usable(&own) => {
            Endpoint { host: Host::Unix(own), source: "the user's own engine".to_owned() }
        }
        _ => Endpoint { host: Host::Unix(system), source: "the default".to_owned() },
    }
}

#[derive(Deserialize)]
struct ConfigFile {
    #[serde(rename = "currentContext")]
    current_context: Option<String>,
}

fn current_context(files: &impl Files, path: &Path) -> Option<String> {
    // A configuration that cannot be read names no context; `docker` warns of it.
    serde_json::from_str::<ConfigFile>(&files.read(path)?).ok()?.current_context.filter(|name| !name.is_empty())
}

#[derive(Deserialize)]
struct ContextFile {
    #[serde(rename = "Endpoints")]
    endpoints: ContextEndpoints,
}

#[derive(Deserialize)]
struct ContextEndpoints {
    docker: Option<ContextEndpoint>,
}

#[derive(Deserialize)]
struct ContextEndpoint {
    #[serde(rename = "Host")]
    host: Option<String>,
    #[serde(rename = "SkipTLSVerify", default)]
    skip_tls_verify: bool,
}

fn of_context(files: &impl Files, config: &Path, name: &str, source: &str) -> Result<Endpoint> {
    let digest = Sha256::digest(name).iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
    let path = config.join("contexts/meta").join(&digest).join("meta.json");
    let broken = |what: &str| {
        let message = format!("the Docker context `{name}`, which {source} names, {what} ({})", path.display());
        Error::new(Code::EngineUnavailable, message).hint("`docker context ls` shows the contexts there are")
    };
    let text = files.read(&path).ok_or_else(|| broken("does not exist"))?;
    let file: ContextFile = serde_json::from_str(&text).map_err(|error| broken("cannot be read").because(error))?;
    let endpoint = file.endpoints.docker.ok_or_else(|| broken("names no engine"))?;
    let host = endpoint.host.filter(|host| !host.is_empty()).ok_or_else(|| broken("names no engine"))?;
    let keys = config.join("contexts/tls").join(digest).join("docker");
    let has_keys = ["ca.pem", "cert.pem", "key.pem"].iter().any(|file| files.read(&keys.join(file)).is_some());
    parse(&host, &format!("the Docker context `{name}`"), endpoint.skip_tls_verify || has_keys)
}

/// Reads an address; `tls` where an engine that is reached over a network is to be spoken to in TLS.
fn parse(text: &str, source: &str, tls: bool) -> Result<Endpoint> {
    let host = match text.split_once("://") {
        Some((scheme, _)) if scheme == "https" || tls && matches!(scheme, "tcp" | "http") => {
            let message = format!("the Docker engine at {text} ({source}) asks for TLS, which Corral does not speak");
            return Err(Error::new(Code::EngineUnavailable, message).hint(
                "use the Unix socket of this machine's engine, as `docker context use default` and no DOCKER_HOST do, \
                 or an address that needs no TLS",
            ));
        }
        Some(("unix", path)) => Host::Unix(PathBuf::from(path)),
        Some(("tcp" | "http", address)) => Host::Tcp(address.trim_end_matches('/').to_owned()),
        None if text.starts_with('/') => Host::Unix(PathBuf::from(text)),
        _ => {
            let message = format!("the Docker engine at {text} ({source}) cannot be used: only unix:// and tcp:// can");
            return Err(Error::new(Code::EngineUnavailable, message).hint(
                "models and their files are on this machine, so its engine must be as well: unset DOCKER_HOST, \
                       or `docker context use default`",
            ));
        }
    };
    Ok(Endpoint { host, source: source.to_owned() })
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[derive(Default)]
    struct Fake {
        texts: HashMap<PathBuf, String>,
        sockets: Vec<&'static str>,
    }

    impl Fake {
        fn text(mut self, path: &str, text: &str) -> Self {
            self.texts.insert(PathBuf::from(path), text.to_owned());
            self
        }

        fn socket(mut self, path: &'static str) -> Self {
            self.sockets.push(path);
            self
        }
    }

    impl Files for Fake {
        fn read(&self, path: &Path) -> Option<String> {
            self.texts.get(path).cloned()
        }

        fn usable(&self, socket: &Path) -> bool {
            self.sockets.iter().any(|known| Path::new(known) == socket)
        }
    }

    fn meta(name: &str) -> String {
        let digest = Sha256::digest(name).iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
        format!("contexts/meta/{digest}/meta.json")
    }

    fn told(env: &[(&str, &str)], files: &Fake) -> String {
        match resolve(&env.iter().copied().collect(), files) {
            Ok(endpoint) => endpoint.to_string(),
            Err(error) => {
                assert!(error.body().hint.is_some(), "{error}");
                format!("{}: {error}", error.code().as_str())
            }
        }
    }

    #[test]
    fn the_rules_of_the_docker_command_hold() {
        let context = r#"{"Name":"r","Endpoints":{"docker":{"Host":"unix:///run/user/7/docker.sock"}}}"#;
        let files = Fake::default()
            .socket("/var/run/docker.sock")
            .socket("/run/user/7/docker.sock")
            .text("/home/u/.docker/config.json", r#"{"auths":{},"currentContext":"r"}"#)
            .text(&format!("/home/u/.docker/{}", meta("r")), context)
            .text("/other/config.json", r#"{"currentContext":""}"#)
            .text(&format!("/other/{}", meta("empty")), r#"{"Endpoints":{}}"#);
        let home = ("HOME", "/home/u");
        let runtime = ("XDG_RUNTIME_DIR", "/run/user/7");
        let table: [(&[(&str, &str)], &str); 11] = [
            (&[], "unix:///var/run/docker.sock (the default)"),
            (&[home], "unix:///run/user/7/docker.sock (the Docker context `r`)"),
            (&[home, ("DOCKER_CONTEXT", "default")], "unix:///var/run/docker.sock (the default)"),
            (&[home, ("DOCKER_HOST", "tcp://127.0.0.1:2375/")], "tcp://127.0.0.1:2375 (DOCKER_HOST)"),
            (&[("DOCKER_HOST", "unix:///x.sock"), ("DOCKER_CONTEXT", "r")], "unix:///x.sock (DOCKER_HOST)"),
            (&[("DOCKER_HOST", "/x.sock")], "unix:///x.sock (DOCKER_HOST)"),
            (&[home, ("DOCKER_CONFIG", "/other")], "unix:///var/run/docker.sock (the default)"),
            (&[runtime], "unix:///var/run/docker.sock (the default)"),
            (
                &[("DOCKER_HOST", "ssh://me@there")],
                "engine_unavailable: the Docker engine at ssh://me@there (DOCKER_HOST) cannot be used: only unix:// \
                 and tcp:// can",
            ),
            (
                &[home, ("DOCKER_CONTEXT", "gone")],
                "engine_unavailable: the Docker context `gone`, which DOCKER_CONTEXT names, does not exist \
                 (/home/u/.docker/contexts/meta/",
            ),
            (
                &[("DOCKER_CONFIG", "/other"), ("DOCKER_CONTEXT", "empty")],
                "engine_unavailable: the Docker context `empty`, which DOCKER_CONTEXT names, names no engine (/other/",
            ),
        ];
        for (env, expected) in table {
            assert!(told(env, &files).starts_with(expected), "{env:?}: {}", told(env, &files));
        }
    }

    #[test]
    fn an_engine_behind_tls_is_refused() {
        let context = |endpoint: &str| format!(r#"{{"Name":"r","Endpoints":{{"docker":{endpoint}}}}}"#);
        let with_keys = format!("/home/u/.docker/{}", meta("keys").replace("/meta/", "/tls/"));
        let with_keys = with_keys.replace("meta.json", "docker/ca.pem");
        let meta = |name: &str| format!("/home/u/.docker/{}", meta(name));
        let files = Fake::default()
            .text(&meta("plain"), &context(r#"{"Host":"tcp://far:2375","SkipTLSVerify":false}"#))
            .text(&meta("skips"), &context(r#"{"Host":"tcp://far:2376","SkipTLSVerify":true}"#))
            .text(&meta("keys"), &context(r#"{"Host":"tcp://far:2376","SkipTLSVerify":false}"#))
            .text(&meta("socket"), &context(r#"{"Host":"unix:///x.sock","SkipTLSVerify":true}"#))
            .text(&with_keys, "-----BEGIN CERTIFICATE-----");
        let home = ("HOME", "/home/u");
        let host = ("DOCKER_HOST", "tcp://far:2376");
        let refused = |source: &str| {
            format!(
                "engine_unavailable: the Docker engine at tcp://far:2376 ({source}) asks for TLS, which Corral does not speak"
            )
        };
        let table: [(&[(&str, &str)], String); 10] = [
            (&[home, ("DOCKER_CONTEXT", "plain")], "tcp://far:2375 (the Docker context `plain`)".to_owned()),
            (&[home, ("DOCKER_CONTEXT", "skips")], refused("the Docker context `skips`")),
            (&[home, ("DOCKER_CONTEXT", "keys")], refused("the Docker context `keys`")),
            (&[home, ("DOCKER_CONTEXT", "socket")], "unix:///x.sock (the Docker context `socket`)".to_owned()),
            (&[host], "tcp://far:2376 (DOCKER_HOST)".to_owned()),
            (&[host, ("DOCKER_TLS_VERIFY", "")], "tcp://far:2376 (DOCKER_HOST)".to_owned()),
            (&[host, ("DOCKER_TLS_VERIFY", "0")], refused("DOCKER_HOST")),
            (&[host, ("DOCKER_TLS", "1")], refused("DOCKER_HOST")),
            (
                &[("DOCKER_HOST", "unix:///x.sock"), ("DOCKER_TLS_VERIFY", "1")],
                "unix:///x.sock (DOCKER_HOST)".to_owned(),
            ),
            (&[("DOCKER_HOST", "https://far:2376")], refused("DOCKER_HOST").replace("tcp://", "https://")),
        ];
        for (env, expected) in table {
            assert_eq!(told(env, &files), expected, "{env:?}");
        }
    }

    #[test]
    fn the_users_own_engine_stands_in_for_one_that_cannot_be_used() {
        let env = [("XDG_RUNTIME_DIR", "/run/user/7")];
        let own = Fake::default().socket("/run/user/7/docker.sock");
        assert_eq!(told(&env, &own), "unix:///run/user/7/docker.sock (the user's own engine)");
        assert_eq!(told(&env, &Fake::default()), "unix:///var/run/docker.sock (the default)");
    }
}
