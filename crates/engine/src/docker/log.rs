//! A container's log: the last lines for an error, and all lines for people to read.

use bollard::Docker;
use bollard::container::LogOutput;
use bollard::query_parameters::{LogsOptions, LogsOptionsBuilder};
use corral_core::log::LogBuffer;
use corral_core::{InstanceId, ModelId};
use futures_util::StreamExt;
use jiff::Timestamp;

use crate::logs::{self, Line, Splitter};

/// How many lines are read to find the cause of an end.
const TAIL: &str = "200";
/// How many lines of a server that ran before Corral did are read.
const HISTORY: &str = "1000";

fn options() -> LogsOptionsBuilder {
    LogsOptionsBuilder::default().stdout(true).stderr(true).timestamps(true)
}

/// The last lines of a container, as many of them as can be had.
pub(super) async fn tail(docker: &Docker, id: &InstanceId) -> Vec<Line> {
    let mut lines = Vec::new();
    read(docker, id, options().tail(TAIL).build(), |_, line| lines.push(line)).await;
    lines
}

/// The last lines of a model that were followed, for a container that is gone.
pub(super) fn remembered(buffer: &LogBuffer, model: &ModelId) -> Vec<Line> {
    let records = buffer.tail(200).into_iter().filter(|record| record.model == *model);
    records.map(|record| Line { level: record.level, msg: record.msg }).collect()
}

/// Follows a container into the buffer until it ends; nothing at or before `after` is told again. Returns the time of
/// the last line.
pub(super) async fn follow(
    docker: &Docker,
    id: &InstanceId,
    model: &ModelId,
    buffer: &LogBuffer,
    after: Option<Timestamp>,
) -> Option<Timestamp> {
    let mut options = options().follow(true);
    options = match after {
        // Whole seconds: the rest is told apart by the lines' own times.
        Some(after) => options.since(i32::try_from(after.as_second()).unwrap_or_default()),
        None => options.tail(HISTORY),
    };
    let mut last = after;
    read(docker, id, options.build(), |at, line| {
        if after.is_none_or(|after| at > after) {
            last = Some(at);
            buffer.push(line.record(at, model));
        }
    })
    .await;
    last
}

/// Reads until the stream ends, or breaks: whoever needs to know why hears of it from elsewhere.
async fn read(docker: &Docker, id: &InstanceId, options: LogsOptions, mut each: impl FnMut(Timestamp, Line)) {
    let mut stream = std::pin::pin!(docker.logs(&id.0, Some(options)));
    // Two streams, of which each can stop within a line.
    let mut splitters = [Splitter::default(), Splitter::default()];
    let mut at = Timestamp::UNIX_EPOCH;
    while let Some(Ok(output)) = stream.next().await {
        let (which, message) = match output {
            LogOutput::StdErr { message } => (1, message),
            LogOutput::StdOut { message } | LogOutput::StdIn { message } | LogOutput::Console { message } => {
                (0, message)
            }
        };
        let text = match split_time(&message) {
            Some((time, text)) => {
                at = time;
                text
            }
            None => &message,
        };
        if let Some(splitter) = splitters.get_mut(which) {
            splitter.push(text, |line| logs::parse(line).into_iter().for_each(|line| each(at, line)));
        }
    }
    for splitter in &mut splitters {
        splitter.end(|line| logs::parse(line).into_iter().for_each(|line| each(at, line)));
    }
}

/// The time that the engine puts before each piece.
fn split_time(message: &[u8]) -> Option<(Timestamp, &[u8])> {
    let space = message.iter().position(|byte| *byte == b' ')?;
    let (time, rest) = message.split_at_checked(space)?;
    Some((std::str::from_utf8(time).ok()?.parse().ok()?, rest.get(1..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_is_split_off() {
        let (time, text) = split_time(b"2026-11-20T12:00:00.5Z one two\n").expect("a time");
        assert_eq!((time.to_string().as_str(), text), ("2026-11-20T12:00:00.5Z", &b"one two\n"[..]));
        assert!(split_time(b"one two").is_none());
        assert!(split_time(b"one").is_none());
    }
}
