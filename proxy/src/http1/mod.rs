//! HTTP/1.1 as a client speaks it, to endpoints.
//!
//! In place of hyper's client, of which each connection is a task that is reached through channels, with two
//! buffers whether it is used or not: a third of the instructions of a request, and 26 KiB for a connection
//! that waits. Here whoever sends a request does all of its work, and a connection that waits has no buffer.
//! What can be read wrongly, heads, chunk sizes and trailers, is read by httparse, as in hyper.

mod body;
mod chunked;
mod framing;
mod receive;
mod send;
#[cfg(test)]
mod tests;
mod whole;

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use http::{Request, Response, StatusCode};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

pub(crate) use body::Body;
pub(crate) use framing::content_length;
pub(crate) use whole::read;

use crate::backend::{EndpointStream, HTTP1_BUFFER};
use crate::request::{BodyError, RequestBody};
use framing::Framing;
use send::Sending;

/// What is read at a time at first, in bytes; [`HTTP1_BUFFER`] where that was too little.
const LEAST_ROOM: usize = 8 * 1024;

/// The largest head of an answer, in bytes, and the most headers in it.
const MAX_HEAD: usize = 128 * 1024;
const MAX_HEADERS: usize = 100;

/// A connection between two requests.
#[derive(Debug)]
pub(crate) struct Connection {
    /// Shared with the task that sends what is left of a request when its answer is there already.
    stream: Rc<RefCell<EndpointStream>>,
    /// What was read and not yet used.
    buffer: BytesMut,
    /// For the next read, in bytes.
    room: usize,
}

/// Why there is no answer, or no more of it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Nothing of the request was sent.
    #[error(transparent)]
    Unsent(io::Error),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("the connection was closed before the message was complete")]
    Incomplete,
    #[error("{0}")]
    NotHttp(Box<str>),
    /// The client's request, that is.
    #[error(transparent)]
    RequestBody(BodyError),
}

impl Connection {
    pub(crate) fn new(stream: TcpStream) -> Self {
        let stream = Rc::new(RefCell::new(EndpointStream::http1(stream)));
        Self { stream, buffer: BytesMut::new(), room: LEAST_ROOM }
    }

    /// Whether it can take a request.
    pub(crate) fn is_ready(&self) -> bool {
        self.stream.borrow().is_ready()
    }

    /// Sends the request, of which the head stays as it is, and returns the answer, of which the body has the
    /// connection. `on_continue` is called for each 100 Continue; of other informational answers nobody hears.
    ///
    /// The length of the body is told by the body alone, whatever the headers say of it.
    pub(crate) async fn send(
        mut self,
        request: &mut Request<RequestBody>,
        on_continue: impl Fn(),
    ) -> Result<Response<Body>, Error> {
        let mut sending = Sending::new(request);
        let mut searched = 0;
        let head = poll_fn(|cx| {
            let unwritten = match sending.poll(cx, request.body_mut(), &self.stream) {
                // What cannot be written any more may still be answered: why, for instance.
                Poll::Ready(Err(Error::Io(error))) => Some(error),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Ready(Ok(())) | Poll::Pending => None,
            };
            let head = self.poll_head(cx, &mut searched, &on_continue);
            match (unwritten, head) {
                (
                    Some(error),
                    Poll::Pending | Poll::Ready(Err(Error::Io(_) | Error::Incomplete)),
                ) => Poll::Ready(Err(error.into())),
                (_, head) => head,
            }
        });
        let head = match head.await {
            Err(Error::Io(error)) if !sending.has_begun() => return Err(Error::Unsent(error)),
            head => head?,
        };
        let framing = Framing::of(request.method(), &head)?;
        let sending = (!sending.is_over()).then(|| {
            let body = std::mem::replace(request.body_mut(), RequestBody::Empty);
            send::spawn(sending, body, self.stream.clone())
        });
        Ok(head.map(|()| Body::new(self, framing, sending)))
    }

    /// The head of the final answer; there is no end of one in as much of the buffer as was `searched`.
    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        searched: &mut usize,
        on_continue: &impl Fn(),
    ) -> Poll<Result<Response<()>, Error>> {
        loop {
            if has_end(&self.buffer, *searched)
                && let Some(head) = receive::head(&mut self.buffer)?
            {
                if is_final(head.status()) {
                    return Poll::Ready(Ok(head));
                }
                if head.status() == StatusCode::CONTINUE {
                    on_continue();
                }
                *searched = 0;
                continue;
            }
            *searched = self.buffer.len();
            if *searched >= MAX_HEAD {
                let message = format!("a head of more than {} KiB", MAX_HEAD / 1024);
                return Poll::Ready(Err(Error::NotHttp(message.into())));
            }
            ready!(self.poll_fill(cx))?;
        }
    }

    /// Reads what is there, and at least a byte.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.buffer.reserve(self.room);
        let mut stream = self.stream.borrow_mut();
        // What is made anew each time has no state that could be lost.
        let read = pin!(stream.read_buf(&mut self.buffer)).poll(cx);
        read.map(|read| match read? {
            0 => Err(Error::Incomplete),
            read => {
                if read >= self.room {
                    self.room = (self.room * 2).min(HTTP1_BUFFER);
                } else if read < self.room / 4 {
                    self.room = (self.room / 2).max(LEAST_ROOM);
                }
                Ok(())
            }
        })
    }
}

/// Whether the end of a head may be in `buffer`, of which so much was searched for it. The first bytes are
/// always worth a try: they may be no HTTP. A head that comes byte by byte would else be read as often.
fn has_end(buffer: &[u8], searched: usize) -> bool {
    let new = &buffer[searched.saturating_sub(2)..];
    match searched {
        0 => !buffer.is_empty(),
        _ => new.windows(2).any(|end| end == b"\n\n") || new.windows(3).any(|end| end == b"\n\r\n"),
    }
}

/// 101 is not followed by another one.
fn is_final(status: StatusCode) -> bool {
    !status.is_informational() || status == StatusCode::SWITCHING_PROTOCOLS
}
