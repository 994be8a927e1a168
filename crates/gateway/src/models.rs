//! The list of models as clients of both protocols read it.

use corral_core::catalog::{Catalog, Model};
use corral_core::snapshot::{Phase, Snapshot};
use corral_core::{Code, Error, ModelId, Result};
use jiff::Timestamp;
use serde_json::{Value, json};

/// The answer to `GET /v1/models`: the fields of both protocols side by side, neither of which disturbs the other.
pub(crate) fn list(catalog: &Catalog, snapshot: &Snapshot) -> Value {
    let data: Vec<Value> = catalog.models.iter().map(|(id, model)| entry(id, model, snapshot)).collect();
    json!({
        "object": "list",
        "first_id": catalog.models.first().map(|(id, _)| id),
        "last_id": catalog.models.last().map(|(id, _)| id),
        "has_more": false,
        "data": data,
    })
}

/// The answer to `GET /v1/models/{name}`: a catalog id or alias.
pub(crate) fn one(catalog: &Catalog, snapshot: &Snapshot, name: &str) -> Result<Value> {
    let (id, model) = catalog.resolve(name).map_err(|error| {
        // Here a name is looked up; that any name would do for a question is of no help.
        Error::new(Code::UnknownModel, error.to_string()).hint("`GET /v1/models` lists the models")
    })?;
    Ok(entry(id, model, snapshot))
}

fn entry(id: &ModelId, model: &Model, snapshot: &Snapshot) -> Value {
    let loaded = snapshot.phase == Phase::Ready && snapshot.model.as_ref() == Some(id);
    json!({
        "id": id,
        "object": "model",
        "type": "model",
        "created": 0,
        "created_at": Timestamp::UNIX_EPOCH,
        "owned_by": "corral",
        "display_name": model.name,
        "aliases": model.aliases.iter().map(|alias| &alias.0).collect::<Vec<_>>(),
        "loaded": loaded,
        "max_input_tokens": model.launch.ctx / model.launch.parallel.max(1),
        "meta": { "n_ctx": model.launch.ctx / model.launch.parallel.max(1) },
    })
}

/// The answer to `GET /health`, as llama-server gives it: 200 when requests are answered at once, else 503.
pub(crate) fn health(snapshot: &Snapshot) -> (u16, Value) {
    let message = match snapshot.phase {
        Phase::Ready => return (200, json!({ "status": "ok" })),
        Phase::Stopped => "No model is loaded",
        Phase::Failed => "No model could be loaded",
        Phase::Draining | Phase::Stopping => "The model is being stopped",
        Phase::Pulling | Phase::Starting | Phase::Loading => "Loading model",
    };
    (503, json!({ "error": { "code": 503, "message": message, "type": "unavailable_error" } }))
}
