//! Bodies on their way through: streamed, never collected.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Mutex;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::sync::oneshot;

use super::record::Record;
use super::tee::{Copied, End, Queue, Tee};
use crate::backend::local::LocalBackend;

/// How long a backend that was asked `Expect: 100-continue` may say nothing before the body is sent
/// all the same. RFC 9110, section 10.1.1: a client "SHOULD NOT wait for an indefinite period".
const CONTINUE_WAIT: Duration = Duration::from_secs(1);

/// A request's body, from the client to the backend.
#[derive(Debug)]
pub(crate) struct RequestBody {
    source: Source,
    held: Option<Box<Held>>,
    /// Where the bytes are counted, if anybody wants to know.
    counter: Option<Rc<Cell<u64>>>,
    /// Where copies go, if there are mirrors.
    tee: Option<Box<Tee>>,
}

/// Where a request's body comes from.
#[derive(Debug)]
enum Source {
    /// The request has no body.
    Nothing,
    Client(Incoming),
    /// Another request's body, which is mirrored.
    Copy(Copied),
}

/// What a body waits for: that the backend says 100 Continue, or nothing for too long.
#[derive(Debug)]
struct Held {
    opened: oneshot::Receiver<()>,
    timeout: Pin<Box<tokio::time::Sleep>>,
}

/// Opens a held body; dropped without that, it ends the body with [`BodyError::NotWanted`]. The lock
/// is for hyper, which asks for a callback that is `Sync`.
#[derive(Debug)]
pub(crate) struct Gate(Mutex<Option<oneshot::Sender<()>>>);

/// Why a request's body ended before its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("{0}")]
    Client(#[source] hyper::Error),
    #[error("the backend has answered without asking for the body")]
    NotWanted,
    #[error("the mirrored request's body broke off, or came faster than the mirror took it")]
    CopyBroken,
}

/// A response's body, from the backend, or the proxy's own.
#[derive(Debug)]
pub(crate) enum ResponseBody {
    /// The proxy's own answer, or nothing.
    Own(Option<Bytes>),
    /// The backend's; its end is the end of the request.
    Backend(Box<Forwarded>),
}

#[derive(Debug)]
pub(crate) struct Forwarded {
    body: Incoming,
    /// None once the body has ended.
    record: Option<Record>,
}

impl RequestBody {
    pub(crate) const EMPTY: Self = Self::of(Source::Nothing);

    pub(crate) fn new(body: Incoming, counter: Option<Rc<Cell<u64>>>) -> Self {
        let source = if body.is_end_stream() { Source::Nothing } else { Source::Client(body) };
        Self { counter, ..Self::of(source) }
    }

    const fn of(source: Source) -> Self {
        Self { source, held: None, counter: None, tee: None }
    }

    /// Holds the body back; the gate lets it go. None where there is no body.
    pub(crate) fn hold(&mut self) -> Option<Gate> {
        if self.is_empty() {
            return None;
        }
        let (sender, opened) = oneshot::channel();
        let timeout = Box::pin(tokio::time::sleep(CONTINUE_WAIT));
        self.held = Some(Box::new(Held { opened, timeout }));
        Some(Gate(Mutex::new(Some(sender))))
    }

    pub(crate) fn is_empty(&self) -> bool {
        matches!(self.source, Source::Nothing)
    }

    /// A body that gets what this one gets, for a mirror at `backend`; with what tells of its end,
    /// unless there is no body.
    pub(super) fn copy(&mut self, backend: &Rc<LocalBackend>) -> (Self, Option<Rc<Queue>>) {
        if self.is_empty() {
            return (Self::EMPTY, None);
        }
        let size = self.size_hint();
        let copied = self.tee.get_or_insert_default().copy(backend.clone(), size);
        let queue = copied.queue().clone();
        (Self::of(Source::Copy(copied)), Some(queue))
    }

    /// Whether a mirror still wants a copy of it.
    pub(super) fn is_copied(&self) -> bool {
        self.tee.as_ref().is_some_and(|tee| !tee.is_unread())
    }

    fn observe(&mut self, frame: Option<&Result<Frame<Bytes>, BodyError>>) {
        if let (Some(counter), Some(Ok(frame))) = (&self.counter, frame)
            && let Some(data) = frame.data_ref()
        {
            counter.set(counter.get() + data.len() as u64);
        }
        let Some(mut tee) = self.tee.take() else { return };
        match frame {
            Some(Ok(frame)) => {
                tee.push(frame);
                // Who reads the body does not ask again then.
                if frame.is_trailers() || self.is_end_stream() {
                    tee.end(End::Complete);
                }
            }
            Some(Err(_)) => tee.end(End::BrokenOff),
            None => tee.end(End::Complete),
        }
        self.tee = Some(tee);
    }
}

impl Gate {
    pub(crate) fn open(&self) {
        if let Ok(mut sender) = self.0.lock()
            && let Some(sender) = sender.take()
        {
            // The body may be gone already.
            let _ = sender.send(());
        }
    }
}

impl Held {
    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        if let Poll::Ready(opened) = Pin::new(&mut self.opened).poll(cx) {
            return Poll::Ready(opened.map_err(|_dropped| BodyError::NotWanted));
        }
        self.timeout.as_mut().poll(cx).map(Ok)
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if let Some(held) = &mut this.held {
            ready!(held.poll_open(cx))?;
            this.held = None;
        }
        let frame = match &mut this.source {
            Source::Nothing => return Poll::Ready(None),
            Source::Client(body) => {
                let frame = ready!(Pin::new(body).poll_frame(cx));
                frame.map(|frame| frame.map_err(BodyError::Client))
            }
            Source::Copy(copied) => ready!(copied.poll_frame(cx)),
        };
        this.observe(frame.as_ref());
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Nothing => true,
            Source::Client(body) => body.is_end_stream(),
            Source::Copy(copied) => copied.is_complete(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Nothing => SizeHint::with_exact(0),
            Source::Client(body) => body.size_hint(),
            Source::Copy(copied) => copied.size(),
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

    /// A backend's body; `record` is completed when it ends.
    pub(crate) fn backend(body: Incoming, mut record: Record) -> Self {
        if body.is_end_stream() {
            record.complete();
            return Self::empty();
        }
        Self::Backend(Box::new(Forwarded { body, record: Some(record) }))
    }
}

impl Forwarded {
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
            record.complete();
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let forwarded = match self.get_mut() {
            Self::Own(text) => return Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
            Self::Backend(forwarded) => forwarded,
        };
        let frame = ready!(Pin::new(&mut forwarded.body).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                forwarded.observe(frame);
                // The server does not ask again once the body says that it has ended.
                if forwarded.body.is_end_stream() {
                    forwarded.complete();
                }
            }
            Some(Err(_)) => {
                if let Some(mut record) = forwarded.record.take() {
                    record.fail("backend_reset");
                }
            }
            None => forwarded.complete(),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(text) => text.is_none(),
            Self::Backend(forwarded) => forwarded.record.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(text) => {
                SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64))
            }
            Self::Backend(forwarded) => forwarded.body.size_hint(),
        }
    }
}

/// The grpc-status in headers or trailers.
pub(crate) fn grpc_status(headers: &HeaderMap) -> Option<u8> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}
