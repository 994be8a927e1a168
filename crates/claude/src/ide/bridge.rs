//! The way from a jail's port to the editor: two `WebSocket`s and the filter between them.

use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use corral_core::{Code, Error, Result, Secret};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use subtle::ConstantTimeEq;
use tungstenite::client::IntoClientRequest;
use tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tungstenite::http::header::{HeaderName, HeaderValue, ORIGIN, SEC_WEBSOCKET_PROTOCOL};
use tungstenite::http::{HeaderMap, StatusCode};
use tungstenite::protocol::WebSocketConfig;
use tungstenite::{Message, WebSocket};

use super::filter::{Filter, Verdict};
use super::{AUTHORIZATION, Editor, Scope};

/// The protocol in the `WebSocket`s.
const PROTOCOL: &str = "mcp";

/// More connections than this are closed at once: Claude Code has one, and another while it connects again.
const MOST_CONNECTIONS: usize = 4;

/// The longest message of the jail's, in bytes.
const MOST_OF_CLAUDE: usize = 1 << 20;

/// The longest one of the editor's, which may tell of all files at once.
const MOST_OF_EDITOR: usize = 8 << 20;

/// How long a side may take to shake hands, or to take what it is sent.
const PATIENCE: Duration = Duration::from_secs(10);

/// A bridge that is open. It ends when this is dropped, and its connections with it.
#[derive(Debug)]
pub struct Bridge {
    _alive: UnixStream,
}

#[derive(Debug)]
struct Shared {
    editor: Editor,
    token: Secret,
    /// Readable once the bridge is to end.
    ended: UnixStream,
}

impl Bridge {
    /// Opens the way from `listener` to the editor, for whoever shows the token.
    pub fn serve(listener: TcpListener, editor: Editor, token: Secret) -> Result<Self> {
        let failed = |error: std::io::Error| {
            Error::new(Code::Io, "the bridge to the editor cannot be opened")
                .because(error)
                .hint("leave `--ide` out to go on without the editor")
        };
        listener.set_nonblocking(true).map_err(failed)?;
        let (alive, ended) = UnixStream::pair().map_err(failed)?;
        let shared = Arc::new(Shared { editor, token, ended });
        thread::Builder::new().name("editor".to_owned()).spawn(move || accept(&listener, &shared)).map_err(failed)?;
        Ok(Self { _alive: alive })
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    let places = Arc::new(());
    loop {
        let mut each = [PollFd::new(listener, PollFlags::IN), PollFd::new(&shared.ended, PollFlags::IN)];
        match poll(&mut each, None) {
            Err(rustix::io::Errno::INTR) => continue,
            Ok(_) if each[1].revents().is_empty() => {}
            Ok(_) | Err(_) => return,
        }
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            // One that has gone already.
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::ConnectionAborted) => continue,
            Err(_) => return,
        };
        if Arc::strong_count(&places) > MOST_CONNECTIONS {
            continue;
        }
        let (place, shared) = (Arc::clone(&places), Arc::clone(shared));
        let spawned = thread::Builder::new().name("editor-connection".to_owned()).spawn(move || {
            // Whichever side has gone or does what it should not: the other sees the end of its connection.
            let _ = serve(stream, &shared);
            drop(place);
        });
        // Without a thread the connection is closed, and Claude Code tries again.
        drop(spawned);
    }
}

/// A connection is over.
#[derive(Debug)]
struct Over;

impl<E: std::error::Error> From<E> for Over {
    fn from(_: E) -> Self {
        Self
    }
}

fn serve(stream: TcpStream, shared: &Shared) -> Result<(), Over> {
    prepare(&stream)?;
    #[expect(clippy::result_large_err, reason = "tungstenite's own type for it")]
    let admit = |request: &Request, response: Response| admit(request.headers(), response, &shared.token);
    let claude = tungstenite::accept_hdr_with_config(stream, admit, Some(bounds(MOST_OF_CLAUDE)))?;
    let editor = dial(&shared.editor)?;
    let scope = Scope::new(&shared.editor.workspace, |path: &Path| path.canonicalize().ok());
    let mut filter = Filter::new(scope, std::process::id());
    let (mut claude, mut editor) = (Side::new(claude)?, Side::new(editor)?);
    let over = relay(&mut claude, &mut editor, &mut filter, &shared.ended);
    claude.close();
    editor.close();
    over
}

fn prepare(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))
}

fn bounds(most: usize) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(16 << 10)
        .write_buffer_size(0)
        // One message may be a little longer once it is written anew, and there may be answers besides it.
        .max_write_buffer_size(4 * MOST_OF_EDITOR)
        .max_message_size(Some(most))
        .max_frame_size(Some(most))
}

/// Lets in who shows the token and speaks the protocol.
#[expect(clippy::result_large_err, reason = "tungstenite's own type for it")]
fn admit(headers: &HeaderMap, mut response: Response, token: &Secret) -> Result<Response, ErrorResponse> {
    let refused = |status: StatusCode| {
        let mut refused = ErrorResponse::new(None);
        *refused.status_mut() = status;
        refused
    };
    let shown = headers.get(AUTHORIZATION).map_or(&b""[..], HeaderValue::as_bytes);
    // A web page would send its origin.
    if !bool::from(shown.ct_eq(token.expose().as_bytes())) || headers.contains_key(ORIGIN) {
        return Err(refused(StatusCode::UNAUTHORIZED));
    }
    let protocols = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    if !protocols.flat_map(|all| all.split(',')).any(|one| one.trim() == PROTOCOL) {
        return Err(refused(StatusCode::BAD_REQUEST));
    }
    response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(PROTOCOL));
    Ok(response)
}

fn dial(editor: &Editor) -> Result<WebSocket<TcpStream>, Over> {
    let stream = editor.dial()?;
    prepare(&stream)?;
    let mut request = format!("ws://127.0.0.1:{}/", editor.port).into_client_request()?;
    let headers = request.headers_mut();
    headers.insert(HeaderName::from_static(AUTHORIZATION), HeaderValue::from_str(editor.token.expose())?);
    headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(PROTOCOL));
    let (socket, _) = tungstenite::client::client_with_config(request, stream, Some(bounds(MOST_OF_EDITOR)))?;
    Ok(socket)
}

/// One end of the bridge.
struct Side {
    socket: WebSocket<TcpStream>,
    /// Whether there is something that it has not taken yet.
    pending: bool,
}

impl Side {
    fn new(socket: WebSocket<TcpStream>) -> std::io::Result<Self> {
        socket.get_ref().set_nonblocking(true)?;
        Ok(Self { socket, pending: false })
    }

    /// The next message, if it is there.
    fn next(&mut self) -> Result<Option<String>, Over> {
        loop {
            match self.socket.read() {
                Ok(Message::Text(text)) => return Ok(Some(text.as_str().to_owned())),
                Ok(Message::Ping(_) | Message::Pong(_)) => {}
                Ok(Message::Binary(_) | Message::Close(_) | Message::Frame(_)) => return Err(Over),
                Err(error) => return if is_wait(&error) { Ok(None) } else { Err(Over) },
            }
        }
    }

    fn send(&mut self, text: String) -> Result<(), Over> {
        // What is not written at once is kept.
        match self.socket.write(Message::text(text)) {
            Err(error) if !is_wait(&error) => Err(Over),
            _ => self.flush(),
        }
    }

    fn flush(&mut self) -> Result<(), Over> {
        match self.socket.flush() {
            Ok(()) => self.pending = false,
            Err(error) if is_wait(&error) => self.pending = true,
            Err(_) => return Err(Over),
        }
        Ok(())
    }

    fn close(&mut self) {
        let _ = self.socket.close(None);
        let _ = self.socket.flush();
    }
}

fn is_wait(error: &tungstenite::Error) -> bool {
    matches!(error, tungstenite::Error::Io(error) if error.kind() == ErrorKind::WouldBlock)
}

fn relay(claude: &mut Side, editor: &mut Side, filter: &mut Filter, ended: &UnixStream) -> Result<(), Over> {
    loop {
        // Nothing more is read while somebody does not take what was read before.
        let mut idle = false;
        while !idle && !claude.pending && !editor.pending {
            idle = true;
            if let Some(text) = claude.next()? {
                deliver(filter.from_claude(&text), claude, editor)?;
                idle = false;
            }
            if let Some(text) = editor.next()? {
                deliver(filter.from_editor(&text), editor, claude)?;
                idle = false;
            }
        }
        wait(claude, editor, ended)?;
        claude.flush()?;
        editor.flush()?;
    }
}

fn deliver(verdict: Verdict, from: &mut Side, to: &mut Side) -> Result<(), Over> {
    match verdict {
        Verdict::Pass(text) => to.send(text),
        Verdict::Answer(text) => from.send(text),
        Verdict::Drop => Ok(()),
    }
}

/// Waits until there is something to do.
fn wait(claude: &Side, editor: &Side, ended: &UnixStream) -> Result<(), Over> {
    let is_stuck = claude.pending || editor.pending;
    let wanted = |side: &Side| match (side.pending, is_stuck) {
        (true, _) => PollFlags::OUT,
        (false, true) => PollFlags::empty(),
        (false, false) => PollFlags::IN,
    };
    let mut each = [
        PollFd::new(claude.socket.get_ref(), wanted(claude)),
        PollFd::new(editor.socket.get_ref(), wanted(editor)),
        PollFd::new(ended, PollFlags::IN),
    ];
    let limit = Timespec { tv_sec: PATIENCE.as_secs().cast_signed(), tv_nsec: 0 };
    let ready = match poll(&mut each, is_stuck.then_some(&limit)) {
        Err(rustix::io::Errno::INTR) => return Ok(()),
        ready => ready?,
    };
    let is_gone = |fd: &PollFd<'_>| fd.revents().intersects(PollFlags::ERR | PollFlags::NVAL);
    let hung_up = is_stuck && each[..2].iter().any(|fd| fd.revents().intersects(PollFlags::HUP));
    if ready == 0 || hung_up || !each[2].revents().is_empty() || each[..2].iter().any(is_gone) {
        return Err(Over);
    }
    Ok(())
}
