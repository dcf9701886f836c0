//! A backend that reads HTTP/1.1 to the letter and remembers what it has read.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The header in which an answer has its request: `METHOD TARGET`.
pub(super) const SEEN: &str = "x-seen";

const HTTP2: &[u8] = b"PRI * HTTP/2.0";

pub(super) struct Backend {
    address: SocketAddr,
    seen: Rc<Seen>,
}

#[derive(Default)]
struct Seen {
    bytes: Cell<usize>,
    read: RefCell<Read>,
}

/// What has been read.
#[derive(Default)]
pub(super) struct Read {
    /// `METHOD TARGET` of each request with its whole body.
    pub(super) whole: Vec<String>,
    /// Why what came is not as the RFC has it.
    pub(super) malformed: Vec<String>,
}

impl Backend {
    /// Serves on the calling thread's runtime.
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let address = listener.local_addr().expect("an address");
        let seen = Rc::<Seen>::default();
        let of_all = seen.clone();
        tokio::task::spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::task::spawn_local(serve(stream, of_all.clone()));
            }
        });
        Self { address, seen }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many bytes have come.
    pub(super) fn bytes(&self) -> usize {
        self.seen.bytes.get()
    }

    pub(super) fn take(&self) -> Read {
        self.seen.read.take()
    }
}

async fn serve(mut stream: TcpStream, seen: Rc<Seen>) {
    let _closed_without_a_rest = stream.set_zero_linger();
    let mut buffer = Vec::new();
    let mut continued = false;
    // What is gRPC goes by HTTP/2, which this is not about.
    while !buffer.starts_with(HTTP2) {
        match next(&buffer) {
            Ok(Next::Request { name, length }) => {
                buffer.drain(..length);
                continued = false;
                let answer = answer(&name);
                seen.read.borrow_mut().whole.push(name);
                if stream.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
                continue;
            }
            Ok(Next::Continue) if !continued => {
                continued = true;
                if stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.is_err() {
                    return;
                }
            }
            Ok(Next::Continue | Next::More) => {}
            Err(error) => {
                let bytes = buffer.escape_ascii();
                seen.read.borrow_mut().malformed.push(format!("{error:#}: {bytes}"));
                return;
            }
        }
        match stream.read_buf(&mut buffer).await {
            // A request that is broken off is the client's.
            Ok(0) | Err(_) => return,
            Ok(count) => seen.bytes.set(seen.bytes.get() + count),
        }
    }
}

enum Next {
    Request {
        name: String,
        /// In bytes, with its body.
        length: usize,
    },
    /// The client waits to be told to send the body.
    Continue,
    More,
}

/// The next request in what has come.
fn next(buffer: &[u8]) -> Result<Next> {
    if !buffer.windows(4).any(|bytes| bytes == b"\r\n\r\n") {
        return Ok(Next::More);
    }
    let mut rest = buffer;
    let Some(head) = weft_strict::head(&mut rest)? else { return Ok(Next::More) };
    if !weft_strict::body(&mut rest, &head)? {
        return Ok(if head.expects_continue { Next::Continue } else { Next::More });
    }
    let name = format!("{} {}", head.method, head.target);
    Ok(Next::Request { name, length: buffer.len() - rest.len() })
}

fn answer(name: &str) -> String {
    let status = if name.starts_with("CONNECT ") { "405 Method Not Allowed" } else { "200 OK" };
    let body = if name.starts_with("HEAD ") { "" } else { "ok\n" };
    format!("HTTP/1.1 {status}\r\n{SEEN}: {name}\r\ncontent-length: 3\r\n\r\n{body}")
}
