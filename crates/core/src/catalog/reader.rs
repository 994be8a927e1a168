//! What reading a value needs: where it stands, what is expected of it, and where to put a complaint.

use std::borrow::Cow;
use std::ops::Range;

use serde_json::Value;
use serde_spanned::Spanned;
use toml::de::DeValue;

use super::source::{Source, shorten};
use crate::error::{Code, Error, Place};

/// A value and its place in the file.
pub(super) type Node<'a> = Spanned<DeValue<'a>>;

/// A type that a key of the catalog can have.
pub(super) trait Setting: Sized + Clone {
    /// Reads the value, or says what is wrong with it.
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self>;

    /// This value with `fallback` underneath; only tables have anything to merge.
    fn merge(self, _fallback: &Self) -> Self {
        self
    }

    /// The value as JSON Schema.
    fn schema() -> Value;

    /// The keys inside, for tables that have keys of their own.
    fn keys() -> &'static [&'static str] {
        &[]
    }
}

/// Walks a catalog and collects every mistake in it.
pub(super) struct Reader<'a> {
    source: &'a Source<'a>,
    path: String,
    /// The model at hand.
    model: Option<String>,
    problems: Vec<(usize, Error)>,
    /// The kind of the mistakes found from here on: in the file as a whole, or in one model.
    pub(super) code: Code,
    /// The key at hand with a value that would be right, for the hint.
    pub(super) example: &'static str,
}

impl<'a> Reader<'a> {
    /// A reader at the root of the file.
    pub(super) fn new(source: &'a Source<'a>) -> Self {
        Self { source, path: String::new(), model: None, problems: Vec::new(), code: Code::CatalogInvalid, example: "" }
    }

    /// Does `work` one key further down.
    pub(super) fn under<T>(&mut self, key: &str, work: impl FnOnce(&mut Self) -> T) -> T {
        let length = self.path.len();
        if length > 0 {
            self.path.push('.');
        }
        self.path.push_str(&quoted(key));
        let result = work(self);
        self.path.truncate(length);
        result
    }

    /// Does `work` at the entry of a model, one key further down.
    pub(super) fn model<T>(&mut self, id: &str, work: impl FnOnce(&mut Self) -> T) -> T {
        self.model = Some(shorten(id, 80));
        let result = self.under(id, work);
        self.model = None;
        result
    }

    /// Does `work` at an element of an array.
    pub(super) fn item<T>(&mut self, index: usize, work: impl FnOnce(&mut Self) -> T) -> T {
        let length = self.path.len();
        self.path.extend(["[", &index.to_string(), "]"]);
        let result = work(self);
        self.path.truncate(length);
        result
    }

    /// Notes a mistake at the key at hand; the hint shows the key as it could be.
    pub(super) fn problem(&mut self, span: Range<usize>, what: &str) {
        let hint = format!("for instance `{}`", self.example);
        self.problem_with(span, what, hint);
    }

    /// Notes a mistake at the key at hand.
    pub(super) fn problem_with(&mut self, span: Range<usize>, what: &str, hint: impl Into<String>) {
        let message = format!("{}: {}: {what}", self.source.line(span.start), self.path);
        let key = Some(self.path.clone()).filter(|path| !path.is_empty());
        let place = Place { key, model: self.model.clone(), ..self.source.place(&span) };
        self.problems.push((span.start, Error::new(self.code, message).hint(hint).at(place)));
    }

    /// Notes that the value is of another type or out of range.
    pub(super) fn expected(&mut self, node: &Node<'_>, expected: &str) {
        self.problem(node.span(), &format!("expected {expected}, found {}", found(node.get_ref())));
    }

    /// The number of mistakes so far.
    pub(super) fn count(&self) -> usize {
        self.problems.len()
    }

    /// Every mistake, in the order of the file.
    pub(super) fn finish(mut self) -> Vec<Error> {
        self.problems.sort_by_key(|(offset, _)| *offset);
        self.problems.into_iter().map(|(_, error)| error).collect()
    }
}

/// A key as it is written in TOML: in quotes where it needs them.
pub(super) fn quoted(key: &str) -> Cow<'_, str> {
    let bare = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if (1..=80).contains(&key.len()) && key.bytes().all(bare) {
        return Cow::Borrowed(key);
    }
    Cow::Owned(format!("\"{}\"", shorten(key, 80)))
}

fn found(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("the string \"{}\"", shorten(text, 40)),
        DeValue::Integer(number) => shorten(&number.to_string(), 40),
        DeValue::Float(number) => shorten(number.as_str(), 40),
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::Datetime(_) => "a date".to_owned(),
        DeValue::Array(items) if items.is_empty() => "an empty array".to_owned(),
        DeValue::Array(_) => "an array".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}
