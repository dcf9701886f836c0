//! HTTP/2 as a client speaks it, to endpoints.
//!
//! hyper's client hands each request through a channel to a task of the connection, and spawns another task
//! that waits for the answer and hands it back. Here whoever sends a request opens its stream, sends its body
//! and waits for its answer; the connection's task has only frames to read and write.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use http::{Request, Response};
use tokio::sync::{Mutex, MutexGuard};

use super::Body;
use super::send::{Failure, Sending};
use crate::backend::{EndpointStream, error_chain};
use crate::request::{BodyError, RequestBody};

/// What one stream may have under way towards the proxy; a few MiB at most for a connection.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
const MAX_HEADER_LIST: u32 = 64 * 1024;
/// What of bodies may wait in a connection for the endpoint's windows, in bytes of a stream.
const SEND_BUFFER: usize = 1024 * 1024;
/// Streams that are opened before the endpoint has said how many it takes: what RFC 9113, section 6.5.2,
/// recommends that it takes at least.
const FIRST_STREAMS: usize = 100;

/// A connection, which all requests of a worker to an endpoint share. It is closed when the last of these is
/// dropped, and the last stream has ended.
#[derive(Clone)]
pub(crate) struct Connection(Rc<Shared>);

struct Shared {
    sender: RefCell<SendRequest<Bytes>>,
    /// Had by who waits until the endpoint allows another stream, so that they get theirs in order.
    order: Mutex<()>,
    /// How many wait for it, or have it.
    waiting: Cell<usize>,
}

/// Why there is no answer, or no more of it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Nothing of the request was sent.
    #[error(transparent)]
    Unsent(h2::Error),
    #[error(transparent)]
    Http2(#[from] h2::Error),
    /// The client's request, that is.
    #[error(transparent)]
    RequestBody(BodyError),
}

impl Connection {
    /// Begins to speak HTTP/2, by prior knowledge, on a task of this worker. Without PINGs: that the peer is
    /// there is TCP's to know, as for HTTP/1.
    pub(crate) async fn open(stream: EndpointStream) -> Result<Self, h2::Error> {
        let (sender, connection) = Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .initial_max_send_streams(FIRST_STREAMS)
            .max_header_list_size(MAX_HEADER_LIST)
            .max_send_buffer_size(SEND_BUFFER)
            .enable_push(false)
            .handshake(stream)
            .await?;
        tokio::task::spawn_local(async move {
            if let Err(error) = connection.await {
                tracing::debug!(error = error_chain(&error), "connection to an endpoint ended");
            }
        });
        Ok(Self(Rc::new(Shared {
            sender: RefCell::new(sender),
            order: Mutex::new(()),
            waiting: Cell::new(0),
        })))
    }

    /// Whether no other request can be sent: it has ended, or the endpoint has announced that it will.
    pub(crate) fn is_closed(&self) -> bool {
        matches!(self.0.poll_now(), Poll::Ready(Err(_)))
    }

    /// Sends the request that is in `place`, in the form that HTTP/2 wants, and returns the answer. As long as
    /// nothing of it was sent it stays in its place.
    pub(crate) async fn send(
        &self,
        place: &mut Option<Request<RequestBody>>,
    ) -> Result<Response<Body>, Error> {
        let turn = match self.0.poll_now() {
            Poll::Ready(ready) => ready.map(|()| None),
            Poll::Pending => self.0.wait().await.map(Some),
        };
        let turn = turn.map_err(Error::Unsent)?;
        let (head, body) = place.take().expect("there is a request to be sent").into_parts();
        let is_last = body.is_empty();
        let (mut answer, stream) =
            self.0.sender.borrow_mut().send_request(Request::from_parts(head, ()), is_last)?;
        drop(turn);
        let mut sending = (!is_last).then(|| Sending::new(stream, body));
        let answer = poll_fn(|cx| {
            let mut failed = None;
            if let Some(Poll::Ready(sent)) = sending.as_mut().map(|sending| sending.poll(cx)) {
                sending = None;
                match sent {
                    Ok(()) => {}
                    Err(Failure::Http2(error)) => failed = Some(error),
                    Err(Failure::Body(error)) => {
                        return Poll::Ready(Err(Error::RequestBody(error)));
                    }
                }
            }
            // What is not read any more may have been answered: why, for instance.
            match (Pin::new(&mut answer).poll(cx), failed) {
                (Poll::Pending, Some(error)) => Poll::Ready(Err(error.into())),
                (answer, _) => answer.map_err(Error::Http2),
            }
        });
        let answer = answer.await?;
        if let Some(sending) = sending {
            sending.spawn();
        }
        let length = crate::http1::content_length(answer.headers()).ok().flatten();
        Ok(answer.map(|stream| Body::new(stream, length)))
    }
}

impl Shared {
    /// Whether another stream can be opened, or ever will be. Pending too where others wait for one.
    fn poll_now(&self) -> Poll<Result<(), h2::Error>> {
        if self.waiting.get() > 0 {
            return Poll::Pending;
        }
        // Nobody else waits to be woken.
        self.sender.borrow_mut().poll_ready(&mut Context::from_waker(Waker::noop()))
    }

    /// Waits until another stream can be opened: in order, so that it is this one's turn until dropped.
    async fn wait(&self) -> Result<Turn<'_>, h2::Error> {
        self.waiting.set(self.waiting.get() + 1);
        let waiting = Waiting(&self.waiting);
        let turn = Turn { _waiting: waiting, _order: self.order.lock().await };
        poll_fn(|cx| self.sender.borrow_mut().poll_ready(cx)).await?;
        Ok(turn)
    }
}

/// The turn to open a stream.
struct Turn<'c> {
    _waiting: Waiting<'c>,
    _order: MutexGuard<'c, ()>,
}

/// Counts as waiting until dropped.
struct Waiting<'c>(&'c Cell<usize>);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
