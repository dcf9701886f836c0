//! A backend's answer that must be there by a deadline.
//!
//! Its head has gone to the client when the time is up, so that no status can say it any more: the
//! answer breaks off, in a way that no client takes for its end. A task of its own sees to it: a client
//! that does not read is not what frees the backend of its request.

use std::cell::RefCell;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use tokio::task::AbortHandle;

use super::body::{Forwarded, ResponseError};
use super::deadline::Deadline;
use super::grpc;
use super::shared::SharedBody;

/// What ends a request whose time is up.
#[derive(Debug)]
pub(crate) struct Cutoff {
    pub(super) deadline: Deadline,
    /// The request's body, which may still be on its way.
    pub(super) request: Option<Rc<SharedBody>>,
    /// Whether the client is told in gRPC's trailers.
    pub(super) trailers: bool,
}

/// A backend's body with a deadline.
#[derive(Debug)]
pub(crate) struct Limited {
    state: Rc<RefCell<State>>,
    watch: AbortHandle,
}

#[derive(Debug)]
enum State {
    /// The waker is of whoever waits for the body.
    Open(Forwarded, Option<Waker>),
    /// The time was up; with what the client is told, once.
    Cut(Option<HeaderMap>),
    /// Nothing is left to be said.
    Over,
}

impl Limited {
    pub(super) fn new(body: Forwarded, cutoff: Box<Cutoff>) -> Self {
        let state = Rc::new(RefCell::new(State::Open(body, None)));
        let watch = tokio::task::spawn_local(watch(Rc::downgrade(&state), cutoff)).abort_handle();
        Self { state, watch }
    }

    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ResponseError>>> {
        let state = &mut *self.state.borrow_mut();
        match state {
            State::Open(body, waker) => {
                let frame = body.poll_frame(cx);
                *waker = frame.is_pending().then(|| cx.waker().clone());
                frame
            }
            State::Cut(trailers) => {
                let last = trailers.take().map(Frame::trailers).ok_or(ResponseError::TimedOut);
                *state = State::Over;
                Poll::Ready(Some(last))
            }
            State::Over => Poll::Ready(None),
        }
    }

    pub(super) fn is_end_stream(&self) -> bool {
        match &*self.state.borrow() {
            State::Open(body, _) => body.is_end_stream(),
            State::Cut(_) => false,
            State::Over => true,
        }
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        match &*self.state.borrow() {
            State::Open(body, _) => body.size_hint(),
            State::Cut(_) | State::Over => SizeHint::default(),
        }
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

/// Waits until the time is up, and ends the request then if it has not ended.
async fn watch(state: Weak<RefCell<State>>, mut cutoff: Box<Cutoff>) {
    let expired = cutoff.deadline.expired().await;
    let Some(state) = state.upgrade() else { return };
    let fault = cutoff.deadline.fault(expired);
    let trailers = cutoff.trailers.then(|| grpc::trailers(&fault));
    let cut = State::Cut(trailers);
    if let State::Open(body, waker) = state.replace(cut) {
        body.cut(&fault, cutoff.trailers);
        if let Some(request) = &cutoff.request {
            request.close();
        }
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}
