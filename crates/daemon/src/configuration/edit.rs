//! Keys of a TOML file, set where they stand.

use serde::Serialize;
use toml_edit::{Item, TableLike, Value};

/// Sets a key to a value; what stands beside the old one stays. `None` takes the key out.
pub(super) fn set(table: &mut dyn TableLike, key: &str, value: Option<Value>) {
    let Some(mut value) = value else {
        table.remove(key);
        return;
    };
    match table.get_mut(key) {
        Some(item) => {
            if let Some(old) = item.as_value() {
                *value.decor_mut() = old.decor().clone();
            }
            *item = Item::Value(value);
        }
        None => {
            table.insert(key, Item::Value(value));
        }
    }
}

/// A string, a flag, a whole number or a list of these as TOML; none for anything else, and for null.
pub(super) fn value_of(value: impl Serialize) -> Option<Value> {
    fn of(value: &serde_json::Value) -> Option<Value> {
        match value {
            serde_json::Value::String(text) => Some(text.as_str().into()),
            serde_json::Value::Bool(flag) => Some((*flag).into()),
            serde_json::Value::Number(number) => number.as_i64().map(Value::from),
            serde_json::Value::Array(items) => {
                items.iter().map(of).collect::<Option<toml_edit::Array>>().map(Value::from)
            }
            serde_json::Value::Null | serde_json::Value::Object(_) => None,
        }
    }
    of(&serde_json::to_value(value).ok()?)
}
