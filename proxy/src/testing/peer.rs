//! Raw peers: a client or a backend that a test plays itself, byte for byte.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// One end of a connection.
pub(crate) struct Peer {
    pub(crate) stream: TcpStream,
    /// Read, and not asked for yet.
    buffer: Vec<u8>,
}

/// The head of a request or response.
#[derive(Debug, PartialEq)]
pub(crate) struct Head {
    /// The request line or status line.
    pub(crate) line: String,
    /// In their order; names in lower case.
    pub(crate) headers: Vec<(String, Vec<u8>)>,
}

/// A whole request or response.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) head: Head,
    /// Without its framing.
    pub(crate) body: Vec<u8>,
    /// As they stand behind the last chunk.
    pub(crate) trailers: String,
}

/// How a connection ended.
#[derive(Debug, PartialEq)]
pub(crate) enum End {
    Clean,
    Reset,
}

/// A listener whose connections a test serves itself.
pub(crate) struct RawBackend {
    listener: TcpListener,
    pub(crate) addr: SocketAddr,
}

impl RawBackend {
    pub(crate) async fn listen() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self { addr: listener.local_addr().unwrap(), listener }
    }

    pub(crate) async fn accept(&self) -> Peer {
        Peer::new(self.listener.accept().await.unwrap().0)
    }

    /// Whether a connection waits to be accepted.
    pub(crate) async fn has_connection(&self) -> bool {
        tokio::time::timeout(Duration::ZERO, self.listener.accept()).await.is_ok()
    }
}

impl Peer {
    pub(crate) fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        Self { stream, buffer: Vec::new() }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Ends this side's half of the connection.
    pub(crate) async fn finish(&mut self) {
        self.stream.shutdown().await.unwrap();
    }

    /// Closes with RST, as a process that dies does.
    pub(crate) fn reset(self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// Reads up to and including `end`.
    pub(crate) async fn until(&mut self, end: &[u8]) -> Vec<u8> {
        loop {
            if let Some(at) = self.buffer.windows(end.len()).position(|window| window == end) {
                return self.buffer.drain(..at + end.len()).collect();
            }
            self.fill().await;
        }
    }

    /// Reads that many bytes.
    pub(crate) async fn bytes(&mut self, count: usize) -> Vec<u8> {
        while self.buffer.len() < count {
            self.fill().await;
        }
        self.buffer.drain(..count).collect()
    }

    /// Reads what must come next.
    pub(crate) async fn expect(&mut self, expected: impl AsRef<[u8]>) {
        let expected = expected.as_ref();
        let read = self.bytes(expected.len()).await;
        assert_eq!(read.escape_ascii().to_string(), expected.escape_ascii().to_string());
    }

    async fn fill(&mut self) {
        let read = self.stream.read_buf(&mut self.buffer).await.unwrap();
        assert!(read > 0, "ended after: {}", self.buffer.escape_ascii());
    }

    /// Reads to the connection's end, and says which it was.
    pub(crate) async fn end(&mut self) -> (Vec<u8>, End) {
        let end = match self.stream.read_to_end(&mut self.buffer).await {
            Ok(_) => End::Clean,
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => End::Reset,
            Err(error) => panic!("{error}"),
        };
        (std::mem::take(&mut self.buffer), end)
    }

    /// Reads to the connection's clean end.
    pub(crate) async fn rest(&mut self) -> String {
        let (bytes, end) = self.end().await;
        assert_eq!(end, End::Clean, "after: {}", bytes.escape_ascii());
        bytes.escape_ascii().to_string()
    }

    /// Whether nothing has come that was not asked for.
    pub(crate) fn is_silent(&self) -> bool {
        let mut byte = [0];
        let peeked = self.stream.try_read(&mut byte);
        self.buffer.is_empty()
            && matches!(peeked, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    pub(crate) async fn head(&mut self) -> Head {
        let bytes = self.until(b"\r\n\r\n").await;
        let mut lines = bytes.split(|byte| *byte == b'\n').map(|line| line.trim_ascii_end());
        let line = String::from_utf8(lines.next().unwrap().to_vec()).unwrap();
        let headers = lines.filter(|line| !line.is_empty()).map(|line| {
            let colon = line.iter().position(|byte| *byte == b':').unwrap();
            let name = String::from_utf8(line[..colon].to_ascii_lowercase()).unwrap();
            (name, line[colon + 1..].trim_ascii().to_vec())
        });
        Head { line, headers: headers.collect() }
    }

    /// Reads a message with a body of known length, in chunks, or none.
    pub(crate) async fn message(&mut self) -> Message {
        let head = self.head().await;
        let mut message = Message { head, body: Vec::new(), trailers: String::new() };
        if let Some(length) = message.head.get("content-length") {
            let length = length.parse().unwrap();
            message.body = self.bytes(length).await;
        } else if message.head.get("transfer-encoding").is_some() {
            (message.body, message.trailers) = self.chunks().await;
        }
        message
    }

    /// Reads chunks to the last one; returns their data, and what stands behind.
    async fn chunks(&mut self) -> (Vec<u8>, String) {
        let mut body = Vec::new();
        loop {
            let line = String::from_utf8(self.until(b"\r\n").await).unwrap();
            let length = usize::from_str_radix(line.trim_end(), 16).unwrap();
            if length == 0 {
                let mut trailers = String::new();
                while !trailers.ends_with("\r\n\r\n") && trailers != "\r\n" {
                    trailers.push_str(std::str::from_utf8(&self.until(b"\r\n").await).unwrap());
                }
                return (body, trailers.trim_end().to_owned());
            }
            body.extend(self.bytes(length).await);
            self.expect(b"\r\n").await;
        }
    }
}

impl Head {
    /// The only value of a header; None where there is none.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let values = self.all(name);
        assert!(values.len() < 2, "{name} several times in {self:?}");
        values.first().copied()
    }

    /// The values of a header, in their order.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let values = self.headers.iter().filter(|(other, _)| other == name);
        values.map(|(_, value)| std::str::from_utf8(value).unwrap()).collect()
    }

    /// Each header as `name: value`, sorted by name; values of one name keep their order.
    pub(crate) fn sorted(&self) -> Vec<String> {
        let mut headers = self.headers.clone();
        headers.sort_by(|(one, _), (other, _)| one.cmp(other));
        let line = |(name, value): &(String, Vec<u8>)| format!("{name}: {}", value.escape_ascii());
        headers.iter().map(line).collect()
    }

    /// The status of a response.
    pub(crate) fn status(&self) -> u16 {
        self.line.split(' ').nth(1).unwrap().parse().unwrap()
    }
}

impl Message {
    pub(crate) fn status(&self) -> u16 {
        self.head.status()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.get(name)
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}
