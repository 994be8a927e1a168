//! HTTP/1.1 as bytes on a kept-alive connection: for measuring, where a library between would be measured as well.

use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// How much is read at once, in bytes.
const BLOCK: usize = 16 << 10;

/// Accepts connections for ever and answers each beside the others, all on this thread. A connection that breaks is its
/// client's business.
pub async fn each_connection<A>(listener: TcpListener, answer: impl Fn(TcpStream) -> A) -> Result<()>
where
    A: Future<Output = Result<()>> + 'static,
{
    let connections = tokio::task::LocalSet::new();
    let accepting = async {
        loop {
            let (socket, _) = listener.accept().await?;
            tokio::task::spawn_local(answer(socket));
        }
    };
    connections.run_until(accepting).await
}

/// One connection, of a client or of a server.
#[derive(Debug)]
pub struct Wire {
    socket: TcpStream,
    bytes: Vec<u8>,
    /// How many of the bytes are dealt with.
    taken: usize,
    rest: Rest,
}

/// What of a message's body is still to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rest {
    Nothing,
    Bytes(usize),
    /// What is left of a chunk; the end of its line follows.
    Chunk(usize),
    /// The next thing is the size of a chunk.
    Size,
}

impl Wire {
    /// A connection that was accepted.
    pub fn new(socket: TcpStream) -> Result<Self> {
        socket.set_nodelay(true)?;
        Ok(Self { socket, bytes: Vec::with_capacity(BLOCK), taken: 0, rest: Rest::Nothing })
    }

    /// A new connection.
    pub async fn connect(address: SocketAddr) -> Result<Self> {
        Self::new(TcpStream::connect(address).await?)
    }

    /// Sends bytes at once.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.socket.write_all(bytes).await
    }

    /// Reads the head of the next message and returns its first line; none where the other side has ended before one.
    pub async fn head(&mut self) -> Result<Option<&str>> {
        Ok(self.whole_head().await?.and_then(|head| head.lines().next()))
    }

    /// Reads the head of the next message; none where the other side has ended before one.
    pub async fn whole_head(&mut self) -> Result<Option<&str>> {
        if !self.held().is_empty() || self.fill().await? {
            let length = self.until(b"\r\n\r\n").await?;
            let head = self.taken..self.taken + length;
            self.taken = head.end;
            let text = std::str::from_utf8(self.bytes.get(head).unwrap_or_default()).map_err(wrong)?;
            self.rest = rest(text)?;
            return Ok(Some(text));
        }
        Ok(None)
    }

    /// The next bytes of the body, as they come; none at its end.
    pub async fn piece(&mut self) -> Result<Option<&[u8]>> {
        loop {
            match self.rest {
                Rest::Nothing | Rest::Bytes(0) => return Ok(None),
                Rest::Bytes(left) => {
                    let count = self.some(left).await?;
                    self.rest = Rest::Bytes(left - count);
                    return Ok(self.bytes.get(self.taken - count..self.taken));
                }
                Rest::Chunk(0) => {
                    self.taken += self.until(b"\r\n").await?;
                    self.rest = Rest::Size;
                }
                Rest::Chunk(left) => {
                    let count = self.some(left).await?;
                    self.rest = Rest::Chunk(left - count);
                    return Ok(self.bytes.get(self.taken - count..self.taken));
                }
                Rest::Size => {
                    let length = self.until(b"\r\n").await?;
                    let line = self.held().get(..length - 2).unwrap_or_default();
                    let line = std::str::from_utf8(line).map_err(wrong)?;
                    let size = usize::from_str_radix(line.split(';').next().unwrap_or_default().trim(), 16);
                    self.rest = Rest::Chunk(size.map_err(wrong)?);
                    self.taken += length;
                    if self.rest == Rest::Chunk(0) {
                        // Nobody here sends trailers.
                        self.taken += self.until(b"\r\n").await?;
                        self.rest = Rest::Nothing;
                    }
                }
            }
        }
    }

    /// The whole body.
    pub async fn body(&mut self) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        while let Some(piece) = self.piece().await? {
            body.extend_from_slice(piece);
        }
        Ok(body)
    }

    fn held(&self) -> &[u8] {
        self.bytes.get(self.taken..).unwrap_or_default()
    }

    /// Takes up to `most` bytes, at least one.
    async fn some(&mut self, most: usize) -> Result<usize> {
        if self.held().is_empty() && !self.fill().await? {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let count = self.held().len().min(most);
        self.taken += count;
        Ok(count)
    }

    /// How many bytes there are to the end of `mark`, which is read to.
    async fn until(&mut self, mark: &[u8]) -> Result<usize> {
        loop {
            if let Some(at) = self.held().windows(mark.len()).position(|window| window == mark) {
                return Ok(at + mark.len());
            }
            if !self.fill().await? {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Reads what there is; false where the other side has ended.
    async fn fill(&mut self) -> Result<bool> {
        self.bytes.drain(..self.taken);
        self.taken = 0;
        self.bytes.reserve(BLOCK);
        Ok(self.socket.read_buf(&mut self.bytes).await? > 0)
    }
}

/// How the body after a head is framed.
fn rest(head: &str) -> Result<Rest> {
    let mut rest = Rest::Nothing;
    for (name, value) in head.lines().filter_map(|line| line.split_once(':')) {
        if name.eq_ignore_ascii_case("content-length") {
            rest = Rest::Bytes(value.trim().parse().map_err(wrong)?);
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            return Ok(Rest::Size);
        }
    }
    Ok(rest)
}

fn wrong(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(ErrorKind::InvalidData, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a wire reads of these pieces, each sent by itself.
    fn read(pieces: &[&str]) -> Result<Vec<(String, String)>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
            let mut client = TcpStream::connect(listener.local_addr()?).await?;
            let mut wire = Wire::new(listener.accept().await?.0)?;
            let send = async {
                for piece in pieces {
                    client.write_all(piece.as_bytes()).await?;
                    tokio::task::yield_now().await;
                }
                client.shutdown().await
            };
            let read = async {
                let mut messages = Vec::new();
                while let Some(line) = wire.head().await?.map(str::to_owned) {
                    messages.push((line, String::from_utf8_lossy(&wire.body().await?).into_owned()));
                }
                Ok(messages)
            };
            tokio::try_join!(send, read).map(|((), messages)| messages)
        })
    }

    #[test]
    fn bodies_end_where_their_heads_say() {
        let sized = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
        let chunked =
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n00a;x=1\r\nlo, world!\r\n0\r\n\r\n";
        let all = [sized, chunked, "GET / HTTP/1.1\r\n\r\n", sized].concat();
        let expected = [
            ("HTTP/1.1 200 OK", "hello"),
            ("HTTP/1.1 200 OK", "hello, world!"),
            ("GET / HTTP/1.1", ""),
            ("HTTP/1.1 200 OK", "hello"),
        ]
        .map(|(line, body)| (line.to_owned(), body.to_owned()));
        assert_eq!(read(&[&all]).unwrap(), expected);
        let bytes: Vec<_> = all.split_inclusive(|_| true).collect();
        assert_eq!(read(&bytes).unwrap(), expected);
    }

    #[test]
    fn a_message_that_breaks_off_is_an_error() {
        for broken in ["HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhell"] {
            assert_eq!(read(&[broken]).unwrap_err().kind(), ErrorKind::UnexpectedEof);
        }
    }
}
