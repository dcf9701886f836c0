//! The body of an answer, which has its connection until it has ended.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::task::AbortHandle;

use super::framing::{Framing, Length};
use super::{Connection, Error};
use crate::backend::EndpointStream;

#[derive(Debug)]
pub(crate) struct Body {
    /// None once nothing more is to be had from it.
    connection: Option<Connection>,
    framing: Framing,
    /// Sends what is left of the request, where the answer came before its end.
    sending: Option<AbortHandle>,
}

impl Body {
    pub(super) fn new(
        connection: Connection,
        framing: Framing,
        sending: Option<AbortHandle>,
    ) -> Self {
        Self { connection: Some(connection), framing, sending }
    }

    /// The connection, once the body has ended; None before, and where no other request can follow on it,
    /// which closes it.
    pub(crate) fn take_connection(&mut self) -> Option<Connection> {
        if !self.has_ended() {
            return None;
        }
        let mut connection = self.connection.take()?;
        // Nobody has asked for what came beyond the end.
        if !self.framing.keep_alive || !connection.buffer.is_empty() {
            return None;
        }
        connection.buffer = BytesMut::new();
        // It is not ready before the request was sent to its end.
        self.sending = None;
        Some(connection)
    }

    /// What the connection has become, with what was already read of it: of an answer that says so, once.
    /// None too where the request is still being sent.
    pub(crate) fn take_tunnel(&mut self) -> Option<(EndpointStream, BytesMut)> {
        if !matches!(self.framing.length, Length::Tunnel) {
            return None;
        }
        let Connection { stream, buffer, .. } = self.connection.take()?;
        let stream = Rc::try_unwrap(stream).ok()?;
        Some((stream.into_inner(), buffer))
    }

    fn has_ended(&self) -> bool {
        match &self.framing.length {
            Length::UntilClose => self.connection.is_none(),
            length => length.is_end(),
        }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Frame<Bytes>>, Error>> {
        let Some(connection) = &mut self.connection else { return Poll::Ready(Ok(None)) };
        let length = &mut self.framing.length;
        loop {
            let frame = length.next(&mut connection.buffer)?;
            if frame.is_some() || length.is_end() {
                return Poll::Ready(Ok(frame));
            }
            match ready!(connection.poll_fill(cx)) {
                Err(Error::Incomplete) if matches!(length, Length::UntilClose) => {
                    self.connection = None;
                    return Poll::Ready(Ok(None));
                }
                filled => filled?,
            }
        }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        // On a connection that ends with its answer nobody waits for the rest of the request.
        if let Some(sending) = &self.sending {
            sending.abort();
        }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        let next = ready!(this.poll_next(cx));
        if next.is_err() {
            this.connection = None;
        }
        Poll::Ready(next.transpose())
    }

    fn is_end_stream(&self) -> bool {
        self.has_ended()
    }

    fn size_hint(&self) -> SizeHint {
        match self.framing.length {
            Length::Bytes(left) => SizeHint::with_exact(left),
            Length::Tunnel => SizeHint::with_exact(0),
            Length::Chunked(_) | Length::UntilClose => SizeHint::default(),
        }
    }
}
