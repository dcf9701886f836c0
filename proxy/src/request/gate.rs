//! `Expect: 100-continue`: a body that waits until the backend asks for it, as its client does.

use std::cell::RefCell;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::oneshot;

use super::body::BodyError;

/// How long a backend that was asked `Expect: 100-continue` may say nothing before the body is sent
/// all the same. RFC 9110, section 10.1.1: a client "SHOULD NOT wait for an indefinite period".
const CONTINUE_WAIT: Duration = Duration::from_secs(1);

/// What a body waits for: that the backend says 100 Continue, or nothing for too long.
#[derive(Debug)]
pub(super) struct Held {
    opened: oneshot::Receiver<()>,
    timeout: Pin<Box<tokio::time::Sleep>>,
}

/// Opens a held body; dropped without that, it ends the body with [`BodyError::NotWanted`].
#[derive(Debug)]
pub(crate) struct Gate(RefCell<Option<oneshot::Sender<()>>>);

/// A gate, and what is to be held back behind it.
pub(super) fn gate() -> (Gate, Held) {
    let (sender, opened) = oneshot::channel();
    let timeout = Box::pin(tokio::time::sleep(CONTINUE_WAIT));
    (Gate(RefCell::new(Some(sender))), Held { opened, timeout })
}

impl Gate {
    pub(crate) fn open(&self) {
        if let Some(sender) = self.0.borrow_mut().take() {
            // The body may be gone already.
            let _ = sender.send(());
        }
    }
}

impl Held {
    pub(super) fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        if let Poll::Ready(opened) = Pin::new(&mut self.opened).poll(cx) {
            return Poll::Ready(opened.map_err(|_dropped| BodyError::NotWanted));
        }
        self.timeout.as_mut().poll(cx).map(Ok)
    }
}
