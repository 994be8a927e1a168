//! Reads what an answer cost while it passes.

mod event;

use std::time::Duration;

use corral_core::usage::{InferenceRoute, Tokens};
use memchr::{memchr, memmem};
use serde::de::IgnoredAny;

use self::event::{Event, Timings, Usage};

/// A longer line is not looked at.
const LONGEST_LINE: usize = 1 << 20;

/// An answer in one piece that is larger is not kept.
const LARGEST_KEPT: usize = 4 << 20;

/// What is kept of its beginning, and of its end.
const ENDS_KEPT: usize = 64 << 10;

/// What an answer showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Seen {
    /// As llama-server reports them; of an answer that broke off, as many generated as [`Seen::deltas`].
    pub(crate) tokens: Tokens,
    /// Whether it came to its end.
    pub(crate) complete: bool,
    /// Whether there was content.
    pub(crate) content_started: bool,
    /// Whether it is an error, or ended with one.
    pub(crate) error: bool,
    /// Number of pieces of content in a stream.
    pub(crate) deltas: u64,
    /// How long `llama-server` says that it generated, where it says so.
    pub(crate) generated_in: Option<Duration>,
}

/// Reads one answer.
#[derive(Debug)]
pub(crate) struct AnswerReader {
    route: InferenceRoute,
    shape: Shape,
    seen: Seen,
    usage: Usage,
    timings: Timings,
}

#[derive(Debug)]
enum Shape {
    /// Server-sent events.
    Stream {
        /// The beginning of a line whose end is yet to come.
        partial: Vec<u8>,
        /// That line is too long already.
        skipping: bool,
    },
    /// One JSON value.
    Plain {
        /// The beginning, where `tail` is in use.
        head: Vec<u8>,
        /// All of it, or its end.
        tail: Vec<u8>,
    },
}

impl AnswerReader {
    /// A reader of an answer to this route.
    pub(crate) fn new(route: InferenceRoute, streaming: bool) -> Self {
        let shape = if streaming {
            Shape::Stream { partial: Vec::new(), skipping: false }
        } else {
            Shape::Plain { head: Vec::new(), tail: Vec::new() }
        };
        Self { route, shape, seen: Seen::default(), usage: Usage::default(), timings: Timings::default() }
    }

    /// Takes the next piece of the answer.
    pub(crate) fn read(&mut self, mut chunk: &[u8]) {
        match &mut self.shape {
            Shape::Plain { head, tail } => {
                self.seen.content_started |= !chunk.is_empty();
                tail.extend_from_slice(chunk);
                if head.is_empty() && tail.len() > LARGEST_KEPT {
                    head.extend_from_slice(&tail[..ENDS_KEPT]);
                }
                // Not at each piece: what is left has to be moved to the front.
                if !head.is_empty() && tail.len() > 4 * ENDS_KEPT {
                    tail.drain(..tail.len() - ENDS_KEPT);
                    tail.shrink_to(8 * ENDS_KEPT);
                }
            }
            Shape::Stream { .. } => {
                while let Some(end) = memchr(b'\n', chunk) {
                    self.line_ends(&chunk[..end]);
                    chunk = &chunk[end + 1..];
                }
                if let Shape::Stream { partial, skipping } = &mut self.shape
                    && !*skipping
                {
                    *skipping = partial.len() + chunk.len() > LONGEST_LINE;
                    if *skipping {
                        *partial = Vec::new();
                    } else {
                        partial.extend_from_slice(chunk);
                    }
                }
            }
        }
    }

    /// Whether the marker of a stream's end has passed; an answer in one piece tells it by [`AnswerReader::finish`] only.
    pub(crate) fn is_complete(&self) -> bool {
        self.seen.complete
    }

    /// Whether an error has passed.
    pub(crate) fn has_error(&self) -> bool {
        self.seen.error
    }

    /// How many pieces of content have passed.
    pub(crate) fn deltas(&self) -> u64 {
        self.seen.deltas
    }

    /// Whether content has passed.
    pub(crate) fn content_started(&self) -> bool {
        self.seen.content_started
    }

    /// Nothing more comes.
    pub(crate) fn finish(mut self) -> Seen {
        if let Shape::Plain { head, tail } = &mut self.shape {
            let (head, tail) = (std::mem::take(head), std::mem::take(tail));
            if head.is_empty() {
                self.whole(&tail);
            } else {
                self.ends(&head, &tail[tail.len().saturating_sub(ENDS_KEPT)..]);
            }
        }
        if self.route != InferenceRoute::CountTokens {
            self.seen.tokens = self.tokens();
            let seconds = self.timings.generated_in.map(|millis| millis / 1000.0);
            self.seen.generated_in = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        }
        self.seen
    }

    fn tokens(&self) -> Tokens {
        let (usage, timings) = (&self.usage, &self.timings);
        let cached = usage.cached().or(timings.cached);
        let input = timings.evaluated.map(|evaluated| evaluated.saturating_add(timings.cached.unwrap_or(0)));
        Tokens {
            input: usage.input().or(input).unwrap_or(0),
            cached: cached.unwrap_or(0),
            output: usage.output().or(timings.generated).unwrap_or(self.seen.deltas),
        }
    }

    /// A line is at its end; what came of it before lies in `partial`.
    fn line_ends(&mut self, rest: &[u8]) {
        let Shape::Stream { partial, skipping } = &mut self.shape else { return };
        if std::mem::take(skipping) || partial.len() + rest.len() > LONGEST_LINE {
            partial.clear();
        } else if partial.is_empty() {
            self.line(rest);
        } else {
            let mut line = std::mem::take(partial);
            line.extend_from_slice(rest);
            self.line(&line);
            if let Shape::Stream { partial, .. } = &mut self.shape {
                line.clear();
                *partial = line;
            }
        }
    }

    fn line(&mut self, line: &[u8]) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if let Some(data) = line.strip_prefix(b"data:") {
            self.data(data.trim_ascii());
        } else if line.starts_with(b"error:") {
            // As older servers end a stream.
            self.seen.error = true;
        }
    }

    fn data(&mut self, data: &[u8]) {
        match self.route {
            InferenceRoute::Messages | InferenceRoute::Responses | InferenceRoute::CountTokens => {
                match first_type(data) {
                    Some(kind) if self.passes(kind) => {}
                    _ => {
                        let Some(event) = Event::read(data) else { return };
                        let kind = event.kind.as_deref().unwrap_or_default();
                        if !self.passes(kind.as_bytes()) {
                            self.typed(kind, &event);
                        }
                    }
                }
            }
            InferenceRoute::ChatCompletions | InferenceRoute::Completions | InferenceRoute::Embeddings => {
                if data == b"[DONE]" {
                    self.seen.complete = true;
                    return;
                }
                if event::has_content(data) {
                    self.delta();
                }
                let has = |key: &str| memmem::find(data, key.as_bytes()).is_some();
                if (has("\"usage\"") || has("\"timings\"") || has("\"error\""))
                    && let Some(event) = Event::read(data)
                {
                    self.seen.error |= event.error.is_some();
                    self.count(&event);
                }
            }
        }
    }

    /// Whether an event of this type has no more to say than that it came.
    fn passes(&mut self, kind: &[u8]) -> bool {
        match kind {
            b"content_block_delta" => self.delta(),
            b"content_block_start" => self.seen.content_started = true,
            b"content_block_stop" | b"ping" => {}
            b"error" => self.seen.error = true,
            b"response.completed" | b"response.incomplete" | b"response.failed" => return false,
            _ if kind.starts_with(b"response.") => {
                if kind.ends_with(b".delta") {
                    self.delta();
                }
            }
            _ => return false,
        }
        true
    }

    fn typed(&mut self, kind: &str, event: &Event<'_>) {
        match kind {
            "message_stop" | "response.completed" | "response.incomplete" | "response.failed" => {
                self.seen.complete = true;
            }
            _ => {}
        }
        self.seen.error |= kind == "response.failed" || event.error.is_some();
        self.count(event);
        if kind == "message_start" {
            // The number at the start is none of what will be generated.
            self.usage.forget_output();
        }
    }

    fn delta(&mut self) {
        self.seen.deltas += 1;
        self.seen.content_started = true;
    }

    fn count(&mut self, event: &Event<'_>) {
        let nested = [&event.message, &event.response].into_iter().flatten().filter_map(|inner| inner.usage.as_ref());
        for usage in event.usage.iter().chain(nested) {
            self.usage.update(usage);
        }
        if let Some(timings) = &event.timings {
            self.timings = *timings;
        }
    }

    /// An answer in one piece.
    fn whole(&mut self, body: &[u8]) {
        if let Some(event) = Event::read(body) {
            self.seen.complete = true;
            self.seen.error = event.error.is_some() || event.kind.as_deref() == Some("error");
            self.count(&event);
        } else {
            self.seen.complete = serde_json::from_slice::<IgnoredAny>(body).is_ok();
        }
    }

    /// An answer of which only the ends are kept.
    fn ends(&mut self, head: &[u8], tail: &[u8]) {
        self.seen.complete = tail.trim_ascii_end().ends_with(b"}");
        // llama-server puts the usage of embeddings in front of them.
        if let Some(usage) = event::last(tail, b"\"usage\"").or_else(|| event::last(head, b"\"usage\"")) {
            self.usage.update(&usage);
        }
        if let Some(timings) = event::last(tail, b"\"timings\"") {
            self.timings = timings;
        }
    }
}

/// The type of an event where it comes first, as llama-server writes it.
fn first_type(data: &[u8]) -> Option<&[u8]> {
    let rest = data.strip_prefix(b"{\"type\":\"")?;
    rest.get(..memchr(b'"', rest)?)
}

#[cfg(test)]
mod tests;
