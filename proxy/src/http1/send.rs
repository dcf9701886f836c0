//! A request on its way out.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE,
    HOST, HeaderMap, HeaderName, HeaderValue, MAX_FORWARDS, SET_COOKIE, TE, TRAILER,
    TRANSFER_ENCODING,
};
use http::{Method, Request};
use http_body::{Body, Frame};
use tokio::io::AsyncWrite;
use tokio::task::AbortHandle;

use super::Error;
use crate::backend::EndpointStream;
use crate::request::{BodyError, RequestBody};

/// Room for most heads, in bytes.
const ROOM: usize = 512;

/// How far it is.
#[derive(Debug)]
pub(super) struct Sending {
    /// The head, a chunk's size, or trailers: what is to be written before `data`.
    text: Vec<u8>,
    /// How much of `text` was written.
    written: usize,
    /// Of the body.
    data: Bytes,
    /// Behind `data`.
    tail: &'static [u8],
    length: Length,
    /// Those that the head announces, of a body in chunks: others are not sent.
    trailers: Vec<HeaderName>,
    has_begun: bool,
    /// Nothing more comes of the body.
    is_last: bool,
}

/// How the body's end is told.
#[derive(Clone, Copy, Debug)]
enum Length {
    /// So many bytes are left.
    Bytes(u64),
    Chunked,
}

impl Sending {
    pub(super) fn new(request: &Request<RequestBody>) -> Self {
        let body = request.body();
        let is_last = body.is_end_stream();
        let length = match body.size_hint().exact() {
            _ if is_last => Length::Bytes(0),
            Some(length) => Length::Bytes(length),
            None => Length::Chunked,
        };
        let trailers = match length {
            Length::Bytes(_) => Vec::new(),
            Length::Chunked => announced(request.headers()),
        };
        Self {
            text: head(request, length),
            written: 0,
            data: Bytes::new(),
            tail: b"",
            length,
            trailers,
            has_begun: false,
            is_last,
        }
    }

    /// Whether it is no longer as it was: something was written, or taken from the body.
    pub(super) fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// Whether all of it was written.
    pub(super) fn is_over(&self) -> bool {
        self.is_last && self.is_written()
    }

    fn is_written(&self) -> bool {
        self.written == self.text.len() && self.data.is_empty() && self.tail.is_empty()
    }

    /// Writes what there is of the request; ready once that was all.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        body: &mut RequestBody,
        stream: &RefCell<EndpointStream>,
    ) -> Poll<Result<(), Error>> {
        while !self.is_over() {
            // The first piece of the body goes with the head, if it is there.
            if !self.is_last && self.data.is_empty() && self.tail.is_empty() {
                match Pin::new(&mut *body).poll_frame(cx) {
                    Poll::Ready(Some(Ok(frame))) => self.add(frame, body.is_end_stream())?,
                    Poll::Ready(Some(Err(error))) => {
                        return Poll::Ready(Err(Error::RequestBody(error)));
                    }
                    Poll::Ready(None) => self.end()?,
                    Poll::Pending if self.is_written() => return Poll::Pending,
                    Poll::Pending => {}
                }
                // An empty piece, or an end that needs no word.
                if self.is_written() {
                    continue;
                }
            }
            let mut stream = stream.borrow_mut();
            let pieces = [&self.text[self.written..], &self.data, self.tail].map(IoSlice::new);
            let written = ready!(Pin::new(&mut *stream).poll_write_vectored(cx, &pieces))?;
            if written == 0 {
                return Poll::Ready(Err(io::Error::from(io::ErrorKind::WriteZero).into()));
            }
            self.has_begun = true;
            self.advance(written);
        }
        Poll::Ready(Ok(()))
    }

    fn advance(&mut self, mut by: usize) {
        let text = by.min(self.text.len() - self.written);
        self.written += text;
        by -= text;
        if self.written == self.text.len() {
            self.text.clear();
            self.written = 0;
        }
        let data = by.min(self.data.len());
        self.data.advance(data);
        self.tail = &self.tail[by - data..];
    }

    /// A piece of the body is the next to be written.
    fn add(&mut self, frame: Frame<Bytes>, is_end: bool) -> Result<(), Error> {
        self.has_begun = true;
        match frame.into_data() {
            Ok(data) if data.is_empty() => {}
            Ok(data) => {
                match &mut self.length {
                    Length::Bytes(left) => {
                        let length = data.len() as u64;
                        *left = left.checked_sub(length).ok_or_else(|| unfit("longer"))?;
                    }
                    Length::Chunked => {
                        self.text.extend_from_slice(format!("{:x}\r\n", data.len()).as_bytes());
                        self.tail = b"\r\n";
                    }
                }
                self.data = data;
            }
            Err(frame) => {
                if let (Ok(trailers), Length::Chunked) = (frame.into_trailers(), self.length) {
                    self.text.extend_from_slice(b"0\r\n");
                    for (name, value) in &trailers {
                        if self.trailers.contains(name) {
                            line(&mut self.text, name, value);
                        }
                    }
                    self.text.extend_from_slice(b"\r\n");
                    self.is_last = true;
                }
                return Ok(());
            }
        }
        if is_end { self.end() } else { Ok(()) }
    }

    /// The body has ended.
    fn end(&mut self) -> Result<(), Error> {
        self.is_last = true;
        match self.length {
            Length::Bytes(0) => {}
            Length::Bytes(_) => return Err(unfit("shorter")),
            Length::Chunked if self.data.is_empty() => self.text.extend_from_slice(b"0\r\n\r\n"),
            Length::Chunked => self.tail = b"\r\n0\r\n\r\n",
        }
        Ok(())
    }
}

/// Sends what is left of a request whose answer is there already. A body that breaks off ends the connection,
/// and the answer with it.
pub(super) fn spawn(
    mut sending: Sending,
    mut body: RequestBody,
    stream: Rc<RefCell<EndpointStream>>,
) -> AbortHandle {
    stream.borrow_mut().set_sending(true);
    let task = tokio::task::spawn_local(async move {
        match poll_fn(|cx| sending.poll(cx, &mut body, &stream)).await {
            Ok(()) => stream.borrow_mut().set_sending(false),
            // What the endpoint does not read any more, it may still answer.
            Err(Error::Io(error)) => tracing::debug!(%error, "a request was not sent to its end"),
            Err(error) => {
                tracing::debug!(%error, "a request broke off");
                stream.borrow_mut().break_off();
            }
        }
    });
    task.abort_handle()
}

fn unfit(how: &'static str) -> Error {
    Error::RequestBody(BodyError::Unfit(how))
}

/// The head, with the framing that is the body's: `Content-Length` or `Transfer-Encoding` of the request's
/// headers are not what decides.
fn head(request: &Request<RequestBody>, length: Length) -> Vec<u8> {
    let mut text = Vec::with_capacity(ROOM);
    text.extend_from_slice(request.method().as_str().as_bytes());
    text.push(b' ');
    let uri = request.uri();
    let target = match uri.authority() {
        Some(authority) if *request.method() == Method::CONNECT => authority.as_str(),
        _ => uri.path_and_query().map_or("/", |target| target.as_str()),
    };
    // An absolute target may have been without a path: RFC 9112, section 3.2.1, has it sent as "/".
    if target.starts_with('?') {
        text.push(b'/');
    }
    text.extend_from_slice(target.as_bytes());
    text.extend_from_slice(b" HTTP/1.1\r\n");
    let mut had_length = false;
    for (name, value) in request.headers() {
        match *name {
            CONTENT_LENGTH => had_length = true,
            TRANSFER_ENCODING => {}
            _ => line(&mut text, name, value),
        }
    }
    match length {
        // Of a request without a body only where the client has said so.
        Length::Bytes(0) if !had_length => {}
        Length::Bytes(length) => {
            text.extend_from_slice(format!("content-length: {length}\r\n").as_bytes());
        }
        Length::Chunked => text.extend_from_slice(b"transfer-encoding: chunked\r\n"),
    }
    text.extend_from_slice(b"\r\n");
    text
}

fn line(text: &mut Vec<u8>, name: &HeaderName, value: &HeaderValue) {
    text.reserve(name.as_str().len() + value.len() + 4);
    text.extend_from_slice(name.as_str().as_bytes());
    text.extend_from_slice(b": ");
    text.extend_from_slice(value.as_bytes());
    text.extend_from_slice(b"\r\n");
}

/// RFC 9110, section 6.5.1: "A sender MUST NOT generate a trailer field unless the sender knows the
/// corresponding header field name's definition permits sending it in a trailer section": the names that the
/// client has announced, but for those that say how a message is to be read or passed on.
fn announced(headers: &HeaderMap) -> Vec<HeaderName> {
    let names = headers
        .get_all(TRAILER)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii));
    let names = names.filter_map(|name| HeaderName::from_bytes(name).ok());
    names.filter(|name| !NO_TRAILERS.contains(name)).collect()
}

const NO_TRAILERS: [HeaderName; 12] = [
    AUTHORIZATION,
    CACHE_CONTROL,
    CONTENT_ENCODING,
    CONTENT_LENGTH,
    CONTENT_RANGE,
    CONTENT_TYPE,
    HOST,
    MAX_FORWARDS,
    SET_COOKIE,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
];
