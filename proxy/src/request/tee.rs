//! Copies of a request's body for its mirrors, made as the backend takes the body.
//!
//! The request hardly waits for mirrors: milliseconds, and only with a MiB waiting for one. Each copy is a
//! queue of bounded size; a mirror that does not keep up with the backend loses its copy, and the queue with it.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::time::Sleep;

use super::body::BodyError;
use crate::backend::local::LocalBackend;

/// What may wait for one mirror, in bytes.
const COPY_BYTES: usize = 4 * 1024 * 1024;
/// With more than that waiting for a mirror, in bytes, the request pauses, and again after as much of its body.
const PAUSE_BYTES: usize = 1024 * 1024;
/// How long, at most.
const PAUSE: Duration = Duration::from_millis(10);
/// What may wait for all copies that a worker sends to one backend, in bytes.
const BACKLOG_BYTES: usize = 8 * 1024 * 1024;
/// How many copies a worker has under way to one backend at most: one that answers nothing would
/// otherwise take a connection for each request.
const BACKLOG_COPIES: usize = 256;
/// What a frame costs beside its data.
const FRAME_BYTES: usize = 128;

/// What one worker holds of the copies that it sends to a backend.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    copies: Cell<usize>,
    bytes: Cell<usize>,
}

/// A copy's place in the [`Backlog`], until dropped.
#[derive(Debug)]
pub(super) struct Place(Rc<LocalBackend>);

/// The writing ends of a body's copies.
#[derive(Debug, Default)]
pub(super) struct Tee {
    queues: Vec<Rc<Queue>>,
    /// Bytes copied since the last pause.
    copied: usize,
    pause: Option<Pin<Box<Sleep>>>,
}

/// The reading end: a body.
#[derive(Debug)]
pub(crate) struct Copied {
    queue: Rc<Queue>,
    size: SizeHint,
}

/// What both ends share.
#[derive(Debug)]
pub(super) struct Queue {
    backend: Rc<LocalBackend>,
    state: RefCell<State>,
}

#[derive(Debug, Default)]
struct State {
    frames: VecDeque<Frame<Bytes>>,
    bytes: usize,
    end: Option<End>,
    reader: Option<Waker>,
    /// Woken when the queue is no longer a reason to pause.
    writer: Option<Waker>,
    watcher: Option<Waker>,
}

/// How the writing of a copy has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Nothing is missing, or nothing more is wanted.
    Complete,
    /// The request's own body was not read to its end.
    BrokenOff,
    /// More was waiting than may wait.
    FellBehind,
}

impl Place {
    /// None where too many copies are under way to that backend.
    pub(super) fn take(backend: &Rc<LocalBackend>) -> Option<Self> {
        let copies = &backend.backlog.copies;
        (copies.get() < BACKLOG_COPIES).then(|| {
            copies.set(copies.get() + 1);
            Self(backend.clone())
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let copies = &self.0.backlog.copies;
        copies.set(copies.get() - 1);
    }
}

impl Tee {
    /// Another copy, of a body of this size, for a mirror at `backend`.
    pub(super) fn copy(&mut self, backend: Rc<LocalBackend>, size: SizeHint) -> Copied {
        let queue = Rc::new(Queue { backend, state: RefCell::default() });
        self.queues.push(queue.clone());
        Copied { queue, size }
    }

    /// Whether nobody wants a copy any more.
    pub(super) fn is_unread(&self) -> bool {
        self.queues.is_empty()
    }

    /// Ready for another frame. The kernel takes some MiB for the backend at once, and may take nothing for the
    /// mirror in the same milliseconds: without a pause a mirror that is as fast would fall behind.
    pub(super) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.copied < PAUSE_BYTES {
            return Poll::Ready(());
        }
        // All of them, each of which has to know whom to wake.
        let long = self.queues.iter().filter(|queue| queue.is_long(cx)).count();
        if long > 0 {
            let pause = self.pause.get_or_insert_with(|| Box::pin(tokio::time::sleep(PAUSE)));
            ready!(pause.as_mut().poll(cx));
        }
        self.pause = None;
        self.copied = 0;
        Poll::Ready(())
    }

    /// Copies a frame.
    pub(super) fn push(&mut self, frame: &Frame<Bytes>) {
        self.copied += cost(frame);
        self.queues.retain(|queue| queue.push(frame));
    }

    /// The body has come to its end.
    pub(super) fn end(&mut self, end: End) {
        for queue in self.queues.drain(..) {
            queue.end(end);
        }
    }
}

impl Drop for Tee {
    fn drop(&mut self) {
        self.end(End::BrokenOff);
    }
}

impl Queue {
    /// Resolves once nothing more will be written.
    pub(super) async fn ended(&self) -> End {
        std::future::poll_fn(|cx| {
            let mut state = self.state.borrow_mut();
            let Some(end) = state.end else {
                state.watcher = Some(cx.waker().clone());
                return Poll::Pending;
            };
            Poll::Ready(end)
        })
        .await
    }

    /// Whether the request should pause; it is woken when it need not any more.
    fn is_long(&self, cx: &Context<'_>) -> bool {
        let mut state = self.state.borrow_mut();
        let is_long = state.bytes > PAUSE_BYTES;
        state.writer = is_long.then(|| cx.waker().clone());
        is_long
    }

    /// False where the copy has ended: the reader is gone, or there is no room for what it has not
    /// read.
    fn push(&self, frame: &Frame<Bytes>) -> bool {
        if self.state.borrow().end.is_some() {
            return false;
        }
        let (frame, bytes) = copy(frame);
        let backlog = &self.backend.backlog.bytes;
        let held = self.state.borrow().bytes + bytes;
        if held > COPY_BYTES || backlog.get() + bytes > BACKLOG_BYTES {
            self.discard();
            self.end(End::FellBehind);
            return false;
        }
        backlog.set(backlog.get() + bytes);
        let mut state = self.state.borrow_mut();
        state.bytes = held;
        state.frames.push_back(frame);
        wake(&mut state.reader);
        true
    }

    fn end(&self, end: End) {
        let mut state = self.state.borrow_mut();
        if state.end.is_none() {
            state.end = Some(end);
        }
        wake(&mut state.reader);
        wake(&mut state.watcher);
    }

    fn poll_pop(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut state = self.state.borrow_mut();
        match (state.frames.pop_front(), state.end) {
            (Some(frame), _) => {
                let bytes = cost(&frame);
                state.bytes -= bytes;
                self.release(bytes);
                if state.bytes <= PAUSE_BYTES {
                    wake(&mut state.writer);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            (None, Some(End::Complete)) => Poll::Ready(None),
            (None, Some(End::BrokenOff | End::FellBehind)) => {
                Poll::Ready(Some(Err(BodyError::CopyBroken)))
            }
            (None, None) => {
                state.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn discard(&self) {
        let mut state = self.state.borrow_mut();
        state.frames.clear();
        self.release(std::mem::take(&mut state.bytes));
        wake(&mut state.writer);
    }

    fn release(&self, bytes: usize) {
        let backlog = &self.backend.backlog.bytes;
        backlog.set(backlog.get() - bytes);
    }
}

impl Copied {
    pub(super) fn queue(&self) -> &Rc<Queue> {
        &self.queue
    }

    pub(super) fn size(&self) -> SizeHint {
        self.size
    }

    pub(super) fn is_complete(&self) -> bool {
        let state = self.queue.state.borrow();
        state.end == Some(End::Complete) && state.frames.is_empty()
    }

    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.queue.poll_pop(cx)
    }
}

impl Drop for Copied {
    /// Nobody reads any more: the mirror has answered without the rest, or is gone.
    fn drop(&mut self) {
        self.queue.discard();
        self.queue.end(End::Complete);
    }
}

/// A frame like this one, with what it costs to hold it. Its data is shared, not copied.
fn copy(frame: &Frame<Bytes>) -> (Frame<Bytes>, usize) {
    let copy = match (frame.data_ref(), frame.trailers_ref()) {
        (Some(data), _) => Frame::data(data.clone()),
        (None, Some(trailers)) => Frame::trailers(trailers.clone()),
        // There is no third kind today.
        (None, None) => Frame::data(Bytes::new()),
    };
    let bytes = cost(&copy);
    (copy, bytes)
}

fn cost(frame: &Frame<Bytes>) -> usize {
    let data = frame.data_ref().map_or(0, Bytes::len);
    let trailers = frame.trailers_ref().map_or(0, |trailers| {
        trailers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum()
    });
    FRAME_BYTES + data + trailers
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}
