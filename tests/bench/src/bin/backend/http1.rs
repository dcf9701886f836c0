//! The backend's side of HTTP/1.1, as little as it can be: what it costs runs on the load's core, and a
//! proxy is only saturated while that core has time left.

use std::io;

use bytes::{Buf, Bytes};
use http::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Asked, Kind, State, Version};

/// The most of a head, and how much of a body is read at once.
const BUFFER: usize = 128 * 1024;
const HEADERS: usize = 64;

/// A request's head.
struct Head {
    asked: Asked,
    /// Bytes of the head itself, and of the body behind it.
    head: usize,
    body: usize,
    closes: bool,
}

/// Serves the connection to its end, or to what it does not understand.
pub(super) async fn serve(
    mut stream: TcpStream,
    state: &State,
    version: Version,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    let mut filled = 0;
    loop {
        let head = loop {
            if let Some(head) = parse(&buffer[..filled])? {
                break head;
            }
            match stream.read(&mut buffer[filled..]).await? {
                0 => return Ok(()),
                read => filled += read,
            }
        };
        let mut at = head.head;
        let mut left = head.body;
        while left > filled - at {
            left -= filled - at;
            (at, filled) = (0, stream.read(&mut buffer).await?);
            if filled == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        buffer.copy_within(at + left..filled, 0);
        filled -= at + left;
        let (right, body) = state.answer(version, &head.asked, head.body);
        let status = if right { "200 OK" } else { "400 Bad Request" };
        let start = format!(
            "HTTP/1.1 {status}\r\nx-backend: {}\r\ncontent-length: {}\r\n\
             date: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n",
            version.name(),
            body.len(),
        );
        let mut answer = Bytes::from(start).chain(body);
        stream.write_all_buf(&mut answer).await?;
        if head.closes {
            return stream.shutdown().await;
        }
    }
}

/// The head that `text` begins with; None where there is more to come.
fn parse(text: &[u8]) -> io::Result<Option<Head>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let status = request.parse(text).map_err(io::Error::other)?;
    let httparse::Status::Complete(length) = status else { return Ok(None) };
    let header = |name: &str| {
        let header = request.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
        header.map(|header| header.value)
    };
    if header("transfer-encoding").is_some() {
        return Err(io::Error::other("no client of the bench sends chunks"));
    }
    let body = match header("content-length") {
        Some(value) => std::str::from_utf8(value).ok().and_then(|value| value.parse().ok()),
        None => Some(0),
    };
    let (method, path) = (request.method.unwrap_or_default(), request.path.unwrap_or_default());
    let asked = Asked {
        is_post: method == Method::POST.as_str(),
        has_user: header("end-user").is_some(),
        kind: Kind::of(path),
    };
    Ok(Some(Head {
        asked,
        head: length,
        body: body.ok_or_else(|| io::Error::other("content-length"))?,
        closes: header("connection").is_some_and(|value| value.eq_ignore_ascii_case(b"close")),
    }))
}
