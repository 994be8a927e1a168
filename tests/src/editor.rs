//! An editor with Claude Code's extension, as far as the wire shows it: it records all that it is told, and does what
//! it is asked.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use tungstenite::client::IntoClientRequest;
use tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tungstenite::http::HeaderValue;
use tungstenite::{Message, WebSocket};

use crate::PATIENCE;

const AUTHORIZATION: &str = "X-Claude-Code-Ide-Authorization";
const PROTOCOL: &str = "Sec-WebSocket-Protocol";

/// The token that it wants.
pub const TOKEN: &str = "the-editors-own-token";

/// An editor that listens until the tests end.
#[derive(Debug)]
pub struct Editor {
    port: u16,
    told: Arc<Mutex<Vec<Value>>>,
    /// The ways to those who are connected.
    clients: Arc<Mutex<Vec<Sender<Value>>>>,
}

impl Editor {
    /// One whose diagnostics are those of the files at these paths.
    pub fn start(files: &[&Path]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let editor = Self { port, told: Arc::default(), clients: Arc::default() };
        let (told, clients) = (Arc::clone(&editor.told), Arc::clone(&editor.clients));
        let files: Vec<PathBuf> = files.iter().map(|file| file.to_path_buf()).collect();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (to, from) = mpsc::channel();
                clients.lock().expect("the clients").push(to);
                let (told, files) = (Arc::clone(&told), files.clone());
                thread::spawn(move || {
                    let Ok(mut socket) = accept(stream) else { return };
                    loop {
                        match socket.read() {
                            Ok(Message::Text(text)) => {
                                let message: Value = serde_json::from_str(&text).expect("JSON");
                                told.lock().expect("what it was told").push(message.clone());
                                if let Some(answer) = answer(&message, &files) {
                                    socket.send(Message::text(answer.to_string())).expect("a client that waits");
                                }
                            }
                            Err(tungstenite::Error::Io(error)) if error.kind() == std::io::ErrorKind::WouldBlock => {
                                for message in from.try_iter() {
                                    let _ = socket.send(Message::text(Value::to_string(&message)));
                                }
                            }
                            Ok(_) => {}
                            Err(_) => return,
                        }
                    }
                });
            }
        });
        editor
    }

    /// The port that it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Writes of itself in the home of its user, who has this folder open.
    pub fn announce(&self, home: &Path, folder: &Path) {
        let at = home.join(".claude/ide");
        fs::create_dir_all(&at).expect("a folder");
        let lock = json!({
            "pid": std::process::id(),
            "workspaceFolders": [folder],
            "ideName": "Scripted Editor",
            "transport": "ws",
            "authToken": TOKEN,
        });
        fs::write(at.join(format!("{}.lock", self.port)), lock.to_string()).expect("a file");
    }

    /// What it was told so far.
    pub fn told(&self) -> Vec<Value> {
        self.told.lock().expect("what it was told").clone()
    }

    /// The methods of that, with the names of the tools that were called.
    pub fn methods(&self) -> Vec<String> {
        let name = |message: &Value| {
            let method = message["method"].as_str().unwrap_or("none").to_owned();
            message["params"]["name"].as_str().map_or_else(|| method.clone(), |tool| format!("{method} {tool}"))
        };
        self.told().iter().map(name).collect()
    }

    /// Tells all who are connected of something.
    pub fn tell(&self, method: &str, params: &Value) {
        let message = json!({ "jsonrpc": "2.0", "method": method, "params": params });
        self.clients.lock().expect("the clients").retain(|client| client.send(message.clone()).is_ok());
    }
}

#[expect(clippy::result_large_err, reason = "tungstenite's own types")]
fn accept(stream: TcpStream) -> Result<WebSocket<TcpStream>, tungstenite::Error> {
    let admit = |request: &Request, mut response: Response| {
        let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
        if header(AUTHORIZATION) != Some(TOKEN) || header(PROTOCOL) != Some("mcp") {
            return Err(ErrorResponse::new(Some("wrong".to_owned())));
        }
        response.headers_mut().insert(PROTOCOL, HeaderValue::from_static("mcp"));
        Ok(response)
    };
    let socket = tungstenite::accept_hdr(stream, admit)
        .map_err(|error| tungstenite::Error::Io(std::io::Error::other(error.to_string())))?;
    socket.get_ref().set_read_timeout(Some(Duration::from_millis(50)))?;
    Ok(socket)
}

/// What it answers to a request.
fn answer(message: &Value, files: &[PathBuf]) -> Option<Value> {
    let id = message.get("id")?;
    let tool = |name: &str| json!({ "name": name, "description": name, "inputSchema": { "type": "object" } });
    let wrong = |range: &Value| json!({ "message": "it is wrong", "severity": "Error", "range": range, "source": "s" });
    let text = |value: Value| json!({ "content": [{ "type": "text", "text": value.to_string() }] });
    let result = match (message["method"].as_str()?, message["params"]["name"].as_str()) {
        ("initialize", _) => json!({
            "protocolVersion": message["params"]["protocolVersion"],
            "capabilities": { "tools": { "listChanged": true } },
            "serverInfo": { "name": "Scripted Editor", "version": "1" },
        }),
        ("tools/list", _) => json!({ "tools": [tool("openFile"), tool("getDiagnostics"), tool("executeCode")] }),
        ("tools/call", Some("getDiagnostics")) => {
            let range = json!({ "start": { "line": 0, "character": 0 }, "end": { "line": 0, "character": 1 } });
            let of =
                |file: &PathBuf| json!({ "uri": format!("file://{}", file.display()), "diagnostics": [wrong(&range)] });
            text(files.iter().map(of).collect())
        }
        ("tools/call", _) => text(json!("done")),
        _ => json!({}),
    };
    Some(json!({ "jsonrpc": "2.0", "id": id, "result": result }))
}

/// A client of an editor, or of what stands before one.
#[derive(Debug)]
pub struct Client {
    socket: WebSocket<TcpStream>,
    last: u64,
}

impl Client {
    /// Connects to a port with this token; none where it is refused.
    pub fn connect(port: u16, token: &str) -> Option<Self> {
        Self::speaking("mcp", port, token)
    }

    /// The same with another protocol.
    pub fn speaking(protocol: &str, port: u16, token: &str) -> Option<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("somebody listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time");
        let mut request = format!("ws://127.0.0.1:{port}/").into_client_request().expect("an address");
        request.headers_mut().insert(AUTHORIZATION, HeaderValue::from_str(token).expect("a header"));
        request.headers_mut().insert(PROTOCOL, HeaderValue::from_str(protocol).expect("a header"));
        let (socket, _) = tungstenite::client(request, stream).ok()?;
        Some(Self { socket, last: 0 })
    }

    /// Asks for something, and returns the answer.
    #[track_caller]
    pub fn ask(&mut self, method: &str, params: &Value) -> Value {
        self.last += 1;
        let request = json!({ "jsonrpc": "2.0", "id": self.last, "method": method, "params": params });
        self.send(Message::text(request.to_string()));
        let answer = self.hear().expect("an answer");
        assert_eq!(answer["id"], self.last, "{answer}");
        answer
    }

    /// Calls a tool, and returns the answer.
    #[track_caller]
    pub fn call(&mut self, tool: &str, arguments: &Value) -> Value {
        self.ask("tools/call", &json!({ "name": tool, "arguments": arguments }))
    }

    /// Sends a message of any kind.
    #[track_caller]
    pub fn send(&mut self, message: Message) {
        self.offer(message).expect("it is connected");
    }

    /// Sends a message that may be refused before it is all there.
    pub fn offer(&mut self, message: Message) -> tungstenite::Result<()> {
        self.socket.send(message)
    }

    /// The next message; none where the connection has ended.
    #[track_caller]
    pub fn hear(&mut self) -> Option<Value> {
        loop {
            match self.socket.read() {
                Ok(Message::Text(text)) => return Some(serde_json::from_str(&text).expect("JSON")),
                Ok(Message::Close(_)) => return None,
                Ok(_) => {}
                Err(tungstenite::Error::Io(error)) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    panic!("it neither answers nor ends");
                }
                Err(_) => return None,
            }
        }
    }
}
