//! Pulls an image, and says how far it is.

use std::collections::HashMap;

use bollard::models::CreateImageInfo;
use bollard::query_parameters::CreateImageOptionsBuilder;
use corral_core::ports::Job;
use corral_core::snapshot::{Progress, Step};
use corral_core::{Code, Error, Result};
use futures_util::StreamExt;

use super::connection::{Connected, is_connection};
use crate::errors::superseded;

/// Pulls `image`. Ends early when the job is cancelled: the engine gives up when nobody listens any more.
pub(super) async fn pull(connected: &Connected, image: &str, job: &Job) -> Result<()> {
    job.report(Step::Pull, None);
    let options = CreateImageOptionsBuilder::default().from_image(&with_tag(image)).build();
    let mut stream = std::pin::pin!(connected.docker.create_image(Some(options), None, None));
    let mut layers = Layers::default();
    loop {
        let next = tokio::select! {
            next = stream.next() => next,
            () = job.cancelled.cancelled() => return Err(superseded()),
        };
        match next {
            None => return Ok(()),
            // The engine went away, which says nothing about the image.
            Some(Err(error)) if is_connection(&error) => {
                return Err(connected.error(&format!("broke off the pull of {image}"), &error));
            }
            Some(Err(error)) => return Err(failed(image, &error)),
            Some(Ok(info)) => {
                if layers.take(&info) {
                    job.report(Step::Pull, Some(layers.progress()));
                }
            }
        }
    }
}

/// Without a tag the engine would pull every one there is.
fn with_tag(image: &str) -> String {
    let name = image.rsplit('/').next().unwrap_or(image);
    if name.contains(':') || name.contains('@') { image.to_owned() } else { format!("{image}:latest") }
}

fn failed(image: &str, error: &bollard::errors::Error) -> Error {
    let reason = match error {
        bollard::errors::Error::DockerResponseServerError { message, .. } => message.clone(),
        bollard::errors::Error::DockerStreamError { error } => error.clone(),
        other => other.to_string(),
    };
    let message = format!("the image {image} is not on this machine and cannot be pulled: {}", reason.trim());
    Error::new(Code::ImageMissing, message).hint(format!("see whether `docker pull {image}` works"))
}

#[derive(Debug, Default)]
struct Layers(HashMap<String, Layer>);

#[derive(Debug, Default, Clone, Copy)]
struct Layer {
    done: u64,
    /// Unknown until its download begins.
    total: Option<u64>,
}

impl Layers {
    /// Takes one message in, and says whether it changed the sum.
    fn take(&mut self, info: &CreateImageInfo) -> bool {
        let (Some(id), Some(status)) = (&info.id, info.status.as_deref()) else { return false };
        let known = self.0.get(id).copied();
        let bytes = |value: Option<i64>| value.and_then(|value| u64::try_from(value).ok());
        let detail = info.progress_detail.as_ref();
        let next = match status {
            "Pulling fs layer" | "Waiting" => known.unwrap_or_default(),
            "Downloading" => Layer {
                done: bytes(detail.and_then(|detail| detail.current)).unwrap_or_default(),
                total: bytes(detail.and_then(|detail| detail.total)).filter(|total| *total > 0),
            },
            "Already exists" => Layer { done: 0, total: Some(0) },
            "Download complete" | "Pull complete" => {
                let layer = known.unwrap_or_default();
                let total = layer.total.unwrap_or(layer.done);
                Layer { done: total, total: Some(total) }
            }
            // Verifying and extracting download nothing.
            _ => return false,
        };
        self.0.insert(id.clone(), next);
        true
    }

    fn progress(&self) -> Progress {
        Progress {
            done_bytes: self.0.values().map(|layer| layer.done).sum(),
            // A sum that leaves some layers out would shrink the share that is done as it grows.
            total_bytes: self.0.values().map(|layer| layer.total).sum(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bollard::models::ProgressDetail;

    fn message(id: &str, status: &str, progress: Option<(i64, i64)>) -> CreateImageInfo {
        CreateImageInfo {
            id: Some(id.to_owned()),
            status: Some(status.to_owned()),
            progress_detail: progress
                .map(|(current, total)| ProgressDetail { current: Some(current), total: Some(total) }),
            error_detail: None,
        }
    }

    #[test]
    fn the_layers_add_up() {
        let mut layers = Layers::default();
        let mut after = |id, status, progress| {
            layers.take(&message(id, status, progress));
            let Progress { done_bytes, total_bytes } = layers.progress();
            (done_bytes, total_bytes)
        };
        assert_eq!(after("a", "Pulling fs layer", None), (0, None));
        assert_eq!(after("b", "Pulling fs layer", None), (0, None));
        assert_eq!(after("c", "Already exists", None), (0, None));
        assert_eq!(after("a", "Downloading", Some((10, 100))), (10, None), "the size of b is not known yet");
        assert_eq!(after("b", "Downloading", Some((5, 50))), (15, Some(150)));
        assert_eq!(after("a", "Download complete", None), (105, Some(150)));
        assert_eq!(after("a", "Extracting", Some((1, 100))), (105, Some(150)), "extracting downloads nothing");
        assert_eq!(after("b", "Pull complete", None), (150, Some(150)));
    }

    #[test]
    fn just_one_tag_is_pulled() {
        assert_eq!(with_tag("llama"), "llama:latest");
        assert_eq!(with_tag("localhost:5000/llama"), "localhost:5000/llama:latest");
        assert_eq!(with_tag("ghcr.io/ggml-org/llama.cpp:server"), "ghcr.io/ggml-org/llama.cpp:server");
        assert_eq!(with_tag("llama@sha256:ab"), "llama@sha256:ab");
    }
}
