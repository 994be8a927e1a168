//! The JSON Schema of `models.toml`, for editors and for `corral schema`.

use serde_json::{Value, json};

use super::reader::Setting;
use super::tables::Root;

/// The schema of `models.toml` (JSON Schema 2020-12), from the same declarations that read the file.
pub fn json_schema() -> Value {
    let mut schema = Root::schema();
    if let Some(fields) = schema.as_object_mut() {
        fields.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
        fields.insert("title".to_owned(), json!("models.toml of Corral"));
        fields.insert("required".to_owned(), json!(["schema"]));
    }
    schema
}
