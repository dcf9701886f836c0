//! The body of an answer.

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
    /// Only trailers may follow.
    has_data: bool,
}

impl Body {
    pub(super) fn new(stream: RecvStream, left: Option<u64>) -> Self {
        Self { stream, left, has_data: true }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Frame<Bytes>>, h2::Error>> {
        if self.has_data {
            if let Some(data) = ready!(self.stream.poll_data(cx)?) {
                // It fails where the stream has ended, which needs no window any more.
                let _ = self.stream.flow_control().release_capacity(data.len());
                if let Some(left) = &mut self.left {
                    *left = left.saturating_sub(data.len() as u64);
                }
                return Poll::Ready(Ok(Some(Frame::data(data))));
            }
            self.has_data = false;
        }
        self.stream.poll_trailers(cx).map_ok(|trailers| trailers.map(Frame::trailers))
    }
}

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
        self.stream.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
