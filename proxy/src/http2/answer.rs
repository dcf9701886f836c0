//! A client's stream, from its request to the end of the answer.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Poll, ready};

use bytes::Bytes;
use h2::Reason;
use h2::server::SendResponse;
use http::Response;
use http::header::{CONTENT_LENGTH, HeaderValue};
use http_body::Body;

use super::send::{Failure, Sending};

/// Sends what `answering` yields to the client that waits for it. Where the client lets go of its request
/// before, `answering` is dropped.
pub(crate) async fn answer<B>(
    mut respond: SendResponse<Bytes>,
    mut answering: Pin<Box<impl Future<Output = Result<Response<B>, Infallible>>>>,
) -> Result<(), Failure<B::Error>>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::error::Error + 'static,
{
    let answer = poll_fn(|cx| match answering.as_mut().poll(cx) {
        Poll::Ready(Ok(answer)) => Poll::Ready(Ok(answer)),
        Poll::Pending => {
            let reset = ready!(respond.poll_reset(cx))?;
            Poll::Ready(Err(h2::Error::from(reset)))
        }
    });
    let (mut head, body) = answer.await?.into_parts();
    // Its state is large, and the answer may take long.
    drop(answering);
    let is_last = body.is_end_stream();
    if !is_last && let Some(length) = body.size_hint().exact() {
        let length = || HeaderValue::from(length);
        head.headers.entry(CONTENT_LENGTH).or_insert_with(length);
    }
    let stream = match respond.send_response(Response::from_parts(head, ()), is_last) {
        Ok(stream) => stream,
        Err(error) => {
            respond.send_reset(Reason::INTERNAL_ERROR);
            return Err(error.into());
        }
    };
    if is_last {
        return Ok(());
    }
    let mut sending = Sending::new(stream, body);
    poll_fn(|cx| sending.poll_wanted(cx)).await
}
