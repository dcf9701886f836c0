//! Answers that are there as a whole, for what tries the reading of them.

use bytes::BytesMut;
use http::{HeaderMap, Method, Response};

use super::framing::{Framing, Length};
use super::{Error, is_final, receive};

/// What is read of the pieces of an answer to a request of that method, behind which the connection ends: head
/// and body, and the trailers if there are any. What follows an answer is not read.
///
/// # Errors
///
/// It is no HTTP, or it is not complete.
pub(crate) fn read<'p>(
    method: &Method,
    pieces: impl IntoIterator<Item = &'p [u8]>,
) -> Result<(Response<Vec<u8>>, Option<HeaderMap>), Error> {
    let mut pieces = pieces.into_iter();
    let mut buffer = BytesMut::new();
    let mut more = |buffer: &mut BytesMut| {
        let piece = pieces.next()?;
        buffer.extend_from_slice(piece);
        Some(())
    };
    let head = loop {
        match receive::head(&mut buffer)? {
            Some(head) if is_final(head.status()) => break head,
            Some(_) => {}
            None => more(&mut buffer).ok_or(Error::Incomplete)?,
        }
    };
    let mut length = Framing::of(method, &head)?.length;
    let (mut body, mut trailers) = (Vec::new(), None);
    loop {
        while let Some(frame) = length.next(&mut buffer)? {
            match frame.into_data() {
                Ok(data) => body.extend_from_slice(&data),
                Err(frame) => trailers = frame.into_trailers().ok(),
            }
        }
        if length.is_end() {
            break;
        }
        match (more(&mut buffer), &length) {
            (Some(()), _) => {}
            (None, Length::UntilClose) => break,
            (None, _) => return Err(Error::Incomplete),
        }
    }
    Ok((head.map(|()| body), trailers))
}
