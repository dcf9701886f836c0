//! Bodies on their way through: streamed, never collected.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use h2::RecvStream;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::forward::has_cause;
use super::gate::Gate;
use super::grpc;
use super::limited::{Cutoff, Limited};
use super::record::Record;
use super::shared::{Reader, SharedBody};
use super::tee::{Copied, End, Queue, Tee};
use super::upgrade::Tunnel;
use crate::backend::local::LocalBackend;
use crate::backend::{EndpointStream, error_chain};
use crate::fault::{Fault, Kind};
use crate::{http1, http2};

/// What follows a request's head, as it comes from the client.
#[derive(Debug)]
pub(crate) enum Unread {
    Http1(Incoming),
    Http2(RecvStream),
    /// Somebody else has it.
    Taken,
}

/// A request's body, from the client to the backend.
#[derive(Debug)]
pub(crate) enum RequestBody {
    /// The request has no body.
    Empty,
    /// As it comes: what most bodies are.
    Client(ClientBody),
    /// The client's, which waits, may be sent again, or ends with the request's time.
    Shared(Reader),
    /// Another request's body, which is mirrored.
    Copy(Copied),
}

/// What a client sends, and who else is interested.
#[derive(Debug)]
pub(crate) struct ClientBody {
    body: Source,
    /// Where its bytes are counted, if anybody wants to know.
    counter: Option<Rc<Cell<u64>>>,
    /// Where copies go, if there are mirrors.
    tee: Option<Box<Tee>>,
}

/// Where a body comes from.
#[derive(Debug)]
enum Source {
    Http1(Incoming),
    Http2(http2::Body),
}

/// Why a request's body ended before its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("{0}")]
    Client(#[source] hyper::Error),
    /// A cause, of which the reason is passed on.
    #[error("{0}")]
    ClientStream(#[source] h2::Error),
    #[error("the backend has answered without asking for the body")]
    NotWanted,
    #[error("the mirrored request's body broke off, or came faster than the mirror took it")]
    CopyBroken,
    #[error("it is sent again in another attempt")]
    SentAgain,
    #[error("the request's time is up")]
    TimedOut,
    #[error("it is {0} than its length")]
    Unfit(&'static str),
}

/// What a backend answers with.
#[derive(Debug)]
pub(crate) enum Received {
    Http1(http1::Body),
    Http2(http2::Body),
    /// The connection has become a tunnel: of a client's stream of HTTP/2, whose answer it is.
    Tunnel(Tunnel),
}

/// A response's body, from the backend, or the proxy's own.
#[derive(Debug)]
pub(crate) enum ResponseBody {
    /// The proxy's own answer, or nothing.
    Own(Option<Bytes>),
    /// The backend's; its end is the end of the request.
    Backend(Forwarded),
    /// The backend's, which has to be there in time.
    Limited(Limited),
    /// What a tunnel brings. The request is over.
    Tunnel(Tunnel),
}

#[derive(Debug)]
pub(crate) struct Forwarded {
    body: Received,
    /// None once the body has ended.
    record: Option<Box<Record>>,
    /// Whether the client is told in gRPC's trailers of a connection that broke.
    trailers: bool,
}

/// Why a response's body ended before its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ResponseError {
    #[error(transparent)]
    Http1(#[from] http1::Error),
    /// A cause: among these is looked for what a stream is reset with.
    #[error("{0}")]
    Http2(#[source] h2::Error),
    #[error("the request's time is up")]
    TimedOut,
}

impl RequestBody {
    /// The length is the one that the head has, and told of HTTP/1 by hyper.
    pub(crate) fn new(body: Unread, length: Option<u64>, counter: Option<Rc<Cell<u64>>>) -> Self {
        let body = match body {
            Unread::Http1(body) if !body.is_end_stream() => Source::Http1(body),
            Unread::Http2(stream) if !stream.is_end_stream() => {
                Source::Http2(http2::Body::new(stream, length))
            }
            Unread::Http1(_) | Unread::Http2(_) | Unread::Taken => return Self::Empty,
        };
        Self::Client(ClientBody { body, counter, tee: None })
    }

    /// Makes the client's body one that can be ended from outside and, if `keep` says so, be sent
    /// again.
    pub(crate) fn share(&mut self, keep: bool) {
        *self = match std::mem::replace(self, Self::Empty) {
            Self::Client(body) => Self::Shared(SharedBody::share(body, keep)),
            other => other,
        };
    }

    /// What the attempts to send it share; None for a body that was not asked to [`share`].
    ///
    /// [`share`]: Self::share
    pub(crate) fn shared(&self) -> Option<&Rc<SharedBody>> {
        match self {
            Self::Shared(reader) => Some(reader.shared()),
            _ => None,
        }
    }

    /// Holds the body back; the gate lets it go. None where there is no body.
    pub(crate) fn hold(&mut self) -> Option<Gate> {
        self.share(false);
        self.shared().map(|shared| shared.hold())
    }

    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Self::Empty)
    }

    /// A body that gets what the client's gets, for a mirror at `backend`; with what tells of its end,
    /// unless there is no body. Copies are made before the body is shared.
    pub(super) fn copy(&mut self, backend: &Rc<LocalBackend>) -> (Self, Option<Rc<Queue>>) {
        let Self::Client(body) = self else { return (Self::Empty, None) };
        let copied = body.copy(backend);
        let queue = copied.queue().clone();
        (Self::Copy(copied), Some(queue))
    }

    /// Whether a mirror still wants a copy of it.
    pub(super) fn is_copied(&self) -> bool {
        match self {
            Self::Client(body) => body.tee.as_ref().is_some_and(|tee| !tee.is_unread()),
            _ => false,
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Client(body) => body.poll_frame(cx),
            Self::Shared(reader) => reader.poll_frame(cx),
            Self::Copy(copied) => copied.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Client(body) => body.is_end_stream(),
            Self::Shared(reader) => reader.is_end_stream(),
            Self::Copy(copied) => copied.is_complete(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Client(body) => body.size_hint(),
            Self::Shared(reader) => reader.size_hint(),
            Self::Copy(copied) => copied.size(),
        }
    }
}

impl ClientBody {
    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(tee) = &mut self.tee {
            ready!(tee.poll_ready(cx));
        }
        let frame = ready!(self.body.poll_frame(cx));
        self.observe(frame.as_ref());
        Poll::Ready(frame)
    }

    pub(super) fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }

    fn copy(&mut self, backend: &Rc<LocalBackend>) -> Copied {
        let size = self.body.size_hint();
        self.tee.get_or_insert_default().copy(backend.clone(), size)
    }

    fn observe(&mut self, frame: Option<&Result<Frame<Bytes>, BodyError>>) {
        if let (Some(counter), Some(Ok(frame))) = (&self.counter, frame)
            && let Some(data) = frame.data_ref()
        {
            counter.set(counter.get() + data.len() as u64);
        }
        let Some(tee) = &mut self.tee else { return };
        match frame {
            Some(Ok(frame)) => {
                tee.push(frame);
                // Who reads the body does not ask again then.
                if frame.is_trailers() || self.body.is_end_stream() {
                    tee.end(End::Complete);
                }
            }
            Some(Err(_)) => tee.end(End::BrokenOff),
            None => tee.end(End::Complete),
        }
    }
}

impl Source {
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self {
            Self::Http1(body) => Pin::new(body).poll_frame(cx).map_err(BodyError::Client),
            Self::Http2(body) => {
                body.poll_next(cx).map_err(BodyError::ClientStream).map(Result::transpose)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(body) => body.is_end_stream(),
            Self::Http2(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1(body) => body.size_hint(),
            Self::Http2(body) => body.size_hint(),
        }
    }
}

impl ResponseBody {
    pub(crate) fn empty() -> Self {
        Self::Own(None)
    }

    pub(crate) fn text(text: impl Into<Bytes>) -> Self {
        Self::Own(Some(text.into()))
    }

    /// A backend's body; `record` is completed when it ends, which it has to by the `cutoff`.
    pub(crate) fn backend(
        mut body: Received,
        mut record: Box<Record>,
        cutoff: Option<Box<Cutoff>>,
        trailers: bool,
    ) -> Self {
        if let Received::Tunnel(tunnel) = body {
            record.complete(None);
            return Self::Tunnel(tunnel);
        }
        if body.is_end_stream() {
            record.complete(body.take_connection());
            return Self::empty();
        }
        let forwarded = Forwarded { body, record: Some(record), trailers };
        match cutoff {
            None => Self::Backend(forwarded),
            Some(cutoff) => Self::Limited(Limited::new(forwarded, cutoff)),
        }
    }
}

impl Forwarded {
    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ResponseError>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) else {
            if let Some(record) = &mut self.record {
                record.waits();
            }
            return Poll::Pending;
        };
        match &frame {
            Some(Ok(frame)) => {
                self.observe(frame);
                // The server does not ask again once the body says that it has ended.
                if self.body.is_end_stream() {
                    self.complete();
                }
            }
            Some(Err(error)) => {
                if let Some(mut record) = self.record.take() {
                    let trailers = self.trailers.then(|| unavailable(error, &mut record)).flatten();
                    record.fail("backend_reset");
                    if let Some(trailers) = trailers {
                        return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                    }
                }
            }
            None => self.complete(),
        }
        Poll::Ready(frame)
    }

    pub(super) fn is_end_stream(&self) -> bool {
        self.record.is_none()
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }

    /// Ends the request here, and the backend's answer with it; `told` if the client gets the fault's
    /// gRPC status.
    pub(super) fn cut(mut self, fault: &Fault, told: bool) {
        if let Some(mut record) = self.record.take() {
            if told {
                record.see_grpc_status(fault.grpc_status());
            }
            record.fail(fault.reason());
        }
    }

    fn observe(&mut self, frame: &Frame<Bytes>) {
        let Some(record) = &mut self.record else { return };
        if let Some(data) = frame.data_ref() {
            record.add_bytes(data.len());
        } else if let Some(trailers) = frame.trailers_ref() {
            record.see_trailers(trailers);
        }
    }

    fn complete(&mut self) {
        if let Some(mut record) = self.record.take() {
            record.complete(self.body.take_connection());
        }
    }
}

/// What a client of gRPC is told when the connection to its backend has broken: what it would have told
/// itself without a proxy, while a reset for that reason would be INTERNAL to it. None where the backend
/// has reset the stream: that is passed on as it is.
fn unavailable(error: &ResponseError, record: &mut Record) -> Option<HeaderMap> {
    if has_cause(error, |cause: &h2::Error| cause.is_reset()) {
        return None;
    }
    let message = format!("the backend's answer broke off: {}", error_chain(error));
    let fault = Fault::new(Kind::BackendClosed, message);
    record.see_grpc_status(fault.grpc_status());
    Some(grpc::trailers(&fault))
}

impl Received {
    /// The connection, once, of a body that has ended, if it is one of HTTP/1 and another request can follow.
    pub(crate) fn take_connection(&mut self) -> Option<http1::Connection> {
        match self {
            Self::Http1(body) => body.take_connection(),
            Self::Http2(_) | Self::Tunnel(_) => None,
        }
    }

    /// What the connection has become, with what was already read of it.
    pub(crate) fn take_tunnel(&mut self) -> Option<(EndpointStream, BytesMut)> {
        match self {
            Self::Http1(body) => body.take_tunnel(),
            Self::Http2(_) | Self::Tunnel(_) => None,
        }
    }
}

impl Body for Received {
    type Data = Bytes;
    type Error = ResponseError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ResponseError>>> {
        match self.get_mut() {
            Self::Http1(body) => Pin::new(body).poll_frame(cx).map_err(ResponseError::Http1),
            Self::Http2(body) => Pin::new(body).poll_frame(cx).map_err(ResponseError::Http2),
            Self::Tunnel(tunnel) => tunnel.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(body) => body.is_end_stream(),
            Self::Http2(body) => body.is_end_stream(),
            Self::Tunnel(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1(body) => body.size_hint(),
            Self::Http2(body) => body.size_hint(),
            Self::Tunnel(_) => SizeHint::default(),
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = ResponseError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ResponseError>>> {
        match self.get_mut() {
            Self::Own(text) => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
            Self::Backend(body) => body.poll_frame(cx),
            Self::Limited(body) => body.poll_frame(cx),
            Self::Tunnel(tunnel) => tunnel.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(text) => text.is_none(),
            Self::Backend(body) => body.is_end_stream(),
            Self::Limited(body) => body.is_end_stream(),
            Self::Tunnel(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(text) => {
                SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64))
            }
            Self::Backend(body) => body.size_hint(),
            Self::Limited(body) => body.size_hint(),
            Self::Tunnel(_) => SizeHint::default(),
        }
    }
}
