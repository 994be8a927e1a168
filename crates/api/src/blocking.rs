//! What waits for the disk, where nobody waits for it.

use corral_core::{Code, Error};

use crate::failure::Failure;

/// Does the work apart from requests; `what` names it for the case of a defect.
pub(crate) async fn blocking<T: Send + 'static>(
    what: &str,
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    Ok(done.map_err(|error| Error::new(Code::Internal, format!("{what} broke down")).because(error))??)
}
