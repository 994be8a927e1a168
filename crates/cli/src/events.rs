//! Server-sent events, as far as `GET /events` uses them.

use std::io::BufRead;

use corral_core::snapshot::Snapshot;

/// The snapshots of a stream, as they come; ends with the stream.
pub(crate) fn snapshots(stream: impl BufRead) -> impl Iterator<Item = Snapshot> {
    let (mut name, mut data) = (String::new(), String::new());
    stream.lines().map_while(Result::ok).filter_map(move |line| {
        if line.is_empty() {
            let (name, data) = (std::mem::take(&mut name), std::mem::take(&mut data));
            // Of a newer daemon there may be events, or fields, that are not known here.
            return if name == "snapshot" { serde_json::from_str(&data).ok() } else { None };
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
