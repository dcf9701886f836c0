//! A request's body that can be sent more than once, and ended from outside.
//!
//! It is streamed: an attempt gets each piece when the client sends it, and a copy (of the reference,
//! not of the bytes) is kept for the attempts that may follow. What is too large to be kept is passed
//! on all the same, and not sent again.

use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};

use super::body::{BodyError, ClientBody};
use super::gate::{Gate, Held, gate};

/// The largest body that is kept, in bytes.
pub(crate) const MAX_KEPT: usize = 64 * 1024;
/// In the most pieces: what keeps a body that comes byte by byte from costing a multiple of its size.
const MAX_PIECES: usize = 1024;

/// A client's body, shared by the attempts to send it, of which the last one reads.
#[derive(Debug)]
pub(crate) struct SharedBody(RefCell<State>);

#[derive(Debug)]
struct State {
    body: ClientBody,
    held: Option<Held>,
    /// What was read so far; None where it is not to be sent again, or too large for it.
    kept: Option<Kept>,
    /// The attempt that reads.
    attempt: u32,
    /// Nobody is to read any more.
    closed: bool,
    /// Of whoever read last.
    waker: Option<Waker>,
}

#[derive(Debug, Default)]
struct Kept {
    pieces: Vec<Bytes>,
    bytes: usize,
    trailers: Option<HeaderMap>,
    /// The client's body was read to its end.
    is_whole: bool,
}

/// One attempt's way to the body.
#[derive(Debug)]
pub(crate) struct Reader {
    shared: Rc<SharedBody>,
    attempt: u32,
    /// How much it has read of what is kept.
    pieces: usize,
    bytes: usize,
    had_trailers: bool,
}

impl SharedBody {
    /// The body, and the first attempt's way to it. It is kept if `keep` says so and its length, where
    /// that is known, allows it.
    pub(super) fn share(body: ClientBody, keep: bool) -> Reader {
        let keep = keep && body.size_hint().lower() <= MAX_KEPT as u64;
        let state = State {
            body,
            held: None,
            kept: keep.then(Kept::default),
            attempt: 0,
            closed: false,
            waker: None,
        };
        Reader::new(Rc::new(Self(RefCell::new(state))), 0)
    }

    /// Whether all that was read of it can be read again.
    pub(crate) fn is_kept(&self) -> bool {
        self.0.borrow().kept.is_some()
    }

    /// Another attempt's way to the body, from its beginning; earlier ones lead nowhere from now on.
    /// None where it is not kept.
    pub(super) fn again(self: &Rc<Self>) -> Option<Reader> {
        let mut state = self.0.borrow_mut();
        state.kept.as_ref()?;
        state.attempt += 1;
        state.wake();
        Some(Reader::new(self.clone(), state.attempt))
    }

    /// Holds the body back; the gate lets it go.
    pub(super) fn hold(&self) -> Gate {
        let (gate, held) = gate();
        self.0.borrow_mut().held = Some(held);
        gate
    }

    /// Ends the body where it is, with [`BodyError::TimedOut`].
    pub(crate) fn close(&self) {
        let mut state = self.0.borrow_mut();
        state.closed = true;
        state.kept = None;
        state.wake();
    }
}

impl State {
    /// Lets whoever reads see what has become of it.
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// The next frame of the client's, of which a copy is kept.
    fn poll_new(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(self.body.poll_frame(cx));
        let is_whole = self.body.is_end_stream();
        if let Some(kept) = &mut self.kept {
            kept.is_whole = is_whole || frame.is_none();
            if let Some(Ok(frame)) = &frame
                && !kept.keep(frame)
            {
                self.kept = None;
            }
        }
        Poll::Ready(frame)
    }
}

impl Kept {
    /// False where there is no room for it.
    fn keep(&mut self, frame: &Frame<Bytes>) -> bool {
        if let Some(data) = frame.data_ref() {
            // HTTP/2 ends a body with an empty piece as often as not.
            if data.is_empty() {
                return true;
            }
            self.bytes += data.len();
            if self.bytes > MAX_KEPT || self.pieces.len() == MAX_PIECES {
                return false;
            }
            self.pieces.push(data.clone());
        } else if let Some(trailers) = frame.trailers_ref() {
            self.trailers = Some(trailers.clone());
        }
        true
    }
}

impl Reader {
    fn new(shared: Rc<SharedBody>, attempt: u32) -> Self {
        Self { shared, attempt, pieces: 0, bytes: 0, had_trailers: false }
    }

    pub(super) fn shared(&self) -> &Rc<SharedBody> {
        &self.shared
    }

    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let state = &mut *self.shared.0.borrow_mut();
        if state.closed {
            return Poll::Ready(Some(Err(BodyError::TimedOut)));
        }
        if state.attempt != self.attempt {
            return Poll::Ready(Some(Err(BodyError::SentAgain)));
        }
        if let Some(held) = &mut state.held {
            let opened = held.poll_open(cx);
            if opened.is_pending() {
                state.waker = Some(cx.waker().clone());
            }
            ready!(opened)?;
            state.held = None;
        }
        if let Some(kept) = &state.kept {
            if let Some(piece) = kept.pieces.get(self.pieces) {
                self.pieces += 1;
                self.bytes += piece.len();
                return Poll::Ready(Some(Ok(Frame::data(piece.clone()))));
            }
            if let Some(trailers) = kept.trailers.clone().filter(|_| !self.had_trailers) {
                self.had_trailers = true;
                return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
            }
            if kept.is_whole {
                return Poll::Ready(None);
            }
        }
        let frame = state.poll_new(cx);
        match &frame {
            Poll::Pending => state.waker = Some(cx.waker().clone()),
            Poll::Ready(Some(Ok(frame))) => {
                let length = frame.data_ref().map_or(0, Bytes::len);
                self.pieces += usize::from(length > 0);
                self.bytes += length;
                self.had_trailers |= frame.is_trailers();
            }
            Poll::Ready(_) => {}
        }
        frame
    }

    pub(super) fn is_end_stream(&self) -> bool {
        let state = self.shared.0.borrow();
        let is_behind = state.kept.as_ref().is_some_and(|kept| {
            self.pieces < kept.pieces.len() || (kept.trailers.is_some() && !self.had_trailers)
        });
        state.body.is_end_stream() && !is_behind
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        let state = self.shared.0.borrow();
        let behind = state.kept.as_ref().map_or(0, |kept| kept.bytes - self.bytes) as u64;
        let mut hint = state.body.size_hint();
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper + behind);
        }
        hint.set_lower(hint.lower() + behind);
        hint
    }
}
