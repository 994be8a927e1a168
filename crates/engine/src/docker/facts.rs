//! What can be said of the engine when somebody asks what is wrong.

use corral_core::Result;

use super::connection::{Connection, status};
use crate::environment::Environment;

/// An engine that answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DockerFacts {
    /// Where it listens, and who says so.
    pub endpoint: String,
    /// Its version.
    pub version: String,
    /// The newest version of the API that it speaks.
    pub api_version: String,
    /// It runs as an ordinary user.
    pub rootless: bool,
    /// It can hand NVIDIA GPUs to containers.
    pub nvidia_runtime: bool,
}

/// Asks the engine that the environment means.
pub async fn docker_facts(env: &Environment) -> Result<DockerFacts> {
    let connected = Connection::new(env.clone()).get().await?;
    let version = connected.docker.version().await;
    let version = version.map_err(|error| connected.error("does not tell its version", &error))?;
    Ok(DockerFacts {
        endpoint: connected.endpoint.to_string(),
        version: connected.facts.version.clone(),
        api_version: version.api_version.unwrap_or_default(),
        rootless: connected.facts.rootless,
        nvidia_runtime: connected.facts.nvidia,
    })
}

/// Whether an image is on this machine.
pub async fn image_present(env: &Environment, image: &str) -> Result<bool> {
    let connected = Connection::new(env.clone()).get().await?;
    match connected.docker.inspect_image(image).await {
        Ok(_) => Ok(true),
        Err(error) if status(&error) == Some(404) => Ok(false),
        Err(error) => Err(connected.error(&format!("cannot look for the image {image}"), &error)),
    }
}
