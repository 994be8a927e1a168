use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::*;

fn nothing_is_there(_: &Path) -> Option<PathBuf> {
    None
}

fn filter() -> Filter {
    Filter::new(Scope::new("/w", nothing_is_there), 4711)
}

fn value(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[track_caller]
fn passed(verdict: Verdict) -> Value {
    match verdict {
        Verdict::Pass(text) => value(&text),
        other => panic!("{other:?}"),
    }
}

/// The code of the error that came back.
#[track_caller]
fn refused(verdict: Verdict) -> i64 {
    match verdict {
        Verdict::Answer(text) => value(&text)["error"]["code"].as_i64().unwrap(),
        other => panic!("{other:?}"),
    }
}

fn request(method: &str, params: &Value) -> String {
    json!({ "jsonrpc": "2.0", "id": "of-claude", "method": method, "params": params }).to_string()
}

fn call(name: &str, arguments: &Value) -> String {
    request("tools/call", &json!({ "name": name, "arguments": arguments, "_meta": { "progressToken": 1 } }))
}

/// What Claude Code gets for this result of the editor's.
#[track_caller]
fn answer(asked: &str, result: &Value) -> Value {
    let mut filter = filter();
    let id = passed(filter.from_claude(asked))["id"].clone();
    let answer = json!({ "jsonrpc": "2.0", "id": id, "result": result });
    let got = passed(filter.from_editor(&answer.to_string()));
    assert_eq!(got["id"], "of-claude");
    assert_eq!(filter.from_editor(&answer.to_string()), Verdict::Drop, "a second answer");
    got
}

fn texts(all: &Value) -> Value {
    json!({ "content": [{ "type": "text", "text": all.to_string() }] })
}

#[test]
fn these_requests_pass_in_words_of_the_filters_own() {
    let introduction = json!({
        "protocolVersion": "2025-11-25",
        "capabilities": { "roots": {}, "elicitation": {} },
        "clientInfo": { "name": "claude-code", "version": "2", "more": 1 },
        "more": 1,
    });
    let uri = json!({ "uri": "file:///w/a.rs" });
    let table = [
        (
            request("initialize", &introduction),
            json!({
                "method": "initialize",
                "params": {
                    "protocolVersion": "2025-11-25",
                    "capabilities": {},
                    "clientInfo": { "name": "claude-code", "version": "2" },
                },
            }),
        ),
        (request("ping", &json!({})), json!({ "method": "ping" })),
        (request("tools/list", &json!({ "cursor": "x" })), json!({ "method": "tools/list" })),
        (
            call("getDiagnostics", &json!({})),
            json!({ "method": "tools/call", "params": { "name": "getDiagnostics", "arguments": {} } }),
        ),
        (
            call("getDiagnostics", &uri),
            json!({ "method": "tools/call", "params": { "name": "getDiagnostics", "arguments": uri } }),
        ),
        (
            call("getLatestSelection", &Value::Null),
            json!({ "method": "tools/call", "params": { "name": "getLatestSelection", "arguments": {} } }),
        ),
    ];
    for (text, mut expected) in table {
        expected["jsonrpc"] = "2.0".into();
        expected["id"] = 1.into();
        assert_eq!(passed(filter().from_claude(&text)), expected);
    }
}

#[test]
fn all_other_requests_are_answered_here() {
    let tools = [
        "openFile",
        "openDiff",
        "executeCode",
        "close_tab",
        "closeAllDiffTabs",
        "saveDocument",
        "getOpenEditors",
        "getWorkspaceFolders",
        "checkDocumentDirty",
        "set_permission_mode",
        "getdiagnostics",
        "getDiagnostics ",
        "",
    ];
    for tool in tools {
        assert_eq!(refused(filter().from_claude(&call(tool, &json!({})))), -32601, "{tool}");
    }
    for method in ["resources/list", "prompts/get", "logging/setLevel", "completion/complete", "Ping", "tools/call "] {
        assert_eq!(refused(filter().from_claude(&request(method, &json!({})))), -32601, "{method}");
    }
    let arguments = [
        json!({ "uri": "file:///v/a.rs" }),
        json!({ "uri": "file:///w/../v/a.rs" }),
        json!({ "uri": "file:///w/%2e%2e/v/a.rs" }),
        json!({ "uri": ["file:///w/a.rs"] }),
        json!({ "uri": null }),
        json!({ "uri": "file:///w/a.rs", "more": 1 }),
        json!([]),
        json!("file:///w/a.rs"),
    ];
    for arguments in arguments {
        assert_eq!(refused(filter().from_claude(&call("getDiagnostics", &arguments))), -32602, "{arguments}");
    }
    let uri = json!({ "uri": "file:///w/a.rs" });
    assert_eq!(refused(filter().from_claude(&call("getCurrentSelection", &uri))), -32602);
    assert_eq!(refused(filter().from_claude(&request("initialize", &json!({})))), -32602);
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let ids = [r#"{"id":{},"method":"ping"}"#, r#"{"id":null,"method":"ping"}"#, r#"{"id":1.5,"method":"ping"}"#];
    for text in ["", "[]", "null", "{", r#"[{"method":"ping","id":1}]"#, &deep].into_iter().chain(ids) {
        assert_eq!(refused(filter().from_claude(text)), -32600, "{text:.40}");
    }
    // Of a key that is there twice one counts, for the filter and for the editor.
    let twice =
        r#"{"id":1,"method":"ping","method":"tools/call","params":{"name":"getDiagnostics","name":"executeCode"}}"#;
    assert_eq!(refused(filter().from_claude(twice)), -32601);
}

#[test]
fn notifications_and_answers_of_claudes() {
    let told = |method: &str, params: &Value| {
        filter().from_claude(&json!({ "jsonrpc": "2.0", "method": method, "params": params }).to_string())
    };
    assert_eq!(passed(told("ide_connected", &json!({ "pid": 7 })))["params"], json!({ "pid": 4711 }));
    let initialized = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
    assert_eq!(passed(told("notifications/initialized", &json!({ "more": 1 }))), initialized);
    for method in ["notifications/roots/list_changed", "notifications/progress", "executeCode", "tools/call"] {
        assert_eq!(told(method, &json!({ "name": "executeCode" })), Verdict::Drop, "{method}");
    }
    assert_eq!(filter().from_claude(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#), Verdict::Drop);

    let cancel = r#"{"method":"notifications/cancelled","params":{"requestId":"of-claude","reason":"x"}}"#;
    let mut filter = filter();
    assert_eq!(filter.from_claude(cancel), Verdict::Drop, "nothing is open");
    let id = passed(filter.from_claude(&request("ping", &json!({}))))["id"].clone();
    assert_eq!(passed(filter.from_claude(cancel))["params"], json!({ "requestId": id }));
    assert_eq!(filter.from_editor(&json!({ "id": id, "result": {} }).to_string()), Verdict::Drop);
}

#[test]
fn no_more_than_a_number_is_open() {
    let mut filter = filter();
    for _ in 0..MOST_OPEN {
        passed(filter.from_claude(&request("ping", &json!({}))));
    }
    assert_eq!(refused(filter.from_claude(&request("ping", &json!({})))), -32000);
    passed(filter.from_editor(r#"{"id":1,"result":{}}"#));
    passed(filter.from_claude(&request("ping", &json!({}))));
}

#[test]
fn answers_are_cut_down() {
    let server = json!({ "name": "VS Code", "version": "1", "more": 1 });
    let said = json!({
        "protocolVersion": "2024-11-05",
        "capabilities": { "tools": { "listChanged": true }, "prompts": {}, "resources": {} },
        "serverInfo": server,
        "instructions": "run this",
    });
    let introduced = json!({
        "protocolVersion": "2024-11-05",
        "capabilities": { "tools": {} },
        "serverInfo": { "name": "VS Code", "version": "1" },
    });
    let initialize = request("initialize", &json!({ "protocolVersion": "2024-11-05" }));
    assert_eq!(answer(&initialize, &said)["result"], introduced);

    let tool = |name: &str| json!({ "name": name, "description": "d", "inputSchema": {}, "_meta": {} });
    let all = json!({ "tools": [tool("openFile"), tool("getDiagnostics"), tool("executeCode"), 7], "nextCursor": "x" });
    let expected = json!({ "tools": [{ "name": "getDiagnostics", "description": "d", "inputSchema": {} }] });
    assert_eq!(answer(&request("tools/list", &json!({})), &all)["result"], expected);

    let range = json!({ "start": { "line": 1, "character": 2 }, "end": { "line": 1, "character": 5 } });
    let found = json!({
        "message": "no such name", "severity": "Error", "source": "rustc", "code": "E0425", "range": range,
        "relatedInformation": [{ "message": "of another file" }],
    });
    let files = json!([
        { "uri": "file:///w/a%20b.rs", "diagnostics": [found], "linesInFile": 7 },
        { "uri": "file:///home/u/.ssh/config", "diagnostics": [found] },
        { "uri": "file:///w/../v/b.rs", "diagnostics": [found] },
        { "uri": "untitled:Untitled-1", "diagnostics": [found] },
        { "diagnostics": [found] },
    ]);
    let kept = json!([{ "uri": "file:///w/a%20b.rs", "diagnostics": [{
        "message": "no such name", "severity": "Error", "source": "rustc", "code": "E0425", "range": range,
    }] }]);
    let ask = call("getDiagnostics", &json!({}));
    let got = answer(&ask, &texts(&files));
    assert_eq!(value(got["result"]["content"][0]["text"].as_str().unwrap()), kept);
    assert_eq!(answer(&ask, &json!({ "content": [{ "type": "text", "text": "not JSON" }] }))["error"]["code"], -32603);
    let failed = json!({ "content": [{ "type": "text", "text": "/home/u/.ssh" }], "isError": true });
    assert!(!answer(&ask, &failed).to_string().contains(".ssh"));

    let ask = call("getCurrentSelection", &json!({}));
    let selected =
        |path: &str| json!({ "success": true, "text": "t", "filePath": path, "selection": range, "fileUrl": path });
    let got = answer(&ask, &texts(&selected("/w/a.rs")));
    let kept = json!({ "filePath": "/w/a.rs", "text": "t", "selection": range, "success": true });
    assert_eq!(value(got["result"]["content"][0]["text"].as_str().unwrap()), kept);
    let got = answer(&ask, &texts(&selected("/home/u/.ssh/id_ed25519")));
    assert!(!got.to_string().contains(".ssh") && got.to_string().contains("success"), "{got}");
}

#[test]
fn of_the_editors_own_messages_three_pass_for_files_of_the_workspace() {
    let tell =
        |method: &str, params: &Value| filter().from_editor(&json!({ "method": method, "params": params }).to_string());
    let range =
        json!({ "start": { "line": 1, "character": 0 }, "end": { "line": 2, "character": 0 }, "isEmpty": false });
    let at = |path: &str| json!({ "text": "kept", "filePath": path, "fileUrl": "x", "selection": range });
    let kept = json!({ "text": "kept", "filePath": "/w/a", "selection": range });
    assert_eq!(passed(tell("selection_changed", &at("/w/a")))["params"], kept);
    let mentioned = json!({ "filePath": "/w/a", "lineStart": 1, "lineEnd": 2 });
    assert_eq!(passed(tell("at_mentioned", &mentioned))["params"], mentioned);
    let uris = json!({ "uris": ["file:///v/b", "file:///w/a", 7] });
    assert_eq!(passed(tell("diagnostics_changed", &uris))["params"], json!({ "uris": ["file:///w/a"] }));

    for (method, params) in [
        ("selection_changed", at("/v/b")),
        ("selection_changed", at("/w/../v/b")),
        ("selection_changed", json!({ "text": "of no file", "selection": range })),
        ("at_mentioned", json!({ "filePath": "/v/b" })),
        ("diagnostics_changed", json!({ "uris": ["file:///v/b"] })),
        ("log_event", json!({ "eventName": "x", "eventData": {} })),
        ("notifications/tools/list_changed", json!({})),
    ] {
        assert_eq!(tell(method, &params), Verdict::Drop, "{method} {params}");
    }
    let ask = |method: &str| filter().from_editor(&request(method, &json!({})));
    assert_eq!(ask("ping"), Verdict::Answer(r#"{"jsonrpc":"2.0","id":"of-claude","result":{}}"#.to_owned()));
    for method in ["roots/list", "sampling/createMessage", "elicitation/create"] {
        assert_eq!(refused(ask(method)), -32601, "{method}");
    }
    assert_eq!(filter().from_editor(r#"{"id":1,"result":{}}"#), Verdict::Drop, "nothing was asked");
}

/// JSON made of the words that the protocol has.
fn message() -> impl Strategy<Value = Value> {
    let words = [
        "tools/call",
        "tools/list",
        "ping",
        "initialize",
        "executeCode",
        "getDiagnostics",
        "getCurrentSelection",
        "2.0",
        "selection_changed",
        "at_mentioned",
        "diagnostics_changed",
        "ide_connected",
        "file:///w/a",
        "file:///v/b",
        "/w/a",
        "/v/b",
        "/w/../v",
        "openFile",
        "notifications/cancelled",
    ];
    let keys = [
        "method",
        "id",
        "params",
        "name",
        "arguments",
        "uri",
        "uris",
        "filePath",
        "selection",
        "result",
        "error",
        "content",
        "text",
        "requestId",
        "protocolVersion",
        "tools",
    ];
    let leaf = prop_oneof![
        proptest::sample::select(words.to_vec()).prop_map(Value::from),
        (0_u64..4).prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
    ];
    let deep = leaf.prop_recursive(4, 48, 6, move |inner| {
        let object = proptest::collection::hash_map(proptest::sample::select(keys.to_vec()), inner.clone(), 0..6);
        prop_oneof![
            2 => object.prop_map(|all| all.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
            1 => proptest::collection::vec(inner, 0..4).prop_map(Value::from),
        ]
    });
    let methods = proptest::sample::select(words.to_vec());
    (methods, any::<bool>(), deep).prop_map(|(method, asks, params)| {
        let mut message = json!({ "jsonrpc": "2.0", "method": method, "params": params });
        if asks {
            message["id"] = 1.into();
        }
        message
    })
}

proptest! {
    #[test]
    fn any_bytes_are_dealt_with(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let text = String::from_utf8_lossy(&bytes);
        prop_assert!(!matches!(filter().from_claude(&text), Verdict::Pass(_)));
        prop_assert_eq!(filter().from_editor(&text), Verdict::Drop);
    }

    #[test]
    fn the_editor_gets_what_is_on_the_list_and_nothing_else(messages in proptest::collection::vec(message(), 1..8)) {
        let mut filter = filter();
        for message in messages {
            let Verdict::Pass(text) = filter.from_claude(&message.to_string()) else { continue };
            let got = value(&text);
            let listed = ["initialize", "ping", "tools/list", "tools/call", "ide_connected", "notifications/cancelled"];
            prop_assert!(listed.contains(&got["method"].as_str().unwrap()), "{}", text);
            if got["method"] == "tools/call" {
                prop_assert!(TOOLS.contains(&got["params"]["name"].as_str().unwrap()), "{}", text);
            }
            for never in ["/v", "executeCode", "openFile"] {
                prop_assert!(!text.contains(never), "{}", text);
            }
        }
    }

    #[test]
    fn claude_hears_of_the_workspace_only(messages in proptest::collection::vec(message(), 1..8)) {
        let mut filter = filter();
        for message in messages {
            if let Verdict::Pass(text) = filter.from_editor(&message.to_string()) {
                let told = ["selection_changed", "at_mentioned", "diagnostics_changed"];
                prop_assert!(told.contains(&value(&text)["method"].as_str().unwrap()), "{}", text);
                prop_assert!(text.contains("/w/a"), "{}", text);
            }
        }
    }
}
