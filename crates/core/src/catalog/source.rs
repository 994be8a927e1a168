//! Where in the file something stands.

use std::ops::Range;

use crate::error::Place;

/// The text of a catalog with an index of its lines.
pub(super) struct Source<'a> {
    text: &'a str,
    path: String,
    starts: Vec<usize>,
}

impl<'a> Source<'a> {
    /// Indexes the lines once; `path` is what messages call the file.
    pub(super) fn new(text: &'a str, path: String) -> Self {
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        Self { text, path, starts: std::iter::once(0).chain(breaks).collect() }
    }

    /// `models.toml:14`, for the byte at `offset`.
    pub(super) fn line(&self, offset: usize) -> String {
        format!("{}:{}", self.path, self.number(offset))
    }

    /// `models.toml:14:7`, with the column in characters.
    pub(super) fn line_and_column(&self, offset: usize) -> String {
        let number = self.number(offset);
        format!("{}:{number}:{}", self.path, self.column(number, offset))
    }

    /// The place of a span, which goes no further than its first line; what is empty still has a character to mark.
    pub(super) fn place(&self, span: &Range<usize>) -> Place {
        let number = self.number(span.start);
        let line = self.text.get(self.span(number)).unwrap_or_default();
        let end_of_line = self.span(number).start + line.trim_end_matches(['\r', '\n']).len();
        let column = self.column(number, span.start);
        let end_column = self.column(number, span.end.min(end_of_line)).max(column + 1);
        let narrow = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        Place { line: narrow(number), column: narrow(column), end_column: narrow(end_column), key: None, model: None }
    }

    /// The column of an offset in the line of this number.
    fn column(&self, number: usize, offset: usize) -> usize {
        let start = self.span(number).start;
        self.text.get(start..offset).map_or(0, |before| before.chars().count()) + 1
    }

    /// The text of the line at `offset`, cut where it is too long to show.
    pub(super) fn shown(&self, offset: usize) -> String {
        let line = self.text.get(self.span(self.number(offset))).unwrap_or_default();
        shorten(line.trim(), 80)
    }

    fn number(&self, offset: usize) -> usize {
        self.starts.partition_point(|start| *start <= offset).max(1)
    }

    fn span(&self, number: usize) -> Range<usize> {
        let at = |line: usize| self.starts.get(line).copied().unwrap_or(self.text.len());
        at(number - 1)..at(number)
    }
}

/// The text with control characters escaped, and with `…` where it goes beyond `limit` characters.
pub(super) fn shorten(text: &str, limit: usize) -> String {
    let visible = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    let mut short: String = text.chars().take(limit).map(visible).collect();
    if text.chars().nth(limit).is_some() {
        short.push('…');
    }
    short
}
