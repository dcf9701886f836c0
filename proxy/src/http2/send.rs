//! A request's body on its way out.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::SendStream;
use http_body::{Body, Frame};

use super::{Error, reason};
use crate::request::{BodyError, RequestBody};

/// How far it is.
pub(super) struct Sending {
    stream: SendStream<Bytes>,
    body: RequestBody,
    /// A piece that waits for the endpoint's windows.
    waiting: Option<Bytes>,
    /// Nothing more comes of the body.
    is_last: bool,
}

impl Sending {
    pub(super) fn new(stream: SendStream<Bytes>, body: RequestBody) -> Self {
        Self { stream, body, waiting: None, is_last: false }
    }

    /// Sends what there is of the body; ready once that was all.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
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

    /// Ready when there is room in the endpoint's windows, however little.
    fn poll_window(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        while self.stream.capacity() == 0 {
            // None: the stream is closed.
            let more = ready!(self.stream.poll_capacity(cx));
            more.unwrap_or_else(|| Err(h2::Reason::CANCEL.into()))?;
        }
        Poll::Ready(Ok(()))
    }

    /// A piece of the body is the next to be sent.
    fn add(&mut self, frame: Frame<Bytes>) -> Result<(), Error> {
        match frame.into_data() {
            Ok(data) => {
                self.is_last = self.body.is_end_stream();
                if !data.is_empty() {
                    // Of the connection's window no more is claimed than has to be, for it is everybody's; what
                    // the piece takes beyond that h2 asks for by itself.
                    self.stream.reserve_capacity(1);
                    self.waiting = Some(data);
                } else if self.is_last {
                    self.stream.send_data(data, true)?;
                }
            }
            Err(frame) => {
                if let Ok(trailers) = frame.into_trailers() {
                    self.is_last = true;
                    self.stream.reserve_capacity(0);
                    self.stream.send_trailers(trailers)?;
                }
            }
        }
        Ok(())
    }

    /// The client's stream says why, if it is one.
    fn break_off(&mut self, error: BodyError) -> Error {
        self.stream.send_reset(reason(&error));
        Error::RequestBody(error)
    }

    /// Goes on by itself, where the answer is there already: until the endpoint wants no more.
    pub(super) fn spawn(mut self) {
        tokio::task::spawn_local(async move {
            let sent = poll_fn(|cx| match self.stream.poll_reset(cx) {
                Poll::Ready(reset) => Poll::Ready(reset.map(|_reason| ()).map_err(Error::from)),
                Poll::Pending => self.poll(cx),
            });
            if let Err(error) = sent.await {
                tracing::debug!(%error, "a request was not sent to its end");
            }
        });
    }
}
