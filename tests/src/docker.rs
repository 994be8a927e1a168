//! The Docker engine as everybody else sees it, through the `docker` command.

use std::process::Command;

use serde_json::Value;

/// The label that says which home a container belongs to.
pub const HOME_LABEL: &str = "dev.corral.home";

/// A Docker engine.
#[derive(Debug, Clone, Default)]
pub struct Docker {
    host: Option<String>,
}

impl Docker {
    /// The engine that the tests' environment names.
    pub fn new() -> Self {
        Self::default()
    }

    /// The engine at this address.
    pub fn at(host: &str) -> Self {
        Self { host: Some(host.to_owned()) }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("docker");
        if let Some(host) = &self.host {
            command.env("DOCKER_HOST", host);
        }
        command.args(args);
        command
    }

    /// What a command prints, or what it says when it fails.
    pub fn try_run(&self, args: &[&str]) -> Result<String, String> {
        let done = self.command(args).output().expect("the `docker` command runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if done.status.success() { Ok(text(&done.stdout)) } else { Err(text(&done.stderr)) }
    }

    /// What a command prints.
    #[track_caller]
    pub fn run(&self, args: &[&str]) -> String {
        self.try_run(args).unwrap_or_else(|error| panic!("docker {}: {error}", args.join(" ")))
    }

    /// All containers of a home, in whatever state.
    pub fn owned(&self, home_id: &str) -> Vec<Container> {
        self.try_owned(home_id).unwrap_or_else(|error| panic!("docker ps: {error}"))
    }

    fn try_owned(&self, home_id: &str) -> Result<Vec<Container>, String> {
        let filter = format!("label={HOME_LABEL}={home_id}");
        let listed =
            self.try_run(&["ps", "-a", "--no-trunc", "--filter", &filter, "--format", "{{.ID}} {{.State}}"])?;
        let containers = listed.lines().filter_map(|line| line.split_once(' '));
        Ok(containers.map(|(id, state)| Container { id: id.to_owned(), state: state.to_owned() }).collect())
    }

    /// The ids of those that run.
    pub fn running(&self, home_id: &str) -> Vec<String> {
        self.owned(home_id).into_iter().filter(|one| one.state == "running").map(|one| one.id).collect()
    }

    /// What `docker inspect` says of a container; none where it is gone.
    pub fn inspect(&self, id: &str) -> Option<Value> {
        let text = self.try_run(&["inspect", "--type", "container", id]).ok()?;
        serde_json::from_str::<Value>(&text).ok()?.get(0).cloned()
    }

    /// Runs a shell command inside a container and returns whether it went well, and all that it printed.
    pub fn shell(&self, id: &str, command: &str) -> (bool, String) {
        let done = self.command(&["exec", id, "sh", "-c", command]).output().expect("the `docker` command runs");
        let told = [done.stdout, done.stderr].concat();
        (done.status.success(), String::from_utf8_lossy(&told).trim().to_owned())
    }

    /// Sends a signal to the `llama-server` inside a container, from inside: the container itself ends because its
    /// program did.
    pub fn signal_server(&self, id: &str, signal: &str) {
        let find = "for p in /proc/[0-9]*; do read -r c < $p/comm; [ \"$c\" = llama-server ] && echo ${p#/proc/}; done";
        let (found, told) = self.shell(id, &format!("kill -{signal} $({find})"));
        assert!(found, "llama-server runs in {id}: {told}");
    }

    /// Removes all containers of a home, running or not.
    pub fn clear(&self, home_id: &str) {
        // The engine may be gone, and a container on its way out already.
        for Container { id, .. } in self.try_owned(home_id).unwrap_or_default() {
            let _ = self.try_run(&["rm", "-f", "-v", &id]);
        }
    }

    /// An image whose `llama-server` begins to load `seconds` after it was let go.
    pub fn slow_image(&self, image: &str, seconds: u32) -> SlowImage {
        // Where Corral holds a new server back at a pipe, this waits there in its place, and hands on all arguments but
        // the last two, which name the pipe.
        let script = format!(
            "gate=/run/corral/gate; if [ -p $gate ]; then cat $gate; i=2; \
             while [ $i -lt $# ]; do set -- \"$@\" \"$1\"; shift; i=$((i+1)); done; shift 2; fi; \
             sleep {seconds}; exec /usr/bin/llama-server \"$@\""
        );
        let entry = serde_json::json!(["/bin/sh", "-c", script, "llama-server"]);
        let container = self.run(&["create", image]);
        let made = self.try_run(&["commit", "--change", &format!("ENTRYPOINT {entry}"), &container]);
        self.run(&["rm", &container]);
        let id = made.expect("an image can be made of a container");
        let tag = format!("corral-test/slow:{}", &id[id.len() - 12..]);
        self.run(&["tag", &id, &tag]);
        SlowImage { docker: self.clone(), tag }
    }
}

/// A container that `docker ps` shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// The full id.
    pub id: String,
    /// `created`, `running`, `exited`, …
    pub state: String,
}

/// An image that goes when it is dropped.
#[derive(Debug)]
pub struct SlowImage {
    docker: Docker,
    /// Its reference.
    pub tag: String,
}

impl Drop for SlowImage {
    fn drop(&mut self) {
        let _ = self.docker.try_run(&["image", "rm", "-f", &self.tag]);
    }
}
