//! Why a container ended while somebody waited for it.

use bollard::query_parameters::WaitContainerOptionsBuilder;
use corral_core::{Error, InstanceId, ModelId, Result};
use futures_util::StreamExt;

use super::connection::{Connected, status};
use super::log;
use super::shared::Shared;
use crate::exit::{self, During, Exit};

/// Waits until a container has ended, and returns its exit status; none where it is gone altogether.
pub(super) async fn wait(connected: &Connected, id: &InstanceId) -> Result<Option<i64>> {
    let options = WaitContainerOptionsBuilder::default().condition("not-running").build();
    let mut stream = std::pin::pin!(connected.docker.wait_container(&id.0, Some(options)));
    match stream.next().await {
        Some(Ok(response)) => Ok(Some(response.status_code)),
        Some(Err(bollard::errors::Error::DockerContainerWaitError { code, .. })) => Ok(Some(code)),
        Some(Err(error)) if status(&error) == Some(404) => Ok(None),
        Some(Err(error)) => Err(connected.error("cannot wait for the container", &error)),
        None => Err(connected.silent("stopped answering")),
    }
}

/// The error for a container that ended while it loaded.
pub(super) async fn cause(
    shared: &Shared,
    connected: &Connected,
    id: &InstanceId,
    model: &ModelId,
    status: Option<i64>,
) -> Error {
    let Some(status) = status else { return removed(shared, Some(During::Load), Some(model)) };
    let (inspected, mut lines) =
        tokio::join!(connected.docker.inspect_container(&id.0, None), log::tail(&connected.docker, id));
    if lines.is_empty() {
        // With the container its log is gone as well.
        lines = log::remembered(&shared.config.logs, model);
    }
    let oom = inspected.ok().and_then(|container| container.state?.oom_killed).unwrap_or_default();
    exit::cause(Exit::from_status(status, oom), During::Load, model, &lines)
}

/// The error for a container that somebody outside Corral removed, with what it said last.
pub(super) fn removed(shared: &Shared, during: Option<During>, model: Option<&ModelId>) -> Error {
    let lines = model.map(|model| log::remembered(&shared.config.logs, model)).unwrap_or_default();
    exit::removed(during, model, &lines)
}

/// Whether a refusal means that the container itself is gone: other things can be missing as well.
pub(super) fn is_gone(error: &bollard::errors::Error) -> bool {
    status(error) == Some(404) && error.to_string().to_ascii_lowercase().contains("no such container")
}
