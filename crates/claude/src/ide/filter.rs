//! What passes between Claude Code in the jail and the editor: a list, and nothing besides it.
//!
//! No message is passed on as it came. Each is read, and a new one is written of the parts that are known, so that what
//! one side and this filter would read differently does not get to the other.

mod reduce;

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::Scope;

/// More requests than this are not waited for at once.
const MOST_OPEN: usize = 64;

/// JSON-RPC's codes.
const INVALID_REQUEST: i64 = -32600;
const NO_METHOD: i64 = -32601;
const INVALID_PARAMS: i64 = -32602;
const INTERNAL: i64 = -32603;
const BUSY: i64 = -32000;

/// The tools that pass: what the editor has found, and what the user has selected.
pub const TOOLS: [&str; 3] = [DIAGNOSTICS, "getCurrentSelection", "getLatestSelection"];
const DIAGNOSTICS: &str = "getDiagnostics";

/// What becomes of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// This goes on to the other side.
    Pass(String),
    /// This goes back to the one who sent it; the other side hears nothing.
    Answer(String),
    /// Nobody hears of it.
    Drop,
}

/// The filter of one connection.
#[derive(Debug)]
pub struct Filter {
    scope: Scope,
    process: u32,
    /// What the editor was asked and has not answered, by the ids that it was asked with.
    open: HashMap<u64, Open>,
    last: u64,
}

#[derive(Debug)]
struct Open {
    /// As Claude Code has it.
    id: Value,
    what: What,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Initialize,
    Ping,
    Tools,
    Diagnostics,
    Selection,
}

impl Filter {
    /// A filter for files of this scope. `process` is what the editor is told of as Claude Code's process, whose own
    /// number means another one outside: that of the program which runs the jail.
    pub fn new(scope: Scope, process: u32) -> Self {
        Self { scope, process, open: HashMap::new(), last: 0 }
    }

    /// A message of Claude Code's.
    pub fn from_claude(&mut self, text: &str) -> Verdict {
        // It is not read deeper than serde_json's 128 levels.
        let Ok(Value::Object(message)) = serde_json::from_str(text) else {
            return Verdict::Answer(error(&Value::Null, INVALID_REQUEST, "this is no message"));
        };
        let params = message.get("params").and_then(Value::as_object);
        match (message.get("method").and_then(Value::as_str), message.get("id")) {
            // An answer: nothing was asked.
            (None, _) => Verdict::Drop,
            (Some(method), None) => self.notification(method, params),
            (Some(method), Some(id)) if is_id(id) => match self.request(method, params, id) {
                Ok(text) => Verdict::Pass(text),
                Err((code, why)) => Verdict::Answer(error(id, code, why)),
            },
            (Some(_), Some(_)) => Verdict::Answer(error(&Value::Null, INVALID_REQUEST, "this is no id")),
        }
    }

    fn notification(&mut self, method: &str, params: Option<&Map<String, Value>>) -> Verdict {
        match method {
            "notifications/initialized" => Verdict::Pass(json!({ "jsonrpc": "2.0", "method": method }).to_string()),
            "ide_connected" => Verdict::Pass(notice(method, &json!({ "pid": self.process }))),
            "notifications/cancelled" => {
                let cancelled = params.and_then(|params| params.get("requestId"));
                let asked = self.open.iter().find(|(_, open)| Some(&open.id) == cancelled).map(|(&asked, _)| asked);
                asked
                    .and_then(|asked| self.open.remove(&asked).map(|_| asked))
                    .map_or(Verdict::Drop, |asked| Verdict::Pass(notice(method, &json!({ "requestId": asked }))))
            }
            _ => Verdict::Drop,
        }
    }

    fn request(
        &mut self,
        method: &str,
        params: Option<&Map<String, Value>>,
        id: &Value,
    ) -> Result<String, (i64, &'static str)> {
        if self.open.len() >= MOST_OPEN {
            return Err((BUSY, "too many requests are not answered yet"));
        }
        let (what, params) = match method {
            "initialize" => {
                let params = params.and_then(reduce::introduction).ok_or((INVALID_PARAMS, "a version is missing"))?;
                (What::Initialize, Some(params))
            }
            "ping" => (What::Ping, None),
            "tools/list" => (What::Tools, None),
            "tools/call" => {
                let (what, params) = self.call(params.ok_or((INVALID_PARAMS, "a tool's name is missing"))?)?;
                (what, Some(params))
            }
            _ => return Err((NO_METHOD, "the jail passes nothing of this kind on to the editor")),
        };
        self.last += 1;
        self.open.insert(self.last, Open { id: id.clone(), what });
        let mut request = json!({ "jsonrpc": "2.0", "id": self.last, "method": method });
        if let Some(params) = params {
            request["params"] = params;
        }
        Ok(request.to_string())
    }

    fn call(&self, params: &Map<String, Value>) -> Result<(What, Value), (i64, &'static str)> {
        let name = params.get("name").and_then(Value::as_str).unwrap_or_default();
        if !TOOLS.contains(&name) {
            return Err((NO_METHOD, "in the jail the editor tells of diagnostics and the selection only"));
        }
        let none = Map::new();
        let arguments = match params.get("arguments") {
            None | Some(Value::Null) => &none,
            Some(Value::Object(arguments)) => arguments,
            Some(_) => return Err((INVALID_PARAMS, "the arguments are no object")),
        };
        for (key, value) in arguments {
            let held = value.as_str().is_some_and(|uri| self.scope.holds_strictly(uri));
            if name != DIAGNOSTICS || key != "uri" || !held {
                return Err((INVALID_PARAMS, "the one argument is the `file:` URI of a file in the workspace"));
            }
        }
        let what = if name == DIAGNOSTICS { What::Diagnostics } else { What::Selection };
        Ok((what, json!({ "name": name, "arguments": arguments })))
    }

    /// A message of the editor's.
    pub fn from_editor(&mut self, text: &str) -> Verdict {
        let Ok(Value::Object(message)) = serde_json::from_str(text) else { return Verdict::Drop };
        match (message.get("method").and_then(Value::as_str), message.get("id")) {
            (Some(method), None) => {
                let params = message.get("params").and_then(Value::as_object);
                let told = params.and_then(|params| match method {
                    "selection_changed" => reduce::selected(params, &self.scope),
                    "at_mentioned" => reduce::mentioned(params, &self.scope),
                    "diagnostics_changed" => reduce::changed(params, &self.scope),
                    _ => None,
                });
                told.map_or(Verdict::Drop, |told| Verdict::Pass(notice(method, &told)))
            }
            (Some("ping"), Some(id)) if is_id(id) => Verdict::Answer(result(id, &json!({}))),
            // The jail is asked for nothing; an editor that waited for its answer would wait for good.
            (Some(_), Some(id)) if is_id(id) => Verdict::Answer(error(id, NO_METHOD, "not available")),
            (Some(_), Some(_)) => Verdict::Drop,
            (None, id) => {
                let open = id.and_then(Value::as_u64).and_then(|id| self.open.remove(&id));
                open.map_or(Verdict::Drop, |open| Verdict::Pass(self.answer(&open, &message)))
            }
        }
    }

    fn answer(&self, open: &Open, message: &Map<String, Value>) -> String {
        let Some(said) = message.get("result").and_then(Value::as_object) else {
            let code = message.get("error").and_then(|error| error.get("code")).and_then(Value::as_i64);
            return error(&open.id, code.unwrap_or(INTERNAL), "the editor answers with an error");
        };
        let reduced = match open.what {
            What::Initialize => reduce::introduced(said),
            What::Ping => Some(json!({})),
            What::Tools => reduce::tools(said),
            What::Diagnostics => reduce::diagnostics(said, &self.scope),
            What::Selection => reduce::selection(said, &self.scope),
        };
        match reduced {
            Some(reduced) => result(&open.id, &reduced),
            None => error(&open.id, INTERNAL, "the editor's answer is not understood"),
        }
    }
}

fn is_id(id: &Value) -> bool {
    id.is_i64() || id.is_u64() || id.as_str().is_some_and(|id| id.len() <= 128)
}

fn notice(method: &str, params: &Value) -> String {
    json!({ "jsonrpc": "2.0", "method": method, "params": params }).to_string()
}

fn result(id: &Value, result: &Value) -> String {
    json!({ "jsonrpc": "2.0", "id": id, "result": result }).to_string()
}

fn error(id: &Value, code: i64, message: &str) -> String {
    json!({ "jsonrpc": "2.0", "id": id, "error": { "code": code, "message": message } }).to_string()
}

#[cfg(test)]
mod tests;
