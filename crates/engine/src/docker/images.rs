//! What images are here, by their ids.

use corral_core::InstanceId;

use super::connection::{Connection, status};
use crate::environment::Environment;

/// Asks the engine that the environment means.
#[derive(Debug)]
pub(crate) struct Images(Connection);

impl Images {
    /// Connects to nothing yet.
    pub(crate) fn new(env: Environment) -> Self {
        Self(Connection::new(env))
    }

    /// The id of the image that a reference means now; none where it is not here, or the engine does not say.
    pub(crate) async fn id(&self, image: &str) -> Option<String> {
        let connected = self.0.get().await.ok()?;
        let inspected = connected.docker.inspect_image(image).await;
        self.told(inspected)?.id
    }

    /// The id of the image that a container was created from; none where it is gone, or the engine does not say.
    pub(crate) async fn of_container(&self, container: &InstanceId) -> Option<String> {
        let connected = self.0.get().await.ok()?;
        let inspected = connected.docker.inspect_container(&container.0, None).await;
        self.told(inspected)?.image
    }

    fn told<T>(&self, answer: Result<T, bollard::errors::Error>) -> Option<T> {
        answer
            .inspect_err(|error| {
                if status(error).is_none() {
                    // It may be elsewhere when it answers again.
                    self.0.forget();
                }
            })
            .ok()
    }
}
