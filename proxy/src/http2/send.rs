//! The body of a message, on its way out.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::SendStream;
use http_body::{Body, Frame};

use super::reason;

/// A first piece of so many bytes at most waits for the peer's windows in h2 and not here: it is what most bodies
/// are, and to claim room for it first is a tenth of what h2 takes to send it.
const SMALL: usize = 4 * 1024;

/// How far it is.
pub(super) struct Sending<B> {
    stream: SendStream<Bytes>,
    body: B,
    /// A piece of it was sent.
    has_begun: bool,
    /// A piece that waits for the peer's windows.
    waiting: Option<Bytes>,
    /// Nothing more comes of the body.
    is_last: bool,
}

/// Why it was not sent to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure<E> {
    #[error(transparent)]
    Http2(#[from] h2::Error),
    /// It broke off, and the stream was reset for that.
    #[error("{0}")]
    Body(E),
}

impl<B: Body<Data = Bytes> + Unpin> Sending<B>
where
    B::Error: std::error::Error + 'static,
{
    pub(super) fn new(stream: SendStream<Bytes>, body: B) -> Self {
        Self { stream, body, has_begun: false, waiting: None, is_last: false }
    }

    /// Sends what there is of the body; ready once that was all.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure<B::Error>>> {
        loop {
            if self.waiting.is_some() {
                ready!(self.poll_window(cx))?;
            }
            if let Some(data) = self.waiting.take() {
                self.stream.send_data(data, self.is_last)?;
            }
            if self.is_last {
                return Poll::Ready(Ok(()));
            }
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => self.add(frame)?,
                Some(Err(error)) => return Poll::Ready(Err(self.break_off(error))),
                None => {
                    self.is_last = true;
                    self.stream.send_data(Bytes::new(), true)?;
                }
            }
        }
    }

    /// The same; ready too where the peer wants no more of it.
    pub(super) fn poll_wanted(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Failure<B::Error>>> {
        let sent = self.poll(cx);
        if sent.is_pending() {
            let reset = ready!(self.stream.poll_reset(cx))?;
            return Poll::Ready(Err(h2::Error::from(reset).into()));
        }
        sent
    }

    /// Ready when there is room in the peer's windows, however little.
    fn poll_window(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        while self.stream.capacity() == 0 {
            // None: the stream is closed.
            let more = ready!(self.stream.poll_capacity(cx));
            more.unwrap_or_else(|| Err(h2::Reason::CANCEL.into()))?;
        }
        Poll::Ready(Ok(()))
    }

    /// A piece of the body is the next to be sent.
    fn add(&mut self, frame: Frame<Bytes>) -> Result<(), h2::Error> {
        match frame.into_data() {
            Ok(data) => {
                self.is_last = self.body.is_end_stream();
                let has_begun = std::mem::replace(&mut self.has_begun, true);
                if data.is_empty() {
                    if self.is_last {
                        self.stream.send_data(data, true)?;
                    }
                } else if !has_begun && data.len() <= SMALL {
                    self.stream.send_data(data, self.is_last)?;
                } else {
                    // Of the connection's window no more is claimed than has to be, for it is everybody's; what
                    // the piece takes beyond that h2 asks for by itself.
                    self.stream.reserve_capacity(1);
                    self.waiting = Some(data);
                }
            }
            Err(frame) => {
                if let Ok(trailers) = frame.into_trailers() {
                    self.is_last = true;
                    self.stream.send_trailers(trailers)?;
                }
            }
        }
        Ok(())
    }

    /// The stream that it came from says why, if it is one.
    fn break_off(&mut self, error: B::Error) -> Failure<B::Error> {
        self.stream.send_reset(reason(&error));
        Failure::Body(error)
    }

    /// Goes on by itself, where the answer is there already: until the peer wants no more.
    pub(super) fn spawn(mut self)
    where
        B: 'static,
    {
        tokio::task::spawn_local(async move {
            if let Err(error) = poll_fn(|cx| self.poll_wanted(cx)).await {
                tracing::debug!(%error, "a request was not sent to its end");
            }
        });
    }
}
