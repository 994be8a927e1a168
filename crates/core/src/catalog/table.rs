//! Tables of known keys: one declaration gives the reader, the merging and the schema.

use serde_json::{Map, Value, json};
use toml::de::DeValue;

use super::reader::{Node, Reader, Setting};
use super::suggest;

/// A table whose keys are known.
pub(super) trait Table: Setting + Default {
    /// Reads one key; false where there is no such key.
    fn set(&mut self, key: &str, node: &Node<'_>, reader: &mut Reader<'_>) -> bool;

    /// Every key, and with dots the keys of the tables below.
    fn names() -> Vec<String>;
}

/// Declares a [`Table`]: for each key its documentation, its type, and a value as an example in TOML.
macro_rules! table {
    (
        $(#[doc = $about:literal])+
        $name:ident { $($(#[doc = $doc:literal])+ $field:ident: $type:ty => $example:literal,)+ }
    ) => {
        $(#[doc = $about])+
        #[derive(Debug, Clone, Default)]
        pub(super) struct $name {
            $($(#[doc = $doc])+ pub(super) $field: Option<$type>,)+
        }

        impl $crate::catalog::table::Table for $name {
            fn set(&mut self, key: &str, node: &Node<'_>, reader: &mut Reader<'_>) -> bool {
                match key {
                    $(stringify!($field) => {
                        reader.example = concat!(stringify!($field), " = ", $example);
                        self.$field = <$type as Setting>::read(node, reader);
                    })+
                    _ => return false,
                }
                true
            }

            fn names() -> Vec<String> {
                let mut names: Vec<String> = Self::keys().iter().map(|key| (*key).to_owned()).collect();
                $(names.extend(<$type as Setting>::keys().iter().map(|key| format!("{}.{key}", stringify!($field))));)+
                names
            }
        }

        impl Setting for $name {
            fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
                $crate::catalog::table::read(node, reader)
            }

            fn merge(self, fallback: &Self) -> Self {
                Self { $($field: $crate::catalog::table::either(self.$field, fallback.$field.as_ref()),)+ }
            }

            fn schema() -> serde_json::Value {
                let about = concat!($($about),+);
                let keys = [$((stringify!($field), <$type as Setting>::schema(), concat!($($doc),+), $example)),+];
                $crate::catalog::table::schema(about, keys)
            }

            fn keys() -> &'static [&'static str] {
                &[$(stringify!($field)),+]
            }
        }
    };
}
pub(super) use table;

/// Reads a table key by key; a key that is unknown or wrong leaves the others alone.
pub(super) fn read<T: Table>(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<T> {
    let DeValue::Table(entries) = node.get_ref() else {
        reader.expected(node, "a table");
        return None;
    };
    let mut table = T::default();
    for (key, value) in entries {
        let name = key.get_ref().as_ref();
        reader.under(name, |reader| {
            if !table.set(name, value, reader) {
                let hint = format!("the keys here are {}", T::keys().join(", "));
                reader.problem_with(key.span(), &suggest::unknown_key(name, &T::names()), hint);
            }
        });
    }
    Some(table)
}

/// The value of a key, with the fallback's underneath.
pub(super) fn either<T: Setting>(own: Option<T>, fallback: Option<&T>) -> Option<T> {
    match (own, fallback) {
        (Some(own), Some(fallback)) => Some(own.merge(fallback)),
        (own, fallback) => own.or_else(|| fallback.cloned()),
    }
}

/// The JSON Schema of a table from its keys: name, schema, documentation and example of each.
pub(super) fn schema<const N: usize>(about: &str, keys: [(&str, Value, &str, &str); N]) -> Value {
    let mut properties = Map::new();
    for (name, mut schema, doc, example) in keys {
        if let Some(fields) = schema.as_object_mut() {
            fields.insert("description".to_owned(), json!(doc.trim()));
            // An example that is no TOML would be a mistake of ours; a test reads each of them.
            let example = toml::from_str::<Map<String, Value>>(&format!("example = {example}")).unwrap_or_default();
            fields.insert("examples".to_owned(), example.into_values().collect());
        }
        properties.insert(name.to_owned(), schema);
    }
    json!({
        "type": "object",
        "description": about.trim(),
        "properties": properties,
        "additionalProperties": false,
    })
}
