//! The body of a message, as it comes.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, RecvStream};
use http_body::{Body as HttpBody, Frame, SizeHint};

/// Its stream is reset if it is dropped before its end.
#[derive(Debug)]
pub(crate) struct Body {
    stream: RecvStream,
    /// Bytes that are still to come, where the head has said how many.
    left: Option<u64>,
    next: Next,
}

/// What may come next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Data,
    Trailers,
    Nothing,
}

impl Body {
    /// Of a message whose head says that there are so many bytes, if it says so.
    pub(crate) fn new(stream: RecvStream, left: Option<u64>) -> Self {
        Self { stream, left, next: Next::Data }
    }

    /// What comes next of a request, which whatever breaks it off has not ended.
    pub(crate) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Frame<Bytes>>, h2::Error>> {
        if self.next == Next::Data {
            if let Some(data) = ready!(self.stream.poll_data(cx)?) {
                // It fails where the stream has ended, which needs no window any more.
                let _ = self.stream.flow_control().release_capacity(data.len());
                if let Some(left) = &mut self.left {
                    *left = left.saturating_sub(data.len() as u64);
                }
                return Poll::Ready(Ok(Some(Frame::data(data))));
            }
            self.next = Next::Trailers;
        }
        if self.next == Next::Nothing {
            return Poll::Ready(Ok(None));
        }
        let trailers = ready!(self.stream.poll_trailers(cx)?);
        self.next = Next::Nothing;
        Poll::Ready(Ok(trailers.map(Frame::trailers)))
    }
}

/// Of an answer.
impl HttpBody for Body {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        match ready!(self.get_mut().poll_next(cx)) {
            // RFC 9113, section 8.1: "A server MAY request that the client abort transmission of a request
            // without error by sending a RST_STREAM with an error code of NO_ERROR after sending a complete
            // response".
            Err(error) if error.reason() == Some(Reason::NO_ERROR) => Poll::Ready(None),
            next => Poll::Ready(next.transpose()),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.next == Next::Nothing || self.stream.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
