//! What is left of each part of a message: the keys that are known, with values of the kind that they should have.

use serde_json::{Map, Value, json};

use super::TOOLS;
use crate::ide::Scope;

type Object = Map<String, Value>;

/// How a client introduces itself: it can do nothing, since the editor's requests do not reach it.
pub(super) fn introduction(params: &Object) -> Option<Value> {
    let version = params.get("protocolVersion").filter(|version| is_version(version))?;
    let client = params.get("clientInfo").and_then(Value::as_object).map(party);
    let client = client.unwrap_or_else(|| json!({ "name": "claude-code", "version": "0" }));
    Some(json!({ "protocolVersion": version, "capabilities": {}, "clientInfo": client }))
}

/// How an editor introduces itself: it has tools and nothing else.
pub(super) fn introduced(said: &Object) -> Option<Value> {
    let version = said.get("protocolVersion").filter(|version| is_version(version))?;
    let server = said.get("serverInfo").and_then(Value::as_object).map(party);
    let server = server.unwrap_or_else(|| json!({ "name": "IDE", "version": "0" }));
    Some(json!({ "protocolVersion": version, "capabilities": { "tools": {} }, "serverInfo": server }))
}

fn party(info: &Object) -> Value {
    let text = |key: &str| info.get(key).filter(|value| is_name(value)).cloned().unwrap_or_else(|| "".into());
    json!({ "name": text("name"), "version": text("version") })
}

/// Those of the protocol are dates.
fn is_version(value: &Value) -> bool {
    let fits = |c: char| c.is_ascii_digit() || matches!(c, '-' | '.');
    value.as_str().is_some_and(|text| text.len() <= 32 && text.chars().all(fits))
}

fn is_name(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.len() <= 200)
}

pub(super) fn tools(said: &Object) -> Option<Value> {
    let keys: [(&str, Kind); 3] =
        [("name", Value::is_string), ("description", Value::is_string), ("inputSchema", Value::is_object)];
    let passes = |tool: &&Object| tool.get("name").and_then(Value::as_str).is_some_and(|name| TOOLS.contains(&name));
    let tools = said.get("tools")?.as_array()?.iter().filter_map(Value::as_object).filter(passes);
    let tools: Vec<_> = tools.map(|tool| pick(tool, &keys)).collect();
    Some(json!({ "tools": tools }))
}

/// The diagnostics of the files in scope, out of a tool's answer: texts that are JSON each.
pub(super) fn diagnostics(said: &Object, scope: &Scope) -> Option<Value> {
    if said.get("isError") == Some(&true.into()) {
        return Some(json!({ "content": [text("the editor cannot say")], "isError": true }));
    }
    let mut files = Vec::new();
    for text in texts(said)? {
        match serde_json::from_str(text).ok()? {
            Value::Array(found) => files.extend(found),
            found @ Value::Object(_) => files.push(found),
            _ => return None,
        }
    }
    let files: Vec<_> = files.iter().filter_map(|file| of_file(file.as_object()?, scope)).collect();
    Some(json!({ "content": [text(&Value::Array(files).to_string())] }))
}

fn of_file(file: &Object, scope: &Scope) -> Option<Value> {
    let uri = file.get("uri")?.as_str().filter(|uri| scope.holds_uri(uri))?;
    let found: Vec<_> = file.get("diagnostics")?.as_array()?.iter().filter_map(Value::as_object).map(finding).collect();
    Some(json!({ "uri": uri, "diagnostics": found }))
}

/// One diagnostic. What is related to it is left out: that may be in any file.
fn finding(finding: &Object) -> Value {
    let keys: [(&str, Kind); 4] =
        [("message", Value::is_string), ("severity", is_word), ("source", Value::is_string), ("code", is_word)];
    let mut picked = pick(finding, &keys);
    if let Some(range) = finding.get("range").and_then(range) {
        picked["range"] = range;
    }
    picked
}

/// The selection, out of a tool's answer: one text that is JSON.
pub(super) fn selection(said: &Object, scope: &Scope) -> Option<Value> {
    let found: Value = texts(said)?.first().and_then(|text| serde_json::from_str(text).ok())?;
    let found = found.as_object().and_then(|found| selected(found, scope)).map_or_else(
        || json!({ "success": false, "message": "nothing in the workspace is selected" }),
        |mut found| {
            found["success"] = true.into();
            found
        },
    );
    Some(json!({ "content": [text(&found.to_string())] }))
}

/// What is selected, where that is in a file in scope.
pub(super) fn selected(params: &Object, scope: &Scope) -> Option<Value> {
    params.get("filePath")?.as_str().filter(|path| scope.holds(path))?;
    let mut told = pick(params, &[("filePath", Value::is_string), ("text", Value::is_string)]);
    if let Some(selection) = params.get("selection") {
        told["selection"] = range(selection)?;
    }
    Some(told)
}

/// A file and lines of it, which the user has sent to Claude.
pub(super) fn mentioned(params: &Object, scope: &Scope) -> Option<Value> {
    params.get("filePath")?.as_str().filter(|path| scope.holds(path))?;
    Some(pick(params, &[("filePath", Value::is_string), ("lineStart", Value::is_u64), ("lineEnd", Value::is_u64)]))
}

/// The files in scope of which there are new diagnostics.
pub(super) fn changed(params: &Object, scope: &Scope) -> Option<Value> {
    let uris = params.get("uris")?.as_array()?.iter().filter_map(Value::as_str);
    let uris: Vec<_> = uris.filter(|uri| scope.holds_uri(uri)).collect();
    (!uris.is_empty()).then(|| json!({ "uris": uris }))
}

/// From one place in a text to another.
fn range(value: &Value) -> Option<Value> {
    let place = |key: &str| {
        let place = value.get(key)?;
        let number = |key: &str| place.get(key).and_then(Value::as_u64);
        Some(json!({ "line": number("line")?, "character": number("character")? }))
    };
    let mut range = json!({ "start": place("start")?, "end": place("end")? });
    if let Some(empty @ Value::Bool(_)) = value.get("isEmpty") {
        range["isEmpty"] = empty.clone();
    }
    Some(range)
}

type Kind = fn(&Value) -> bool;

fn is_word(value: &Value) -> bool {
    value.is_string() || value.is_number()
}

fn pick(from: &Object, keys: &[(&str, Kind)]) -> Value {
    let known = keys.iter().filter_map(|&(key, fits)| {
        let value = from.get(key).filter(|value| fits(value))?;
        Some((key.to_owned(), value.clone()))
    });
    Value::Object(known.collect())
}

fn text(text: &str) -> Value {
    json!({ "type": "text", "text": text })
}

/// The texts of a tool's answer; none where there is none.
fn texts(said: &Object) -> Option<Vec<&str>> {
    let blocks = said.get("content")?.as_array()?.iter();
    let texts: Vec<_> = blocks.filter_map(|block| block.get("text").and_then(Value::as_str)).collect();
    (!texts.is_empty()).then_some(texts)
}
