//! Server-sent events, as far as `GET /events` uses them.

use std::io::BufRead;

use corral_core::live::Speed;
use corral_core::snapshot::{Notice, Snapshot};

/// What a daemon tells as it happens.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The present truth.
    Snapshot(Box<Snapshot>),
    /// Something a person should hear of once.
    Notice(Notice),
    /// How fast the model generates now.
    Speed(Speed),
}

/// The events of a stream that are known here, as they come; ends with the stream.
pub fn events(stream: impl BufRead) -> impl Iterator<Item = Event> {
    raw(stream).filter_map(|(name, data)| match name.as_str() {
        "snapshot" => serde_json::from_str(&data).ok().map(Event::Snapshot),
        "notice" => serde_json::from_str(&data).ok().map(Event::Notice),
        "speed" => serde_json::from_str(&data).ok().map(Event::Speed),
        _ => None,
    })
}

/// The snapshots of a stream, as they come; ends with the stream.
pub fn snapshots(stream: impl BufRead) -> impl Iterator<Item = Snapshot> {
    events(stream).filter_map(|event| match event {
        Event::Snapshot(snapshot) => Some(*snapshot),
        Event::Notice(_) | Event::Speed(_) => None,
    })
}

/// The name and the data of each event of a stream; ends with the stream. Of a newer daemon there may be events, or
/// fields of them, that are not known here.
pub fn raw(stream: impl BufRead) -> impl Iterator<Item = (String, String)> {
    let (mut name, mut data) = (String::new(), String::new());
    stream.lines().map_while(Result::ok).filter_map(move |line| {
        if line.is_empty() {
            let event = (std::mem::take(&mut name), std::mem::take(&mut data));
            return (!event.1.is_empty()).then_some(event);
        }
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut name),
            "data" if data.is_empty() => value.clone_into(&mut data),
            "data" => data.extend(["\n", value]),
            _ => {}
        }
        None
    })
}
#[cfg(test)]
mod tests {
    use super::*;

    const SNAPSHOT: &str = r#"{"version":"1","phase":"ready","model":"a","operation":null,"engine":null,"error":null,
"gateway":null,"sessions":[],"catalog":{"path":"/c","models":1,"problems":[]}}"#;

    #[test]
    fn snapshots_are_found_among_everything_else() {
        let data = SNAPSHOT.replace('\n', "\ndata:");
        let stream = format!(
            ":\n\nevent: notice\ndata: {{}}\n\nid: 1\nevent: snapshot\ndata: {data}\n\nevent:snapshot\ndata: no\n\n\
             event: snapshot\ndata: {data}\n\nevent: snapshot\ndata: {data}\n"
        );
        let models: Vec<_> = snapshots(stream.as_bytes()).map(|snapshot| snapshot.model.unwrap().to_string()).collect();
        assert_eq!(models, ["a", "a"], "the third has not ended");
    }
}
