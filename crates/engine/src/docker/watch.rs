//! Hears of containers that end, from the engine's own stream of events: nothing is asked again and again.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bollard::models::EventMessage;
use bollard::query_parameters::{EventsOptions, EventsOptionsBuilder};
use corral_core::launch::Runtime;
use corral_core::ports::EngineEvent;
use corral_core::{Code, Error, InstanceId, ModelId, Result};
use futures_util::StreamExt;
use jiff::Timestamp;
use tokio::time::{sleep, timeout};

use super::connection::Connected;
use super::ended;
use super::log;
use super::request::{HOME, MODEL};
use super::shared::Shared;
use crate::exit::{self, During, Exit};

/// The first wait before the engine is asked again whether it is back.
const FIRST_WAIT: Duration = Duration::from_millis(250);
/// The longest.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// How long the engine may take to say why a container ended. Whoever waits for the news gets it without.
const DETAILS: Duration = Duration::from_millis(400);

/// Follows the engine's events for ever.
pub(super) async fn watch(shared: Arc<Shared>, mut since: Timestamp) {
    let mut lost = false;
    let mut wait = FIRST_WAIT;
    loop {
        let cause = match listen(&shared, since, &mut lost, &mut wait).await {
            Ok(connected) => connected.silent("ended the stream of its events"),
            Err(cause) => cause,
        };
        shared.connection.forget();
        if !lost {
            lost = true;
            shared.emit(&EngineEvent::Lost { runtime: Runtime::Docker, cause });
        }
        sleep(wait).await;
        wait = (wait * 2).min(LONGEST_WAIT);
        since = Timestamp::now();
    }
}

/// Listens until the stream ends.
async fn listen(shared: &Arc<Shared>, since: Timestamp, lost: &mut bool, wait: &mut Duration) -> Result<Connected> {
    let connected = shared.connection.get().await?;
    // The client may have been made long ago.
    connected.docker.ping().await.map_err(|error| connected.error("does not answer", &error))?;
    let mut stream = std::pin::pin!(connected.docker.events(Some(options(&shared.config.home_id, since))));
    if std::mem::take(lost) {
        shared.emit(&EngineEvent::Back { runtime: Runtime::Docker });
    }
    *wait = FIRST_WAIT;
    let mut seen = Seen::default();
    while let Some(event) = stream.next().await {
        let event = event.map_err(|error| connected.error("broke the stream of its events", &error))?;
        let Some(ended) = seen.take(event) else { continue };
        let shared = Arc::clone(shared);
        // The details of one must not hold up the news of another.
        tokio::spawn(async move {
            let cause = timeout(DETAILS, detailed(&shared, &ended)).await.unwrap_or_else(|_| plain(&shared, &ended));
            shared.emit(&EngineEvent::Exited { instance: ended.id, at: ended.at, cause });
        });
    }
    Ok(connected)
}

fn options(home_id: &str, since: Timestamp) -> EventsOptions {
    let strings = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>();
    let filters = HashMap::from([
        ("type".to_owned(), strings(&["container"])),
        ("event".to_owned(), strings(&["die", "destroy", "oom"])),
        ("label".to_owned(), vec![format!("{HOME}={home_id}")]),
    ]);
    let since = format!("{}.{:09}", since.as_second(), since.subsec_nanosecond());
    // What happens while the stream is being set up is told as well.
    EventsOptionsBuilder::default().filters(&filters).since(&since).build()
}

/// A container that ended.
#[derive(Debug, PartialEq, Eq)]
struct Ended {
    id: InstanceId,
    /// When, by the engine's clock.
    at: Timestamp,
    model: Option<ModelId>,
    /// None where it was removed without having run.
    status: Option<i64>,
    oom: bool,
}

/// What the events have said so far.
#[derive(Debug, Default)]
struct Seen {
    ended: HashSet<String>,
    out_of_memory: HashSet<String>,
}

impl Seen {
    /// Takes an event in; some of them end a container.
    fn take(&mut self, event: EventMessage) -> Option<Ended> {
        let at = event.time_nano.and_then(|nanos| Timestamp::from_nanosecond(nanos.into()).ok());
        let at = at.unwrap_or_else(Timestamp::now);
        let actor = event.actor?;
        let id = actor.id?;
        let attributes = actor.attributes.unwrap_or_default();
        let model = attributes.get(MODEL).and_then(|model| ModelId::new(model).ok());
        let status = attributes.get("exitCode").and_then(|code| code.parse().ok());
        match event.action.as_deref()? {
            "oom" => {
                self.out_of_memory.insert(id);
                None
            }
            "die" => {
                let oom = self.out_of_memory.remove(&id);
                self.ended.insert(id.clone());
                Some(Ended { id: InstanceId(id), at, model, status, oom })
            }
            // A removal after an end is no news.
            "destroy" if !self.ended.remove(&id) => {
                Some(Ended { id: InstanceId(id), at, model, status: None, oom: false })
            }
            _ => None,
        }
    }
}

/// The cause with what the engine knows of the container.
async fn detailed(shared: &Shared, ended: &Ended) -> Error {
    if shared.was_told(&ended.id) || ended.status.is_none() {
        return plain(shared, ended);
    }
    let Ok(connected) = shared.connection.get().await else { return plain(shared, ended) };
    let (inspected, mut lines) =
        tokio::join!(connected.docker.inspect_container(&ended.id.0, None), log::tail(&connected.docker, &ended.id));
    let state = inspected.ok().and_then(|container| container.state).unwrap_or_default();
    let (Some(model), Some(status)) = (&ended.model, ended.status.or(state.exit_code)) else {
        return plain(shared, ended);
    };
    if lines.is_empty() {
        lines = log::remembered(&shared.config.logs, model);
    }
    let oom = ended.oom || state.oom_killed == Some(true);
    exit::cause(Exit::from_status(status, oom), shared.during(&ended.id), model, &lines)
}

/// The cause with what the event itself says.
fn plain(shared: &Shared, ended: &Ended) -> Error {
    if shared.was_told(&ended.id) {
        return Error::new(Code::ServerKilled, "llama-server was told to end").hint("Corral itself ended it");
    }
    match (&ended.model, ended.status) {
        (Some(model), Some(status)) => {
            let lines = log::remembered(&shared.config.logs, model);
            exit::cause(Exit::from_status(status, ended.oom), shared.during(&ended.id), model, &lines)
        }
        (model, _) => ended::removed(shared, None, model.as_ref()),
    }
}

impl Shared {
    fn during(&self, id: &InstanceId) -> During {
        if self.is_loading(id) { During::Load } else { During::Service }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bollard::models::EventActor;

    fn event(action: &str, id: &str, attributes: &[(&str, &str)]) -> EventMessage {
        let attributes = attributes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        EventMessage {
            action: Some(action.to_owned()),
            time_nano: Some(0),
            actor: Some(EventActor { id: Some(id.to_owned()), attributes: Some(attributes) }),
            ..EventMessage::default()
        }
    }

    #[test]
    fn each_end_is_told_once() {
        let mut seen = Seen::default();
        let attributes = [(MODEL, "m"), ("exitCode", "137")];
        let model = ModelId::new("m").ok();
        let ended = |id: &str, status, oom| {
            Some(Ended { id: InstanceId(id.to_owned()), at: Timestamp::UNIX_EPOCH, model: model.clone(), status, oom })
        };
        assert_eq!(seen.take(event("die", "a", &attributes)), ended("a", Some(137), false));
        assert_eq!(seen.take(event("destroy", "a", &attributes)), None, "it ended before it was removed");
        assert_eq!(seen.take(event("oom", "b", &attributes)), None);
        assert_eq!(seen.take(event("die", "b", &attributes)), ended("b", Some(137), true));
        assert_eq!(seen.take(event("die", "b", &attributes)), ended("b", Some(137), false), "it ran again");
        assert_eq!(seen.take(event("destroy", "c", &[(MODEL, "m")])), ended("c", None, false));
    }
}
