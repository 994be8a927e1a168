//! JSON objects to which keys are added, and in which everything else stays as it was written.

use indexmap::IndexMap;
use serde::{Serialize, Serializer};
use serde_json::value::{RawValue, to_raw_value};

/// An object: its keys in their order, its values as they were written until something is added inside them.
///
/// Values are not read, so no number is rounded, and halves of surrogate pairs, which JavaScript writes, pass.
#[derive(Debug, Default)]
pub(crate) struct Object(IndexMap<String, Value>);

#[derive(Debug)]
struct Value {
    /// As it was written; gone once it is read as the object below.
    written: Option<Box<RawValue>>,
    object: Object,
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.written {
            Some(text) => text.serialize(serializer),
            None => self.object.0.serialize(serializer),
        }
    }
}

impl Object {
    /// Reads an object; of a key that is there twice the last counts, as for JavaScript.
    pub(crate) fn read(text: &[u8]) -> serde_json::Result<Self> {
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        let values: IndexMap<String, Box<RawValue>> = serde_json::from_slice(text)?;
        let wrap = |text| Value { written: Some(text), object: Self::default() };
        Ok(Self(values.into_iter().map(|(key, text)| (key, wrap(text))).collect()))
    }

    /// The object under a key, made where there is none; fails where something else is there.
    pub(crate) fn object(&mut self, key: &str) -> serde_json::Result<&mut Self> {
        let new = || Value { written: None, object: Self::default() };
        let value = self.0.entry(key.to_owned()).or_insert_with(new);
        if let Some(text) = value.written.take() {
            value.object = Self::read(text.get().as_bytes())?;
        }
        Ok(&mut value.object)
    }

    /// Adds a key that is not there; says whether it did.
    pub(crate) fn add(&mut self, key: &str, value: impl Serialize) -> serde_json::Result<bool> {
        if self.0.contains_key(key) {
            return Ok(false);
        }
        let value = Value { written: Some(to_raw_value(&value)?), object: Self::default() };
        self.0.insert(key.to_owned(), value);
        Ok(true)
    }

    /// The text, indented as Claude Code does it.
    pub(crate) fn write(&self) -> serde_json::Result<Vec<u8>> {
        let mut text = serde_json::to_vec_pretty(&self.0)?;
        text.push(b'\n');
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn all_that_is_there_stays_as_it_was_written() {
        let text = "{\n  \"cost\": 0.30000000000000004441,\n  \"half\": \"\\ud83d\",\n  \"projects\": {\n    \"/a\": {\n      \
                    \"n\": [\n        1\n      ]\n    }\n  },\n  \"z\": 1\n}\n";
        let mut object = Object::read(text.as_bytes()).unwrap();
        assert!(!object.add("z", true).unwrap());
        assert_eq!(String::from_utf8(object.write().unwrap()).unwrap(), text);

        assert!(object.object("projects").unwrap().object("/b").unwrap().add("trusted", true).unwrap());
        let more = "      ]\n    },\n    \"/b\": {\n      \"trusted\": true\n    }\n";
        let expected = text.replace("      ]\n    }\n", more);
        assert_eq!(String::from_utf8(object.write().unwrap()).unwrap(), expected);
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for text in ["", "[]", "null", "{", "{\"a\":}", "{} x", "\"{}\""] {
            assert!(Object::read(text.as_bytes()).is_err(), "{text}");
        }
        for text in ["{\"a\":null}", "{\"a\":[]}", "{\"a\":\"{}\"}"] {
            assert!(Object::read(text.as_bytes()).unwrap().object("a").is_err(), "{text}");
        }
        assert!(Object::read(b"\xef\xbb\xbf{}").is_ok(), "a byte order mark is none of it");
    }

    proptest! {
        #[test]
        fn whatever_is_read_neither_panics_nor_loses_a_key(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(mut object) = Object::read(&bytes) {
                let _ = object.object("projects");
            }
        }

        #[test]
        fn what_was_written_is_read_again(keys in proptest::collection::vec(".*", 0..8)) {
            let mut object = Object::default();
            for key in &keys {
                object.object("deep").unwrap().add(key, key).unwrap();
            }
            let text = object.write().unwrap();
            prop_assert_eq!(Object::read(&text).unwrap().write().unwrap(), text);
        }
    }
}
